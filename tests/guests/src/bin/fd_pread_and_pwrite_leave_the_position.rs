//! Positioned reads and writes do not move the position, and fill holes with zeros.

use guests::{create, pread, pwrite, read, scratch, tell, write};

fn main() {
    let fd = create(scratch(), "file");
    assert_eq!(write(fd, b"0123"), Ok(4));
    assert_eq!(pwrite(fd, b"ab", 6), Ok(2));
    assert_eq!(pread(fd, 9, 3), Ok(b"3\0\0ab".to_vec()));
    assert_eq!(tell(fd), Ok(4));
    assert_eq!(read(fd, 9), Ok(b"\0\0ab".to_vec()));
}
