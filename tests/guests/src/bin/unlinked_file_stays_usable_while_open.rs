//! A file without a name lives as long as it is open, and its space is given back after.

use guests::{close, create, filestat, pread, scratch, statfs, unlink, write};

fn main() {
    let dir = scratch();
    close(create(dir, "other")).expect("closing");
    let before = statfs().expect("the usage");
    let fd = create(dir, "file");
    let bytes = vec![1u8; 1 << 20];
    assert_eq!(write(fd, &bytes), Ok(1 << 20));
    assert_eq!(unlink(dir, "file"), Ok(()));
    assert_eq!(filestat(fd).map(|stat| stat.nlink), Ok(0));
    assert_eq!(write(fd, b"more"), Ok(4));
    assert_eq!(pread(fd, 9, 1 << 20), Ok(b"more".to_vec()));
    assert!(
        statfs().expect("the usage")[1] >= before[1] + (1 << 20),
        "it still takes space"
    );
    assert_eq!(close(fd), Ok(()));
    let after = statfs().expect("the usage");
    assert_eq!((after[1], after[3]), (before[1], before[3]));
}
