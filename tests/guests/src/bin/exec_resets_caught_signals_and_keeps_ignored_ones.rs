//! The new program starts without recorded signals, with caught ones at their default and ignored ones ignored.

use guests::{
    CATCH, DEFAULT, IGNORE, SIGINT, SIGTERM, SIGUSR1, Start, Status, getpid, kill, play, sigaction, sigpending,
};

fn main() {
    play("before", || {
        let own = getpid().expect("the numbers")[0] as i32;
        sigaction(SIGTERM, CATCH).expect("catching");
        sigaction(SIGUSR1, CATCH).expect("catching");
        sigaction(SIGINT, IGNORE).expect("ignoring");
        kill(own, SIGUSR1).expect("signalling");
        panic!("exec failed: {:?}", Start::role("after").exec());
    });
    play("after", || {
        let own = getpid().expect("the numbers")[0] as i32;
        assert_eq!(sigpending(), Ok(0), "recorded for the old program");
        assert_eq!(kill(own, SIGINT), Ok(()), "still ignored");
        panic!("the default did not come back: {:?}", kill(own, SIGTERM));
    });
    assert_eq!(sigaction(SIGTERM, DEFAULT), Ok(()));
    assert_eq!(Start::role("before").run(), Ok(Status::Killed(SIGTERM)));
}
