//! There are no sockets: what is open is something else, what is not is `badf`.

use guests::{CLOSED, Errno, address, call, create, scratch};

fn main() {
    let file = create(scratch(), "file");
    let mut out = [0u32; 4];
    let good = address(out.as_mut_ptr());
    for (fd, expected) in [
        (file, Errno::NOTSOCK),
        (1, Errno::NOTSOCK),
        (CLOSED, Errno::BADF),
        (u32::MAX, Errno::BADF),
    ] {
        assert_eq!(call!(preview1::sock_accept(fd, 0, good)), Err(expected));
        assert_eq!(call!(preview1::sock_recv(fd, good, 0, 0, good, good)), Err(expected));
        assert_eq!(call!(preview1::sock_send(fd, good, 0, 0, good)), Err(expected));
        assert_eq!(call!(preview1::sock_shutdown(fd, 3)), Err(expected));
    }
}
