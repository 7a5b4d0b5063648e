//! A child has the descriptors of the request and its preopened root, no other; a closed one cannot be passed.

use guests::{CLOSED, Errno, Start, Status, create, fdstat, pipe, play, read, scratch, write};

fn main() {
    play("child", || {
        assert_eq!(read(0, 9), Ok(b"piped".to_vec()));
        assert_eq!(fdstat(1), Err(Errno::BADF), "not listed");
        for fd in 4..256 {
            assert_eq!(fdstat(fd), Err(Errno::BADF), "descriptor {fd}");
        }
    });
    let (reader, writer) = pipe().expect("a pipe");
    create(scratch(), "not passed on");
    assert_eq!(write(writer, b"piped"), Ok(5));
    let mut start = Start::role("child").descriptor(0, reader);
    start.descriptors.retain(|(child, _)| *child != 1);
    assert_eq!(start.run(), Ok(Status::Exited(0)));
    assert_eq!(Start::role("child").descriptor(5, CLOSED).spawn(), Err(Errno::BADF));
}
