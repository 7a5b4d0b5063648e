//! The end of a child sends the parent signal 17, which it may catch.

use guests::{CATCH, SIGCHLD, Start, Status, play, sigaction, sigpending, wait};

fn main() {
    play("child", || {});
    sigaction(SIGCHLD, CATCH).expect("catching");
    let pid = Start::role("child").spawn().expect("spawning");
    loop {
        match wait(pid as i32, 0) {
            Ok(ended) => {
                assert_eq!(ended, (pid, Status::Exited(0)));
                break;
            }
            Err(errno) => assert_eq!(errno, guests::Errno::INTR),
        }
        assert_eq!(sigpending(), Ok(1 << SIGCHLD));
    }
}
