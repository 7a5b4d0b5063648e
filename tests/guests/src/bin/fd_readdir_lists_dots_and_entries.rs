//! A listing has `.`, `..` and every entry with its type and serial number; its order is stable.

use guests::{
    ROOT, TYPE_DIRECTORY, TYPE_REGULAR_FILE, TYPE_SYMBOLIC_LINK, create_with, mkdir, open_directory, path_filestat,
    readdir, scratch, symlink,
};

fn main() {
    let dir = scratch();
    mkdir(dir, "d").expect("a directory");
    create_with(dir, "f", b"");
    symlink("f", dir, "l").expect("a link");
    let (entries, used) = readdir(dir, 0, 4096).expect("listing");
    assert!(used < 4096);
    let mut found: Vec<_> = entries
        .iter()
        .map(|entry| (entry.name.as_slice(), entry.filetype))
        .collect();
    found.sort_unstable();
    let expected: [(&[u8], u8); 5] = [
        (b".", TYPE_DIRECTORY),
        (b"..", TYPE_DIRECTORY),
        (b"d", TYPE_DIRECTORY),
        (b"f", TYPE_REGULAR_FILE),
        (b"l", TYPE_SYMBOLIC_LINK),
    ];
    assert_eq!(found, expected);
    for entry in &entries {
        let stat = path_filestat(dir, 0, &entry.name).expect("its attributes");
        assert_eq!(stat.ino, entry.ino, "{:?}", String::from_utf8_lossy(&entry.name));
    }
    assert_eq!(readdir(dir, 0, 4096).map(|(again, _)| again), Ok(entries));
    let root = readdir(open_directory(ROOT, "/").expect("the root"), 0, 4096)
        .expect("listing")
        .0;
    assert_eq!(root[0].ino, root[1].ino, "the root is its own parent");
}
