//! `statfs` tells the quota and what is used of it.

use guests::{BAD_ADDRESS, Errno, call, create, mkdir, scratch, statfs, unlink, write};

fn main() {
    let dir = scratch();
    mkdir(dir, "d").expect("a directory");
    let [bytes, used, inodes, inodes_used] = statfs().expect("the usage");
    assert_eq!((bytes, inodes), (64 << 20, 4096));
    let fd = create(dir, "file");
    assert_eq!(write(fd, &vec![1; 1 << 20]), Ok(1 << 20));
    let [_, more, _, more_inodes] = statfs().expect("the usage");
    assert!(more >= used + (1 << 20) && more < used + (2 << 20), "{used} → {more}");
    assert_eq!(more_inodes, inodes_used + 1);
    unlink(dir, "file").expect("unlinking");
    guests::close(fd).expect("closing");
    assert_eq!(statfs().map(|usage| usage[1]), Ok(used));
    assert_eq!(call!(wisp::statfs(BAD_ADDRESS)), Err(Errno::FAULT));
}
