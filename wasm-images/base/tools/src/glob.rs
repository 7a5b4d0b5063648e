//! Shell wildcards (`*`, `?`, `[…]`, backslash) for names, in linear memory and without recursion.

/// Whether `name` as a whole matches `pattern`. With `fold`, letter case is ignored.
pub fn matches(pattern: &str, name: &str, fold: bool) -> bool {
    let lower = |text: &str| if fold { text.to_lowercase() } else { text.to_owned() };
    let pattern: Vec<char> = lower(pattern).chars().collect();
    let name: Vec<char> = lower(name).chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to resume: after the last star, taking one character more.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            p += 1;
            retry = Some((p, n));
            continue;
        }
        if n == name.len() && p == pattern.len() {
            return true;
        }
        if n < name.len()
            && p < pattern.len()
            && let Some(next) = one(&pattern, p, name[n])
        {
            p = next;
            n += 1;
            continue;
        }
        match retry {
            Some((after_star, from)) if from < name.len() => {
                p = after_star;
                n = from + 1;
                retry = Some((after_star, n));
            }
            _ => return false,
        }
    }
}

/// Matches one character against the element at `p`; gives the position after that element.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match pattern[p] {
        '?' => Some(p + 1),
        '[' => match bracket(pattern, p, c) {
            Some((true, next)) => Some(next),
            Some((false, _)) => None,
            None => (c == '[').then_some(p + 1),
        },
        '\\' if p + 1 < pattern.len() => (pattern[p + 1] == c).then_some(p + 2),
        literal => (literal == c).then_some(p + 1),
    }
}

/// A bracket expression at `p`: whether `c` is in it, and the position behind it. `None` when it is not closed.
fn bracket(pattern: &[char], p: usize, c: char) -> Option<(bool, usize)> {
    let mut at = p + 1;
    let negated = matches!(pattern.get(at), Some('!' | '^'));
    if negated {
        at += 1;
    }
    let mut found = false;
    let mut first = true;
    loop {
        let mut low = *pattern.get(at)?;
        if low == ']' && !first {
            return Some((found != negated, at + 1));
        }
        first = false;
        if low == '[' && pattern.get(at + 1) == Some(&':') {
            let close =
                (at + 2..pattern.len().saturating_sub(1)).find(|&i| pattern[i] == ':' && pattern[i + 1] == ']')?;
            let class: String = pattern[at + 2..close].iter().collect();
            found |= in_class(&class, c);
            at = close + 2;
            continue;
        }
        if low == '\\' {
            at += 1;
            low = *pattern.get(at)?;
        }
        if pattern.get(at + 1) == Some(&'-') && pattern.get(at + 2).is_some_and(|&high| high != ']') {
            let high = pattern[at + 2];
            found |= (low..=high).contains(&c);
            at += 3;
        } else {
            found |= low == c;
            at += 1;
        }
    }
}

fn in_class(class: &str, c: char) -> bool {
    match class {
        "alnum" => c.is_alphanumeric(),
        "alpha" => c.is_alphabetic(),
        "blank" => c == ' ' || c == '\t',
        "digit" => c.is_ascii_digit(),
        "lower" => c.is_lowercase(),
        "punct" => c.is_ascii_punctuation(),
        "space" => c.is_whitespace(),
        "upper" => c.is_uppercase(),
        "xdigit" => c.is_ascii_hexdigit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn wildcards_match_whole_names() {
        for (pattern, name) in [
            ("*.rs", "main.rs"),
            ("*", ""),
            ("a*b*c", "aXbYbc"),
            ("?x", "ax"),
            ("[a-c]1", "b1"),
            ("[!a-c]1", "d1"),
            ("[]x]", "]"),
            ("\\*", "*"),
            ("[[:digit:]]*", "1a"),
            ("[", "["),
        ] {
            assert!(matches(pattern, name, false), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*.rs", "main.rsx"),
            ("?", ""),
            ("[a-c]", "d"),
            ("a*b", "a"),
            ("\\*", "x"),
        ] {
            assert!(!matches(pattern, name, false), "{pattern} {name}");
        }
        assert!(matches("*.RS", "main.rs", true));
    }

    #[test]
    fn many_stars_stay_cheap() {
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199), false));
    }
}
