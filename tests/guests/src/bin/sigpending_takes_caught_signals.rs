//! A caught signal is recorded until it is asked for, an ignored one is lost, a harmless one does nothing by default.

use guests::{
    BAD_ADDRESS, CATCH, Errno, IGNORE, SIGCHLD, SIGINT, SIGTERM, SIGUSR1, call, getpid, kill, sigaction, sigpending,
};

fn main() {
    let own = getpid().expect("the numbers")[0] as i32;
    assert_eq!(sigaction(SIGTERM, CATCH), Ok(()));
    assert_eq!(sigaction(SIGUSR1, CATCH), Ok(()));
    assert_eq!(sigaction(SIGINT, IGNORE), Ok(()));
    for signal in [SIGTERM, SIGTERM, SIGUSR1, SIGINT, SIGCHLD] {
        assert_eq!(kill(own, signal), Ok(()));
    }
    assert_eq!(call!(wisp::sigpending(BAD_ADDRESS)), Err(Errno::FAULT));
    assert_eq!(
        sigpending(),
        Ok(1 << SIGTERM | 1 << SIGUSR1),
        "a bad address takes none"
    );
    assert_eq!(sigpending(), Ok(0));
}
