//! `fd_allocate` makes the file long enough and keeps what is in it.

use guests::{CLOSED, Errno, call, create, filestat, pread, scratch, write};

fn main() {
    let fd = create(scratch(), "file");
    assert_eq!(write(fd, b"abc"), Ok(3));
    assert_eq!(call!(preview1::fd_allocate(fd, 0, 100)), Ok(()));
    assert_eq!(filestat(fd).map(|stat| stat.size), Ok(100));
    assert_eq!(call!(preview1::fd_allocate(fd, 10, 10)), Ok(()));
    assert_eq!(filestat(fd).map(|stat| stat.size), Ok(100), "it never cuts");
    assert_eq!(pread(fd, 4, 0), Ok(b"abc\0".to_vec()));
    assert_eq!(call!(preview1::fd_allocate(fd, 0, 0)), Err(Errno::INVAL));
    assert_eq!(call!(preview1::fd_allocate(fd, u64::MAX, u64::MAX)), Err(Errno::FBIG));
    assert_eq!(call!(preview1::fd_allocate(fd, 0, 1 << 40)), Err(Errno::NOSPC));
    assert_eq!(
        filestat(fd).map(|stat| stat.size),
        Ok(100),
        "a refused one changes nothing"
    );
    assert_eq!(call!(preview1::fd_allocate(CLOSED, 0, 1)), Err(Errno::BADF));
}
