//! `path_readlink` gives the target as it was written, as much as fits; what is no link is `inval`.

use guests::{Errno, create_with, readlink, scratch, symlink};

fn main() {
    let dir = scratch();
    let target = "../some//where/./else";
    assert_eq!(symlink(target, dir, "link"), Ok(()));
    assert_eq!(readlink(dir, "link", 100), Ok(target.as_bytes().to_vec()));
    assert_eq!(readlink(dir, "link", 7), Ok(b"../some".to_vec()));
    assert_eq!(symlink("x", dir, "link"), Err(Errno::EXIST));
    create_with(dir, "file", b"");
    assert_eq!(readlink(dir, "file", 9), Err(Errno::INVAL));
    assert_eq!(readlink(dir, ".", 9), Err(Errno::INVAL));
    assert_eq!(readlink(dir, "missing", 9), Err(Errno::NOENT));
}
