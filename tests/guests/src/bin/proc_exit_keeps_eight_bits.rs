//! An exit status is eight bits, and nothing after the call runs.

use guests::{Start, Status, play, role};

fn main() {
    if let Some(code) = role().and_then(|role| role.parse().ok()) {
        std::process::exit(code);
    }
    play("return", || {});
    for (code, expected) in [("0", 0), ("7", 7), ("255", 255), ("256", 0), ("-1", 255)] {
        assert_eq!(Start::role(code).run(), Ok(Status::Exited(expected)), "exit({code})");
    }
    assert_eq!(Start::role("return").run(), Ok(Status::Exited(0)));
}
