//! A directory cannot be opened to be written or cut.

use guests::{CREATE, Errno, READ, TRUNC, WRITE, mkdir, open, scratch, write};

fn main() {
    let dir = scratch();
    assert_eq!(mkdir(dir, "d"), Ok(()));
    assert_eq!(open(dir, "d", 0, WRITE, 0), Err(Errno::ISDIR));
    assert_eq!(open(dir, "d", CREATE, READ | WRITE, 0), Err(Errno::ISDIR));
    assert_eq!(open(dir, "d", TRUNC, READ | WRITE, 0), Err(Errno::ISDIR));
    let fd = open(dir, "d", 0, READ, 0).expect("opening it for reading");
    assert_eq!(write(fd, b"x"), Err(Errno::ISDIR));
}
