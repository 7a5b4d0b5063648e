//! Removing each entry as it is listed (`rm -r`) misses none, in pages of any size.

use guests::{create_with, names, readdir, scratch, unlink};

fn main() {
    let dir = scratch();
    for capacity in [48, 128, 500] {
        for number in 0..150 {
            create_with(dir, format!("file-{number}"), b"");
        }
        let mut cookie = 0;
        loop {
            let (entries, used) = readdir(dir, cookie, capacity).expect("listing");
            for entry in entries {
                cookie = entry.next;
                if entry.name != b"." && entry.name != b".." {
                    assert_eq!(unlink(dir, &entry.name), Ok(()));
                }
            }
            if used < capacity {
                break;
            }
        }
        assert_eq!(names(dir, 4096), Ok(vec![]), "in pages of {capacity} bytes");
    }
}
