//! There are three places to seek from, and no position before the start or beyond `i64::MAX`.

use guests::{CURRENT, END, Errno, SET, create, scratch, seek, tell, write};

fn main() {
    let fd = create(scratch(), "file");
    assert_eq!(write(fd, b"0123456789"), Ok(10));
    assert_eq!(seek(fd, 0, 3), Err(Errno::INVAL));
    assert_eq!(seek(fd, 0, 255), Err(Errno::INVAL));
    assert_eq!(seek(fd, -1, SET), Err(Errno::INVAL));
    assert_eq!(seek(fd, -11, END), Err(Errno::INVAL));
    assert_eq!(seek(fd, i64::MIN, CURRENT), Err(Errno::INVAL));
    assert_eq!(seek(fd, i64::MAX, CURRENT), Err(Errno::INVAL));
    assert_eq!(tell(fd), Ok(10), "a refused seek leaves the position");
    assert_eq!(seek(fd, -3, CURRENT), Ok(7));
    assert_eq!(seek(fd, -10, END), Ok(0));
    assert_eq!(seek(fd, i64::MAX, SET), Ok(i64::MAX as u64));
}
