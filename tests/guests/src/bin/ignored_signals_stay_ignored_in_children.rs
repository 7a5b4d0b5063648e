//! A spawned program ignores what its parent ignored; what the parent caught is at its default.

use guests::{CATCH, IGNORE, SIGINT, SIGTERM, Start, Status, getpid, kill, play, sigaction};

fn main() {
    play("child", || {
        let own = getpid().expect("the numbers")[0] as i32;
        assert_eq!(kill(own, SIGINT), Ok(()), "ignored");
        panic!("it went on: {:?}", kill(own, SIGTERM));
    });
    sigaction(SIGINT, IGNORE).expect("ignoring");
    sigaction(SIGTERM, CATCH).expect("catching");
    assert_eq!(Start::role("child").run(), Ok(Status::Killed(SIGTERM)));
}
