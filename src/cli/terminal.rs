//! Makes untrusted text safe to print on a terminal.

use std::fmt::Write as _;

/// A text that a server, a sandbox or the author of an image chose, without what a terminal would obey: control
/// characters, and those that turn the direction of writing, are shown as escapes. Line feeds and tabs stay.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && c != '\n' && c != '\t') || turns_direction(c) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "{}", c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// As [`printable`], in one line.
pub(super) fn printable_line(text: &str) -> String {
    printable(text).replace('\n', "\\n").replace('\t', " ")
}

/// A JSON text, in which control characters can only stand inside strings, with the escapes of JSON.
pub(super) fn printable_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) || turns_direction(c) {
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether it is one of Unicode's bidirectional controls.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}]0;title\u{7}\u{9b}2J\r\u{202e}\u{7f}é\tb\nc";

    #[test]
    fn nothing_a_terminal_obeys_is_left() {
        let shown = printable(HOSTILE);
        assert_eq!(shown, "a\\u{1b}]0;title\\u{7}\\u{9b}2J\\u{d}\\u{202e}\\u{7f}é\tb\nc");
        assert_eq!(printable_line("a\nb\tc"), "a\\nb c");
    }

    #[test]
    fn json_means_the_same_afterwards() {
        let json = "[\"\u{7f}\u{9b}\u{202e}é\",\n\t1]";
        let shown = printable_json(json);
        assert!(!shown.contains(['\u{7f}', '\u{9b}', '\u{202e}']), "{shown}");
        let values: [serde_json::Value; 2] = [json, &shown].map(|text| serde_json::from_str(text).unwrap());
        assert_eq!(values[0], values[1]);
    }
}
