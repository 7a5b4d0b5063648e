//! A directory that was removed while open is empty, and nothing can be made in it.

use guests::{
    CREATE, Errno, READ, WRITE, filestat, mkdir, open, open_directory, path_filestat, readdir, rmdir, scratch, symlink,
};

fn main() {
    let dir = scratch();
    mkdir(dir, "d").expect("a directory");
    let inside = open_directory(dir, "d").expect("opening");
    assert_eq!(rmdir(dir, "d"), Ok(()));
    assert_eq!(filestat(inside).map(|stat| stat.nlink), Ok(0));
    assert_eq!(open(inside, "x", CREATE, READ | WRITE, 0), Err(Errno::NOENT));
    assert_eq!(mkdir(inside, "x"), Err(Errno::NOENT));
    assert_eq!(symlink("t", inside, "x"), Err(Errno::NOENT));
    assert_eq!(path_filestat(inside, 0, "x"), Err(Errno::NOENT));
    let listed = readdir(inside, 0, 4096).map(|(entries, _)| entries.len());
    assert!(matches!(listed, Ok(0..=2)), "at most the dots: {listed:?}");
}
