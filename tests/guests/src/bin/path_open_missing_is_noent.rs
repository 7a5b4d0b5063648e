//! Opening what is not there, or is below what is not there, is `noent`; so is the empty path.

use guests::{CREATE, Errno, READ, WRITE, open, scratch};

fn main() {
    let dir = scratch();
    assert_eq!(open(dir, "missing", 0, READ, 0), Err(Errno::NOENT));
    assert_eq!(open(dir, "missing/file", CREATE, READ | WRITE, 0), Err(Errno::NOENT));
    assert_eq!(open(dir, "", 0, READ, 0), Err(Errno::NOENT));
}
