//! A caught signal makes a blocked read, write, poll or wait return `intr`.

use std::sync::atomic::{AtomicU32, Ordering};

use guests::{
    ANY, CATCH, Errno, MONOTONIC, SIGKILL, SIGUSR1, Start, Until, fork, getpid, kill, pipe, play, poll, read,
    sigaction, sigpending, sleep, wait, write,
};

static TARGET: AtomicU32 = AtomicU32::new(0);

fn signal_soon() {
    sleep(20);
    kill(TARGET.load(Ordering::Relaxed) as i32, SIGUSR1).expect("signalling");
}

fn interrupted<T: std::fmt::Debug + PartialEq>(what: &str, call: impl FnOnce() -> Result<T, Errno>) {
    let pid = fork(signal_soon, &[]).expect("forking");
    assert_eq!(call(), Err(Errno::INTR), "{what}");
    assert_eq!(sigpending(), Ok(1 << SIGUSR1), "{what}");
    wait(pid as i32, 0).expect("waiting");
}

fn main() {
    play("sleep", || sleep(60_000));
    TARGET.store(getpid().expect("the numbers")[0], Ordering::Relaxed);
    sigaction(SIGUSR1, CATCH).expect("catching");
    let (reader, writer) = pipe().expect("a pipe");
    interrupted("read", || read(reader, 1));
    interrupted("poll for a descriptor", || poll(&[Until::Readable(reader)]));
    interrupted("poll for a time", || poll(&[Until::Passed(MONOTONIC, 60_000_000_000)]));
    assert_eq!(write(writer, &vec![0; 65536]), Ok(65536));
    interrupted("write", || write(writer, b"x"));
    let child = Start::role("sleep").spawn().expect("spawning");
    interrupted("wait", || wait(child as i32, 0));
    kill(child as i32, SIGKILL).expect("killing");
    assert!(wait(ANY, 0).is_ok());
}
