//! Links that lead to each other end in `loop`, and so do more than forty links in a row.

use guests::{Errno, FOLLOW, READ, create_with, open, path_filestat, scratch, symlink};

fn main() {
    let dir = scratch();
    symlink("b", dir, "a").expect("a link");
    symlink("a", dir, "b").expect("a link");
    assert_eq!(open(dir, "a", 0, READ, 0), Err(Errno::LOOP));
    assert_eq!(path_filestat(dir, FOLLOW, "a/x"), Err(Errno::LOOP));
    assert!(path_filestat(dir, 0, "a").is_ok(), "the link itself is there");
    create_with(dir, "0", b"end");
    for number in 1..=41u32 {
        symlink((number - 1).to_string(), dir, number.to_string()).expect("a link");
    }
    assert!(path_filestat(dir, FOLLOW, "40").is_ok());
    assert_eq!(path_filestat(dir, FOLLOW, "41"), Err(Errno::LOOP));
}
