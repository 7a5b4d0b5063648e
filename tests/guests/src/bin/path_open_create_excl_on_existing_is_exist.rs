//! `O_CREAT | O_EXCL` on a file that exists is `exist`, also on a link that leads nowhere.

use guests::{CREATE, EXCL, Errno, READ, WRITE, create_with, open, scratch, symlink};

fn main() {
    let dir = scratch();
    create_with(dir, "file", b"kept");
    assert_eq!(open(dir, "file", CREATE | EXCL, READ | WRITE, 0), Err(Errno::EXIST));
    assert_eq!(symlink("nowhere", dir, "link"), Ok(()));
    assert_eq!(open(dir, "link", CREATE | EXCL, READ | WRITE, 0), Err(Errno::EXIST));
    assert_eq!(open(dir, ".", CREATE | EXCL, READ | WRITE, 0), Err(Errno::EXIST));
    assert!(open(dir, "new", CREATE | EXCL, READ | WRITE, 0).is_ok());
}
