//! Size, type, links and serial number, by descriptor and by path.

use guests::{
    FOLLOW, ROOT, TYPE_CHARACTER_DEVICE, TYPE_DIRECTORY, TYPE_REGULAR_FILE, TYPE_SYMBOLIC_LINK, create, filestat, link,
    mkdir, path_filestat, scratch, symlink, write,
};

fn main() {
    let dir = scratch();
    let fd = create(dir, "file");
    assert_eq!(write(fd, b"12345"), Ok(5));
    link(dir, 0, "file", "second").expect("a link");
    let by_descriptor = filestat(fd).expect("its attributes");
    assert_eq!(
        (by_descriptor.filetype, by_descriptor.size, by_descriptor.nlink),
        (TYPE_REGULAR_FILE, 5, 2)
    );
    assert_eq!(path_filestat(dir, 0, "second"), Ok(by_descriptor));
    mkdir(dir, "d").expect("a directory");
    mkdir(dir, "d/e").expect("a directory");
    let directory = path_filestat(dir, 0, "d").expect("its attributes");
    assert_eq!((directory.filetype, directory.nlink), (TYPE_DIRECTORY, 3));
    symlink("file", dir, "link").expect("a link");
    let link = path_filestat(dir, 0, "link").expect("its attributes");
    assert_eq!((link.filetype, link.size), (TYPE_SYMBOLIC_LINK, 4));
    assert_eq!(path_filestat(dir, FOLLOW, "link"), Ok(by_descriptor));
    let null = path_filestat(ROOT, 0, "dev/null").expect("its attributes");
    assert_eq!(null.filetype, TYPE_CHARACTER_DEVICE);
}
