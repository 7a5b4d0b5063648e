//! A forked child can fork, and waits for its own children only.

use guests::{ANY, Errno, Status, fork, wait};

fn grandchild() {
    std::process::exit(1);
}

fn child() {
    let pid = fork(grandchild, &[]).expect("forking in a fork");
    assert_eq!(wait(ANY, 0), Ok((pid, Status::Exited(1))));
    assert_eq!(wait(ANY, 0), Err(Errno::CHILD));
    std::process::exit(2);
}

fn main() {
    let pid = fork(child, &[]).expect("forking");
    assert_eq!(wait(ANY, 0), Ok((pid, Status::Exited(2))));
}
