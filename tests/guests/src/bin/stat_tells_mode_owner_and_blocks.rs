//! What `stat` adds to the standard's filestat: type and permission bits, owner, device, blocks.

use guests::{
    BAD_ADDRESS, CLOSED, Errno, address, call, create, filestat, fstat, mkdir, mkfifo, pipe, scratch, stat, symlink,
    write,
};

fn main() {
    let dir = scratch();
    let fd = create(dir, "file");
    assert_eq!(write(fd, &[1; 5000]), Ok(5000));
    let by_path = stat("/tmp/file", 1).expect("its attributes");
    assert_eq!(fstat(fd), Ok(by_path));
    assert_eq!((by_path.mode, by_path.size, by_path.nlink), (0o100_644, 5000, 1));
    assert!((10..=16).contains(&by_path.blocks), "{} blocks", by_path.blocks);
    let standard = filestat(fd).expect("its attributes");
    assert_eq!((standard.ino, standard.dev), (by_path.ino, by_path.dev));
    assert_eq!(
        (standard.atim, standard.mtim, standard.ctim),
        (by_path.atime, by_path.mtime, by_path.ctime)
    );
    mkdir(dir, "d").expect("a directory");
    mkfifo("/tmp/fifo", 0o666).expect("a named pipe");
    symlink("file", dir, "link").expect("a link");
    let kind = |path, follow| stat(path, follow).map(|stat| stat.mode >> 12);
    assert_eq!(kind("/tmp/d", 1), Ok(0o4));
    assert_eq!(kind("/tmp/fifo", 1), Ok(0o1));
    assert_eq!(kind("/tmp/link", 0), Ok(0o12));
    assert_eq!(kind("/tmp/link", 1), Ok(0o10));
    let null = stat("/dev/null", 1).expect("its attributes");
    assert_eq!((null.mode >> 12, null.rdev), (0o2, 0x103));
    assert_eq!(fstat(pipe().expect("a pipe").0).map(|stat| stat.mode >> 12), Ok(0o1));
    assert_eq!(stat("/tmp/missing", 1), Err(Errno::NOENT));
    assert_eq!(stat("tmp/file", 1), Err(Errno::INVAL), "a relative path");
    assert_eq!(fstat(CLOSED), Err(Errno::BADF));
    assert_eq!(call!(wisp::fstat(fd, BAD_ADDRESS)), Err(Errno::FAULT));
    assert_eq!(call!(wisp::stat(address("/"), 1, 1, BAD_ADDRESS)), Err(Errno::FAULT));
}
