//! Permission masks as `umask` reads and writes them.

/// The permissions a mask leaves, as in `u=rwx,g=rx,o=rx`.
pub fn symbolic(mask: u32) -> String {
    let part = |who: char, shift: u32| {
        let left = !mask >> shift;
        let letters: String = [(4, 'r'), (2, 'w'), (1, 'x')]
            .iter()
            .filter(|(bit, _)| left & bit != 0)
            .map(|(_, letter)| *letter)
            .collect();
        format!("{who}={letters}")
    };
    [part('u', 6), part('g', 3), part('o', 0)].join(",")
}

/// The mask that a text means; symbolic ones change `current`.
pub fn parse(text: &str, current: u32) -> Option<u32> {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
    }
    let mut allowed = !current & 0o777;
    for clause in text.split(',') {
        let at = clause.find(['+', '-', '='])?;
        let (who, change) = clause.split_at(at);
        let mut reach = 0;
        for letter in who.chars() {
            reach |= match letter {
                'u' => 0o700,
                'g' => 0o070,
                'o' => 0o007,
                'a' => 0o777,
                _ => return None,
            };
        }
        if who.is_empty() {
            reach = 0o777;
        }
        let mut bits = 0;
        for letter in change.chars().skip(1) {
            bits |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                _ => return None,
            };
        }
        match change.chars().next()? {
            '+' => allowed |= bits & reach,
            '-' => allowed &= !(bits & reach),
            _ => allowed = allowed & !reach | bits & reach,
        }
    }
    Some(!allowed & 0o777)
}

#[cfg(test)]
mod tests {
    use super::{parse, symbolic};

    #[test]
    fn mask_is_octal_or_symbolic() {
        assert_eq!(parse("027", 0o022), Some(0o027));
        assert_eq!(parse("u=rwx,g=rx,o=", 0o022), Some(0o027));
        assert_eq!(parse("g-w", 0), Some(0o020));
        assert_eq!(parse("a+rwx", 0o777), Some(0));
        assert_eq!(parse("9", 0), None);
        assert_eq!(parse("u~r", 0), None);
        assert_eq!(symbolic(0o022), "u=rwx,g=rx,o=rx");
    }
}
