//! A directory replaces only an empty directory.

use guests::{Errno, create_with, mkdir, path_filestat, rename, scratch, unlink};

fn main() {
    let dir = scratch();
    mkdir(dir, "from").expect("a directory");
    create_with(dir, "from/moved", b"");
    mkdir(dir, "to").expect("a directory");
    create_with(dir, "to/file", b"");
    assert_eq!(rename(dir, "from", "to"), Err(Errno::NOTEMPTY));
    unlink(dir, "to/file").expect("unlinking");
    assert_eq!(rename(dir, "from", "to"), Ok(()));
    assert!(path_filestat(dir, 0, "to/moved").is_ok());
    assert_eq!(path_filestat(dir, 0, "from"), Err(Errno::NOENT));
}
