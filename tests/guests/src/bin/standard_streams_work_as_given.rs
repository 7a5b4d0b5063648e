//! Standard input gives what the exec was given and then ends; the output descriptors take bytes.

use guests::{Errno, Until, poll, read, write};

fn main() {
    assert_eq!(poll(&[Until::Readable(0)]).map(|events| events[0].bytes), Ok(14));
    assert_eq!(read(0, 8), Ok(b"standard".to_vec()));
    assert_eq!(read(0, 80), Ok(b" input".to_vec()));
    assert_eq!(read(0, 80), Ok(vec![]));
    assert_eq!(read(0, 80), Ok(vec![]), "the end stays");
    assert_eq!(write(0, b"x"), Err(Errno::BADF));
    assert_eq!(write(1, b"to standard output\n"), Ok(19));
    assert_eq!(write(2, b"to standard error\n"), Ok(18));
    assert_eq!(read(1, 1), Err(Errno::BADF));
}
