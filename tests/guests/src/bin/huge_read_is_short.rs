//! A read or write of very many bytes may be short but moves some, and never more than was asked.

use guests::{SET, create, pread, scratch, seek, write};

fn main() {
    let fd = create(scratch(), "file");
    let bytes = vec![7u8; 5 << 20];
    let mut written = 0;
    while written < bytes.len() {
        let count = write(fd, &bytes[written..]).expect("writing") as usize;
        assert!(count > 0 && count <= bytes.len() - written);
        written += count;
    }
    assert_eq!(seek(fd, 0, SET), Ok(0));
    let part = pread(fd, 8 << 20, 100).expect("reading");
    assert!(!part.is_empty() && part.len() <= (5 << 20) - 100);
    assert!(part.iter().all(|byte| *byte == 7));
}
