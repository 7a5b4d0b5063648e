//! Durations in the text form of Go's `time.Duration`, which the REST API uses in both directions:
//! `10m`, `1h30m`, `1.5s`, `250ms`.
//!
//! Source of the rules: the documentation of `time.ParseDuration` and `time.Duration.String` in Go.
//! Only what a limit or a time to live can be is accepted: no sign, so nothing below zero.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text does not follow the syntax.
    #[error("invalid duration \"{0}\": write a number and a unit (ns, us, ms, s, m, h), such as \"30s\" or \"1h30m\"")]
    Syntax(String),
    /// The text starts with a minus sign.
    #[error("invalid duration \"{0}\": it must not be negative")]
    Negative(String),
    /// Go's durations hold at most 2^63 - 1 nanoseconds, about 292 years.
    #[error("invalid duration \"{0}\": it is too long")]
    TooLong(String),
}

/// A duration that reads and writes itself as Go does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct GoDuration(pub Duration);

/// The longest text that is looked at: more digits than this are never needed.
pub(crate) const MAX_TEXT_BYTES: usize = 64;

/// Go's largest duration in nanoseconds.
const MAX_NANOS: u128 = i64::MAX as u128;

/// Nanoseconds of each unit. Both spellings of the micro sign (U+00B5, U+03BC) are Go's.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    /// Reads a duration.
    ///
    /// # Errors
    /// [`DurationError`] says what is wrong with the text and quotes it, shortened.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let quoted = || text.chars().take(MAX_TEXT_BYTES).collect::<String>();
        let syntax = || DurationError::Syntax(quoted());
        if text.starts_with('-') {
            return Err(DurationError::Negative(quoted()));
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if rest.is_empty() || rest.len() > MAX_TEXT_BYTES {
            return Err(syntax());
        }
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let (whole, after_whole) = split_digits(rest);
            let (fraction, after_number) = match after_whole.strip_prefix('.') {
                Some(after_point) => split_digits(after_point),
                None => ("", after_whole),
            };
            if whole.is_empty() && fraction.is_empty() {
                return Err(syntax());
            }
            let unit_len = after_number
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(after_number.len());
            let (unit, after_unit) = after_number.split_at(unit_len);
            let Some((_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
                return Err(syntax());
            };
            let too_long = || DurationError::TooLong(quoted());
            total = whole_nanos(whole, *nanos)
                .and_then(|value| value.checked_add(fraction_nanos(fraction, *nanos)))
                .and_then(|value| total.checked_add(value))
                .filter(|value| *value <= MAX_NANOS)
                .ok_or_else(too_long)?;
            rest = after_unit;
        }
        // The sum is at most MAX_NANOS, which fits.
        Ok(Self(Duration::from_nanos(u64::try_from(total).unwrap_or(u64::MAX))))
    }
}

/// The leading ASCII digits of a text, and what follows them.
fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// A number of whole units in nanoseconds; `None` when it does not fit.
fn whole_nanos(digits: &str, unit: u128) -> Option<u128> {
    if digits.is_empty() {
        return Some(0);
    }
    digits.parse::<u128>().ok()?.checked_mul(unit)
}

/// The digits after the point in nanoseconds, rounded down.
fn fraction_nanos(digits: &str, unit: u128) -> u128 {
    let mut scale = unit;
    let mut nanos = 0;
    for digit in digits.bytes() {
        // The next digit is worth a tenth of the scale; keep the product so that rounding happens once per digit.
        nanos += u128::from(digit - b'0') * scale / 10;
        scale /= 10;
    }
    nanos
}

impl From<Duration> for GoDuration {
    fn from(value: Duration) -> Self {
        Self(value)
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        // Below one second Go uses one unit, the largest that keeps a digit before the point.
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write_decimal(f, nanos, 1_000, "\u{b5}s"),
            1_000_000..1_000_000_000 => write_decimal(f, nanos, 1_000_000, "ms"),
            _ => {
                let seconds = nanos / 1_000_000_000;
                let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                write_decimal(f, nanos % 60_000_000_000, 1_000_000_000, "s")
            }
        }
    }
}

/// Writes `nanos / unit` without trailing zeros.
fn write_decimal(f: &mut fmt::Formatter<'_>, nanos: u128, unit: u128, name: &str) -> fmt::Result {
    write!(f, "{}", nanos / unit)?;
    let mut rest = nanos % unit;
    if rest > 0 {
        f.write_str(".")?;
        let mut scale = unit / 10;
        while rest > 0 && scale > 0 {
            write!(f, "{}", rest / scale)?;
            rest %= scale;
            scale /= 10;
        }
    }
    f.write_str(name)
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Duration {
        GoDuration::parse(text).unwrap().0
    }

    #[test]
    fn reads_what_go_reads() {
        assert_eq!(parsed("10m"), Duration::from_secs(600));
        assert_eq!(parsed("1h30m"), Duration::from_secs(5_400));
        assert_eq!(parsed("1.5s"), Duration::from_millis(1_500));
        assert_eq!(parsed("250ms"), Duration::from_millis(250));
        assert_eq!(parsed("+1h15m30.918273645s"), Duration::new(4_530, 918_273_645));
        assert_eq!(parsed(".5h"), Duration::from_secs(1_800));
        assert_eq!(parsed("5.s"), Duration::from_secs(5));
        assert_eq!(parsed("1us"), parsed("1\u{b5}s"));
        assert_eq!(parsed("1us"), parsed("1\u{3bc}s"));
        assert_eq!(parsed("0"), Duration::ZERO);
        assert_eq!(
            parsed("9223372036854775807ns"),
            Duration::from_nanos(i64::MAX.unsigned_abs())
        );
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in [
            "", "banana", "10", "1.5", "s", ".s", "1 s", "10x", "1h-5m", "++1s", "1e3s", "\u{661}s",
        ] {
            assert!(
                matches!(GoDuration::parse(text), Err(DurationError::Syntax(_))),
                "{text:?}"
            );
        }
        assert!(matches!(GoDuration::parse("-5m"), Err(DurationError::Negative(_))));
        for text in [
            "9223372036854775808ns",
            "2562048h",
            "99999999999999999999999999999999999999999999999999h",
        ] {
            assert!(
                matches!(GoDuration::parse(text), Err(DurationError::TooLong(_))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn writes_as_go_writes() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (1_900_000, "1.9ms"),
            (3_300_000_000, "3.3s"),
            (60_000_000_000, "1m0s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(GoDuration(Duration::from_nanos(nanos)).to_string(), text);
        }
    }

    #[test]
    fn reads_back_what_it_wrote() {
        for nanos in [
            0,
            1,
            999,
            1_000,
            123_456,
            1_234_567_890,
            86_399_999_999_999,
            9_223_372_036_854_775_807,
        ] {
            let written = GoDuration(Duration::from_nanos(nanos)).to_string();
            assert_eq!(parsed(&written), Duration::from_nanos(nanos), "{written}");
        }
    }
}
