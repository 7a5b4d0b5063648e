//! With the flag not to block, a child that lives gives number 0.

use guests::{ANY, Errno, NO_HANG, SIGKILL, Start, Status, kill, play, sleep, wait};

fn main() {
    play("sleep", || sleep(60_000));
    assert_eq!(wait(ANY, NO_HANG), Err(Errno::CHILD));
    let pid = Start::role("sleep").spawn().expect("spawning");
    assert_eq!(wait(ANY, NO_HANG).map(|(pid, _)| pid), Ok(0));
    assert_eq!(wait(pid as i32, NO_HANG).map(|(pid, _)| pid), Ok(0));
    kill(pid as i32, SIGKILL).expect("killing");
    assert_eq!(wait(pid as i32, 0), Ok((pid, Status::Killed(SIGKILL))));
    assert_eq!(wait(pid as i32, NO_HANG), Err(Errno::CHILD));
}
