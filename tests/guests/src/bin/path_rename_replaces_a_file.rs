//! Renaming moves a name over another; what had that name lives on only where it is open.

use guests::{
    Errno, contents, create, create_with, filestat, mkdir, open_directory, path_filestat, pread, rename,
    rename_between, scratch, write,
};

fn main() {
    let dir = scratch();
    create_with(dir, "old", b"old");
    let replaced = create(dir, "new");
    assert_eq!(write(replaced, b"replaced"), Ok(8));
    assert_eq!(rename(dir, "old", "new"), Ok(()));
    assert_eq!(path_filestat(dir, 0, "old"), Err(Errno::NOENT));
    assert_eq!(contents(dir, "new"), Ok(b"old".to_vec()));
    assert_eq!(pread(replaced, 9, 0), Ok(b"replaced".to_vec()));
    assert_eq!(filestat(replaced).map(|stat| stat.nlink), Ok(0));
    mkdir(dir, "d").expect("a directory");
    let inside = open_directory(dir, "d").expect("opening");
    assert_eq!(rename_between(dir, "new", inside, "moved"), Ok(()));
    assert_eq!(contents(dir, "d/moved"), Ok(b"old".to_vec()));
}
