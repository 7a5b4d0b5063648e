//! A forked child has the standard descriptors, the root, and those it was to keep, as the same open files.

use std::sync::atomic::{AtomicU32, Ordering};

use guests::{BAD_ADDRESS, Errno, ROOT, Status, address, call, create, fdstat, fork, scratch, tell, wait, write};

static KEPT: AtomicU32 = AtomicU32::new(0);
static OTHER: AtomicU32 = AtomicU32::new(0);

fn child() {
    let kept = KEPT.load(Ordering::Relaxed);
    assert_eq!(write(kept, b"child"), Ok(5));
    assert_eq!(fdstat(OTHER.load(Ordering::Relaxed)), Err(Errno::BADF));
    assert!([0, 1, 2, ROOT].into_iter().all(|fd| fdstat(fd).is_ok()));
}

fn main() {
    let dir = scratch();
    let (kept, other) = (create(dir, "kept"), create(dir, "other"));
    KEPT.store(kept, Ordering::Relaxed);
    OTHER.store(other, Ordering::Relaxed);
    let pid = fork(child, &[kept, 200]).expect("forking");
    assert_eq!(wait(pid as i32, 0), Ok((pid, Status::Exited(0))));
    assert_eq!(tell(kept), Ok(5), "one open file");
    let mut pid = 0u32;
    let out = address(&raw mut pid);
    assert_eq!(call!(wisp::fork(0, BAD_ADDRESS, 8, out)), Err(Errno::FAULT));
    assert_eq!(call!(wisp::fork(0, 0, 0, BAD_ADDRESS)), Err(Errno::FAULT));
    assert!(call!(wisp::fork(0, 0, u32::MAX, out)).is_err());
    assert_eq!(wait(-1, 0), Err(Errno::CHILD), "a refused fork makes no child");
}
