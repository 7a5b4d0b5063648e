//! Opening a named pipe waits for the other end; bytes then go through it, and it ends with the writer.

use guests::{Errno, READ, ROOT, Start, Status, WRITE, mkfifo, open, play, read_to_end, wait, write};

fn main() {
    play("writer", || {
        let fd = open(ROOT, "tmp/fifo", 0, WRITE, 0).expect("opening");
        assert_eq!(write(fd, b"through"), Ok(7));
    });
    assert_eq!(mkfifo("/tmp/fifo", 0o644), Ok(()));
    assert_eq!(mkfifo("/tmp/fifo", 0o644), Err(Errno::EXIST));
    assert_eq!(mkfifo("/tmp/missing/fifo", 0o644), Err(Errno::NOENT));
    assert_eq!(mkfifo("fifo", 0o644), Err(Errno::INVAL));
    for _ in 0..3 {
        let pid = Start::role("writer").spawn().expect("spawning");
        let fd = open(ROOT, "tmp/fifo", 0, READ, 0).expect("opening");
        assert_eq!(read_to_end(fd), Ok(b"through".to_vec()));
        guests::close(fd).expect("closing");
        assert_eq!(wait(pid as i32, 0), Ok((pid, Status::Exited(0))));
    }
}
