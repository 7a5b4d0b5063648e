//! A reader waits for bytes and a writer for room, so that any amount goes through.

use std::sync::atomic::{AtomicU32, Ordering};

use guests::{Status, close, fork, pipe, read_to_end, wait, write};

static WRITER: AtomicU32 = AtomicU32::new(0);
const TOTAL: usize = 1 << 20;

fn child() {
    let bytes: Vec<u8> = (0..TOTAL).map(|at| (at % 251) as u8).collect();
    assert_eq!(write(WRITER.load(Ordering::Relaxed), &bytes), Ok(TOTAL as u32));
}

fn main() {
    let (reader, writer) = pipe().expect("a pipe");
    WRITER.store(writer, Ordering::Relaxed);
    let pid = fork(child, &[writer]).expect("forking");
    close(writer).expect("closing");
    let bytes = read_to_end(reader).expect("reading");
    assert_eq!(bytes.len(), TOTAL);
    assert!(
        bytes.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8),
        "in order"
    );
    assert_eq!(wait(pid as i32, 0), Ok((pid, Status::Exited(0))));
}
