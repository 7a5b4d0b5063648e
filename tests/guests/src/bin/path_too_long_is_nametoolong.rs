//! A component has at most 255 bytes and a path at most 4095.

use guests::{CREATE, Errno, READ, mkdir, open, path_filestat, scratch, symlink};

fn main() {
    let dir = scratch();
    let longest = "n".repeat(255);
    assert!(open(dir, &longest, CREATE, READ, 0).is_ok());
    assert_eq!(open(dir, "n".repeat(256), CREATE, READ, 0), Err(Errno::NAMETOOLONG));
    assert_eq!(mkdir(dir, "n".repeat(256)), Err(Errno::NAMETOOLONG));
    let mut path = "./".repeat(2047);
    assert_eq!(path_filestat(dir, 0, &path).map(|_| ()), Ok(()));
    path.push_str("..");
    assert_eq!(path_filestat(dir, 0, &path), Err(Errno::NAMETOOLONG));
    assert_eq!(symlink("t".repeat(4096), dir, "link"), Err(Errno::NAMETOOLONG));
    assert_eq!(symlink("", dir, "link"), Err(Errno::NOENT));
}
