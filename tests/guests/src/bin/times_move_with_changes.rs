//! Writing moves the time of the last change, making an entry that of its directory, `chmod` only that of attributes.

use guests::{chmod, create, filestat, path_filestat, pwrite, scratch, sleep};

fn main() {
    let dir = scratch();
    let fd = create(dir, "file");
    let old = filestat(fd).expect("its attributes");
    sleep(5);
    assert_eq!(chmod("/tmp/file", 0o600), Ok(()));
    let changed = filestat(fd).expect("its attributes");
    assert_eq!(changed.mtim, old.mtim);
    assert!(changed.ctim > old.ctim, "chmod changes the attributes");
    sleep(5);
    assert_eq!(pwrite(fd, b"x", 0), Ok(1));
    let written = filestat(fd).expect("its attributes");
    assert!(
        written.mtim > old.mtim && written.ctim > changed.ctim,
        "writing changes both"
    );
    let directory = path_filestat(dir, 0, ".").expect("its attributes");
    sleep(5);
    create(dir, "second");
    assert!(path_filestat(dir, 0, ".").expect("its attributes").mtim > directory.mtim);
}
