//! Files are in memory: both have nothing to do.

use guests::{CLOSED, Errno, call, create, scratch};

fn main() {
    let dir = scratch();
    for fd in [create(dir, "file"), dir] {
        assert_eq!(call!(preview1::fd_sync(fd)), Ok(()));
        assert_eq!(call!(preview1::fd_datasync(fd)), Ok(()));
    }
    assert_eq!(call!(preview1::fd_sync(CLOSED)), Err(Errno::BADF));
    assert_eq!(call!(preview1::fd_datasync(u32::MAX)), Err(Errno::BADF));
}
