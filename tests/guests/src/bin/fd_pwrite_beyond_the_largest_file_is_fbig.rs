//! No offset makes a file larger than files can be.

use guests::{Errno, SET, call, create, filestat, pwrite, scratch, seek, write};

fn main() {
    let fd = create(scratch(), "file");
    for offset in [u64::MAX, u64::MAX - 1, i64::MAX as u64, 1 << 62] {
        assert_eq!(pwrite(fd, b"abc", offset), Err(Errno::FBIG), "at {offset:#x}");
    }
    assert_eq!(seek(fd, i64::MAX, SET), Ok(i64::MAX as u64));
    assert_eq!(write(fd, b"x"), Err(Errno::FBIG));
    for size in [u64::MAX, i64::MAX as u64] {
        assert_eq!(
            call!(preview1::fd_filestat_set_size(fd, size)),
            Err(Errno::FBIG),
            "{size:#x}"
        );
    }
    assert_eq!(filestat(fd).map(|stat| stat.size), Ok(0));
}
