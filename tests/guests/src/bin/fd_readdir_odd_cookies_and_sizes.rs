//! A cookie past the end gives nothing, a buffer of any size is filled as far as it goes, a file has no entries.

use guests::{Errno, create, create_with, readdir, scratch};

fn main() {
    let dir = scratch();
    create_with(dir, "name", b"");
    for cookie in [4, 1000, u64::from(u32::MAX), u64::MAX] {
        assert_eq!(readdir(dir, cookie, 100), Ok((vec![], 0)), "cookie {cookie}");
    }
    for capacity in [0, 1, 23, 24] {
        assert_eq!(readdir(dir, 0, capacity).map(|(_, used)| used), Ok(capacity));
    }
    let (entries, used) = readdir(dir, 0, 25).expect("listing");
    assert_eq!((entries.len(), used), (1, 25), "an entry of exactly this size");
    assert_eq!(readdir(create(dir, "file"), 0, 100), Err(Errno::NOTDIR));
    assert_eq!(readdir(1, 0, 100), Err(Errno::NOTDIR));
}
