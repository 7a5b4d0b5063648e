//! Target 0 is the caller's own group, the caller included.

use guests::{SIGUSR1, Start, Status, kill, play, sleep, wait};

fn main() {
    play("member", || sleep(60_000));
    play("leader", || {
        Start::role("member").spawn().expect("spawning");
        panic!("it went on: {:?}", kill(0, SIGUSR1));
    });
    let pid = Start::role("leader").new_group().spawn().expect("spawning");
    assert_eq!(wait(pid as i32, 0), Ok((pid, Status::Killed(SIGUSR1))));
    for _ in 0..100 {
        if kill(-1, 0).is_err() {
            return;
        }
        sleep(5);
    }
    panic!("the other member lives on");
}
