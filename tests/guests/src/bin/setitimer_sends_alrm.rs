//! A timer sends ALRM after its time, and again if it has an interval: it interrupts calls, is recorded for a busy
//! program and ends one that does not catch it. It stays across `exec`; children have none.

use guests::{
    ANY, CATCH, Errno, MONOTONIC, SIGALRM, Start, Status, Until, fork, play, poll, setitimer, sigaction, sigpending,
    wait,
};

/// Leaves the timer as it is.
const ASK: u64 = u64::MAX;
const HOUR: u64 = 3_600_000_000;

fn sleep_long() {
    assert_eq!(poll(&[Until::Passed(MONOTONIC, 60_000_000_000)]), Err(Errno::INTR));
    assert_eq!(sigpending(), Ok(1 << SIGALRM));
}

fn has_no_timer() {
    assert_eq!(setitimer(ASK, 0), Ok([0, 0]));
}

fn main() {
    play("dies", || {
        setitimer(20_000, 0).expect("setting");
        panic!("it lives: {:?}", poll(&[Until::Passed(MONOTONIC, 60_000_000_000)]));
    });
    play("is replaced", || {
        setitimer(200_000, 0).expect("setting");
        panic!("exec failed: {:?}", Start::role("sleeps").exec());
    });
    play("sleeps", || {
        panic!("it lives: {:?}", poll(&[Until::Passed(MONOTONIC, 60_000_000_000)]));
    });
    play("child", has_no_timer);

    sigaction(SIGALRM, CATCH).expect("catching");
    assert_eq!(setitimer(20_000, 15_000), Ok([0, 0]));
    sleep_long();
    sleep_long();
    // For a program that only computes it is recorded.
    while sigpending() == Ok(0) {}
    let [left, interval] = setitimer(HOUR, 0).expect("setting");
    assert!((1..=15_000).contains(&left) && interval == 15_000, "{left} {interval}");
    let [left, interval] = setitimer(ASK, 7).expect("asking");
    assert!((1..=HOUR).contains(&left) && interval == 0, "{left} {interval}");

    fork(has_no_timer, &[]).expect("forking");
    assert_eq!(wait(ANY, 0).map(|(_, status)| status), Ok(Status::Exited(0)));
    assert_eq!(Start::role("child").run(), Ok(Status::Exited(0)));
    assert_eq!(Start::role("dies").run(), Ok(Status::Killed(SIGALRM)));
    assert_eq!(Start::role("is replaced").run(), Ok(Status::Killed(SIGALRM)));

    let [left, _] = setitimer(0, 0).expect("stopping");
    assert!((1..=HOUR).contains(&left), "{left}");
    assert_eq!(setitimer(ASK, 0), Ok([0, 0]));
    assert!(setitimer(ASK - 1, ASK).is_ok(), "any time will do");
}
