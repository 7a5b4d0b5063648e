//! Renaming a file onto itself, or onto another link of the same file, succeeds and does nothing.

use guests::{contents, create_with, link, mkdir, path_filestat, rename, scratch};

fn main() {
    let dir = scratch();
    create_with(dir, "a", b"kept");
    assert_eq!(rename(dir, "a", "a"), Ok(()));
    assert_eq!(rename(dir, "a", "./a"), Ok(()));
    link(dir, 0, "a", "b").expect("a link");
    assert_eq!(rename(dir, "a", "b"), Ok(()));
    assert_eq!(
        path_filestat(dir, 0, "a").map(|stat| stat.nlink),
        Ok(2),
        "both names stay"
    );
    assert_eq!(contents(dir, "b"), Ok(b"kept".to_vec()));
    mkdir(dir, "d").expect("a directory");
    assert_eq!(rename(dir, "d", "d"), Ok(()));
}
