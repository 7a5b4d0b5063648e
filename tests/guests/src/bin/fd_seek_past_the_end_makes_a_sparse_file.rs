//! A hole reads as zeros and stores nothing.

use guests::{SET, create, fstat, pread, scratch, seek, write};

fn main() {
    let fd = create(scratch(), "sparse");
    assert_eq!(seek(fd, 1 << 30, SET), Ok(1 << 30));
    assert_eq!(write(fd, b"end"), Ok(3));
    let stat = fstat(fd).expect("its attributes");
    assert_eq!(stat.size, (1 << 30) + 3);
    assert!(stat.blocks < 1024, "{} blocks are stored", stat.blocks);
    assert_eq!(pread(fd, 4, 12345), Ok(vec![0; 4]));
    assert_eq!(pread(fd, 9, (1 << 30) - 2), Ok(b"\0\0end".to_vec()));
}
