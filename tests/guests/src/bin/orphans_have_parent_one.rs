//! A child whose parent has ended gets parent 1, and nobody can wait for it.

use guests::{ANY, Errno, Start, Status, close, getpid, pipe, play, read, sleep, wait, write};

fn main() {
    play("middle", || {
        Start::role("orphan").descriptor(30, 30).spawn().expect("spawning");
    });
    play("orphan", || {
        for _ in 0..1000 {
            if getpid().expect("the numbers")[1] == 1 {
                assert_eq!(write(30, b"orphan"), Ok(6));
                return;
            }
            sleep(1);
        }
        panic!("its parent is still {:?}", getpid());
    });
    let (reader, writer) = pipe().expect("a pipe");
    assert_eq!(
        Start::role("middle").descriptor(30, writer).run(),
        Ok(Status::Exited(0))
    );
    close(writer).expect("closing");
    assert_eq!(read(reader, 9), Ok(b"orphan".to_vec()));
    assert_eq!(wait(ANY, 0), Err(Errno::CHILD));
}
