//! The 257th descriptor is `mfile`, in every call that opens one, and nothing is opened or made half.

use guests::{CREATE, EXCL, Errno, READ, WRITE, close, dup, names, open, pipe, scratch};

fn main() {
    let dir = scratch();
    let mut last = dir;
    while let Ok(fd) = dup(dir, 0) {
        last = fd;
    }
    assert_eq!(last, 255);
    assert_eq!(dup(dir, 0), Err(Errno::MFILE));
    assert_eq!(pipe(), Err(Errno::MFILE));
    assert_eq!(open(dir, ".", 0, READ, 0), Err(Errno::MFILE));
    assert_eq!(open(dir, "new", CREATE | EXCL, READ | WRITE, 0), Err(Errno::MFILE));
    close(200).expect("closing");
    assert_eq!(pipe(), Err(Errno::MFILE), "room for one end is not enough");
    assert_eq!(open(dir, ".", 0, READ, 0), Ok(200));
    assert_eq!(
        names(dir, 4096),
        Ok(vec![]),
        "no file was made for want of a descriptor"
    );
}
