//! Translates the regular expressions of POSIX, with GNU's additions, into the syntax of the `regex` crate.

/// Which dialect a pattern is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `grep`, `sed`, `expr`: groups are `\(…\)`.
    Basic,
    /// `grep -E`, `find -regextype posix-extended`.
    Extended,
    /// Extended, with the escapes of awk (`\n`, `\"`, `\/`), also inside brackets.
    Awk,
}

/// A translated pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    /// In the syntax of the `regex` crate.
    pub pattern: String,
    /// It refers back to a group, which needs a backtracking engine.
    pub backreference: bool,
}

/// Translates `pattern`.
///
/// # Errors
/// The words GNU grep prints for an unfinished bracket or a trailing backslash.
pub fn translate(pattern: &str, dialect: Dialect) -> Result<Translated, String> {
    let mut translator = Translator {
        chars: pattern.chars().collect(),
        at: 0,
        out: String::with_capacity(pattern.len() + 8),
        basic: dialect == Dialect::Basic,
        awk: dialect == Dialect::Awk,
        depth: 0,
        backreference: false,
        can_repeat: false,
    };
    translator.run()?;
    Ok(Translated {
        pattern: translator.out,
        backreference: translator.backreference,
    })
}

struct Translator {
    chars: Vec<char>,
    at: usize,
    out: String,
    basic: bool,
    awk: bool,
    depth: usize,
    backreference: bool,
    /// Whether a repetition may follow; where it may not, `*` stands for itself.
    can_repeat: bool,
}

impl Translator {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn literal(&mut self, c: char) {
        push_literal(&mut self.out, c);
        self.can_repeat = true;
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(c) = self.peek(0) {
            self.at += 1;
            match c {
                '\\' => self.escape()?,
                '[' => self.bracket()?,
                '.' => {
                    self.out.push('.');
                    self.can_repeat = true;
                }
                '*' => self.repeat("*"),
                '^' if self.basic && !self.at_start() => self.literal('^'),
                '^' => {
                    self.out.push('^');
                    self.can_repeat = false;
                }
                '$' if self.basic && !self.at_end() => self.literal('$'),
                '$' => {
                    self.out.push('$');
                    self.can_repeat = false;
                }
                '+' | '?' if !self.basic => self.repeat(if c == '+' { "+" } else { "?" }),
                '{' if !self.basic => self.interval()?,
                '(' if !self.basic => self.open(),
                ')' if !self.basic && self.depth > 0 => self.close(),
                '|' if !self.basic => self.alternative(),
                other => self.literal(other),
            }
        }
        if self.depth > 0 {
            return Err("Unmatched ( or \\(".into());
        }
        Ok(())
    }

    /// Whether the `^` just read begins an expression (only asked of basic expressions).
    fn at_start(&self) -> bool {
        self.out.is_empty() || self.out.ends_with('(') && !self.out.ends_with("\\(") || self.out.ends_with('|')
    }

    /// Whether the `$` just read ends an expression (only asked of basic expressions).
    fn at_end(&self) -> bool {
        matches!((self.peek(0), self.peek(1)), (None, _) | (Some('\\'), Some(')' | '|')))
    }

    fn repeat(&mut self, operator: &str) {
        if self.can_repeat {
            // `a**` is legal in POSIX and an error to the `regex` crate when it would nest; a group keeps it legal.
            if self.out.ends_with(['*', '+', '?']) && !self.out.ends_with("\\*") && !self.out.ends_with("\\+") {
                if operator == "*" && !self.out.ends_with('*') {
                    self.out.pop();
                    self.out.push('*');
                }
                return;
            }
            self.out.push_str(operator);
        } else if self.basic {
            self.literal(operator.chars().next().unwrap_or('*'));
        }
        // Extended: a repetition of nothing matches nothing more, as in GNU.
    }

    fn open(&mut self) {
        self.out.push('(');
        self.depth += 1;
        self.can_repeat = false;
    }

    fn close(&mut self) {
        self.out.push(')');
        self.depth = self.depth.saturating_sub(1);
        self.can_repeat = true;
    }

    fn alternative(&mut self) {
        self.out.push('|');
        self.can_repeat = false;
    }

    /// `{n,m}` after the opening brace was read; a brace that opens no interval stands for itself.
    fn interval(&mut self) -> Result<(), String> {
        let close: &[char] = if self.basic { &['\\', '}'] } else { &['}'] };
        let mut end = self.at;
        while end < self.chars.len() && (self.chars[end].is_ascii_digit() || self.chars[end] == ',') {
            end += 1;
        }
        let body: String = self.chars[self.at..end].iter().collect();
        let closed = self.chars[end..].starts_with(close);
        let (low, high) = body.split_once(',').unwrap_or((&body, &body));
        let well_formed = closed && !body.is_empty() && !high.contains(',') && (!low.is_empty() || !high.is_empty());
        if !well_formed || !self.can_repeat {
            if self.basic {
                return Err("Invalid content of \\{\\}".into());
            }
            self.literal('{');
            return Ok(());
        }
        let low = if low.is_empty() { "0" } else { low };
        let repetition = if body.contains(',') {
            format!("{{{low},{high}}}")
        } else {
            format!("{{{low}}}")
        };
        self.out.push_str(&repetition);
        self.at = end + close.len();
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let Some(c) = self.peek(0) else {
            if self.awk {
                self.literal('\\');
                return Ok(());
            }
            return Err("Trailing backslash".into());
        };
        self.at += 1;
        match c {
            '(' if self.basic => self.open(),
            ')' if self.basic => {
                if self.depth == 0 {
                    return Err("Unmatched ) or \\)".into());
                }
                self.close();
            }
            '|' if self.basic => self.alternative(),
            '{' if self.basic => self.interval()?,
            '+' if self.basic => self.repeat("+"),
            '?' if self.basic => self.repeat("?"),
            '1'..='9' if !self.awk => {
                self.backreference = true;
                self.out.push_str(&format!("(?:\\{c})"));
                self.can_repeat = true;
            }
            'w' | 'W' | 's' | 'S' => {
                self.out.push('\\');
                self.out.push(c);
                self.can_repeat = true;
            }
            'b' | 'B' if !self.awk => {
                self.out.push('\\');
                self.out.push(c);
            }
            'y' if self.awk => self.out.push_str("\\b"),
            '<' => self.out.push_str("\\b{start}"),
            '>' => self.out.push_str("\\b{end}"),
            '`' => self.out.push_str("\\A"),
            '\'' => self.out.push_str("\\z"),
            'n' => self.literal('\n'),
            't' => self.literal('\t'),
            'r' if self.awk => self.literal('\r'),
            'f' if self.awk => self.literal('\u{c}'),
            'v' if self.awk => self.literal('\u{b}'),
            'a' if self.awk => self.literal('\u{7}'),
            other => self.literal(other),
        }
        Ok(())
    }

    /// A bracket expression after its `[`.
    fn bracket(&mut self) -> Result<(), String> {
        let unfinished = || "Unmatched [, [^, [:, [., or [=".to_owned();
        let mut set = String::from("[");
        if self.peek(0) == Some('^') {
            set.push('^');
            self.at += 1;
        }
        let mut first = true;
        loop {
            let c = self.peek(0).ok_or_else(unfinished)?;
            self.at += 1;
            match c {
                ']' if !first => break,
                '[' if matches!(self.peek(0), Some(':' | '.' | '=')) => {
                    let kind = self.peek(0).unwrap_or(':');
                    let start = self.at + 1;
                    let end = (start..self.chars.len().saturating_sub(1))
                        .find(|&i| self.chars[i] == kind && self.chars[i + 1] == ']')
                        .ok_or_else(unfinished)?;
                    let name: String = self.chars[start..end].iter().collect();
                    self.at = end + 2;
                    if kind == ':' {
                        if !CLASSES.contains(&name.as_str()) {
                            return Err("Invalid character class name".into());
                        }
                        set.push_str(&format!("[:{name}:]"));
                    } else {
                        name.chars().for_each(|c| push_set_member(&mut set, c));
                    }
                }
                '\\' if self.awk => {
                    let escaped = self.peek(0).ok_or_else(unfinished)?;
                    self.at += 1;
                    match escaped {
                        'n' => set.push_str("\\n"),
                        't' => set.push_str("\\t"),
                        'r' => set.push_str("\\r"),
                        'f' => set.push_str("\\f"),
                        'v' => set.push_str("\\v"),
                        'w' | 's' | 'd' | 'S' | 'W' => {
                            set.push('\\');
                            set.push(escaped);
                        }
                        other => push_set_member(&mut set, other),
                    }
                }
                '-' if !first && self.peek(0).is_some_and(|next| next != ']') && range_can_follow(&set) => {
                    set.push('-');
                }
                other => push_set_member(&mut set, other),
            }
            first = false;
        }
        set.push(']');
        self.out.push_str(&set);
        self.can_repeat = true;
        Ok(())
    }
}

const CLASSES: [&str; 12] = [
    "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit",
];

/// A `-` makes a range only after a single character.
fn range_can_follow(set: &str) -> bool {
    !set.ends_with(":]") && set != "[" && set != "[^"
}

fn push_literal(out: &mut String, c: char) {
    if c.is_ascii_punctuation() {
        out.push('\\');
    }
    out.push(c);
}

fn push_set_member(set: &mut String, c: char) {
    if matches!(c, '[' | ']' | '\\' | '^' | '-' | '&' | '~') {
        set.push('\\');
    }
    set.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, dialect: Dialect, text: &str) -> bool {
        let translated = translate(pattern, dialect).unwrap();
        regex::Regex::new(&translated.pattern).unwrap().is_match(text)
    }

    #[test]
    fn basic_expressions_need_backslashes_for_operators() {
        use Dialect::Basic;
        assert!(matches("a\\(bc\\)*d", Basic, "abcbcd"));
        assert!(matches("a+b", Basic, "a+b") && !matches("^a+b", Basic, "aab"));
        assert!(matches("a\\+b", Basic, "aab"));
        assert!(matches("*a", Basic, "*a"));
        assert!(matches("a\\{2,3\\}$", Basic, "aaa"));
        assert!(matches("x\\|y", Basic, "y"));
        assert!(matches("a^b$c", Basic, "a^b$c"));
        assert!(matches("^$", Basic, ""));
        assert!(matches("{}", Basic, "{}"));
    }

    #[test]
    fn extended_expressions_have_bare_operators() {
        use Dialect::Extended;
        assert!(matches("^(ab|cd)+$", Extended, "abcd"));
        assert!(matches("a{2}", Extended, "aa"));
        assert!(matches("{", Extended, "{") && matches("a{x", Extended, "a{x"));
        assert!(matches("\\<foo\\>", Extended, "a foo b") && !matches("\\<foo\\>", Extended, "afoo"));
        assert!(matches("a\\.b", Extended, "a.b") && !matches("a\\.b", Extended, "axb"));
    }

    #[test]
    fn brackets_follow_posix() {
        use Dialect::Extended;
        assert!(matches("^[]a]+$", Extended, "]a"));
        assert!(matches("^[^]a]$", Extended, "b"));
        assert!(matches(r"^[\.]+$", Extended, r"\."));
        assert!(matches("^[[:alpha:]_-]+$", Extended, "a_-"));
        assert!(matches("^[a&&b]+$", Extended, "&&"));
        assert!(matches("^[+-]$", Extended, "-") && matches("^[a-c-]$", Extended, "-"));
        assert!(translate("[a", Extended).is_err() && translate("[[:foo:]]", Extended).is_err());
    }

    #[test]
    fn back_references_are_noticed() {
        assert!(translate("\\(a\\)\\1", Dialect::Basic).unwrap().backreference);
        assert!(!translate("a1", Dialect::Basic).unwrap().backreference);
    }

    #[test]
    fn awk_escapes_work_inside_brackets() {
        assert!(matches(r"^[\/\]\t]+$", Dialect::Awk, "/]\t"));
        assert!(matches(r"^\/$", Dialect::Awk, "/"));
    }
}
