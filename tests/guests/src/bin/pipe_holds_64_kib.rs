//! A pipe takes 64 KiB without a reader; a writer that may not wait then gets `again`.

use guests::{Errno, NONBLOCK, call, pipe, read, write};

fn main() {
    let (reader, writer) = pipe().expect("a pipe");
    assert_eq!(call!(preview1::fd_fdstat_set_flags(writer, NONBLOCK)), Ok(()));
    assert_eq!(call!(preview1::fd_fdstat_set_flags(reader, NONBLOCK)), Ok(()));
    assert_eq!(read(reader, 1), Err(Errno::AGAIN));
    assert_eq!(write(writer, &vec![1; 100_000]), Ok(65536), "as much as fits");
    assert_eq!(write(writer, b"x"), Err(Errno::AGAIN));
    assert_eq!(read(reader, 10), Ok(vec![1; 10]));
    assert_eq!(write(writer, &[2; 11]), Err(Errno::AGAIN), "small writes are not split");
    assert_eq!(write(writer, &[2; 10]), Ok(10));
}
