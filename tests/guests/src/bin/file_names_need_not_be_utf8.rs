//! A name is bytes: what is no UTF-8 is kept, listed and found as it is.

use guests::{TYPE_REGULAR_FILE, contents, create_with, readdir, scratch, unlink};

fn main() {
    let dir = scratch();
    let name = b"\xff\xfe \n\t\x01name";
    create_with(dir, name, b"here");
    assert_eq!(contents(dir, name), Ok(b"here".to_vec()));
    let (entries, _) = readdir(dir, 0, 4096).expect("listing");
    let entry = entries.iter().find(|entry| entry.name == name).expect("it is listed");
    assert_eq!(entry.filetype, TYPE_REGULAR_FILE);
    assert_eq!(unlink(dir, name), Ok(()));
}
