//! One compiled expression over bytes, on the linear-time engine where that is possible.

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};

use crate::posix_regex::{Dialect, translate};

/// How many steps the backtracking engine may take on one line before the line counts as not matching.
const BACKTRACK_LIMIT: usize = 1_000_000;

/// A compiled expression.
pub enum Matcher {
    /// Linear time.
    Linear(Regex),
    /// Back-references or look-around: backtracking, bounded.
    Backtracking(Box<fancy_regex::Regex>),
}

/// How to read the patterns given to `grep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// A POSIX dialect.
    Posix(Dialect),
    /// Plain text.
    Fixed,
    /// Perl's.
    Perl,
}

/// What must stand around a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// Anything.
    Anywhere,
    /// No word character on either side.
    Word,
    /// The line's ends.
    Line,
}

impl Matcher {
    /// Compiles the alternatives `patterns` into one expression.
    ///
    /// # Errors
    /// What is wrong with a pattern, for the user.
    pub fn new(patterns: &[String], syntax: Syntax, bounds: Bounds, ignore_case: bool) -> Result<Self, String> {
        let mut backtracking = false;
        let mut alternatives = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            alternatives.push(match syntax {
                Syntax::Fixed => regex::escape(pattern),
                Syntax::Perl => pattern.clone(),
                Syntax::Posix(dialect) => {
                    let translated = translate(pattern, dialect)?;
                    backtracking |= translated.backreference;
                    translated.pattern
                }
            });
        }
        let joined = if alternatives.len() == 1 {
            alternatives.remove(0)
        } else {
            alternatives
                .iter()
                .map(|a| format!("(?:{a})"))
                .collect::<Vec<_>>()
                .join("|")
        };
        let bounded = match bounds {
            Bounds::Anywhere => joined,
            Bounds::Word if backtracking || syntax == Syntax::Perl => format!("(?<!\\w)(?:{joined})(?!\\w)"),
            Bounds::Word => format!("\\b{{start-half}}(?:{joined})\\b{{end-half}}"),
            Bounds::Line => format!("^(?:{joined})$"),
        };
        let linear = RegexBuilder::new(&bounded)
            .case_insensitive(ignore_case)
            .size_limit(64 << 20)
            .build();
        match linear {
            Ok(regex) if !backtracking => Ok(Self::Linear(regex)),
            Err(error) if !backtracking && syntax != Syntax::Perl => Err(first_line(&error.to_string())),
            _ => {
                let prefix = if ignore_case { "(?i)" } else { "" };
                fancy_regex::RegexBuilder::new(&format!("{prefix}{bounded}"))
                    .backtrack_limit(BACKTRACK_LIMIT)
                    .build()
                    .map(|regex| Self::Backtracking(Box::new(regex)))
                    .map_err(|error| first_line(&error.to_string()))
            }
        }
    }

    /// Whether the line holds a match.
    pub fn is_match(&self, line: &[u8]) -> bool {
        match self {
            Self::Linear(regex) => regex.is_match(line),
            Self::Backtracking(regex) => {
                std::str::from_utf8(line).is_ok_and(|line| regex.is_match(line).unwrap_or(false))
            }
        }
    }

    /// The first match at or after `start`.
    pub fn find_at(&self, line: &[u8], start: usize) -> Option<Range<usize>> {
        match self {
            Self::Linear(regex) => regex.find_at(line, start).map(|found| found.range()),
            Self::Backtracking(regex) => {
                let text = std::str::from_utf8(line)
                    .ok()
                    .filter(|text| text.is_char_boundary(start))?;
                regex
                    .find_from_pos(text, start)
                    .ok()
                    .flatten()
                    .map(|found| found.range())
            }
        }
    }

    /// Every match that is not empty, left to right.
    pub fn find_all(&self, line: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut start = 0;
        while start <= line.len() {
            let Some(range) = self.find_at(line, start) else { break };
            if range.is_empty() {
                // Past one character, not one byte, so that the next search starts at a boundary.
                start = range.end + 1;
                while start < line.len() && line[start] & 0xc0 == 0x80 {
                    start += 1;
                }
            } else {
                start = range.end;
                found.push(range);
            }
        }
        found
    }
}

/// The engine's errors draw a picture of the pattern; the last line says what is wrong.
fn first_line(text: &str) -> String {
    text.lines()
        .next_back()
        .unwrap_or(text)
        .trim_start_matches("error: ")
        .to_owned()
}
