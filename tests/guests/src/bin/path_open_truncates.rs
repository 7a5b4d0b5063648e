//! `O_TRUNC` cuts an existing file to nothing, at the moment it is opened.

use guests::{READ, TRUNC, WRITE, contents, create_with, open, path_filestat, scratch};

fn main() {
    let dir = scratch();
    create_with(dir, "file", b"some bytes");
    open(dir, "file", TRUNC, READ | WRITE, 0).expect("opening");
    assert_eq!(path_filestat(dir, 0, "file").map(|stat| stat.size), Ok(0));
    assert_eq!(contents(dir, "file"), Ok(Vec::new()));
}
