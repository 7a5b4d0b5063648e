//! Reading at or past the end gives nothing, and no error.

use guests::{SET, create, pread, read, scratch, seek, write};

fn main() {
    let fd = create(scratch(), "file");
    assert_eq!(write(fd, b"abc"), Ok(3));
    assert_eq!(read(fd, 8), Ok(vec![]));
    assert_eq!(seek(fd, 1, SET), Ok(1));
    assert_eq!(read(fd, 8), Ok(b"bc".to_vec()), "a short read");
    assert_eq!(pread(fd, 8, 3), Ok(vec![]));
    assert_eq!(pread(fd, 8, u64::MAX), Ok(vec![]));
    assert_eq!(seek(fd, i64::MAX, SET), Ok(i64::MAX as u64));
    assert_eq!(read(fd, 8), Ok(vec![]));
}
