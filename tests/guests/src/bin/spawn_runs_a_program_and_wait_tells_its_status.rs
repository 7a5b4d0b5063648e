//! A child gets its arguments, and `wait` its exit code; its number is the one `spawn` gave.

use guests::{Start, Status, getpid, play, wait};

fn main() {
    play("child", || {
        let [_, parent, _] = getpid().expect("the numbers");
        let expected = std::env::args().nth(2).expect("an argument");
        assert_eq!(parent.to_string(), expected, "its parent");
        std::process::exit(42);
    });
    let [own, _, _] = getpid().expect("the numbers");
    let pid = Start::role("child")
        .argument(own.to_string())
        .spawn()
        .expect("spawning");
    assert_ne!(pid, own);
    assert_eq!(wait(pid as i32, 0), Ok((pid, Status::Exited(42))));
}
