//! What every tool of ours shares: option parsing the way getopt(3) does it, messages, and quick answers.

use std::fmt::Display;
use std::io::{self, Write};

/// Whether an option takes an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A flag.
    Nothing,
    /// The rest of the cluster or the next word.
    Value,
    /// Only what is attached to it.
    MaybeValue,
}

/// A long option: its name, the key it is reported as, and whether it takes an argument.
pub type Long = (&'static str, &'static str, Takes);

/// The options a tool knows.
#[derive(Clone, Copy)]
pub struct Spec {
    /// Letters in getopt's notation: `x` a flag, `x:` with an argument, `x::` with an attached argument at most.
    pub short: &'static str,
    /// Long options; a unique prefix is enough.
    pub long: &'static [Long],
    /// Whether options may follow operands, as GNU allows; `env` and `xargs` stop at the first operand.
    pub permute: bool,
}

/// A parsed command line.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Options in the order given: key (a letter, or the key of [`Long`]) and argument, empty for a flag.
    pub options: Vec<(String, String)>,
    /// Everything else.
    pub operands: Vec<String>,
}

impl Parsed {
    /// Whether a flag was given.
    pub fn has(&self, key: &str) -> bool {
        self.options.iter().any(|(k, _)| k == key)
    }

    /// The last value given for an option.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.options
            .iter()
            .rev()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }
}

impl Spec {
    /// Splits the words after the program's name into options and operands.
    ///
    /// # Errors
    /// The message to print when an option is unknown, ambiguous or lacks its argument.
    pub fn parse(&self, args: &[String]) -> Result<Parsed, String> {
        let mut parsed = Parsed::default();
        let mut words = args.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                parsed.operands.extend(words.cloned());
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                let (name, attached) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let &(name, key, takes) = self.find_long(name)?;
                let value = match (takes, attached) {
                    (Takes::Nothing, Some(_)) => return Err(format!("option '--{name}' doesn't allow an argument")),
                    (Takes::Value, None) => words
                        .next()
                        .cloned()
                        .ok_or_else(|| format!("option '--{name}' requires an argument"))?,
                    (_, attached) => attached.unwrap_or_default(),
                };
                parsed.options.push((key.to_owned(), value));
            } else if word.len() > 1 && word.starts_with('-') {
                self.cluster(&word[1..], &mut words, &mut parsed)?;
            } else {
                parsed.operands.push(word.clone());
                if !self.permute {
                    parsed.operands.extend(words.cloned());
                    break;
                }
            }
        }
        Ok(parsed)
    }

    fn find_long(&self, name: &str) -> Result<&'static Long, String> {
        if let Some(exact) = self.long.iter().find(|(n, ..)| *n == name) {
            return Ok(exact);
        }
        let mut candidates = self.long.iter().filter(|(n, ..)| n.starts_with(name));
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => Err(format!("option '--{name}' is ambiguous")),
            _ => Err(format!("unrecognized option '--{name}'")),
        }
    }

    fn cluster<'a>(
        &self,
        cluster: &str,
        words: &mut impl Iterator<Item = &'a String>,
        parsed: &mut Parsed,
    ) -> Result<(), String> {
        let mut rest = cluster.chars();
        while let Some(letter) = rest.next() {
            let takes = self
                .short_takes(letter)
                .ok_or_else(|| format!("invalid option -- '{letter}'"))?;
            let value = match takes {
                Takes::Nothing => {
                    parsed.options.push((letter.to_string(), String::new()));
                    continue;
                }
                Takes::MaybeValue => rest.as_str().to_owned(),
                Takes::Value if !rest.as_str().is_empty() => rest.as_str().to_owned(),
                Takes::Value => words
                    .next()
                    .cloned()
                    .ok_or_else(|| format!("option requires an argument -- '{letter}'"))?,
            };
            parsed.options.push((letter.to_string(), value));
            break;
        }
        Ok(())
    }

    fn short_takes(&self, letter: char) -> Option<Takes> {
        if letter == ':' {
            return None;
        }
        let at = self.short.find(letter)?;
        let after = &self.short[at + letter.len_utf8()..];
        Some(if after.starts_with("::") {
            Takes::MaybeValue
        } else if after.starts_with(':') {
            Takes::Value
        } else {
            Takes::Nothing
        })
    }
}

/// Prints `tool: message` to standard error.
pub fn complain(tool: &str, message: impl Display) {
    let _ = writeln!(io::stderr(), "{tool}: {message}");
}

/// Complains and gives back the status, for `return fail(…)`.
pub fn fail(tool: &str, message: impl Display, status: i32) -> i32 {
    complain(tool, message);
    status
}

/// The words of an error as the C library says them, without Rust's "(os error N)".
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// A buffered standard output.
pub fn stdout() -> io::BufWriter<io::StdoutLock<'static>> {
    io::BufWriter::with_capacity(32 * 1024, io::stdout().lock())
}

/// Flushes and turns a failure to write into a status: 0, or 1 with a message unless the reader went away.
pub fn finish(tool: &str, mut out: impl Write, status: i32) -> i32 {
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(tool, format_args!("write error: {}", reason(&error)), 1)
        }
        Err(_) => 1,
        Ok(()) => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: Spec = Spec {
        short: "ab:i::",
        long: &[
            ("all", "a", Takes::Nothing),
            ("bytes", "b", Takes::Value),
            ("in-place", "i", Takes::MaybeValue),
        ],
        permute: true,
    };

    fn parse(words: &[&str]) -> Result<Parsed, String> {
        SPEC.parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn clusters_long_names_and_prefixes_mean_the_same() {
        for words in [
            &["-ab", "3", "x"][..],
            &["-ab3", "x"],
            &["--all", "x", "--bytes=3"],
            &["--al", "--by", "3", "x"],
        ] {
            let parsed = parse(words).unwrap();
            assert!(parsed.has("a"));
            assert_eq!(parsed.value("b"), Some("3"));
            assert_eq!(parsed.operands, ["x"]);
        }
    }

    #[test]
    fn an_optional_value_must_be_attached() {
        let parsed = parse(&["-i", "x", "-i.bak"]).unwrap();
        assert_eq!(
            parsed.options,
            [("i".into(), String::new()), ("i".into(), ".bak".into())]
        );
        assert_eq!(parsed.operands, ["x"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse(&["-z"]).unwrap_err(), "invalid option -- 'z'");
        assert_eq!(parse(&["-b"]).unwrap_err(), "option requires an argument -- 'b'");
        assert_eq!(parse(&["--nope"]).unwrap_err(), "unrecognized option '--nope'");
        assert_eq!(
            parse(&["--all=1"]).unwrap_err(),
            "option '--all' doesn't allow an argument"
        );
    }
}
