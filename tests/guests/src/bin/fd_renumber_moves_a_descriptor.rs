//! `fd_renumber` moves a descriptor over another, which is closed. Both must be open.

use guests::{CLOSED, Errno, call, create, pread, scratch, tell, write};

fn main() {
    let dir = scratch();
    let (from, to) = (create(dir, "from"), create(dir, "to"));
    assert_eq!(write(from, b"moved"), Ok(5));
    assert_eq!(call!(preview1::fd_renumber(from, to)), Ok(()));
    assert_eq!(pread(to, 9, 0), Ok(b"moved".to_vec()));
    assert_eq!(tell(from), Err(Errno::BADF));
    assert_eq!(call!(preview1::fd_renumber(to, to)), Ok(()));
    assert_eq!(tell(to), Ok(5));
    assert_eq!(call!(preview1::fd_renumber(CLOSED, to)), Err(Errno::BADF));
    assert_eq!(call!(preview1::fd_renumber(to, CLOSED)), Err(Errno::BADF));
    assert_eq!(call!(preview1::fd_renumber(to, u32::MAX)), Err(Errno::BADF));
    assert_eq!(tell(to), Ok(5), "a refused call closes nothing");
}
