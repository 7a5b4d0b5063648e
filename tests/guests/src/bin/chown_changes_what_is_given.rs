//! `chown` sets owner and group; 0xffffffff leaves one as it is.

use guests::{Answer, Errno, address, call, create, scratch, stat, symlink};

fn chown(path: &str, follow: u32, uid: u32, gid: u32) -> Answer {
    call!(wisp::chown(address(path), path.len() as u32, follow, uid, gid))
}

fn main() {
    let dir = scratch();
    create(dir, "file");
    symlink("file", dir, "link").expect("a link");
    let owner = |path, follow| stat(path, follow).map(|stat| (stat.uid, stat.gid));
    assert_eq!(owner("/tmp/file", 1), Ok((0, 0)));
    assert_eq!(chown("/tmp/file", 1, 5, u32::MAX), Ok(()));
    assert_eq!(chown("/tmp/link", 1, u32::MAX, 6), Ok(()));
    assert_eq!(owner("/tmp/file", 1), Ok((5, 6)));
    assert_eq!(chown("/tmp/link", 0, 7, 8), Ok(()));
    assert_eq!(owner("/tmp/link", 0), Ok((7, 8)), "the link itself");
    assert_eq!(owner("/tmp/link", 1), Ok((5, 6)));
    assert_eq!(chown("/tmp/missing", 1, 0, 0), Err(Errno::NOENT));
    assert_eq!(chown("file", 1, 0, 0), Err(Errno::INVAL));
}
