//! A forked child sees the parent's memory as of the fork; what it changes stays its own.

use std::sync::atomic::{AtomicU32, Ordering};

use guests::{Status, fork, wait};

static VALUE: AtomicU32 = AtomicU32::new(1);

fn child() {
    assert_eq!(VALUE.load(Ordering::Relaxed), 2, "what the parent set before the fork");
    VALUE.store(3, Ordering::Relaxed);
    std::process::exit(5);
}

fn main() {
    VALUE.store(2, Ordering::Relaxed);
    let pid = fork(child, &[]).expect("forking");
    assert_eq!(wait(pid as i32, 0), Ok((pid, Status::Exited(5))));
    assert_eq!(VALUE.load(Ordering::Relaxed), 2, "the child's change is its own");
}
