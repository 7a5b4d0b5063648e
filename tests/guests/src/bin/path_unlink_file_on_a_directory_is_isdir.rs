//! `path_unlink_file` removes anything but a directory; a link is removed itself.

use guests::{CLOSED, Errno, contents, create_with, mkdir, path_filestat, scratch, symlink, unlink};

fn main() {
    let dir = scratch();
    mkdir(dir, "d").expect("a directory");
    assert_eq!(unlink(dir, "d"), Err(Errno::ISDIR));
    create_with(dir, "file", b"kept");
    symlink("file", dir, "link").expect("a link");
    assert_eq!(unlink(dir, "link"), Ok(()));
    assert_eq!(contents(dir, "file"), Ok(b"kept".to_vec()));
    assert_eq!(unlink(dir, "file/"), Err(Errno::NOTDIR));
    assert_eq!(unlink(dir, "file"), Ok(()));
    assert_eq!(unlink(dir, "file"), Err(Errno::NOENT));
    assert_eq!(path_filestat(dir, 0, "file"), Err(Errno::NOENT));
    assert_eq!(unlink(CLOSED, "file"), Err(Errno::BADF));
}
