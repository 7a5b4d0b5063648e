//! `path_open` that cannot tell the descriptor does not leave one open that the guest does not know of.

use guests::{CREATE, Errno, READ, address, call, close, create, scratch};

fn main() {
    let dir = scratch();
    let next = create(dir, "probe");
    close(next).expect("closing");
    let name = "file";
    let opened = call!(preview1::path_open(
        dir,
        0,
        address(name),
        4,
        CREATE,
        READ,
        0,
        0,
        u32::MAX
    ));
    assert_eq!(opened, Err(Errno::FAULT));
    assert_eq!(create(dir, "probe"), next);
}
