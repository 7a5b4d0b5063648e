//! Only own children can be waited for; a bad address takes no status away.

use guests::{BAD_ADDRESS, Errno, Start, Status, call, getpid, play, wait};

fn main() {
    play("child", || {
        let [own, parent, _] = getpid().expect("the numbers");
        assert_eq!(wait(parent as i32, 0), Err(Errno::CHILD));
        assert_eq!(wait(own as i32, 0), Err(Errno::CHILD));
        std::process::exit(4);
    });
    assert_eq!(wait(999_999, 0), Err(Errno::CHILD));
    assert_eq!(wait(i32::MAX, 0), Err(Errno::CHILD));
    assert_eq!(wait(-2, 0), Err(Errno::INVAL));
    assert_eq!(wait(i32::MIN, 0), Err(Errno::INVAL));
    let pid = Start::role("child").spawn().expect("spawning");
    assert_eq!(call!(wisp::wait(pid as i32, 0, BAD_ADDRESS)), Err(Errno::FAULT));
    assert_eq!(wait(pid as i32, 0), Ok((pid, Status::Exited(4))));
}
