//! With `O_APPEND` each write goes to the end of the file, wherever another descriptor has moved it.

use guests::{APPEND, READ, SET, WRITE, contents, create, fdstat, open, scratch, seek, tell, write};

fn main() {
    let dir = scratch();
    let plain = create(dir, "log");
    let appending = open(dir, "log", 0, READ | WRITE, APPEND).expect("opening");
    assert_eq!(fdstat(appending).map(|stat| stat.flags & 1), Ok(1));
    assert_eq!(write(appending, b"one "), Ok(4));
    assert_eq!(write(plain, b"ONE two "), Ok(8));
    assert_eq!(seek(appending, 0, SET), Ok(0));
    assert_eq!(write(appending, b"three"), Ok(5));
    assert_eq!(tell(appending), Ok(13));
    assert_eq!(contents(dir, "log"), Ok(b"ONE two three".to_vec()));
}
