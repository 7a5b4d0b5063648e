//! Output of commands as JSON text. JSON carries Unicode only: bytes that are not UTF-8 become U+FFFD.

/// Text of complete output.
pub(super) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Turns a stream's chunks into text without splitting a character.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a character whose rest has not come yet, at most 3 bytes.
    pending: Vec<u8>,
}

impl Decoder {
    /// The text that is complete with this chunk; maybe empty.
    pub fn push(&mut self, chunk: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.pending);
        bytes.extend_from_slice(chunk);
        self.pending = bytes.split_off(bytes.len() - incomplete_tail(&bytes));
        lossy(bytes)
    }

    /// What is left at the end of the stream.
    pub fn finish(&mut self) -> String {
        lossy(std::mem::take(&mut self.pending))
    }
}

/// How many bytes at the end may be the beginning of a character.
pub fn incomplete_tail(bytes: &[u8]) -> usize {
    const LONGEST_BEGINNING: usize = 3;
    for length in 1..=LONGEST_BEGINNING.min(bytes.len()) {
        let tail = &bytes[bytes.len() - length..];
        match tail[0] {
            // A continuation byte: its beginning is further left.
            0x80..=0xbf => {}
            // `error_len` is None exactly when more bytes could complete the character.
            0xc2..=0xf4 => {
                let incomplete = std::str::from_utf8(tail).is_err_and(|error| error.error_len().is_none());
                return if incomplete { length } else { 0 };
            }
            _ => return 0,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_split_over_chunks_arrive_whole() {
        let text = "aé€😀z";
        for size in 1..=text.len() {
            let mut decoder = Decoder::default();
            let mut decoded: String = text.as_bytes().chunks(size).map(|chunk| decoder.push(chunk)).collect();
            decoded.push_str(&decoder.finish());
            assert_eq!(decoded, text, "chunks of {size}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_become_replacement_characters() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(b"a\xff\xc0b"), "a\u{fffd}\u{fffd}b");
        assert_eq!(decoder.push(b"\xe2\x82"), "");
        assert_eq!(decoder.finish(), "\u{fffd}");
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn only_the_beginning_of_a_character_is_incomplete() {
        assert_eq!(incomplete_tail(&"a€".as_bytes()[..3]), 2);
        assert_eq!(incomplete_tail("a€".as_bytes()), 0);
        assert_eq!(incomplete_tail(b"\x80\x80\x80\x80"), 0);
    }
}
