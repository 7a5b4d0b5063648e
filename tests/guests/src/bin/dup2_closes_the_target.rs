//! `dup2` puts a descriptor over another; onto itself it does nothing, even to a closed one it is `badf`.

use guests::{CLOSED, Errno, Until, call, create, pipe, poll, scratch, tell, write};

fn main() {
    let dir = scratch();
    let fd = create(dir, "file");
    assert_eq!(write(fd, b"abc"), Ok(3));
    let (reader, writer) = pipe().expect("a pipe");
    assert_eq!(call!(wisp::dup2(fd, writer)), Ok(()));
    assert_eq!(tell(writer), Ok(3));
    assert!(
        poll(&[Until::Readable(reader)]).expect("polling")[0].hangup,
        "the last writer was closed"
    );
    assert_eq!(call!(wisp::dup2(fd, 99)), Ok(()));
    assert_eq!(tell(99), Ok(3));
    assert_eq!(call!(wisp::dup2(fd, fd)), Ok(()));
    assert_eq!(tell(fd), Ok(3));
    assert_eq!(call!(wisp::dup2(CLOSED, CLOSED)), Err(Errno::BADF));
    assert_eq!(call!(wisp::dup2(fd, 256)), Err(Errno::MFILE));
    assert_eq!(call!(wisp::dup2(fd, u32::MAX)), Err(Errno::MFILE));
}
