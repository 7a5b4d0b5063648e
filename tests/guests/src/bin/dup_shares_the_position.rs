//! Duplicated descriptors are one open file: position and flags are shared, closing one leaves the other.

use guests::{APPEND, CLOSED, Errno, call, close, create, dup, fdstat, scratch, tell, write};

fn main() {
    let fd = create(scratch(), "file");
    let second = dup(fd, 0).expect("duplicating");
    assert_ne!(fd, second);
    assert_eq!(write(fd, b"abc"), Ok(3));
    assert_eq!(tell(second), Ok(3));
    assert_eq!(call!(preview1::fd_fdstat_set_flags(second, APPEND)), Ok(()));
    assert_eq!(fdstat(fd).map(|stat| stat.flags), Ok(1));
    assert_eq!(close(fd), Ok(()));
    assert_eq!(tell(second), Ok(3));
    assert_eq!(dup(second, 40), Ok(40));
    assert_eq!(dup(second, 40), Ok(41), "the lowest free number from 40 on");
    assert_eq!(dup(CLOSED, 0), Err(Errno::BADF));
    assert_eq!(dup(second, 256), Err(Errno::MFILE));
    assert_eq!(dup(second, u32::MAX), Err(Errno::MFILE));
}
