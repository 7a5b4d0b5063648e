//! `..` in the root is the root, from any directory and through any link.

use guests::{FOLLOW, ROOT, contents, create_with, path_filestat, scratch, symlink};

fn main() {
    let dir = scratch();
    create_with(dir, "file", b"inside");
    let root = path_filestat(ROOT, 0, ".").expect("the root");
    assert_eq!(path_filestat(ROOT, 0, "..").map(|stat| stat.ino), Ok(root.ino));
    assert_eq!(path_filestat(dir, 0, "../../../..").map(|stat| stat.ino), Ok(root.ino));
    assert_eq!(contents(dir, "../../../tmp/file"), Ok(b"inside".to_vec()));
    symlink("../../../../..", dir, "up").expect("a link");
    assert_eq!(path_filestat(dir, FOLLOW, "up").map(|stat| stat.ino), Ok(root.ino));
    assert_eq!(path_filestat(dir, FOLLOW, "/..").map(|stat| stat.ino), Ok(root.ino));
}
