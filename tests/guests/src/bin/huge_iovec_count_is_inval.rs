//! More than 1024 buffers in one call are refused, whatever the count would make of the address.

use guests::{Errno, Vector, address, call, create, pipe, scratch};

fn main() {
    let fd = create(scratch(), "file");
    let (reader, writer) = pipe().expect("a pipe");
    let vectors = vec![Vector { address: 0, len: 0 }; 1024];
    let (table, mut count) = (address(vectors.as_ptr()), 0u32);
    let out = address(&raw mut count);
    for excessive in [1025, 1 << 29, u32::MAX] {
        assert_eq!(call!(preview1::fd_read(fd, table, excessive, out)), Err(Errno::INVAL));
        assert_eq!(call!(preview1::fd_write(fd, table, excessive, out)), Err(Errno::INVAL));
        assert_eq!(
            call!(preview1::fd_pread(fd, table, excessive, 0, out)),
            Err(Errno::INVAL)
        );
        assert_eq!(
            call!(preview1::fd_pwrite(fd, table, excessive, 0, out)),
            Err(Errno::INVAL)
        );
        assert_eq!(
            call!(preview1::fd_read(reader, table, excessive, out)),
            Err(Errno::INVAL)
        );
        assert_eq!(
            call!(preview1::fd_write(writer, table, excessive, out)),
            Err(Errno::INVAL)
        );
        assert_eq!(call!(preview1::fd_write(1, table, excessive, out)), Err(Errno::INVAL));
    }
    assert_eq!(call!(preview1::fd_write(fd, table, 1024, out)), Ok(()));
}
