//! How the shell was called: the options and operands of bash(1), "Options".

use std::fmt;

/// What `--version` prints. Scripts look for "bash" and the version of the language.
pub const VERSION: &str = "GNU bash, version 5.2.37(1)-release compatible: wisp sh (brush 0.5)";

/// What the caller wants.
pub enum Request {
    /// To run commands.
    Run(Invocation),
    /// To know the version.
    Version,
}

/// Where the commands come from.
pub enum Source {
    /// The argument of `-c`.
    Command(String),
    /// A file.
    Script(String),
    /// Standard input.
    StandardInput,
}

/// A call of the shell.
pub struct Invocation {
    /// Where the commands come from.
    pub source: Source,
    /// `$0`.
    pub name: String,
    /// `$1` and so on.
    pub arguments: Vec<String>,
    /// Whether profile files are to be read.
    pub login: bool,
    /// `-i`.
    pub interactive: bool,
    /// Whether the shell is to follow POSIX where bash differs.
    pub posix: bool,
    /// Long names of `set -o` options that were switched on.
    pub options_on: Vec<String>,
    /// Those that were switched off.
    pub options_off: Vec<String>,
    /// Names of `shopt` options that were switched on.
    pub shopts_on: Vec<String>,
    /// Those that were switched off.
    pub shopts_off: Vec<String>,
}

/// A call that cannot be understood.
#[derive(Debug)]
pub struct UsageError {
    shell: String,
    problem: String,
}

impl fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.shell, self.problem)
    }
}

impl std::error::Error for UsageError {}

/// Single letters of `set` and their long names (bash(1), "set").
const LETTERS: [(char, &str); 16] = [
    ('a', "allexport"),
    ('b', "notify"),
    ('e', "errexit"),
    ('f', "noglob"),
    ('h', "hashall"),
    ('k', "keyword"),
    ('m', "monitor"),
    ('n', "noexec"),
    ('u', "nounset"),
    ('v', "verbose"),
    ('x', "xtrace"),
    ('B', "braceexpand"),
    ('C', "noclobber"),
    ('E', "errtrace"),
    ('H', "histexpand"),
    ('T', "functrace"),
];

/// Reads the arguments, the first of which is the shell's own name.
pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Request, UsageError> {
    let name = arguments.next().unwrap_or_else(|| "sh".to_owned());
    let program = name
        .trim_start_matches('-')
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let mut invocation = Invocation {
        source: Source::StandardInput,
        login: name.starts_with('-'),
        name,
        arguments: Vec::new(),
        interactive: false,
        posix: false,
        options_on: Vec::new(),
        options_off: Vec::new(),
        shopts_on: Vec::new(),
        shopts_off: Vec::new(),
    };
    let error = |problem: String| UsageError {
        shell: program.clone(),
        problem,
    };
    let (mut wants_command, mut wants_input) = (false, false);

    let mut operands = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--" | "-" => break,
            "--version" => return Ok(Request::Version),
            "--login" => invocation.login = true,
            "--posix" => invocation.posix = true,
            "--norc" | "--noprofile" | "--noediting" | "--restricted" => {}
            "--rcfile" | "--init-file" => drop(arguments.next()),
            "--verbose" => invocation.options_on.push("verbose".to_owned()),
            long if long.starts_with("--") => return Err(error(format!("{long}: invalid option"))),
            short if short.len() > 1 && short.starts_with(['-', '+']) => {
                let on = short.starts_with('-');
                for letter in short.chars().skip(1) {
                    match letter {
                        'c' => wants_command = true,
                        's' => wants_input = true,
                        'i' => invocation.interactive = true,
                        'l' => invocation.login = true,
                        'r' | 'p' | 'D' => {}
                        'o' | 'O' => {
                            let option = arguments
                                .next()
                                .ok_or_else(|| error(format!("-{letter}: option requires an argument")))?;
                            let list = match (letter, on) {
                                ('o', true) => &mut invocation.options_on,
                                ('o', false) => &mut invocation.options_off,
                                (_, true) => &mut invocation.shopts_on,
                                (_, false) => &mut invocation.shopts_off,
                            };
                            list.push(option);
                        }
                        letter => {
                            let (_, long) = LETTERS
                                .iter()
                                .find(|(known, _)| *known == letter)
                                .ok_or_else(|| error(format!("-{letter}: invalid option")))?;
                            let list = if on {
                                &mut invocation.options_on
                            } else {
                                &mut invocation.options_off
                            };
                            list.push((*long).to_owned());
                        }
                    }
                }
            }
            _ => {
                operands.push(argument);
                break;
            }
        }
    }
    operands.extend(arguments);

    let mut operands = operands.into_iter();
    if wants_command {
        let command = operands
            .next()
            .ok_or_else(|| error("-c: option requires an argument".to_owned()))?;
        invocation.source = Source::Command(command);
        if let Some(name) = operands.next() {
            invocation.name = name;
        }
    } else if !wants_input && let Some(script) = operands.next() {
        invocation.name.clone_from(&script);
        invocation.source = Source::Script(script);
    }
    invocation.arguments = operands.collect();
    Ok(Request::Run(invocation))
}

#[cfg(test)]
mod tests {
    use super::{Invocation, Request, Source, parse};

    fn run(arguments: &[&str]) -> Invocation {
        match parse(arguments.iter().map(|&argument| argument.to_owned())) {
            Ok(Request::Run(invocation)) => invocation,
            _ => panic!("{arguments:?} is not a call that runs commands"),
        }
    }

    #[test]
    fn command_takes_the_next_operands_as_name_and_parameters() {
        let invocation = run(&["sh", "-ec", "echo", "zero", "one"]);
        assert!(matches!(invocation.source, Source::Command(command) if command == "echo"));
        assert_eq!(
            (invocation.name.as_str(), invocation.arguments),
            ("zero", vec!["one".to_owned()])
        );
        assert_eq!(invocation.options_on, ["errexit"]);
    }

    #[test]
    fn options_may_follow_the_letter_of_the_command() {
        let invocation = run(&["bash", "-c", "-o", "pipefail", "true"]);
        assert!(matches!(invocation.source, Source::Command(command) if command == "true"));
        assert_eq!(invocation.options_on, ["pipefail"]);
    }

    #[test]
    fn script_ends_the_options() {
        let invocation = run(&["bash", "-x", "a.sh", "-e"]);
        assert!(matches!(invocation.source, Source::Script(script) if script == "a.sh"));
        assert_eq!(invocation.arguments, ["-e"]);
    }

    #[test]
    fn unknown_option_is_refused() {
        assert!(parse(["sh", "-Z"].into_iter().map(str::to_owned)).is_err());
        assert!(parse(["sh", "-c"].into_iter().map(str::to_owned)).is_err());
    }
}
