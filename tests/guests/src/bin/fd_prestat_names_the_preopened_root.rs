//! Descriptor 3 is the preopened root; no other is preopened.

use guests::{CLOSED, Errno, ROOT, address, call, create, scratch};

fn main() {
    let mut prestat = [9u32; 2];
    assert_eq!(call!(preview1::fd_prestat_get(ROOT, address(&raw mut prestat))), Ok(()));
    assert_eq!(prestat, [0, 1], "a directory whose name has one byte");
    let mut name = [b'?'; 4];
    let buffer = address(name.as_mut_ptr());
    assert_eq!(call!(preview1::fd_prestat_dir_name(ROOT, buffer, 1)), Ok(()));
    assert_eq!(&name, b"/???");
    assert_eq!(
        call!(preview1::fd_prestat_dir_name(ROOT, buffer, 0)),
        Err(Errno::NAMETOOLONG)
    );
    let file = create(scratch(), "file");
    for fd in [0, 2, 4, file, CLOSED, u32::MAX] {
        let out = address(&raw mut prestat);
        assert_eq!(
            call!(preview1::fd_prestat_get(fd, out)),
            Err(Errno::BADF),
            "descriptor {fd}"
        );
        assert_eq!(
            call!(preview1::fd_prestat_dir_name(fd, buffer, 4)),
            Err(Errno::BADF),
            "descriptor {fd}"
        );
    }
}
