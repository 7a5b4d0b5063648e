//! Values of awk: numbers, strings, and strings from input that look like numbers.

use std::collections::HashMap;
use std::rc::Rc;

use regex::{Regex, RegexBuilder};

use crate::posix_regex::{Dialect, translate};

/// A value.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Never set: 0 and "".
    #[default]
    Unset,
    /// A number.
    Number(f64),
    /// A string.
    Text(Rc<str>),
    /// A string from input that looks like this number; it compares as a number.
    Numeric(Rc<str>, f64),
}

/// Compiles a regular expression as awk writes them.
///
/// # Errors
/// What is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern, Dialect::Awk)?;
    let built = RegexBuilder::new(&translated.pattern)
        .dot_matches_new_line(true)
        .size_limit(64 << 20)
        .build();
    built.map_err(|error| error.to_string().lines().next_back().unwrap_or_default().to_owned())
}

/// The number a string begins with, as strtod(3) reads it without hexadecimal; and how many bytes it takes.
pub fn leading_number(text: &str) -> (f64, usize) {
    let bytes = text.as_bytes();
    let start = bytes
        .iter()
        .position(|b| !b.is_ascii_whitespace())
        .unwrap_or(bytes.len());
    let mut at = start;
    let signed = matches!(bytes.get(at), Some(b'+' | b'-'));
    at += usize::from(signed);
    if signed && let Some(word) = text.get(at..at + 3) {
        let special = if word.eq_ignore_ascii_case("inf") {
            Some(f64::INFINITY)
        } else if word.eq_ignore_ascii_case("nan") {
            Some(f64::NAN)
        } else {
            None
        };
        if let Some(value) = special {
            return (if bytes[start] == b'-' { -value } else { value }, at + 3);
        }
    }
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let whole = digits(at);
    let mut count = whole - at;
    let mut end = whole;
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        count += fraction - end - 1;
        end = fraction;
    }
    if count == 0 {
        return (0.0, 0);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    (text[start..end].parse().unwrap_or(0.0), end)
}

impl Value {
    /// A string.
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// A string that came from input: it may count as a number.
    pub fn input(text: &str) -> Self {
        let (number, used) = leading_number(text);
        if used > 0 && text[used..].trim_ascii().is_empty() {
            Self::Numeric(text.into(), number)
        } else {
            Self::text(text)
        }
    }

    /// As a number.
    pub fn number(&self) -> f64 {
        match self {
            Self::Unset => 0.0,
            Self::Number(number) | Self::Numeric(_, number) => *number,
            Self::Text(text) => leading_number(text).0,
        }
    }

    /// As a string; a number that is no integer is written with `format` (`CONVFMT` or `OFMT`).
    pub fn string(&self, format: &str) -> Rc<str> {
        match self {
            Self::Unset => "".into(),
            Self::Text(text) | Self::Numeric(text, _) => text.clone(),
            Self::Number(number) => number_text(*number, format).into(),
        }
    }

    /// As a condition.
    pub fn truth(&self) -> bool {
        match self {
            Self::Unset => false,
            Self::Number(number) | Self::Numeric(_, number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
        }
    }

    /// Whether it compares as a number.
    pub fn is_numeric(&self) -> bool {
        !matches!(self, Self::Text(_))
    }
}

/// A number as a string.
pub fn number_text(number: f64, format: &str) -> String {
    if number.is_nan() {
        return if number.is_sign_negative() { "-nan" } else { "+nan" }.into();
    }
    if number.is_infinite() {
        return if number < 0.0 { "-inf" } else { "+inf" }.into();
    }
    if number == number.trunc() && number.abs() < 1e18 {
        return (number as i64).to_string();
    }
    if number == number.trunc() && format == "%.6g" {
        return format!("{number:.0}");
    }
    super::format::format(format, &[Value::Number(number)], "%.6g")
}

/// An associative array that remembers the order in which keys came.
#[derive(Debug, Default)]
pub struct Array {
    entries: HashMap<Rc<str>, (Value, u64)>,
    next: u64,
}

impl Array {
    /// The value of a key, which comes to be when it was not there.
    pub fn get(&mut self, key: &Rc<str>) -> Value {
        if let Some((value, _)) = self.entries.get(key) {
            return value.clone();
        }
        self.set(key.clone(), Value::Unset);
        Value::Unset
    }

    /// The value of a key.
    pub fn peek(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).map(|(value, _)| value)
    }

    /// Sets a key.
    pub fn set(&mut self, key: Rc<str>, value: Value) {
        if let Some((old, _)) = self.entries.get_mut(&key) {
            *old = value;
            return;
        }
        self.entries.insert(key, (value, self.next));
        self.next += 1;
    }

    /// Whether there is such a key.
    pub fn contains(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The keys, oldest first.
    pub fn keys(&self) -> Vec<Rc<str>> {
        let mut keys: Vec<_> = self
            .entries
            .iter()
            .map(|(key, (_, order))| (*order, key.clone()))
            .collect();
        keys.sort_unstable_by_key(|(order, _)| *order);
        keys.into_iter().map(|(_, key)| key).collect()
    }
}
