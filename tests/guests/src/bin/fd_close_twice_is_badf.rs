//! A closed descriptor is `badf` in every call, and its number is free again.

use guests::{Errno, call, close, create, fdstat, filestat, fstat, read, readdir, scratch, seek, tell, write};

fn main() {
    let dir = scratch();
    let fd = create(dir, "file");
    assert_eq!(close(fd), Ok(()));
    assert_eq!(close(fd), Err(Errno::BADF));
    assert_eq!(close(u32::MAX), Err(Errno::BADF));
    assert_eq!(read(fd, 1), Err(Errno::BADF));
    assert_eq!(write(fd, b"x"), Err(Errno::BADF));
    assert_eq!(seek(fd, 0, 0), Err(Errno::BADF));
    assert_eq!(tell(fd), Err(Errno::BADF));
    assert_eq!(fdstat(fd), Err(Errno::BADF));
    assert_eq!(filestat(fd), Err(Errno::BADF));
    assert_eq!(fstat(fd), Err(Errno::BADF));
    assert_eq!(readdir(fd, 0, 64), Err(Errno::BADF));
    assert_eq!(call!(preview1::fd_filestat_set_size(fd, 0)), Err(Errno::BADF));
    assert_eq!(call!(preview1::fd_filestat_set_times(fd, 0, 0, 0)), Err(Errno::BADF));
    assert_eq!(call!(preview1::fd_fdstat_set_rights(fd, 0, 0)), Err(Errno::BADF));
    assert_eq!(create(dir, "other"), fd, "the lowest free number is given next");
}
