//! A negative target is a process group; a child is in its parent's group unless it was started in one of its own.

use guests::{Errno, SIGTERM, Start, Status, call, getpid, kill, play, sleep, wait};

fn main() {
    play("sleep", || sleep(60_000));
    play("group", || {
        let [_, _, group] = getpid().expect("the numbers");
        assert_eq!(std::env::args().nth(2), Some(group.to_string()));
    });
    let [own, _, group] = getpid().expect("the numbers");
    assert_eq!(own, group, "an exec leads its group");
    assert_eq!(
        Start::role("group").argument(group.to_string()).run(),
        Ok(Status::Exited(0))
    );
    let leader = Start::role("sleep").new_group().spawn().expect("spawning");
    let member = Start::role("sleep").spawn().expect("spawning");
    let other = Start::role("sleep").spawn().expect("spawning");
    assert_eq!(call!(wisp::setpgid(member, leader)), Ok(()));
    assert_eq!(call!(wisp::setpgid(other, 999_999)), Err(Errno::PERM));
    assert_eq!(call!(wisp::setpgid(999_999, 0)), Err(Errno::SRCH));
    assert_eq!(kill(-(leader as i32), SIGTERM), Ok(()));
    for pid in [leader, member] {
        assert_eq!(wait(pid as i32, 0), Ok((pid, Status::Killed(SIGTERM))));
    }
    assert_eq!(kill(other as i32, 0), Ok(()), "of another group");
    assert_eq!(kill(-1, SIGTERM), Ok(()), "every other process");
    assert_eq!(wait(other as i32, 0), Ok((other, Status::Killed(SIGTERM))));
    assert_eq!(call!(wisp::setpgid(0, 0)), Ok(()));
}
