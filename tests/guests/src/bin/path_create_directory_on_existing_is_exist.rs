//! A directory is made once; its parent must be there, and a trailing slash is allowed.

use guests::{CLOSED, Errno, create_with, mkdir, open_directory, rmdir, scratch, symlink};

fn main() {
    let dir = scratch();
    assert_eq!(mkdir(dir, "d"), Ok(()));
    assert_eq!(mkdir(dir, "d"), Err(Errno::EXIST));
    assert_eq!(mkdir(dir, "."), Err(Errno::EXIST));
    assert_eq!(mkdir(dir, "/"), Err(Errno::EXIST));
    create_with(dir, "file", b"");
    assert_eq!(mkdir(dir, "file"), Err(Errno::EXIST));
    assert_eq!(mkdir(dir, "file/below"), Err(Errno::NOTDIR));
    assert_eq!(mkdir(dir, "missing/below"), Err(Errno::NOENT));
    symlink("nowhere", dir, "link").expect("a link");
    assert_eq!(mkdir(dir, "link"), Err(Errno::EXIST));
    assert_eq!(mkdir(dir, ""), Err(Errno::NOENT));
    assert_eq!(mkdir(dir, "slash/"), Ok(()));
    let inner = open_directory(dir, "slash").expect("opening");
    assert_eq!(mkdir(inner, "x"), Ok(()));
    assert_eq!(rmdir(dir, "slash/x"), Ok(()));
    assert_eq!(mkdir(CLOSED, "x"), Err(Errno::BADF));
}
