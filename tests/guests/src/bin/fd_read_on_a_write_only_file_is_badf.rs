//! Reading needs the right to read, writing the right to write.

use guests::{CREATE, Errno, READ, WRITE, create_with, fdstat, open, pread, pwrite, read, scratch, write};

fn main() {
    let dir = scratch();
    let writing = open(dir, "file", CREATE, WRITE, 0).expect("opening");
    assert_eq!(write(writing, b"abc"), Ok(3));
    assert_eq!(read(writing, 3), Err(Errno::BADF));
    assert_eq!(pread(writing, 3, 0), Err(Errno::BADF));
    let reading = open(dir, "file", 0, READ, 0).expect("opening");
    assert_eq!(write(reading, b"x"), Err(Errno::BADF));
    assert_eq!(pwrite(reading, b"x", 0), Err(Errno::BADF));
    assert_eq!(fdstat(reading).map(|stat| stat.rights_base & (READ | WRITE)), Ok(READ));
    create_with(dir, "other", b"");
}
