//! `fd_fdstat_set_flags` turns appending on and off for an open file.

use guests::{APPEND, CLOSED, Errno, SET, call, contents, create, fdstat, scratch, seek, write};

fn main() {
    let dir = scratch();
    let fd = create(dir, "file");
    assert_eq!(write(fd, b"abc"), Ok(3));
    assert_eq!(call!(preview1::fd_fdstat_set_flags(fd, APPEND)), Ok(()));
    assert_eq!(fdstat(fd).map(|stat| stat.flags), Ok(1));
    assert_eq!(seek(fd, 0, SET), Ok(0));
    assert_eq!(write(fd, b"d"), Ok(1));
    assert_eq!(call!(preview1::fd_fdstat_set_flags(fd, 0)), Ok(()));
    assert_eq!(seek(fd, 0, SET), Ok(0));
    assert_eq!(write(fd, b"A"), Ok(1));
    assert_eq!(contents(dir, "file"), Ok(b"Abcd".to_vec()));
    assert_eq!(call!(preview1::fd_fdstat_set_flags(CLOSED, 0)), Err(Errno::BADF));
}
