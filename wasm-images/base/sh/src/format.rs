//! The format language of `printf` (POSIX "printf", with bash's `%b`, `%q` and `%(…)T`).

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

/// Most columns a width or precision may ask for, so that a number alone cannot fill the memory.
const MAX_COLUMNS: usize = 1 << 20;

/// What formatting came to.
#[derive(Debug, Default)]
pub struct Formatted {
    /// The text.
    pub output: Vec<u8>,
    /// What was wrong with the format or an argument.
    pub problems: Vec<String>,
}

/// One run of `printf`.
pub struct Formatter<'a> {
    arguments: std::slice::Iter<'a, String>,
    result: Formatted,
    /// Whether the format has taken an argument on this pass.
    consumed: bool,
    /// Whether `\c` or a wrong format ended the output.
    stopped: bool,
}

/// Flags, width and precision of a conversion.
#[derive(Debug, Clone, Copy, Default)]
struct Layout {
    left: bool,
    plus: bool,
    space: bool,
    alternative: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

impl<'a> Formatter<'a> {
    /// Formats the arguments; the format is used again until they are all taken.
    pub fn run(format: &str, arguments: &'a [String]) -> Formatted {
        let mut formatter = Self {
            arguments: arguments.iter(),
            result: Formatted::default(),
            consumed: false,
            stopped: false,
        };
        loop {
            formatter.consumed = false;
            formatter.pass(format);
            if formatter.stopped || !formatter.consumed || formatter.arguments.len() == 0 {
                return formatter.result;
            }
        }
    }

    /// Goes through the format once.
    fn pass(&mut self, format: &str) {
        let mut characters = format.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' => self.escape(&mut characters, false),
                '%' => self.conversion(&mut characters),
                other => push(&mut self.result.output, other),
            }
            if self.stopped {
                return;
            }
        }
    }

    /// The next argument; `None` when they are all taken.
    fn argument(&mut self) -> Option<&'a str> {
        self.consumed = true;
        self.arguments.next().map(String::as_str)
    }

    /// What follows a backslash. In arguments of `%b`, octal numbers may begin with a zero and `\c` ends the output.
    fn escape(&mut self, characters: &mut Peekable<Chars<'_>>, in_argument: bool) {
        let Some(character) = characters.next() else {
            self.result.output.push(b'\\');
            return;
        };
        let byte = match character {
            'a' => 7,
            'b' => 8,
            'e' | 'E' => 27,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' => b'\\',
            '"' | '\'' | '?' => character as u8,
            'c' if in_argument => {
                self.stopped = true;
                return;
            }
            '0'..='7' => {
                let more = if in_argument && character == '0' { 3 } else { 2 };
                digits(characters, 8, more, character.to_digit(8).unwrap_or(0)) as u8
            }
            'x' => {
                if !characters.peek().is_some_and(char::is_ascii_hexdigit) {
                    self.result.output.extend(b"\\x");
                    return;
                }
                digits(characters, 16, 2, 0) as u8
            }
            'u' | 'U' => {
                let number = digits(characters, 16, if character == 'u' { 4 } else { 8 }, 0);
                push(
                    &mut self.result.output,
                    char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER),
                );
                return;
            }
            other => {
                self.result.output.push(b'\\');
                push(&mut self.result.output, other);
                return;
            }
        };
        self.result.output.push(byte);
    }

    /// What follows a percent sign.
    fn conversion(&mut self, characters: &mut Peekable<Chars<'_>>) {
        let mut layout = Layout::default();
        while let Some(flag) = characters.peek() {
            match flag {
                '-' => layout.left = true,
                '+' => layout.plus = true,
                ' ' => layout.space = true,
                '#' => layout.alternative = true,
                '0' => layout.zero = true,
                '\'' => {}
                _ => break,
            }
            characters.next();
        }
        if characters.next_if_eq(&'*').is_some() {
            let width = self.integer();
            layout.left |= width < 0;
            layout.width = usize::try_from(width.unsigned_abs())
                .unwrap_or(MAX_COLUMNS)
                .min(MAX_COLUMNS);
        } else {
            layout.width = columns(characters).unwrap_or(0);
        }
        if characters.next_if_eq(&'.').is_some() {
            layout.precision = if characters.next_if_eq(&'*').is_some() {
                usize::try_from(self.integer())
                    .ok()
                    .map(|precision| precision.min(MAX_COLUMNS))
            } else {
                Some(columns(characters).unwrap_or(0))
            };
        }
        while characters
            .next_if(|modifier| "hlLqjzt".contains(*modifier) && *modifier != 'q')
            .is_some()
        {}
        match characters.next() {
            Some('%') => self.result.output.push(b'%'),
            Some('s') => {
                let text = self.argument().unwrap_or_default();
                self.text(text.as_bytes(), layout);
            }
            Some('b') => {
                let text = self.argument().unwrap_or_default();
                let before = std::mem::take(&mut self.result.output);
                let mut rest = text.chars().peekable();
                while let Some(character) = rest.next() {
                    match character {
                        '\\' => self.escape(&mut rest, true),
                        other => push(&mut self.result.output, other),
                    }
                    if self.stopped {
                        break;
                    }
                }
                let text = std::mem::replace(&mut self.result.output, before);
                self.text(&text, layout);
            }
            Some('q') => {
                let quoted = quote(self.argument().unwrap_or_default());
                self.text(quoted.as_bytes(), layout);
            }
            Some('c') => {
                let first: String = self.argument().unwrap_or_default().chars().take(1).collect();
                self.text(
                    first.as_bytes(),
                    Layout {
                        precision: None,
                        ..layout
                    },
                );
            }
            Some('d' | 'i') => {
                let number = self.integer();
                self.number(number.unsigned_abs().to_string(), number < 0, "", layout);
            }
            Some('u') => {
                let number = self.integer() as u64;
                self.number(
                    number.to_string(),
                    false,
                    "",
                    Layout {
                        plus: false,
                        space: false,
                        ..layout
                    },
                );
            }
            Some(radix @ ('o' | 'x' | 'X')) => {
                let number = self.integer() as u64;
                let (digits, prefix) = match radix {
                    'o' => (format!("{number:o}"), "0"),
                    'x' => (format!("{number:x}"), "0x"),
                    _ => (format!("{number:X}"), "0X"),
                };
                let prefix = if layout.alternative && number != 0 { prefix } else { "" };
                self.number(
                    digits,
                    false,
                    prefix,
                    Layout {
                        plus: false,
                        space: false,
                        ..layout
                    },
                );
            }
            Some(kind @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'a' | 'A')) => {
                let number = self.float();
                let digits = float_digits(number.abs(), kind, layout);
                let finite = number.is_finite();
                let layout = Layout {
                    precision: None,
                    zero: layout.zero && finite,
                    ..layout
                };
                self.number(digits, number.is_sign_negative(), "", layout);
            }
            Some('(') => {
                let mut format = String::new();
                while let Some(character) = characters.next_if(|character| *character != ')') {
                    format.push(character);
                }
                if characters.next() == Some(')') && characters.next() == Some('T') {
                    let time = self.time(&format);
                    self.text(time.as_bytes(), layout);
                } else {
                    self.refuse("(");
                }
            }
            Some(other) => self.refuse(&other.to_string()),
            None => self.refuse(""),
        }
    }

    /// Ends the output because of a conversion that does not exist.
    fn refuse(&mut self, conversion: &str) {
        self.stopped = true;
        self.result.problems.push(if conversion.is_empty() {
            "`%': missing format character".to_owned()
        } else {
            format!("`{conversion}': invalid format character")
        });
    }

    /// Appends text, cut to the precision and padded to the width.
    fn text(&mut self, text: &[u8], layout: Layout) {
        let text = &text[..layout
            .precision
            .map_or(text.len(), |precision| precision.min(text.len()))];
        let padding = layout.width.saturating_sub(text.len());
        let output = &mut self.result.output;
        if !layout.left {
            output.extend(std::iter::repeat_n(b' ', padding));
        }
        output.extend(text);
        if layout.left {
            output.extend(std::iter::repeat_n(b' ', padding));
        }
    }

    /// Appends a number with sign, prefix and zeros as the layout demands.
    fn number(&mut self, mut digits: String, negative: bool, prefix: &str, layout: Layout) {
        let sign = match (negative, layout.plus, layout.space) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            _ => "",
        };
        if let Some(precision) = layout.precision {
            digits = format!("{digits:0>precision$}");
        } else if layout.zero && !layout.left {
            let width = layout.width.saturating_sub(sign.len() + prefix.len());
            digits = format!("{digits:0>width$}");
        }
        let whole = format!("{sign}{prefix}{digits}");
        self.text(
            whole.as_bytes(),
            Layout {
                precision: None,
                ..layout
            },
        );
    }

    /// The next argument as an integer; 0 when there is none.
    fn integer(&mut self) -> i64 {
        let Some(argument) = self.argument() else { return 0 };
        let text = argument.trim_start();
        if let Some(character) = quoted_character(text) {
            return i64::from(u32::from(character));
        }
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (radix, digits) = match unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
            Some(hexadecimal) => (16, hexadecimal),
            None if unsigned.len() > 1 && unsigned.starts_with('0') => (8, &unsigned[1..]),
            None => (10, unsigned),
        };
        let end = digits
            .find(|character: char| !character.is_digit(radix))
            .unwrap_or(digits.len());
        if end < digits.len() || unsigned.is_empty() {
            self.result.problems.push(format!("{argument}: invalid number"));
        }
        match u64::from_str_radix(&digits[..end], radix) {
            Ok(number) if negative => (number as i64).wrapping_neg(),
            Ok(number) => number as i64,
            Err(_) if end == 0 => 0,
            Err(_) => {
                self.result
                    .problems
                    .push(format!("{argument}: Numerical result out of range"));
                if negative { i64::MIN } else { i64::MAX }
            }
        }
    }

    /// The next argument as a floating-point number; 0 when there is none.
    fn float(&mut self) -> f64 {
        let Some(argument) = self.argument() else { return 0.0 };
        let text = argument.trim_start();
        if let Some(character) = quoted_character(text) {
            return f64::from(u32::from(character));
        }
        if let Ok(number) = text.parse() {
            return number;
        }
        let hexadecimal = text
            .strip_prefix("0x")
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        if let Some(number) = hexadecimal {
            return f64::from(number);
        }
        self.result.problems.push(format!("{argument}: invalid number"));
        (0..=text.len())
            .rev()
            .filter_map(|end| text.get(..end))
            .find_map(|start| start.parse().ok())
            .unwrap_or(0.0)
    }

    /// The time that the next argument means (seconds since 1970; -1, -2 or none: now), in the format of strftime(3).
    fn time(&mut self, format: &str) -> String {
        let seconds = if self.arguments.len() == 0 {
            self.consumed = true;
            -1
        } else {
            self.integer()
        };
        let time = match seconds {
            -1 | -2 => Some(chrono::Utc::now()),
            seconds => chrono::DateTime::from_timestamp(seconds, 0),
        };
        let format = if format.is_empty() { "%H:%M:%S" } else { format };
        let mut text = String::new();
        if time.is_none_or(|time| write!(text, "{}", time.format(format)).is_err()) {
            self.result.problems.push(format!("`{format}': invalid time format"));
        }
        text
    }
}

/// Reads up to `most` digits of a number that begins with `start`.
fn digits(characters: &mut Peekable<Chars<'_>>, radix: u32, most: usize, start: u32) -> u32 {
    let mut number = start;
    for _ in 0..most {
        let Some(digit) = characters.peek().and_then(|character| character.to_digit(radix)) else {
            break;
        };
        number = number.wrapping_mul(radix).wrapping_add(digit);
        characters.next();
    }
    number
}

/// Reads a width or precision.
fn columns(characters: &mut Peekable<Chars<'_>>) -> Option<usize> {
    let mut number = None;
    while let Some(digit) = characters.peek().and_then(|character| character.to_digit(10)) {
        number = Some((number.unwrap_or(0) * 10 + digit as usize).min(MAX_COLUMNS));
        characters.next();
    }
    number
}

/// The character whose number an argument such as `'A` means.
fn quoted_character(text: &str) -> Option<char> {
    text.strip_prefix(['\'', '"'])?.chars().next()
}

/// Digits of a positive number in the notation of C.
fn float_digits(number: f64, kind: char, layout: Layout) -> String {
    if !number.is_finite() {
        return if number.is_nan() { "nan" } else { "inf" }.to_owned();
    }
    let precision = layout.precision.unwrap_or(6);
    let text = match kind {
        'f' | 'F' => format!("{number:.precision$}"),
        'e' | 'E' => exponent_digits(number, precision),
        _ => {
            // %g takes the shorter notation (C17, 7.21.6.1): the precision counts significant digits.
            let precision = precision.max(1);
            let scientific = exponent_digits(number, precision - 1);
            let exponent: i64 = scientific
                .split_once('e')
                .and_then(|(_, exponent)| exponent.parse().ok())
                .unwrap_or(0);
            let text = if exponent < -4 || exponent >= precision as i64 {
                scientific
            } else {
                let decimals = usize::try_from(precision as i64 - 1 - exponent).unwrap_or(0);
                format!("{number:.decimals$}")
            };
            if layout.alternative {
                text
            } else {
                without_trailing_zeros(&text)
            }
        }
    };
    if kind.is_ascii_uppercase() {
        text.to_uppercase()
    } else {
        text
    }
}

/// `d.ddde±dd`.
fn exponent_digits(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

fn without_trailing_zeros(text: &str) -> String {
    let (mantissa, exponent) = match text.find('e') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    if !mantissa.contains('.') {
        return text.to_owned();
    }
    format!("{}{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
}

/// Quotes text so that a shell reads it as it is, the way bash does.
fn quote(text: &str) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    if text.chars().any(char::is_control) {
        let mut quoted = String::from("$'");
        for character in text.chars() {
            match character {
                '\n' => quoted.push_str("\\n"),
                '\t' => quoted.push_str("\\t"),
                '\r' => quoted.push_str("\\r"),
                '\x07' => quoted.push_str("\\a"),
                '\x08' => quoted.push_str("\\b"),
                '\x0b' => quoted.push_str("\\v"),
                '\x0c' => quoted.push_str("\\f"),
                '\x1b' => quoted.push_str("\\E"),
                '\'' | '\\' => quoted.extend(['\\', character]),
                control if control.is_control() => {
                    for byte in control.to_string().bytes() {
                        quoted.push('\\');
                        quoted.extend([byte >> 6, byte >> 3 & 7, byte & 7].map(|digit| char::from(b'0' + digit)));
                    }
                }
                other => quoted.push(other),
            }
        }
        quoted.push('\'');
        return quoted;
    }
    let mut quoted = String::new();
    for (index, character) in text.char_indices() {
        let special = " '\"\\|&;()<>!{}*[]?^$`,".contains(character) || index == 0 && matches!(character, '#' | '~');
        if special {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

fn push(output: &mut Vec<u8>, character: char) {
    output.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::Formatter;

    fn format(format: &str, arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        String::from_utf8_lossy(&Formatter::run(format, &arguments).output).into_owned()
    }

    #[test]
    fn format_is_used_again_until_the_arguments_are_taken() {
        assert_eq!(format("%s-%s\n", &["a", "b", "c"]), "a-b\nc-\n");
        assert_eq!(format("x\n", &["a", "b"]), "x\n");
    }

    #[test]
    fn numbers_follow_flags_width_and_precision() {
        assert_eq!(
            format("%05d|%-5d|%+d|% d|%.3d", &["42", "42", "42", "42", "7"]),
            "00042|42   |+42| 42|007"
        );
        assert_eq!(
            format("%x %X %o %#x %u", &["255", "255", "8", "255", "-1"]),
            "ff FF 10 0xff 18446744073709551615"
        );
        assert_eq!(format("%d %d %d", &["0x1f", "010", "'A"]), "31 8 65");
        assert_eq!(format("%*d|%-*d|", &["5", "1", "3", "2"]), "    1|2  |");
    }

    #[test]
    fn floating_point_numbers_look_as_in_c() {
        assert_eq!(
            format(
                "%.2f %e %g %g %g %G",
                &["3.14159", "12345.678", "0.0001", "1e-5", "100000", "1e10"]
            ),
            "3.14 1.234568e+04 0.0001 1e-05 100000 1E+10"
        );
        assert_eq!(format("%08.3f|%-8.1f|", &["3.14159", "2"]), "0003.142|2.0     |");
    }

    #[test]
    fn escapes_are_those_of_bash() {
        assert_eq!(format("a\\tb\\x41\\u00e9\\101", &[]), "a\tbAéA");
        assert_eq!(format("%b|%b", &["a\\nb", "\\0101"]), "a\nb|A");
        assert_eq!(format("%b%s", &["a\\cb", "c"]), "a");
        assert_eq!(format("%q %q %q", &["a b", "it's", "a\nb"]), "a\\ b it\\'s $'a\\nb'");
    }

    #[test]
    fn times_are_formatted() {
        assert_eq!(format("%(%Y-%m-%d)T", &["0"]), "1970-01-01");
    }

    #[test]
    fn wrong_arguments_are_told() {
        let result = Formatter::run("%d\n", &["abc".to_owned()]);
        assert_eq!(
            (result.output.as_slice(), result.problems.len()),
            (b"0\n".as_slice(), 1)
        );
        assert_eq!(Formatter::run("%y", &[]).problems.len(), 1);
    }
}
