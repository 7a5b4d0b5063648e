//! What is cut off is gone: extending again shows zeros. The position stays.

use guests::{Errno, READ, call, create, filestat, open, pipe, pread, scratch, tell, write};

fn main() {
    let dir = scratch();
    let fd = create(dir, "file");
    assert_eq!(write(fd, b"0123456789"), Ok(10));
    assert_eq!(call!(preview1::fd_filestat_set_size(fd, 4)), Ok(()));
    assert_eq!(filestat(fd).map(|stat| stat.size), Ok(4));
    assert_eq!(call!(preview1::fd_filestat_set_size(fd, 8)), Ok(()));
    assert_eq!(pread(fd, 20, 0), Ok(b"0123\0\0\0\0".to_vec()));
    assert_eq!(tell(fd), Ok(10));
    let reading = open(dir, "file", 0, READ, 0).expect("opening");
    assert_eq!(call!(preview1::fd_filestat_set_size(reading, 1)), Err(Errno::INVAL));
    let (_reader, writer) = pipe().expect("a pipe");
    assert_eq!(call!(preview1::fd_filestat_set_size(writer, 1)), Err(Errno::INVAL));
    assert_eq!(call!(preview1::fd_filestat_set_size(dir, 1)), Err(Errno::ISDIR));
}
