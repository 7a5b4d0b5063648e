//! `printf`: C's conversions, written out because Rust has no `%g`.

use super::value::Value;

/// Widths and precisions beyond this are cut: a guest may only fill its own memory, but slowly.
const MAX_WIDTH: usize = 1 << 16;

#[derive(Default)]
struct Flags {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

/// Formats `values`; `convfmt` turns numbers into strings for `%s`.
pub fn format(format: &str, values: &[Value], convfmt: &str) -> String {
    let mut out = String::with_capacity(format.len() + 16);
    let mut values = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        let mut text = String::from("%");
        while let Some(flag) = chars.next_if(|c| "-+ #0'".contains(*c)) {
            text.push(flag);
            match flag {
                '-' => flags.left = true,
                '0' => flags.zero = true,
                '+' => flags.plus = true,
                ' ' => flags.space = true,
                '#' => flags.alternate = true,
                _ => {}
            }
        }
        let mut size = |chars: &mut std::iter::Peekable<std::str::Chars>, text: &mut String| -> Option<i64> {
            if chars.next_if_eq(&'*').is_some() {
                return Some(values.next().map_or(0.0, Value::number) as i64);
            }
            let mut digits = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                digits = Some((digits.unwrap_or(0_i64) * 10 + i64::from(digit)).min(MAX_WIDTH as i64));
                text.extend(chars.next());
            }
            digits
        };
        if let Some(width) = size(&mut chars, &mut text) {
            flags.left |= width < 0;
            flags.width = (width.unsigned_abs() as usize).min(MAX_WIDTH);
        }
        if chars.next_if_eq(&'.').is_some() {
            text.push('.');
            let precision = size(&mut chars, &mut text).unwrap_or(0);
            flags.precision = usize::try_from(precision).ok().map(|p| p.min(MAX_WIDTH));
        }
        while chars.next_if(|c| "hlLqjzt".contains(*c)).is_some() {}
        let Some(kind) = chars.next() else {
            out.push_str(&text);
            break;
        };
        if kind == '%' {
            out.push('%');
            continue;
        }
        if !"diouxXcsaAeEfFgG".contains(kind) {
            out.push_str(&text);
            out.push(kind);
            continue;
        }
        let unset = Value::Unset;
        let value = values.next().unwrap_or(&unset);
        one(&mut out, kind, &flags, value, convfmt);
    }
    out
}

fn one(out: &mut String, kind: char, flags: &Flags, value: &Value, convfmt: &str) {
    match kind {
        's' => {
            let text = value.string(convfmt);
            let cut: String = text.chars().take(flags.precision.unwrap_or(usize::MAX)).collect();
            pad(out, "", &cut, flags, false);
        }
        'c' => {
            let text = match value {
                Value::Number(number) | Value::Numeric(_, number) => {
                    char::from_u32(*number as u32).map_or_else(String::new, String::from)
                }
                other => other.string(convfmt).chars().take(1).collect(),
            };
            pad(out, "", &text, flags, false);
        }
        _ => {
            let number = value.number();
            if !number.is_finite() {
                let word = if number.is_nan() { "nan" } else { "inf" };
                let sign = if number.is_sign_negative() { "-" } else { "+" };
                return pad(out, sign, word, flags, false);
            }
            let sign = if number.is_sign_negative() && (number != 0.0 || !"di".contains(kind)) {
                "-"
            } else if flags.plus {
                "+"
            } else if flags.space {
                " "
            } else {
                ""
            };
            match kind {
                'd' | 'i' => integer(out, sign, &format!("{:.0}", number.trunc().abs()), flags),
                'o' | 'x' | 'X' | 'u' => {
                    let negative = number < 0.0;
                    let bits = if negative {
                        (number as i64) as u64
                    } else {
                        number as u64
                    };
                    let (prefix, digits) = match kind {
                        'o' => ("0", format!("{bits:o}")),
                        'x' => ("0x", format!("{bits:x}")),
                        'X' => ("0X", format!("{bits:X}")),
                        _ => ("", bits.to_string()),
                    };
                    integer(
                        out,
                        if flags.alternate && bits != 0 { prefix } else { "" },
                        &digits,
                        flags,
                    );
                }
                _ => {
                    let digits = float(number.abs(), kind, flags);
                    pad(out, sign, &digits, flags, flags.zero);
                }
            }
        }
    }
}

fn integer(out: &mut String, sign: &str, digits: &str, flags: &Flags) {
    let least = flags.precision.unwrap_or(1);
    let digits = format!("{digits:0>least$}");
    pad(out, sign, &digits, flags, flags.zero && flags.precision.is_none());
}

fn pad(out: &mut String, sign: &str, body: &str, flags: &Flags, zero: bool) {
    let fill = flags.width.saturating_sub(sign.len() + body.chars().count());
    if flags.left {
        out.push_str(sign);
        out.push_str(body);
        out.extend(std::iter::repeat_n(' ', fill));
    } else if zero {
        out.push_str(sign);
        out.extend(std::iter::repeat_n('0', fill));
        out.push_str(body);
    } else {
        out.extend(std::iter::repeat_n(' ', fill));
        out.push_str(sign);
        out.push_str(body);
    }
}

fn exponential(number: f64, precision: usize) -> (String, i32) {
    let text = format!("{number:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (mantissa.to_owned(), exponent.parse().unwrap_or(0))
}

fn float(number: f64, kind: char, flags: &Flags) -> String {
    let precision = flags.precision.unwrap_or(6);
    let text = match kind.to_ascii_lowercase() {
        'f' => format!("{number:.precision$}"),
        'e' | 'a' => {
            let (mantissa, exponent) = exponential(number, precision);
            format!(
                "{mantissa}e{}{:02}",
                if exponent < 0 { '-' } else { '+' },
                exponent.abs()
            )
        }
        _ => {
            let precision = precision.max(1);
            let (mantissa, exponent) = exponential(number, precision - 1);
            let strip = |text: String| {
                if flags.alternate || !text.contains('.') {
                    return text;
                }
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            };
            if exponent < -4 || exponent >= precision as i32 {
                format!(
                    "{}e{}{:02}",
                    strip(mantissa),
                    if exponent < 0 { '-' } else { '+' },
                    exponent.abs()
                )
            } else {
                strip(format!(
                    "{number:.*}",
                    (precision as i32 - 1 - exponent).max(0) as usize
                ))
            }
        }
    };
    if kind.is_ascii_uppercase() {
        text.to_uppercase()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(text: &str, values: &[Value]) -> String {
        format(text, values, "%.6g")
    }

    #[test]
    fn conversions_are_those_of_c() {
        let n = |number: f64| [Value::Number(number)];
        assert_eq!(formatted("%5.2f|", &n(3.14159)), " 3.14|");
        assert_eq!(formatted("%-6d|%%", &n(42.9)), "42    |%");
        assert_eq!(formatted("%06d", &n(-42.0)), "-00042");
        assert_eq!(
            formatted("%x %X", &[Value::Number(255.0), Value::Number(255.0)]),
            "ff FF"
        );
        assert_eq!(formatted("%g", &n(0.0001)), "0.0001");
        assert_eq!(formatted("%g", &n(1e10)), "1e+10");
        assert_eq!(formatted("%e", &n(12345.678)), "1.234568e+04");
        assert_eq!(formatted("%c%c", &[Value::Number(65.0), Value::text("hello")]), "Ah");
        assert_eq!(
            formatted(
                "%.3s|%*d",
                &[Value::text("abcdef"), Value::Number(4.0), Value::Number(7.0)]
            ),
            "abc|   7"
        );
        assert_eq!(
            formatted("%+d %5s", &[Value::Number(3.0), Value::Number(0.5)]),
            "+3   0.5"
        );
    }
}
