//! A writer that waits for room is ended by signal 13 when the last reader closes.

use std::sync::atomic::{AtomicU32, Ordering};

use guests::{SIGPIPE, Status, close, fork, pipe, sleep, wait, write};

static WRITER: AtomicU32 = AtomicU32::new(0);

fn child() {
    let result = write(WRITER.load(Ordering::Relaxed), &vec![0; 1 << 20]);
    panic!("it went on: {result:?}");
}

fn main() {
    let (reader, writer) = pipe().expect("a pipe");
    WRITER.store(writer, Ordering::Relaxed);
    let pid = fork(child, &[writer]).expect("forking");
    sleep(20);
    close(reader).expect("closing");
    assert_eq!(wait(pid as i32, 0), Ok((pid, Status::Killed(SIGPIPE))));
}
