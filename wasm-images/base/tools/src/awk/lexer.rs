//! Cuts an awk program into tokens.

use super::ast::Builtin;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// End of a line.
    Newline,
    /// A number.
    Number(f64),
    /// A string, its escapes resolved.
    Text(String),
    /// A regular expression between slashes.
    Regex(String),
    /// A name.
    Name(String),
    /// A name directly before `(`.
    FunctionName(String),
    /// A built-in function.
    Builtin(Builtin),
    /// A reserved word.
    Keyword(&'static str),
    /// An operator or delimiter.
    Sign(&'static str),
    /// The end.
    End,
}

const KEYWORDS: [&str; 22] = [
    "BEGIN", "END", "function", "func", "if", "else", "while", "for", "do", "break", "continue", "next", "nextfile",
    "exit", "return", "delete", "in", "getline", "print", "printf", "switch", "case",
];
const SIGNS: [&str; 45] = [
    "**=", "&&", "||", "++", "--", "+=", "-=", "*=", "/=", "%=", "^=", "**", "==", "<=", ">=", "!=", ">>", "!~", "|&",
    "{", "}", "(", ")", "[", "]", ";", ",", "+", "-", "*", "/", "%", "^", "!", ">", "<", "|", "?", ":", "~", "$", "=",
    "&", "@", "\\",
];

/// Resolves the escapes of a string (POSIX awk, lexical conventions).
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            None => out.push('\\'),
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('v') => out.push('\u{b}'),
            Some('\n') => {}
            Some(plain @ ('\\' | '"' | '/')) => out.push(plain),
            Some(digit @ '0'..='7') => {
                let mut code = digit as u32 - 48;
                for _ in 0..2 {
                    if let Some(next) = chars.next_if(|c| ('0'..='7').contains(c)) {
                        code = code * 8 + (next as u32 - 48);
                    }
                }
                out.push(char::from((code & 0xff) as u8));
            }
            Some('x') => {
                let mut code = None;
                for _ in 0..2 {
                    if let Some(digit) = chars.peek().and_then(|c| c.to_digit(16)) {
                        code = Some(code.unwrap_or(0) * 16 + digit);
                        chars.next();
                    }
                }
                match code {
                    Some(code) => out.push(char::from(code as u8)),
                    None => out.push_str("\\x"),
                }
            }
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    out
}

/// All tokens with the line each stands on.
///
/// # Errors
/// What is not awk, with its line.
pub fn tokens(source: &str) -> Result<Vec<(Token, u32)>, String> {
    let chars: Vec<char> = source.chars().collect();
    let mut found: Vec<(Token, u32)> = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        match c {
            '\n' => {
                found.push((Token::Newline, line));
                line += 1;
                at += 1;
            }
            ' ' | '\t' | '\r' => at += 1,
            '\\' if chars.get(at + 1) == Some(&'\n') => {
                line += 1;
                at += 2;
            }
            '\\' if chars.get(at + 1) == Some(&'\r') && chars.get(at + 2) == Some(&'\n') => {
                line += 1;
                at += 3;
            }
            '#' => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
            }
            '"' => {
                let (text, next) = delimited(&chars, at + 1, '"').ok_or(format!("line {line}: unterminated string"))?;
                at = next;
                line += text.matches('\n').count() as u32;
                found.push((Token::Text(unescape(&text)), line));
            }
            '/' if regex_may_follow(found.last().map(|(token, _)| token)) => {
                let (text, next) = regex(&chars, at + 1).ok_or(format!("line {line}: unterminated regexp"))?;
                at = next;
                found.push((Token::Regex(text), line));
            }
            _ if c.is_ascii_digit() || c == '.' && chars.get(at + 1).is_some_and(char::is_ascii_digit) => {
                let (number, next) = number(&chars, at);
                at = next;
                found.push((Token::Number(number), line));
            }
            _ if c.is_ascii_alphabetic() || c == '_' => {
                let start = at;
                while at < chars.len() && (chars[at].is_ascii_alphanumeric() || chars[at] == '_') {
                    at += 1;
                }
                let word: String = chars[start..at].iter().collect();
                found.push((word_token(word, chars.get(at) == Some(&'(')), line));
            }
            _ => {
                let rest: String = chars[at..chars.len().min(at + 3)].iter().collect();
                let sign = SIGNS
                    .iter()
                    .find(|sign| rest.starts_with(**sign))
                    .ok_or(format!("line {line}: unexpected '{c}'"))?;
                at += sign.len();
                let canonical = match *sign {
                    "**" => "^",
                    "**=" => "^=",
                    other => other,
                };
                found.push((Token::Sign(canonical), line));
            }
        }
    }
    found.push((Token::Newline, line));
    found.push((Token::End, line));
    Ok(found)
}

fn word_token(word: String, called: bool) -> Token {
    if word == "default" {
        return Token::Keyword("default");
    }
    if let Some(keyword) = KEYWORDS.iter().find(|keyword| **keyword == word) {
        return Token::Keyword(if *keyword == "func" { "function" } else { keyword });
    }
    match Builtin::named(&word) {
        Some(builtin) => Token::Builtin(builtin),
        None if called => Token::FunctionName(word),
        None => Token::Name(word),
    }
}

/// After an operand a slash divides.
fn regex_may_follow(last: Option<&Token>) -> bool {
    match last {
        Some(Token::Number(_) | Token::Text(_) | Token::Regex(_) | Token::Name(_) | Token::Builtin(_)) => false,
        Some(Token::Sign(sign)) => !matches!(*sign, ")" | "]" | "$" | "++" | "--"),
        _ => true,
    }
}

fn delimited(chars: &[char], start: usize, end: char) -> Option<(String, usize)> {
    let mut at = start;
    while *chars.get(at)? != end {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    Some((chars[start..at].iter().collect(), at + 1))
}

/// A regular expression up to its slash; slashes inside brackets do not end it.
fn regex(chars: &[char], start: usize) -> Option<(String, usize)> {
    let mut at = start;
    let mut bracket_start = None;
    loop {
        match *chars.get(at)? {
            '\n' => return None,
            '\\' => at += 1,
            '[' if bracket_start.is_none() => {
                if chars.get(at + 1) == Some(&'^') {
                    at += 1;
                }
                bracket_start = Some(at + 1);
            }
            '[' if chars.get(at + 1) == Some(&':') => {
                while *chars.get(at + 1)? != ']' {
                    at += 1;
                }
                at += 1;
            }
            ']' if bracket_start.is_some_and(|start| at > start) => bracket_start = None,
            '/' if bracket_start.is_none() => return Some((chars[start..at].iter().collect(), at + 1)),
            _ => {}
        }
        at += 1;
    }
}

fn number(chars: &[char], start: usize) -> (f64, usize) {
    if chars[start] == '0' && matches!(chars.get(start + 1), Some('x' | 'X')) {
        let end = (start + 2..chars.len())
            .find(|&i| !chars[i].is_ascii_hexdigit())
            .unwrap_or(chars.len());
        let digits: String = chars[start + 2..end].iter().collect();
        if let Ok(value) = u64::from_str_radix(&digits, 16) {
            return (value as f64, end);
        }
    }
    let digits = |mut at: usize| {
        while at < chars.len() && chars[at].is_ascii_digit() {
            at += 1;
        }
        at
    };
    let mut end = digits(start);
    if chars.get(end) == Some(&'.') {
        end = digits(end + 1);
    }
    if matches!(chars.get(end), Some('e' | 'E')) {
        let sign = usize::from(matches!(chars.get(end + 1), Some('+' | '-')));
        let after = digits(end + 1 + sign);
        if after > end + 1 + sign {
            end = after;
        }
    }
    let text: String = chars[start..end].iter().collect();
    (text.parse().unwrap_or(0.0), end)
}
