//! Pipes and consoles have no position.

use guests::{CURRENT, Errno, SET, pipe, pread, pwrite, seek, tell};

fn main() {
    let (reader, writer) = pipe().expect("a pipe");
    for fd in [reader, writer, 0, 1] {
        assert_eq!(seek(fd, 0, CURRENT), Err(Errno::SPIPE), "descriptor {fd}");
        assert_eq!(seek(fd, 0, SET), Err(Errno::SPIPE), "descriptor {fd}");
        assert_eq!(tell(fd), Err(Errno::SPIPE), "descriptor {fd}");
    }
    assert_eq!(pread(reader, 1, 0), Err(Errno::SPIPE));
    assert_eq!(pwrite(writer, b"x", 0), Err(Errno::SPIPE));
}
