//! Parses a sed script.

use std::collections::HashMap;
use std::rc::Rc;

use crate::posix_regex::{Dialect, translate};

/// A regular expression; text is matched as bytes where the engine can.
#[derive(Debug)]
pub enum Expression {
    /// Linear time.
    Linear(regex::bytes::Regex),
    /// With back-references; bounded backtracking.
    Backtracking(Box<fancy_regex::Regex>),
}

/// The positions of the groups of a match; group 0 is the whole.
pub type Groups = Vec<Option<std::ops::Range<usize>>>;

impl Expression {
    /// The first match at or after `start`.
    pub fn find(&self, text: &[u8], start: usize) -> Option<Groups> {
        match self {
            Self::Linear(regex) => {
                let captures = regex.captures_at(text, start)?;
                Some(captures.iter().map(|group| group.map(|found| found.range())).collect())
            }
            Self::Backtracking(regex) => {
                let text = std::str::from_utf8(text)
                    .ok()
                    .filter(|text| text.is_char_boundary(start))?;
                let captures = regex.captures_from_pos(text, start).ok().flatten()?;
                Some(captures.iter().map(|group| group.map(|found| found.range())).collect())
            }
        }
    }
}

/// `None`: the expression used last.
pub type Pattern = Option<Rc<Expression>>;

/// A line or a place in the input.
#[derive(Clone, Debug)]
pub enum Address {
    /// This line.
    Line(u64),
    /// From this line on, every so many lines.
    Step(u64, u64),
    /// The last line.
    Last,
    /// Lines that match.
    Matches(Pattern),
    /// As the end of a range: so many lines more.
    Plus(u64),
    /// As the end of a range: up to the next line divisible by this.
    Multiple(u64),
}

/// Part of a replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// This text.
    Text(Vec<u8>),
    /// This group; 0 is the whole match.
    Group(usize),
    /// Letter case from here on.
    Case(Case),
}

/// `\U \L \u \l \E`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// All upper case.
    Upper,
    /// All lower case.
    Lower,
    /// The next letter upper case.
    NextUpper,
    /// The next letter lower case.
    NextLower,
    /// As it is.
    Plain,
}

/// `s`
#[derive(Debug)]
pub struct Substitution {
    /// What is replaced.
    pub pattern: Pattern,
    /// With what.
    pub replacement: Vec<Part>,
    /// From which match on, counted from 1.
    pub nth: u64,
    /// All from there on.
    pub global: bool,
    /// Print when something was replaced.
    pub print: bool,
    /// Run the result as a command.
    pub evaluate: bool,
    /// Write to this file when something was replaced.
    pub file: Option<String>,
}

/// What a command does. Jumps hold the index of the command to go on with.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is described by its letter in sed(1)")]
pub enum Action {
    /// `{`: on with the command after the closing brace when the address does not hold.
    Block(usize),
    /// `}`
    End,
    Substitute(Box<Substitution>),
    Transliterate(HashMap<char, char>),
    Append(Vec<u8>),
    Insert(Vec<u8>),
    Change(Vec<u8>),
    Branch(usize),
    BranchIfReplaced(usize),
    BranchIfNot(usize),
    Delete,
    DeleteFirst,
    Print,
    PrintFirst,
    PrintNumber,
    PrintVisibly,
    Next,
    NextAppend,
    HoldCopy,
    HoldAppend,
    GetCopy,
    GetAppend,
    Exchange,
    Quit(i32),
    QuitSilently(i32),
    ReadFile(String),
    ReadLine(String),
    WriteFile(String),
    WriteFirst(String),
    Execute(String),
    Zap,
    FileName,
}

/// A command with its addresses.
#[derive(Debug)]
pub struct Command {
    /// The first or only address.
    pub from: Option<Address>,
    /// The end of a range.
    pub to: Option<Address>,
    /// `!`
    pub negated: bool,
    /// What it does.
    pub action: Action,
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    extended: bool,
    commands: Vec<Command>,
    open: Vec<usize>,
    labels: HashMap<String, usize>,
    jumps: Vec<(usize, String)>,
}

/// Parses a script.
///
/// # Errors
/// What is wrong and at which character.
pub fn parse(script: &str, extended: bool) -> Result<Vec<Command>, String> {
    let mut parser = Parser {
        chars: script.chars().collect(),
        at: 0,
        extended,
        commands: Vec::new(),
        open: Vec::new(),
        labels: HashMap::new(),
        jumps: Vec::new(),
    };
    parser
        .script()
        .map_err(|message| format!("char {}: {message}", parser.at))?;
    for (command, label) in std::mem::take(&mut parser.jumps) {
        let target = if label.is_empty() {
            parser.commands.len()
        } else {
            *parser
                .labels
                .get(&label)
                .ok_or_else(|| format!("char {}: can't find label for jump to '{label}'", parser.at))?
        };
        match &mut parser.commands[command].action {
            Action::Branch(to) | Action::BranchIfReplaced(to) | Action::BranchIfNot(to) => *to = target,
            _ => {}
        }
    }
    Ok(parser.commands)
}

type Parsed<T> = Result<T, String>;

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn skip(&mut self, skipped: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&skipped) {
            self.at += 1;
        }
    }

    fn blanks(&mut self) {
        self.skip(|c| c.is_whitespace() && c != '\n');
    }

    fn number(&mut self) -> Option<u64> {
        let start = self.at;
        self.skip(|c| c.is_ascii_digit());
        let digits: String = self.chars[start..self.at].iter().collect();
        if digits.is_empty() {
            None
        } else {
            Some(digits.parse().unwrap_or(u64::MAX))
        }
    }

    fn script(&mut self) -> Parsed<()> {
        loop {
            self.skip(|c| c.is_whitespace() || c == ';');
            match self.peek() {
                None => break,
                Some('#') => self.skip(|c| c != '\n'),
                Some(_) => self.command()?,
            }
        }
        if self.open.is_empty() {
            Ok(())
        } else {
            Err("unmatched `{'".into())
        }
    }

    fn command(&mut self) -> Parsed<()> {
        let from = self.address()?;
        let mut to = None;
        self.blanks();
        if from.is_some() && self.take(',') {
            self.blanks();
            to = if self.take('+') {
                Some(Address::Plus(self.number().ok_or("expected a number")?))
            } else if self.take('~') {
                Some(Address::Multiple(self.number().ok_or("expected a number")?))
            } else {
                Some(self.address()?.ok_or("unexpected `,'")?)
            };
        }
        self.blanks();
        let mut negated = false;
        while self.take('!') {
            negated = true;
            self.blanks();
        }
        let letter = self.next().ok_or("missing command")?;
        let index = self.commands.len();
        let action = self.action(letter, index, from.is_some())?;
        let Some(action) = action else { return Ok(()) };
        self.commands.push(Command {
            from,
            to,
            negated,
            action,
        });
        Ok(())
    }

    fn address(&mut self) -> Parsed<Option<Address>> {
        if let Some(line) = self.number() {
            return Ok(Some(if self.take('~') {
                Address::Step(line, self.number().unwrap_or(0))
            } else {
                Address::Line(line)
            }));
        }
        let delimiter = match self.peek() {
            Some('$') => {
                self.at += 1;
                return Ok(Some(Address::Last));
            }
            Some('/') => {
                self.at += 1;
                '/'
            }
            Some('\\') => {
                self.at += 1;
                self.next().ok_or("unterminated address regex")?
            }
            _ => return Ok(None),
        };
        let text = self.delimited(delimiter, true).ok_or("unterminated address regex")?;
        let (mut fold, mut lines) = (false, false);
        loop {
            if self.take('I') {
                fold = true;
            } else if self.take('M') {
                lines = true;
            } else {
                break;
            }
        }
        Ok(Some(Address::Matches(self.pattern(&text, fold, lines)?)))
    }

    /// Text up to an unescaped delimiter. In a regular expression an escaped delimiter loses its backslash, `\n` is a
    /// newline, and brackets hide the delimiter.
    fn delimited(&mut self, delimiter: char, regex: bool) -> Option<String> {
        let mut text = String::new();
        let mut bracket = None;
        loop {
            let c = self.next()?;
            match c {
                '\\' => {
                    let escaped = self.next()?;
                    if escaped == delimiter && bracket.is_none() {
                        // `s|a\|b||`: the delimiter stands for itself, not for an operator.
                        if regex && "|+?(){}.*[]^$".contains(delimiter) && delimiter != '/' {
                            text.push_str(if "(){}+?|".contains(delimiter) && !self.extended {
                                ""
                            } else {
                                "\\"
                            });
                        }
                        text.push(escaped);
                    } else if regex && let Some(control) = control(escaped) {
                        // GNU sed knows these in expressions, also inside brackets.
                        text.push(control);
                    } else if matches!(escaped, ']') && bracket.is_some() {
                        text.push('\\');
                        self.at -= 1;
                    } else {
                        text.push('\\');
                        text.push(escaped);
                    }
                }
                '[' if regex && bracket.is_none() => {
                    text.push(c);
                    if self.take('^') {
                        text.push('^');
                    }
                    if self.take(']') {
                        text.push(']');
                    }
                    bracket = Some(text.len());
                }
                '[' if regex && matches!(self.peek(), Some(':' | '.' | '=')) => {
                    text.push(c);
                    let kind = self.next()?;
                    text.push(kind);
                    while !(self.peek()? == kind && self.chars.get(self.at + 1) == Some(&']')) {
                        text.push(self.next()?);
                    }
                    text.push(self.next()?);
                    text.push(self.next()?);
                }
                ']' if bracket.is_some() => {
                    text.push(c);
                    bracket = None;
                }
                c if c == delimiter && bracket.is_none() => return Some(text),
                '\n' if regex && bracket.is_none() => return None,
                other => text.push(other),
            }
        }
    }

    fn pattern(&self, text: &str, fold: bool, lines: bool) -> Parsed<Pattern> {
        if text.is_empty() {
            return Ok(None);
        }
        let dialect = if self.extended {
            Dialect::Extended
        } else {
            Dialect::Basic
        };
        let translated = translate(text, dialect)?;
        let flags = match (fold, lines) {
            (true, true) => "(?ims)",
            (true, false) => "(?is)",
            (false, true) => "(?ms)",
            (false, false) => "(?s)",
        };
        let source = format!("{flags}{}", translated.pattern);
        let worse = |error: String| error.lines().next_back().unwrap_or_default().to_owned();
        let expression = if translated.backreference {
            let built = fancy_regex::RegexBuilder::new(&source)
                .backtrack_limit(1_000_000)
                .build();
            Expression::Backtracking(Box::new(built.map_err(|error| worse(error.to_string()))?))
        } else {
            let built = regex::bytes::RegexBuilder::new(&source).size_limit(64 << 20).build();
            Expression::Linear(built.map_err(|error| worse(error.to_string()))?)
        };
        Ok(Some(Rc::new(expression)))
    }

    #[allow(clippy::too_many_lines, reason = "one arm per command letter")]
    fn action(&mut self, letter: char, index: usize, addressed: bool) -> Parsed<Option<Action>> {
        let action = match letter {
            '{' => {
                self.open.push(index);
                return Ok(Some(Action::Block(0)));
            }
            '}' => {
                let start = self.open.pop().ok_or("unexpected `}'")?;
                if let Some(Command {
                    action: Action::Block(end),
                    ..
                }) = self.commands.get_mut(start)
                {
                    *end = index;
                }
                Action::End
            }
            ':' => {
                if addressed {
                    return Err(": doesn't want any addresses".into());
                }
                let label = self.word(false);
                if label.is_empty() {
                    return Err("\":\" lacks a label".into());
                }
                self.labels.insert(label, index);
                return Ok(None);
            }
            'b' | 't' | 'T' => {
                let label = self.word(true);
                self.jumps.push((index, label));
                match letter {
                    'b' => Action::Branch(0),
                    't' => Action::BranchIfReplaced(0),
                    _ => Action::BranchIfNot(0),
                }
            }
            's' => return self.substitution().map(Some),
            'y' => self.transliteration()?,
            'a' => return Ok(Some(Action::Append(self.text()?))),
            'i' => return Ok(Some(Action::Insert(self.text()?))),
            'c' => return Ok(Some(Action::Change(self.text()?))),
            'd' => Action::Delete,
            'D' => Action::DeleteFirst,
            'p' => Action::Print,
            'P' => Action::PrintFirst,
            '=' => Action::PrintNumber,
            'l' => {
                self.blanks();
                self.number();
                Action::PrintVisibly
            }
            'n' => Action::Next,
            'N' => Action::NextAppend,
            'h' => Action::HoldCopy,
            'H' => Action::HoldAppend,
            'g' => Action::GetCopy,
            'G' => Action::GetAppend,
            'x' => Action::Exchange,
            'z' => Action::Zap,
            'F' => Action::FileName,
            'q' | 'Q' => {
                self.blanks();
                let status = self.number().map_or(0, |status| (status & 0xff) as i32);
                if letter == 'q' {
                    Action::Quit(status)
                } else {
                    Action::QuitSilently(status)
                }
            }
            'r' => Action::ReadFile(self.line()),
            'R' => Action::ReadLine(self.line()),
            'w' => Action::WriteFile(self.line()),
            'W' => Action::WriteFirst(self.line()),
            'e' => Action::Execute(self.line()),
            'v' => {
                self.line();
                return Ok(None);
            }
            other => return Err(format!("unknown command: `{other}'")),
        };
        self.end_of_command()?;
        Ok(Some(action))
    }

    fn end_of_command(&mut self) -> Parsed<()> {
        self.blanks();
        match self.peek() {
            None | Some('\n' | ';' | '}' | '#') => Ok(()),
            Some(_) => Err("extra characters after command".into()),
        }
    }

    /// A label: to the end of the line, or to a semicolon or brace.
    fn word(&mut self, brace_ends: bool) -> String {
        self.blanks();
        let start = self.at;
        self.skip(|c| c != '\n' && c != ';' && !c.is_whitespace() && !(brace_ends && c == '}'));
        self.chars[start..self.at].iter().collect()
    }

    /// The rest of the line.
    fn line(&mut self) -> String {
        self.blanks();
        let start = self.at;
        self.skip(|c| c != '\n');
        self.chars[start..self.at].iter().collect()
    }

    /// The text of `a`, `i`, `c`: on the same line, or after a backslash and newline; backslashes continue it.
    fn text(&mut self) -> Parsed<Vec<u8>> {
        self.blanks();
        if self.take('\\') {
            // `a\` and a newline; in the one-line form `a\  text` the blanks belong to the text.
            let start = self.at;
            self.blanks();
            if !self.take('\n') {
                self.at = start;
            }
        }
        if self.peek().is_none() {
            return Err("expected \\ after `a', `c' or `i'".into());
        }
        let mut text = String::new();
        while let Some(c) = self.next() {
            match c {
                '\\' => match self.next() {
                    Some('t') => text.push('\t'),
                    Some(other) => text.push(other),
                    None => break,
                },
                '\n' => break,
                other => text.push(other),
            }
        }
        text.push('\n');
        Ok(text.into_bytes())
    }

    fn substitution(&mut self) -> Parsed<Action> {
        let delimiter = self
            .next()
            .filter(|c| *c != '\n' && *c != '\\')
            .ok_or("unterminated `s' command")?;
        let unfinished = || "unterminated `s' command".to_owned();
        let pattern = self.delimited(delimiter, true).ok_or_else(unfinished)?;
        let replacement = self.delimited(delimiter, false).ok_or_else(unfinished)?;
        let mut substitution = Substitution {
            pattern: None,
            replacement: replacement_parts(&replacement),
            nth: 1,
            global: false,
            print: false,
            evaluate: false,
            file: None,
        };
        let (mut fold, mut lines) = (false, false);
        loop {
            match self.peek() {
                Some('g') => substitution.global = true,
                Some('p') => substitution.print = true,
                Some('i' | 'I') => fold = true,
                Some('m' | 'M') => lines = true,
                Some('e') => substitution.evaluate = true,
                Some('w') => {
                    self.at += 1;
                    substitution.file = Some(self.line());
                    break;
                }
                Some(digit) if digit.is_ascii_digit() => {
                    substitution.nth = self.number().unwrap_or(1);
                    if substitution.nth == 0 {
                        return Err("number option to `s' command may not be zero".into());
                    }
                    continue;
                }
                _ => {
                    self.blanks();
                    if !matches!(self.peek(), None | Some('\n' | ';' | '}' | '#')) {
                        return Err("unknown option to `s'".into());
                    }
                    break;
                }
            }
            self.at += 1;
        }
        substitution.pattern = self.pattern(&pattern, fold, lines)?;
        if let Some(Expression::Linear(regex)) = substitution.pattern.as_deref() {
            let groups = regex.captures_len();
            let highest = substitution
                .replacement
                .iter()
                .map(|part| if let Part::Group(n) = part { *n } else { 0 })
                .max();
            if let Some(highest) = highest.filter(|highest| *highest >= groups) {
                return Err(format!("invalid reference \\{highest} on `s' command's RHS"));
            }
        }
        Ok(Action::Substitute(Box::new(substitution)))
    }

    fn transliteration(&mut self) -> Parsed<Action> {
        let unfinished = || "unterminated `y' command".to_owned();
        let delimiter = self.next().ok_or_else(unfinished)?;
        let from = self.delimited(delimiter, false).ok_or_else(unfinished)?;
        let to = self.delimited(delimiter, false).ok_or_else(unfinished)?;
        let plain = |text: &str| -> Vec<char> {
            let mut out = Vec::new();
            let mut chars = text.chars();
            while let Some(c) = chars.next() {
                out.push(match (c, c == '\\') {
                    (_, true) => match chars.next() {
                        Some('n') => '\n',
                        Some('t') => '\t',
                        Some(other) => other,
                        None => '\\',
                    },
                    (c, _) => c,
                });
            }
            out
        };
        let (from, to) = (plain(&from), plain(&to));
        if from.len() != to.len() {
            return Err("strings for `y' command are different lengths".into());
        }
        let mut map = HashMap::new();
        for (a, b) in from.into_iter().zip(to) {
            map.entry(a).or_insert(b);
        }
        Ok(Action::Transliterate(map))
    }
}

/// The character that a backslash and this letter stand for.
fn control(letter: char) -> Option<char> {
    Some(match letter {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\u{7}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        _ => return None,
    })
}

fn replacement_parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let flush = |literal: &mut String, parts: &mut Vec<Part>| {
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(literal).into_bytes()));
        }
    };
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let part = match c {
            '&' => Part::Group(0),
            '\\' => match chars.next() {
                Some(digit @ '0'..='9') => Part::Group(digit as usize - '0' as usize),
                Some('U') => Part::Case(Case::Upper),
                Some('L') => Part::Case(Case::Lower),
                Some('u') => Part::Case(Case::NextUpper),
                Some('l') => Part::Case(Case::NextLower),
                Some('E') => Part::Case(Case::Plain),
                other => {
                    literal.push(other.map_or('\\', |letter| control(letter).unwrap_or(letter)));
                    continue;
                }
            },
            other => {
                literal.push(other);
                continue;
            }
        };
        flush(&mut literal, &mut parts);
        parts.push(part);
    }
    flush(&mut literal, &mut parts);
    parts
}
