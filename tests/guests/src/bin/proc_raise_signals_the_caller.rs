//! `proc_raise` sends the process a signal: a deadly one ends it, others do not, unknown ones are `inval`.

use guests::{Errno, IGNORE, SIGTERM, Start, Status, call, play, sigaction};

fn main() {
    play("raise", || {
        let answer = call!(preview1::proc_raise(SIGTERM));
        panic!("it went on: {answer:?}");
    });
    assert_eq!(Start::role("raise").run(), Ok(Status::Killed(SIGTERM)));
    assert_eq!(sigaction(SIGTERM, IGNORE), Ok(()));
    assert_eq!(call!(preview1::proc_raise(SIGTERM)), Ok(()));
    assert_eq!(call!(preview1::proc_raise(0)), Ok(()));
    assert_eq!(call!(preview1::proc_raise(32)), Err(Errno::INVAL));
    assert_eq!(call!(preview1::proc_raise(u32::MAX)), Err(Errno::INVAL));
}
