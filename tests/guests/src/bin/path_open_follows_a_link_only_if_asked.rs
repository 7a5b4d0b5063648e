//! Without `symlink_follow` a symbolic link as the last component is `loop`; one in the middle is always followed.

use guests::{CREATE, Errno, FOLLOW, READ, WRITE, contents, create_with, mkdir, open, open_lookup, scratch, symlink};

fn main() {
    let dir = scratch();
    mkdir(dir, "d").expect("a directory");
    create_with(dir, "d/file", b"found");
    symlink("d", dir, "to-d").expect("a link");
    symlink("file", dir, "d/to-file").expect("a link");
    assert_eq!(open_lookup(dir, 0, "d/to-file", 0, READ, 0), Err(Errno::LOOP));
    assert!(open_lookup(dir, FOLLOW, "d/to-file", 0, READ, 0).is_ok());
    assert_eq!(contents(dir, "to-d/to-file"), Ok(b"found".to_vec()));
    assert!(open_lookup(dir, 0, "to-d/file", 0, READ, 0).is_ok());
    symlink("made", dir, "dangling").expect("a link");
    assert!(open(dir, "dangling", CREATE, READ | WRITE, 0).is_ok());
    assert_eq!(contents(dir, "made"), Ok(Vec::new()), "made through the link");
}
