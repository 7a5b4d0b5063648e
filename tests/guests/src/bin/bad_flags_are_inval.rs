//! Flag bits that the standard does not have are refused.

use guests::{CREATE, Errno, READ, address, call, create, open, open_lookup, path_filestat, scratch};

fn main() {
    let dir = scratch();
    let fd = create(dir, "file");
    assert_eq!(open(dir, "file", 1 << 4, READ, 0), Err(Errno::INVAL), "oflags");
    assert_eq!(open(dir, "file", CREATE, READ, 1 << 5), Err(Errno::INVAL), "fdflags");
    assert_eq!(
        open_lookup(dir, 2, "file", 0, READ, 0),
        Err(Errno::INVAL),
        "lookupflags"
    );
    assert_eq!(path_filestat(dir, 2, "file"), Err(Errno::INVAL), "lookupflags");
    assert_eq!(
        call!(preview1::fd_fdstat_set_flags(fd, 1 << 5)),
        Err(Errno::INVAL),
        "fdflags"
    );
    assert_eq!(
        call!(preview1::fd_filestat_set_times(fd, 0, 0, 1 << 4)),
        Err(Errno::INVAL),
        "fstflags"
    );
    let name = "file";
    let (path, len) = (address(name), 4);
    assert_eq!(
        call!(preview1::path_filestat_set_times(dir, 0, path, len, 0, 0, 1 << 4)),
        Err(Errno::INVAL),
        "fstflags"
    );
    assert_eq!(
        call!(preview1::path_link(dir, 2, path, len, dir, address("new"), 3)),
        Err(Errno::INVAL),
        "lookupflags"
    );
}
