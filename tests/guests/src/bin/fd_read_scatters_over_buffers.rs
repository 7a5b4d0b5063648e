//! `fd_read` fills its buffers in order, `fd_write` takes them in order; empty ones are passed over.

use guests::{SET, Vector, address, call, create, pread, scratch, seek};

fn main() {
    let fd = create(scratch(), "file");
    let out = [Vector::of(b"ab"), Vector::of(b""), Vector::of(b"cde")];
    let mut count = 0u32;
    let result = call!(preview1::fd_write(
        fd,
        address(out.as_ptr()),
        3,
        address(&raw mut count)
    ));
    assert_eq!((result, count), (Ok(()), 5));
    assert_eq!(pread(fd, 9, 0), Ok(b"abcde".to_vec()));
    assert_eq!(seek(fd, 0, SET), Ok(0));
    let (mut first, mut second) = ([0u8; 1], [0u8; 9]);
    let vectors = [
        Vector {
            address: address(first.as_mut_ptr()),
            len: 1,
        },
        Vector { address: 0, len: 0 },
        Vector {
            address: address(second.as_mut_ptr()),
            len: 9,
        },
    ];
    let result = call!(preview1::fd_read(
        fd,
        address(vectors.as_ptr()),
        3,
        address(&raw mut count)
    ));
    assert_eq!((result, count), (Ok(()), 5));
    assert_eq!((&first, &second[..4]), (b"a", b"bcde".as_slice()));
}
