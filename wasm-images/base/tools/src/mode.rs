//! File modes as `chmod` takes them: octal, or clauses such as `u+x,go-w`.

/// A parsed mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// These bits.
    Octal(u32),
    /// Changes to the bits there are.
    Symbolic(Vec<Clause>),
}

/// One change: for `who` (mask over 0o777 and the special bits), `operator` and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Bits of 0o7 for each of user 4, group 2, others 1; 0: all but those of the umask.
    who: u32,
    operator: char,
    /// Permissions `rwx` as 0o7.
    bits: u32,
    /// `X`: execute, for directories and files that have an execute bit.
    conditional: bool,
    set_id: bool,
    sticky: bool,
    /// Copy the permissions of `u`, `g` or `o`.
    copy: Option<char>,
}

/// Parses a mode; `None` when it is malformed.
pub fn parse(text: &str) -> Option<Mode> {
    if text.bytes().next()?.is_ascii_digit() {
        return u32::from_str_radix(text, 8)
            .ok()
            .filter(|bits| *bits <= 0o7777)
            .map(Mode::Octal);
    }
    let mut clauses = Vec::new();
    for part in text.split(',') {
        let who_len = part.bytes().take_while(|b| b"ugoa".contains(b)).count();
        let who = part[..who_len].bytes().fold(0, |mask, b| {
            mask | match b {
                b'u' => 4,
                b'g' => 2,
                b'o' => 1,
                _ => 7,
            }
        });
        let mut rest = part[who_len..].chars().peekable();
        rest.peek()?;
        while let Some(operator) = rest.next() {
            if !matches!(operator, '+' | '-' | '=') {
                return None;
            }
            let mut clause = Clause {
                who,
                operator,
                bits: 0,
                conditional: false,
                set_id: false,
                sticky: false,
                copy: None,
            };
            while let Some(what) = rest.next_if(|c| !matches!(c, '+' | '-' | '=')) {
                match what {
                    'r' => clause.bits |= 4,
                    'w' => clause.bits |= 2,
                    'x' => clause.bits |= 1,
                    'X' => clause.conditional = true,
                    's' => clause.set_id = true,
                    't' => clause.sticky = true,
                    'u' | 'g' | 'o' => clause.copy = Some(what),
                    _ => return None,
                }
            }
            clauses.push(clause);
        }
    }
    Some(Mode::Symbolic(clauses))
}

impl Mode {
    /// The bits (0o7777) that result from `old`.
    pub fn apply(&self, old: u32, is_dir: bool, umask: u32) -> u32 {
        match self {
            Self::Octal(bits) => *bits,
            Self::Symbolic(clauses) => clauses
                .iter()
                .fold(old & 0o7777, |mode, clause| clause.apply(mode, is_dir, umask)),
        }
    }
}

impl Clause {
    fn apply(&self, old: u32, is_dir: bool, umask: u32) -> u32 {
        let mut bits = self.bits;
        if self.conditional && (is_dir || old & 0o111 != 0) {
            bits |= 1;
        }
        if let Some(source) = self.copy {
            bits |= match source {
                'u' => old >> 6,
                'g' => old >> 3,
                _ => old,
            } & 7;
        }
        let who = if self.who == 0 { 7 } else { self.who };
        let mut mask = 0;
        let mut value = 0;
        for (member, shift, special) in [(4, 6, 0o4000), (2, 3, 0o2000), (1, 0, 0)] {
            if who & member != 0 {
                mask |= 7 << shift | special;
                value |= bits << shift;
                if self.set_id {
                    value |= special;
                }
            }
        }
        if who & 1 != 0 || self.sticky {
            mask |= 0o1000;
        }
        if self.sticky {
            value |= 0o1000;
        }
        if self.who == 0 {
            value &= !(umask & 0o777);
        }
        match self.operator {
            '+' => old | value,
            '-' => old & !value,
            _ => old & !mask | value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn clauses_change_bits_as_chmod_does() {
        for (old, text, is_dir, new) in [
            (0o644, "755", false, 0o755),
            (0o644, "+x", false, 0o755),
            (0o644, "u+x", false, 0o744),
            (0o777, "go-w", false, 0o755),
            (0o644, "a=rx", false, 0o555),
            (0o640, "g=u", false, 0o660),
            (0o644, "a+X", false, 0o644),
            (0o644, "a+X", true, 0o755),
            (0o755, "u+s,o=", false, 0o4750),
            (0o777, "+t", true, 0o1777),
            (0o600, "u-w+x", false, 0o500),
        ] {
            assert_eq!(parse(text).unwrap().apply(old, is_dir, 0o022), new, "{text}");
        }
        for text in ["", "8", "u", "u+q", "10000"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
