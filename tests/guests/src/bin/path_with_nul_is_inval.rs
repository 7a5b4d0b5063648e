//! No path may contain NUL, in whichever call.

use guests::{
    CREATE, Errno, READ, create_with, link, mkdir, open, path_filestat, readlink, rename, rmdir, scratch, symlink,
    unlink,
};

fn main() {
    let dir = scratch();
    create_with(dir, "a", b"");
    let path = b"a\0b";
    assert_eq!(open(dir, path, 0, READ, 0), Err(Errno::INVAL));
    assert_eq!(open(dir, path, CREATE, READ, 0), Err(Errno::INVAL));
    assert_eq!(mkdir(dir, path), Err(Errno::INVAL));
    assert_eq!(rmdir(dir, path), Err(Errno::INVAL));
    assert_eq!(unlink(dir, path), Err(Errno::INVAL));
    assert_eq!(rename(dir, path, "b"), Err(Errno::INVAL));
    assert_eq!(rename(dir, "a", path), Err(Errno::INVAL));
    assert_eq!(link(dir, 0, "a", path), Err(Errno::INVAL));
    assert_eq!(symlink(path, dir, "b"), Err(Errno::INVAL));
    assert_eq!(symlink("a", dir, path), Err(Errno::INVAL));
    assert_eq!(readlink(dir, path, 9), Err(Errno::INVAL));
    assert_eq!(path_filestat(dir, 0, path), Err(Errno::INVAL));
}
