//! `chmod` and `fchmod` set the twelve bits and leave the type; a link is followed only if asked.

use guests::{CLOSED, Errno, address, call, chmod, create, pipe, scratch, stat, symlink};

fn main() {
    let dir = scratch();
    let fd = create(dir, "file");
    assert_eq!(chmod("/tmp/file", 0o4711), Ok(()));
    assert_eq!(stat("/tmp/file", 1).map(|stat| stat.mode), Ok(0o104_711));
    assert_eq!(call!(wisp::fchmod(fd, 0o640)), Ok(()));
    assert_eq!(stat("/tmp/file", 1).map(|stat| stat.mode), Ok(0o100_640));
    assert_eq!(chmod("/tmp/file", u32::MAX), Ok(()));
    assert_eq!(stat("/tmp/file", 1).map(|stat| stat.mode), Ok(0o107_777));
    symlink("file", dir, "link").expect("a link");
    assert_eq!(chmod("/tmp/link", 0o600), Ok(()));
    assert_eq!(
        stat("/tmp/file", 1).map(|stat| stat.mode),
        Ok(0o100_600),
        "through the link"
    );
    assert_eq!(chmod("/tmp/missing", 0o600), Err(Errno::NOENT));
    assert_eq!(chmod("tmp/file", 0o600), Err(Errno::INVAL), "a relative path");
    assert_eq!(chmod("/proc/self/stat", 0o600), Err(Errno::PERM));
    assert_eq!(call!(wisp::fchmod(CLOSED, 0o600)), Err(Errno::BADF));
    let (reader, _writer) = pipe().expect("a pipe");
    assert!(call!(wisp::fchmod(reader, 0o600)).is_err());
    assert_eq!(call!(wisp::chmod(address("/x\0"), 3, 1, 0)), Err(Errno::INVAL));
}
