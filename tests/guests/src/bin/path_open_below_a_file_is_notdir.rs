//! A file has nothing below it, and cannot be the directory a path starts from.

use guests::{CREATE, DIRECTORY, Errno, READ, WRITE, create, create_with, open, scratch};

fn main() {
    let dir = scratch();
    create_with(dir, "file", b"");
    assert_eq!(open(dir, "file/below", CREATE, READ | WRITE, 0), Err(Errno::NOTDIR));
    assert_eq!(open(dir, "file/", 0, READ, 0), Err(Errno::NOTDIR));
    assert_eq!(open(dir, "file/.", 0, READ, 0), Err(Errno::NOTDIR));
    assert_eq!(open(dir, "file", DIRECTORY, READ, 0), Err(Errno::NOTDIR));
    assert_eq!(open(create(dir, "file"), "x", 0, READ, 0), Err(Errno::NOTDIR));
    assert_eq!(
        open(0, "x", 0, READ, 0),
        Err(Errno::NOTDIR),
        "standard input is no directory"
    );
}
