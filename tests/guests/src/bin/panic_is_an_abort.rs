//! A program that traps ends by signal 6, as one that calls `abort`.

use guests::{Start, Status, play};

fn main() {
    play("trap", || std::process::abort());
    assert_eq!(Start::role("trap").run(), Ok(Status::Killed(6)));
}
