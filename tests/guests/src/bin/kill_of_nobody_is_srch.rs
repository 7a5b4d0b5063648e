//! Signal 0 only tests; a process that is not there is `srch`, a signal that is not `inval`.

use guests::{Errno, Start, Status, getpid, kill, play, sleep, wait};

fn main() {
    play("child", || {});
    let [own, _, _] = getpid().expect("the numbers");
    assert_eq!(kill(own as i32, 0), Ok(()));
    assert_eq!(kill(own as i32, 32), Err(Errno::INVAL));
    assert_eq!(kill(own as i32, u32::MAX), Err(Errno::INVAL));
    assert_eq!(kill(999_999, 0), Err(Errno::SRCH));
    assert_eq!(kill(-999_999, 9), Err(Errno::SRCH));
    assert_eq!(kill(i32::MIN, 9), Err(Errno::SRCH));
    assert_eq!(kill(-1, 0), Err(Errno::SRCH), "no other process");
    let pid = Start::role("child").spawn().expect("spawning");
    sleep(30);
    assert_eq!(kill(pid as i32, 9), Ok(()), "a child not waited for is there still");
    assert_eq!(wait(pid as i32, 0), Ok((pid, Status::Exited(0))));
    assert_eq!(kill(pid as i32, 0), Err(Errno::SRCH));
}
