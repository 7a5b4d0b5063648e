//! Scripts that are one simple command, which need no shell to be understood.
//!
//! Most scripts that clients send are of this kind: `python3 -c "print(40 + 2)"`, `ls -l /tmp`. A shell would split the
//! line into words and replace itself by the program. [`words`] does the former for scripts in which nothing but plain
//! words and quotes occurs, as make does for the lines of a recipe; everything else is left to the shell.

use std::iter::Peekable;
use std::str::Chars;

/// First words that mean something to the shell itself, sorted: bash's builtins and reserved words.
const SHELL_WORDS: [&str; 83] = [
    "!",
    ".",
    ":",
    "[",
    "[[",
    "]]",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "case",
    "cd",
    "command",
    "compgen",
    "complete",
    "compopt",
    "continue",
    "coproc",
    "declare",
    "dirs",
    "disown",
    "do",
    "done",
    "echo",
    "elif",
    "else",
    "enable",
    "esac",
    "eval",
    "exec",
    "exit",
    "export",
    "false",
    "fc",
    "fg",
    "fi",
    "for",
    "function",
    "getopts",
    "hash",
    "help",
    "history",
    "if",
    "in",
    "jobs",
    "kill",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "printf",
    "pushd",
    "pwd",
    "read",
    "readarray",
    "readonly",
    "return",
    "select",
    "set",
    "shift",
    "shopt",
    "source",
    "suspend",
    "test",
    "then",
    "time",
    "times",
    "trap",
    "true",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "until",
    "wait",
    "while",
    "{",
    "}",
];

/// Longest script that is looked at, bytes. It is read before the command has a process that could be stopped.
const MAX_SCRIPT: usize = 64 << 10;

/// The words of a script that is one simple command without anything to expand, redirect or assign; `None` for all others.
/// The first word is the program.
pub fn words(script: &str) -> Option<Vec<String>> {
    if script.len() > MAX_SCRIPT {
        return None;
    }
    let mut rest = script.trim_matches([' ', '\t', '\n']).chars().peekable();
    let mut words = Vec::new();
    while rest.peek().is_some() {
        words.push(word(&mut rest)?);
        while rest.next_if(|char| matches!(char, ' ' | '\t')).is_some() {}
    }
    let program: &String = words.first()?;
    // A quoted first word could be spelled otherwise, and one with `=` is an assignment.
    let plain = script
        .trim_start_matches([' ', '\t', '\n'])
        .starts_with(program.as_str())
        && !program.contains('=');
    let own = SHELL_WORDS.binary_search(&program.as_str()).is_ok();
    (plain && !program.is_empty() && !own).then_some(words)
}

/// What a shell that nobody started from a shell adds to the environment.
pub const SHELL_LEVEL: &[u8] = b"SHLVL=1";

/// Whether a shell passes an environment on with [`SHELL_LEVEL`] added and else as it is, and looks programs up as the
/// kernel does.
pub fn is_usual_environment(environment: &[Vec<u8>]) -> bool {
    let unusual = |entry: &Vec<u8>| {
        // Startup files, options and functions; what the shell counts or remembers itself.
        let prefixes: [&[u8]; 5] = [b"BASH", b"SHELLOPTS=", b"SHLVL=", b"OLDPWD=", b"_="];
        prefixes.iter().any(|prefix| entry.starts_with(prefix))
    };
    environment.iter().any(|entry| entry.starts_with(b"PATH=")) && !environment.iter().any(unusual)
}

/// One word, up to a blank or the end.
fn word(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut word = String::new();
    while let Some(&char) = rest.peek() {
        match char {
            ' ' | '\t' => break,
            '\'' => {
                rest.next();
                quoted(rest, &mut word)?;
            }
            '"' => {
                rest.next();
                double_quoted(rest, &mut word)?;
            }
            _ if is_plain(char) => {
                rest.next();
                word.push(char);
            }
            _ => return None,
        }
    }
    Some(word)
}

/// Whether a character outside of quotes stands for itself wherever it is.
fn is_plain(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.' | '/' | ',' | ':' | '@' | '%' | '+' | '=')
}

/// What follows a single quote, up to the next one.
fn quoted(rest: &mut Peekable<Chars<'_>>, word: &mut String) -> Option<()> {
    loop {
        match rest.next()? {
            '\'' => return Some(()),
            char => word.push(char),
        }
    }
}

/// What follows a double quote, up to the next one that is not escaped.
fn double_quoted(rest: &mut Peekable<Chars<'_>>, word: &mut String) -> Option<()> {
    loop {
        match rest.next()? {
            '"' => return Some(()),
            '$' | '`' => return None,
            '\\' => match rest.next()? {
                '\n' => {}
                char @ ('$' | '`' | '"' | '\\') => word.push(char),
                char => word.extend(['\\', char]),
            },
            char => word.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn some(script: &str) -> Vec<String> {
        words(script).unwrap_or_else(|| panic!("{script:?} is a simple command"))
    }

    /// What bash prints for a script, NULs and all.
    fn bash(script: &str) -> String {
        let output = Command::new("bash")
            .args(["--norc", "-c", script])
            .env_clear()
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn plain_words_and_quotes_are_understood() {
        assert_eq!(some("python3 -c \"print(40 + 2)\""), ["python3", "-c", "print(40 + 2)"]);
        assert_eq!(some(" ls\t-l  /tmp \n"), ["ls", "-l", "/tmp"]);
        assert_eq!(some("cat a'b c'\"d  e\"f '' \"\""), ["cat", "ab cd  ef", "", ""]);
        assert_eq!(some(r#"cat "a\"b\\c\n\$" 'a\'"#), ["cat", r#"a"b\c\n$"#, r"a\"]);
        assert_eq!(some("env A=b"), ["env", "A=b"]);
    }

    #[test]
    fn all_else_is_left_to_the_shell() {
        let scripts = [
            "",
            " ",
            "a; b",
            "a & b",
            "a | b",
            "a > b",
            "a < b",
            "a\nb",
            "a $b",
            "a \"$b\"",
            "a `b`",
            "a \"`b`\"",
            "a *",
            "a ?",
            "a [b]",
            "a {b,c}",
            "a ~",
            "~/a",
            "a # b",
            "a \\b",
            "(a)",
            "A=b",
            "A=b c",
            "A=b",
            "a 'b",
            "a \"b",
            "a !",
            "'a' b",
            "\"a\" b",
            "echo a",
            "cd /",
            "if a",
            "time a",
            "[ a ]",
            "! a",
            ". a",
            "exec a",
            "é",
            "a é",
            "a=1 b",
        ];
        for script in scripts {
            assert_eq!(words(script), None, "{script:?}");
        }
    }

    #[test]
    fn the_words_of_the_shell_are_those_of_bash() {
        assert!(SHELL_WORDS.is_sorted());
        for word in bash("compgen -b; compgen -k").lines() {
            assert!(SHELL_WORDS.contains(&word), "{word}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn words_are_split_as_by_bash(arguments in r#"([ab=/.'" \\$~!*-]|\n|\t| ){0,12}"#) {
            if let Some(split) = words(&format!("program {arguments}")) {
                let printed = bash(&format!("printf '%s\\0' {arguments}"));
                // Without arguments printf prints the format once.
                let expected = if split.len() == 1 { "\0".to_owned() } else { split[1..].join("\0") + "\0" };
                prop_assert_eq!(printed, expected, "{}", arguments);
            }
        }
    }
}
