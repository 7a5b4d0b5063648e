//! Each time is set, set to now, or left; asking for both is `inval`.

use guests::{CLOSED, Errno, REALTIME, call, create, filestat, now, scratch};

const ATIM: u32 = 1;
const ATIM_NOW: u32 = 2;
const MTIM: u32 = 4;
const MTIM_NOW: u32 = 8;

fn main() {
    let fd = create(scratch(), "file");
    let times = |fd| filestat(fd).map(|stat| (stat.atim, stat.mtim)).expect("its attributes");
    assert_eq!(call!(preview1::fd_filestat_set_times(fd, 11, 22, ATIM | MTIM)), Ok(()));
    assert_eq!(times(fd), (11, 22));
    assert_eq!(call!(preview1::fd_filestat_set_times(fd, 33, 44, MTIM)), Ok(()));
    assert_eq!(times(fd), (11, 44));
    assert_eq!(call!(preview1::fd_filestat_set_times(fd, 0, 0, 0)), Ok(()));
    assert_eq!(times(fd), (11, 44));
    let before = now(REALTIME).expect("the time");
    assert_eq!(
        call!(preview1::fd_filestat_set_times(fd, 0, 0, ATIM_NOW | MTIM_NOW)),
        Ok(())
    );
    let after = now(REALTIME).expect("the time");
    let (atime, mtime) = times(fd);
    assert!((before..=after).contains(&atime) && (before..=after).contains(&mtime));
    assert_eq!(call!(preview1::fd_filestat_set_times(fd, u64::MAX, 0, ATIM)), Ok(()));
    assert_eq!(times(fd).0, u64::MAX);
    for both in [ATIM | ATIM_NOW, MTIM | MTIM_NOW] {
        assert_eq!(
            call!(preview1::fd_filestat_set_times(fd, 0, 0, both)),
            Err(Errno::INVAL)
        );
    }
    assert_eq!(
        call!(preview1::fd_filestat_set_times(CLOSED, 0, 0, ATIM)),
        Err(Errno::BADF)
    );
}
