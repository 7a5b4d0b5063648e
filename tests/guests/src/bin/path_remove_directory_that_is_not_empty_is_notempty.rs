//! Only an empty directory is removed, by its own name, and not the root.

use guests::{CLOSED, Errno, ROOT, create_with, mkdir, rmdir, scratch, symlink, unlink};

fn main() {
    let dir = scratch();
    mkdir(dir, "d").expect("a directory");
    create_with(dir, "d/file", b"");
    assert_eq!(rmdir(dir, "d"), Err(Errno::NOTEMPTY));
    assert_eq!(rmdir(dir, "d/file"), Err(Errno::NOTDIR));
    assert_eq!(rmdir(dir, "missing"), Err(Errno::NOENT));
    assert_eq!(rmdir(dir, "d/."), Err(Errno::INVAL));
    assert_eq!(rmdir(dir, "d/.."), Err(Errno::NOTEMPTY));
    assert_eq!(rmdir(ROOT, "/"), Err(Errno::BUSY));
    assert_eq!(rmdir(ROOT, "proc"), Err(Errno::BUSY));
    symlink("d", dir, "link").expect("a link");
    assert_eq!(rmdir(dir, "link"), Err(Errno::NOTDIR));
    unlink(dir, "d/file").expect("unlinking");
    assert_eq!(rmdir(dir, "d"), Ok(()));
    assert_eq!(rmdir(CLOSED, "d"), Err(Errno::BADF));
}
