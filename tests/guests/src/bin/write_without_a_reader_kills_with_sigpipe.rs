//! Writing to a pipe nobody reads ends the process by signal 13, unless it ignores or catches that.

use guests::{CATCH, Errno, IGNORE, SIGPIPE, Start, Status, close, pipe, play, sigaction, sigpending, write};

fn broken() -> u32 {
    let (reader, writer) = pipe().expect("a pipe");
    close(reader).expect("closing");
    writer
}

fn main() {
    play("default", || panic!("it went on: {:?}", write(broken(), b"x")));
    assert_eq!(Start::role("default").run(), Ok(Status::Killed(SIGPIPE)));
    assert_eq!(sigaction(SIGPIPE, IGNORE), Ok(()));
    assert_eq!(write(broken(), b"x"), Err(Errno::PIPE));
    assert_eq!(sigpending(), Ok(0));
    assert_eq!(sigaction(SIGPIPE, CATCH), Ok(()));
    assert_eq!(write(broken(), b"x"), Err(Errno::PIPE));
    assert_eq!(sigpending(), Ok(1 << SIGPIPE));
}
