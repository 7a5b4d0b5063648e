//! What is written to a pipe is read from it in order; it ends when the last writer is closed.

use guests::{close, dup, pipe, read, write};

fn main() {
    let (reader, writer) = pipe().expect("a pipe");
    assert_eq!(write(writer, b"one "), Ok(4));
    assert_eq!(write(writer, b"two"), Ok(3));
    assert_eq!(read(reader, 5), Ok(b"one t".to_vec()));
    let second = dup(writer, 0).expect("duplicating");
    close(writer).expect("closing");
    assert_eq!(write(second, b"!"), Ok(1));
    close(second).expect("closing");
    assert_eq!(read(reader, 9), Ok(b"wo!".to_vec()));
    assert_eq!(read(reader, 9), Ok(vec![]));
    assert_eq!(read(reader, 9), Ok(vec![]), "the end stays");
}
