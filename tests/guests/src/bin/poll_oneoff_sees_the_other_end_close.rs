//! A pipe whose other end is gone is ready, and says that it hung up.

use guests::{Until, close, pipe, poll, read, write};

fn main() {
    let (reader, writer) = pipe().expect("a pipe");
    assert_eq!(write(writer, b"rest"), Ok(4));
    close(writer).expect("closing");
    let events = poll(&[Until::Readable(reader)]).expect("polling");
    assert_eq!((events[0].bytes, events[0].hangup), (4, true));
    assert_eq!(read(reader, 9), Ok(b"rest".to_vec()));
    let events = poll(&[Until::Readable(reader)]).expect("polling");
    assert_eq!((events[0].bytes, events[0].hangup), (0, true));
    let (reader, writer) = pipe().expect("a pipe");
    close(reader).expect("closing");
    let events = poll(&[Until::Writable(writer)]).expect("polling");
    assert!(events[0].hangup);
}
