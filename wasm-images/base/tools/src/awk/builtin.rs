//! The built-in functions.

use std::io::Write;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use regex::{Captures, Regex};

use super::ast::{Builtin, Expression, slot};
use super::interpreter::{ArrayRef, Evaluated, Interpreter, Stop};
use super::value::Value;
use crate::cli::reason;
use crate::listing::{format_seconds, seconds_of};

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs() as f64)
}

impl Interpreter<'_> {
    /// Calls a built-in function.
    #[allow(clippy::too_many_lines, reason = "one arm per function")]
    pub fn builtin(&mut self, builtin: Builtin, arguments: &[Expression]) -> Evaluated<Value> {
        use Builtin as B;
        let missing = || Stop::Fatal(format!("{} lacks an argument", format!("{builtin:?}").to_lowercase()));
        let argument = |index: usize| arguments.get(index).ok_or_else(missing);
        let number = |number: f64| Ok(Value::Number(number));
        match builtin {
            B::Length => match arguments.first() {
                Some(Expression::Variable(variable)) if self.is_array(*variable) => {
                    let length = self.array(*variable)?.borrow().len();
                    number(length as f64)
                }
                Some(argument) => number(self.text(argument)?.chars().count() as f64),
                None => number(self.evaluate(&record())?.string("%.6g").chars().count() as f64),
            },
            B::Substr => {
                let text = self.text(argument(0)?)?;
                let start = round(self.number(argument(1)?)?);
                let end = match arguments.get(2) {
                    Some(length) => start + round(self.number(length)?),
                    None => f64::INFINITY,
                };
                let start = start.max(1.0);
                if end.is_nan() || start.is_nan() || end <= start {
                    return Ok(Value::text(""));
                }
                let (skip, take) = (
                    (start - 1.0) as usize,
                    if end.is_infinite() {
                        usize::MAX
                    } else {
                        (end - start) as usize
                    },
                );
                if text.is_ascii() {
                    let from = skip.min(text.len());
                    return Ok(Value::text(&text[from..from.saturating_add(take).min(text.len())]));
                }
                Ok(Value::Text(
                    text.chars().skip(skip).take(take).collect::<String>().into(),
                ))
            }
            B::Index => {
                let text = self.text(argument(0)?)?;
                let part = self.text(argument(1)?)?;
                number(
                    text.find(&*part)
                        .map_or(0.0, |at| text[..at].chars().count() as f64 + 1.0),
                )
            }
            B::Split => self.split_call(arguments),
            B::Sub | B::Gsub => self.substitute(builtin == B::Gsub, argument(0)?, argument(1)?, arguments.get(2)),
            B::Gensub => {
                let regex = self.as_regex(argument(0)?)?;
                let replacement = self.text(argument(1)?)?;
                let how = self.text(argument(2)?)?;
                let text = match arguments.get(3) {
                    Some(target) => self.text(target)?,
                    None => self.text(&record())?,
                };
                let nth = if how.starts_with(['g', 'G']) {
                    0
                } else {
                    (Value::text(&how).number() as usize).max(1)
                };
                let (result, _) = replace(&text, &regex, nth, |captures, out| {
                    expand_groups(&replacement, captures, out);
                });
                Ok(Value::Text(result.into()))
            }
            B::Match => self.match_call(argument(0)?, argument(1)?, arguments.get(2)),
            B::Sprintf => Ok(Value::Text(self.formatted(arguments)?.into())),
            B::Tolower => Ok(Value::Text(self.text(argument(0)?)?.to_lowercase().into())),
            B::Toupper => Ok(Value::Text(self.text(argument(0)?)?.to_uppercase().into())),
            B::Sin => number(self.number(argument(0)?)?.sin()),
            B::Cos => number(self.number(argument(0)?)?.cos()),
            B::Exp => number(self.number(argument(0)?)?.exp()),
            B::Log => number(self.number(argument(0)?)?.ln()),
            B::Sqrt => number(self.number(argument(0)?)?.sqrt()),
            B::Int => number(self.number(argument(0)?)?.trunc()),
            B::Atan2 => {
                let y = self.number(argument(0)?)?;
                number(y.atan2(self.number(argument(1)?)?))
            }
            B::Rand => {
                // xorshift64* (Marsaglia; Vigna 2016): awk promises no quality, only repetition for the same seed.
                self.random ^= self.random >> 12;
                self.random ^= self.random << 25;
                self.random ^= self.random >> 27;
                let bits = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
                number(bits as f64 / (1_u64 << 53) as f64)
            }
            B::Srand => {
                let old = self.seed;
                self.seed = match arguments.first() {
                    Some(seed) => self.number(seed)?,
                    None => now(),
                };
                self.random = (self.seed.to_bits() ^ 0x9e37_79b9_7f4a_7c15).max(1);
                number(old)
            }
            B::And | B::Or | B::Xor => {
                let mut result = self.number(argument(0)?)? as u64;
                for operand in arguments.iter().skip(1) {
                    let operand = self.number(operand)? as u64;
                    result = match builtin {
                        B::And => result & operand,
                        B::Or => result | operand,
                        _ => result ^ operand,
                    };
                }
                number(result as f64)
            }
            B::Lshift | B::Rshift => {
                let value = self.number(argument(0)?)? as u64;
                let by = self.number(argument(1)?)? as u32;
                let shifted = if builtin == B::Lshift {
                    value.checked_shl(by)
                } else {
                    value.checked_shr(by)
                };
                number(shifted.unwrap_or(0) as f64)
            }
            B::Compl => number((!(self.number(argument(0)?)? as u64) & ((1 << 53) - 1)) as f64),
            B::Strtonum => {
                let text = self.text(argument(0)?)?;
                let digits = text.trim();
                let parsed = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
                    Some(hex) => u64::from_str_radix(hex, 16).ok(),
                    None if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8).ok(),
                    None => None,
                };
                number(parsed.map_or_else(|| Value::text(digits).number(), |value| value as f64))
            }
            B::Systime => number(now()),
            B::Strftime => {
                let format = match arguments.first() {
                    Some(format) => self.text(format)?,
                    None => "%a %b %e %H:%M:%S UTC %Y".into(),
                };
                let time = match arguments.get(1) {
                    Some(time) => self.number(time)?,
                    None => now(),
                };
                Ok(Value::Text(
                    format_seconds(time.clamp(-1e13, 1e13) as i64, &format).into(),
                ))
            }
            B::Mktime => {
                let text = self.text(argument(0)?)?;
                let fields: Vec<i64> = text.split_whitespace().map_while(|field| field.parse().ok()).collect();
                match fields[..] {
                    [year, month, day, hour, minute, second, ..] => {
                        number(seconds_of(year, month, day, hour, minute, second) as f64)
                    }
                    _ => number(-1.0),
                }
            }
            B::System => {
                let command = self.text(argument(0)?)?;
                match self.streams.system(&command) {
                    Ok(status) => number(status),
                    Err(error) => Err(Stop::Fatal(format!("cannot run \"{command}\": {}", reason(&error)))),
                }
            }
            B::Close => {
                let name = self.text(argument(0)?)?;
                number(self.streams.close(&name))
            }
            B::Fflush => {
                let flushed = self.streams.flush().and_then(|()| std::io::stderr().flush());
                number(if flushed.is_ok() { 0.0 } else { -1.0 })
            }
            B::Asort | B::Asorti => self.sort_call(builtin == B::Asorti, argument(0)?, arguments.get(1)),
        }
    }

    fn array_argument(&mut self, argument: &Expression) -> Evaluated<ArrayRef> {
        match argument {
            Expression::Variable(variable) => self.array(*variable),
            _ => Err(Stop::Fatal("an array is needed here".into())),
        }
    }

    fn split_call(&mut self, arguments: &[Expression]) -> Evaluated<Value> {
        let (Some(text), Some(target)) = (arguments.first(), arguments.get(1)) else {
            return Err(Stop::Fatal("split needs a string and an array".into()));
        };
        let text = self.text(text)?;
        let parts = match arguments.get(2) {
            Some(Expression::Regex(regex)) => {
                let regex = regex.clone();
                let mut parts: Vec<String> = Vec::new();
                let mut start = 0;
                for found in regex.find_iter(&text).filter(|found| !found.is_empty()) {
                    parts.push(text[start..found.start()].to_owned());
                    start = found.end();
                }
                if !text.is_empty() {
                    parts.push(text[start..].to_owned());
                }
                parts
            }
            Some(separator) => {
                let separator = self.text(separator)?;
                self.split_text(&text, &separator, false)?
            }
            None => {
                let separator = self.global_text(slot::FS);
                self.split_text(&text, &separator, false)?
            }
        };
        let array = self.array_argument(target)?;
        let mut array = array.borrow_mut();
        array.clear();
        for (index, part) in parts.iter().enumerate() {
            array.set((index + 1).to_string().into(), Value::input(part));
        }
        Ok(Value::Number(parts.len() as f64))
    }

    fn substitute(
        &mut self,
        all: bool,
        pattern: &Expression,
        replacement: &Expression,
        target: Option<&Expression>,
    ) -> Evaluated<Value> {
        let regex = self.as_regex(pattern)?;
        let replacement = self.text(replacement)?;
        let text = match target {
            Some(target) => self.text(target)?,
            None => self.text(&record())?,
        };
        let (result, count) = replace(&text, &regex, usize::from(!all), |captures, out| {
            expand_whole(&replacement, &captures[0], out);
        });
        if count > 0 {
            // A target that is no place (a literal) only counts.
            let place = target.is_none_or(|t| {
                matches!(
                    t,
                    Expression::Variable(_) | Expression::Field(_) | Expression::Element(..)
                )
            });
            if place {
                self.store_or_record(target, Value::Text(result.into()))?;
            }
        }
        Ok(Value::Number(count as f64))
    }

    fn match_call(&mut self, text: &Expression, pattern: &Expression, groups: Option<&Expression>) -> Evaluated<Value> {
        let text = self.text(text)?;
        let regex = self.as_regex(pattern)?;
        let captures = regex.captures(&text);
        let chars = |range: std::ops::Range<usize>| text[range].chars().count() as f64;
        let (start, length) = match captures.as_ref().and_then(|captures| captures.get(0)) {
            Some(found) => (chars(0..found.start()) + 1.0, chars(found.range())),
            None => (0.0, -1.0),
        };
        self.set_global(slot::RSTART, Value::Number(start))?;
        self.set_global(slot::RLENGTH, Value::Number(length))?;
        if let Some(groups) = groups {
            let array = self.array_argument(groups)?;
            let mut array = array.borrow_mut();
            array.clear();
            for (index, group) in captures.iter().flat_map(|captures| captures.iter().enumerate()) {
                if let Some(group) = group {
                    let separator = self.global_text(slot::SUBSEP);
                    array.set(index.to_string().into(), Value::input(group.as_str()));
                    array.set(
                        format!("{index}{separator}start").into(),
                        Value::Number(chars(0..group.start()) + 1.0),
                    );
                    array.set(
                        format!("{index}{separator}length").into(),
                        Value::Number(chars(group.range())),
                    );
                }
            }
        }
        Ok(Value::Number(start))
    }

    fn sort_call(&mut self, by_key: bool, source: &Expression, target: Option<&Expression>) -> Evaluated<Value> {
        let source = self.array_argument(source)?;
        let mut values: Vec<Value> = {
            let array = source.borrow();
            let keys = array.keys();
            keys.iter()
                .map(|key| {
                    if by_key {
                        Value::Text(key.clone())
                    } else {
                        array.peek(key).cloned().unwrap_or_default()
                    }
                })
                .collect()
        };
        values.sort_by(|a, b| match (a.is_numeric(), b.is_numeric()) {
            (true, true) => a.number().total_cmp(&b.number()),
            (true, false) => std::cmp::Ordering::Less,
            (false, true) => std::cmp::Ordering::Greater,
            (false, false) => a.string("%.6g").cmp(&b.string("%.6g")),
        });
        let target = match target {
            Some(target) => self.array_argument(target)?,
            None => source,
        };
        let mut target = target.borrow_mut();
        target.clear();
        let count = values.len();
        for (index, value) in values.into_iter().enumerate() {
            target.set((index + 1).to_string().into(), value);
        }
        Ok(Value::Number(count as f64))
    }
}

/// `$0`
fn record() -> Expression {
    Expression::Field(Box::new(Expression::Number(0.0)))
}

/// Rounds half to even, as printf does.
fn round(number: f64) -> f64 {
    number.round_ties_even()
}

/// Replaces matches: all when `nth` is 0, else only that one. Gives the text and how many were replaced.
fn replace(text: &str, regex: &Regex, nth: usize, mut with: impl FnMut(&Captures<'_>, &mut String)) -> (String, usize) {
    let mut out = String::with_capacity(text.len());
    let (mut copied, mut count, mut seen) = (0, 0, 0);
    let mut last_end = None;
    for captures in regex.captures_iter(text) {
        let Some(found) = captures.get(0) else { continue };
        // An empty match directly behind a match is none.
        if found.is_empty() && last_end == Some(found.start()) {
            continue;
        }
        last_end = Some(found.end());
        seen += 1;
        if nth != 0 && seen != nth {
            continue;
        }
        out.push_str(&text[copied..found.start()]);
        with(&captures, &mut out);
        copied = found.end();
        count += 1;
        if nth != 0 {
            break;
        }
    }
    out.push_str(&text[copied..]);
    (out, count)
}

/// The replacement of `sub`: `&` is the match, `\&` an ampersand, `\\` a backslash.
fn expand_whole(replacement: &Rc<str>, matched: &str, out: &mut String) {
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next_if(|next| matches!(next, '&' | '\\')) {
                Some(escaped) => out.push(escaped),
                None => out.push('\\'),
            },
            '&' => out.push_str(matched),
            other => out.push(other),
        }
    }
}

/// The replacement of `gensub`: also `\0` to `\9`.
fn expand_groups(replacement: &Rc<str>, captures: &Captures<'_>, out: &mut String) {
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(digit @ '0'..='9') => {
                    let group = captures.get(digit as usize - '0' as usize);
                    out.push_str(group.map_or("", |group| group.as_str()));
                }
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            '&' => out.push_str(&captures[0]),
            other => out.push(other),
        }
    }
}
