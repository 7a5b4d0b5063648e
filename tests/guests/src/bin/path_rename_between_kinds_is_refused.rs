//! A file does not replace a directory, nor a directory a file, and no directory moves into itself.

use guests::{CLOSED, Errno, ROOT, create_with, mkdir, rename, rename_between, scratch};

fn main() {
    let dir = scratch();
    mkdir(dir, "d").expect("a directory");
    create_with(dir, "file", b"");
    assert_eq!(rename(dir, "file", "d"), Err(Errno::ISDIR));
    assert_eq!(rename(dir, "d", "file"), Err(Errno::NOTDIR));
    assert_eq!(rename(dir, "d", "d/inside"), Err(Errno::INVAL));
    mkdir(dir, "d/e").expect("a directory");
    assert_eq!(rename(dir, "d", "d/e/f"), Err(Errno::INVAL));
    assert_eq!(rename(dir, "d/e", "d"), Err(Errno::NOTEMPTY));
    assert_eq!(rename(dir, "missing", "x"), Err(Errno::NOENT));
    assert_eq!(rename(dir, "file", "missing/x"), Err(Errno::NOENT));
    assert_eq!(rename(dir, "file", "new/"), Err(Errno::NOTDIR));
    assert_eq!(rename(dir, "d/.", "x"), Err(Errno::BUSY));
    assert_eq!(rename(ROOT, "/", "x"), Err(Errno::BUSY));
    assert_eq!(rename_between(CLOSED, "file", dir, "x"), Err(Errno::BADF));
    assert_eq!(rename_between(dir, "file", CLOSED, "x"), Err(Errno::BADF));
}
