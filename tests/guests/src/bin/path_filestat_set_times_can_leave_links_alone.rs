//! With `symlink_follow` the target's times change, without it the link's.

use guests::{Errno, FOLLOW, address, call, create_with, path_filestat, scratch, symlink};

const MTIM: u32 = 4;

fn set(dir: u32, lookup: u32, path: &str, time: u64) -> Result<(), Errno> {
    call!(preview1::path_filestat_set_times(
        dir,
        lookup,
        address(path),
        path.len() as u32,
        0,
        time,
        MTIM
    ))
}

fn main() {
    let dir = scratch();
    create_with(dir, "file", b"");
    symlink("file", dir, "link").expect("a link");
    assert_eq!(set(dir, FOLLOW, "link", 7), Ok(()));
    assert_eq!(set(dir, 0, "link", 8), Ok(()));
    assert_eq!(path_filestat(dir, 0, "file").map(|stat| stat.mtim), Ok(7));
    assert_eq!(path_filestat(dir, 0, "link").map(|stat| stat.mtim), Ok(8));
    assert_eq!(set(dir, FOLLOW, "missing", 9), Err(Errno::NOENT));
}
