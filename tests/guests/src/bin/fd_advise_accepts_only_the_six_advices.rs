//! Advice is taken and ignored; unknown advice is `inval`, advice on a pipe `spipe`.

use guests::{CLOSED, Errno, call, create, pipe, scratch};

fn main() {
    let fd = create(scratch(), "file");
    for advice in 0..=5 {
        assert_eq!(
            call!(preview1::fd_advise(fd, u64::MAX, u64::MAX, advice)),
            Ok(()),
            "advice {advice}"
        );
    }
    assert_eq!(call!(preview1::fd_advise(fd, 0, 0, 6)), Err(Errno::INVAL));
    assert_eq!(call!(preview1::fd_advise(fd, 0, 0, u32::MAX)), Err(Errno::INVAL));
    let (reader, _writer) = pipe().expect("a pipe");
    assert_eq!(call!(preview1::fd_advise(reader, 0, 0, 0)), Err(Errno::SPIPE));
    assert_eq!(call!(preview1::fd_advise(CLOSED, 0, 0, 0)), Err(Errno::BADF));
}
