//! A deadly signal ends a child that computes, sleeps, waits, or blocks in a read, and `wait` tells which.

use guests::{
    ANY, MONOTONIC, SIGKILL, SIGTERM, Start, Status, Until, kill, now, pipe, play, poll, read, sleep, wait, write,
};

fn main() {
    play("compute", || {
        loop {
            std::hint::black_box(0);
        }
    });
    play("sleep", || sleep(60_000));
    play("read", || _ = read(pipe().expect("a pipe").0, 1));
    play("write", || _ = write(pipe().expect("a pipe").1, &vec![0; 1 << 20]));
    play("poll", || _ = poll(&[Until::Readable(pipe().expect("a pipe").0)]));
    play("wait", || {
        Start::role("sleep").spawn().expect("spawning");
        _ = wait(ANY, 0);
    });
    for role in ["compute", "sleep", "read", "write", "poll", "wait"] {
        for signal in [SIGTERM, SIGKILL] {
            let pid = Start::role(role).spawn().expect("spawning");
            sleep(10);
            let start = now(MONOTONIC).expect("the time");
            kill(pid as i32, signal).expect("killing");
            assert_eq!(wait(pid as i32, 0), Ok((pid, Status::Killed(signal))), "{role}");
            let took = now(MONOTONIC).expect("the time") - start;
            assert!(took < 1_000_000_000, "{role} took {took} ns to die");
        }
    }
}
