//! `exec` keeps number, parent and passed descriptors, and only returns when it fails.

use guests::{Errno, Start, Status, close, getpid, pipe, play, read, wait, write};

fn main() {
    play("before", || {
        let [own, _, _] = getpid().expect("the numbers");
        let errno = Start::role("after").argument(own.to_string()).descriptor(30, 30).exec();
        panic!("exec failed: {errno:?}");
    });
    play("after", || {
        let [own, _, _] = getpid().expect("the numbers");
        assert_eq!(std::env::args().nth(2), Some(own.to_string()), "the number stays");
        assert_eq!(write(30, b"passed"), Ok(6));
        std::process::exit(12);
    });
    let (reader, writer) = pipe().expect("a pipe");
    let pid = Start::role("before").descriptor(30, writer).spawn().expect("spawning");
    close(writer).expect("closing");
    assert_eq!(wait(pid as i32, 0), Ok((pid, Status::Exited(12))));
    assert_eq!(read(reader, 9), Ok(b"passed".to_vec()));
    assert_eq!(read(reader, 9), Ok(vec![]), "and closed at its end");
    assert_eq!(Start::program("/tmp/missing").exec(), Errno::NOENT);
}
