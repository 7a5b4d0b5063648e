//! `/dev/fd/N` and `/dev/stdin` open the very descriptor, position included.

use guests::{Errno, READ, ROOT, WRITE, create, names, open, open_directory, pipe, read, scratch, seek, tell, write};

fn main() {
    let file = create(scratch(), "file");
    assert_eq!(write(file, b"0123456789"), Ok(10));
    assert_eq!(seek(file, 4, 0), Ok(4));
    let again = open(ROOT, format!("dev/fd/{file}"), 0, READ, 0).expect("opening");
    assert_eq!(read(again, 3), Ok(b"456".to_vec()));
    assert_eq!(tell(file), Ok(7));
    let (reader, writer) = pipe().expect("a pipe");
    let second = open(ROOT, format!("proc/self/fd/{writer}"), 0, WRITE, 0).expect("opening");
    assert_eq!(write(second, b"x"), Ok(1));
    assert_eq!(read(reader, 9), Ok(b"x".to_vec()));
    let stdin = open(ROOT, "dev/stdin", 0, READ, 0).expect("opening /dev/stdin");
    assert_eq!(read(stdin, 8), Ok(b"standard".to_vec()));
    let stdout = open(ROOT, "dev/stdout", 0, WRITE, 0).expect("opening /dev/stdout");
    assert_eq!(write(stdout, b"x"), Ok(1));
    assert_eq!(open(ROOT, "dev/fd/99", 0, READ, 0), Err(Errno::NOENT));
    let listed = names(open_directory(ROOT, "dev/fd").expect("opening /dev/fd"), 4096).expect("listing");
    assert!(
        listed.contains(&file.to_string()) && listed.contains(&"0".to_owned()),
        "{listed:?}"
    );
}
