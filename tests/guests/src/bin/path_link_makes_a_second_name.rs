//! A hard link is the same file; directories have none, and an existing name is `exist`.

use guests::{
    Errno, FOLLOW, TYPE_SYMBOLIC_LINK, contents, create_with, link, mkdir, path_filestat, scratch, symlink, unlink,
};

fn main() {
    let dir = scratch();
    create_with(dir, "a", b"shared");
    assert_eq!(link(dir, 0, "a", "b"), Ok(()));
    assert_eq!(path_filestat(dir, 0, "a"), path_filestat(dir, 0, "b"));
    assert_eq!(unlink(dir, "a"), Ok(()));
    assert_eq!(contents(dir, "b"), Ok(b"shared".to_vec()));
    assert_eq!(path_filestat(dir, 0, "b").map(|stat| stat.nlink), Ok(1));
    assert_eq!(link(dir, 0, "b", "b"), Err(Errno::EXIST));
    assert_eq!(link(dir, 0, "missing", "c"), Err(Errno::NOENT));
    mkdir(dir, "d").expect("a directory");
    assert_eq!(link(dir, 0, "d", "e"), Err(Errno::PERM));
    symlink("b", dir, "link").expect("a link");
    assert_eq!(link(dir, 0, "link", "of-link"), Ok(()));
    assert_eq!(
        path_filestat(dir, 0, "of-link").map(|stat| stat.filetype),
        Ok(TYPE_SYMBOLIC_LINK)
    );
    assert_eq!(link(dir, FOLLOW, "link", "of-file"), Ok(()));
    assert_eq!(
        path_filestat(dir, 0, "of-file").map(|stat| stat.ino),
        path_filestat(dir, 0, "b").map(|stat| stat.ino)
    );
}
