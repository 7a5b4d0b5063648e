//! Files, directories and descriptors.

pub use wisp_abi::Stat;

use crate::{Answer, ROOT, address, call};

/// `oflags`: make the file.
pub const CREATE: u32 = 1;
/// `oflags`: fail unless it is a directory.
pub const DIRECTORY: u32 = 2;
/// `oflags`: fail if it exists.
pub const EXCL: u32 = 4;
/// `oflags`: cut it to nothing.
pub const TRUNC: u32 = 8;
/// `rights`: reading.
pub const READ: u64 = 1 << 1;
/// `rights`: writing.
pub const WRITE: u64 = 1 << 6;
/// `fdflags`: write at the end.
pub const APPEND: u32 = 1;
/// `fdflags`: do not wait.
pub const NONBLOCK: u32 = 4;
/// `whence`: from the start.
pub const SET: u32 = 0;
/// `whence`: from the current position.
pub const CURRENT: u32 = 1;
/// `whence`: from the end.
pub const END: u32 = 2;
/// `lookupflags`: follow a symbolic link.
pub const FOLLOW: u32 = 1;
/// `filetype` of pipes and consoles.
pub const TYPE_UNKNOWN: u8 = 0;
/// `filetype` of devices.
pub const TYPE_CHARACTER_DEVICE: u8 = 2;
/// `filetype` of directories.
pub const TYPE_DIRECTORY: u8 = 3;
/// `filetype` of regular files.
pub const TYPE_REGULAR_FILE: u8 = 4;
/// `filetype` of symbolic links.
pub const TYPE_SYMBOLIC_LINK: u8 = 7;

/// A buffer of a scatter or gather call.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Vector {
    /// Where it starts.
    pub address: u32,
    /// Bytes.
    pub len: u32,
}

impl Vector {
    /// Describes a buffer.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            address: address(bytes.as_ptr()),
            len: bytes.len() as u32,
        }
    }
}

/// The standard's `filestat`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are the standard's own")]
pub struct Filestat {
    pub dev: u64,
    pub ino: u64,
    pub filetype: u8,
    pub nlink: u64,
    pub size: u64,
    pub atim: u64,
    pub mtim: u64,
    pub ctim: u64,
}

/// The standard's `fdstat`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are the standard's own")]
pub struct Fdstat {
    pub filetype: u8,
    pub flags: u16,
    pub rights_base: u64,
    pub rights_inheriting: u64,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: Vec<u8>,
    /// Where reading goes on after it.
    pub next: u64,
    /// Its serial number.
    pub ino: u64,
    /// Its type.
    pub filetype: u8,
}

/// The directory programs work in, `/tmp`.
pub fn scratch() -> u32 {
    open_directory(ROOT, "tmp").expect("opening /tmp")
}

/// `path_open`, following links.
pub fn open(dir: u32, path: impl AsRef<[u8]>, oflags: u32, rights: u64, fdflags: u32) -> Answer<u32> {
    open_lookup(dir, FOLLOW, path, oflags, rights, fdflags)
}

/// `path_open` with all its flags.
pub fn open_lookup(
    dir: u32,
    lookup: u32,
    path: impl AsRef<[u8]>,
    oflags: u32,
    rights: u64,
    fdflags: u32,
) -> Answer<u32> {
    let path = path.as_ref();
    let mut fd = u32::MAX;
    let out = address(&raw mut fd);
    call!(preview1::path_open(
        dir,
        lookup,
        address(path),
        path.len() as u32,
        oflags,
        rights,
        rights,
        fdflags,
        out
    ))?;
    Ok(fd)
}

/// Opens a directory.
pub fn open_directory(dir: u32, path: impl AsRef<[u8]>) -> Answer<u32> {
    open(dir, path, DIRECTORY, READ, 0)
}

/// Makes a file or opens it, for reading and writing.
pub fn create(dir: u32, path: impl AsRef<[u8]>) -> u32 {
    open(dir, path, CREATE, READ | WRITE, 0).expect("creating a file")
}

/// Makes a file with these contents.
pub fn create_with(dir: u32, path: impl AsRef<[u8]>, contents: &[u8]) {
    let fd = open(dir, path, CREATE | TRUNC, READ | WRITE, 0).expect("creating a file");
    assert_eq!(write(fd, contents), Ok(contents.len() as u32), "writing a new file");
    close(fd).expect("closing a new file");
}

/// All of a file.
pub fn contents(dir: u32, path: impl AsRef<[u8]>) -> Answer<Vec<u8>> {
    let fd = open(dir, path, 0, READ, 0)?;
    let all = read_to_end(fd)?;
    close(fd)?;
    Ok(all)
}

/// `fd_read` until the end.
pub fn read_to_end(fd: u32) -> Answer<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let part = read(fd, 4096)?;
        if part.is_empty() {
            return Ok(all);
        }
        all.extend(part);
    }
}

/// `fd_close`.
pub fn close(fd: u32) -> Answer {
    call!(preview1::fd_close(fd))
}

/// `fd_read` into one buffer.
pub fn read(fd: u32, len: usize) -> Answer<Vec<u8>> {
    let mut bytes = vec![0; len];
    let vector = Vector {
        address: address(bytes.as_mut_ptr()),
        len: len as u32,
    };
    let mut count = 0u32;
    call!(preview1::fd_read(
        fd,
        address(&raw const vector),
        1,
        address(&raw mut count)
    ))?;
    bytes.truncate(count as usize);
    Ok(bytes)
}

/// `fd_pread` into one buffer.
pub fn pread(fd: u32, len: usize, offset: u64) -> Answer<Vec<u8>> {
    let mut bytes = vec![0; len];
    let vector = Vector {
        address: address(bytes.as_mut_ptr()),
        len: len as u32,
    };
    let mut count = 0u32;
    call!(preview1::fd_pread(
        fd,
        address(&raw const vector),
        1,
        offset,
        address(&raw mut count)
    ))?;
    bytes.truncate(count as usize);
    Ok(bytes)
}

/// `fd_write` of one buffer.
pub fn write(fd: u32, bytes: &[u8]) -> Answer<u32> {
    let vector = Vector::of(bytes);
    let mut count = 0u32;
    call!(preview1::fd_write(
        fd,
        address(&raw const vector),
        1,
        address(&raw mut count)
    ))?;
    Ok(count)
}

/// `fd_pwrite` of one buffer.
pub fn pwrite(fd: u32, bytes: &[u8], offset: u64) -> Answer<u32> {
    let vector = Vector::of(bytes);
    let mut count = 0u32;
    call!(preview1::fd_pwrite(
        fd,
        address(&raw const vector),
        1,
        offset,
        address(&raw mut count)
    ))?;
    Ok(count)
}

/// `fd_seek`.
pub fn seek(fd: u32, offset: i64, whence: u32) -> Answer<u64> {
    let mut position = 0u64;
    call!(preview1::fd_seek(fd, offset, whence, address(&raw mut position)))?;
    Ok(position)
}

/// `fd_tell`.
pub fn tell(fd: u32) -> Answer<u64> {
    let mut position = 0u64;
    call!(preview1::fd_tell(fd, address(&raw mut position)))?;
    Ok(position)
}

/// `fd_filestat_get`.
pub fn filestat(fd: u32) -> Answer<Filestat> {
    let mut stat = Filestat::default();
    call!(preview1::fd_filestat_get(fd, address(&raw mut stat)))?;
    Ok(stat)
}

/// `path_filestat_get`.
pub fn path_filestat(dir: u32, lookup: u32, path: impl AsRef<[u8]>) -> Answer<Filestat> {
    let path = path.as_ref();
    let mut stat = Filestat::default();
    let out = address(&raw mut stat);
    call!(preview1::path_filestat_get(
        dir,
        lookup,
        address(path),
        path.len() as u32,
        out
    ))?;
    Ok(stat)
}

/// `fd_fdstat_get`.
pub fn fdstat(fd: u32) -> Answer<Fdstat> {
    let mut stat = Fdstat::default();
    call!(preview1::fd_fdstat_get(fd, address(&raw mut stat)))?;
    Ok(stat)
}

/// `fd_readdir` from `cookie` on into `capacity` bytes: the whole entries, and the bytes used.
pub fn readdir(fd: u32, cookie: u64, capacity: usize) -> Answer<(Vec<Entry>, usize)> {
    let mut page = vec![0u8; capacity];
    let mut used = 0u32;
    let buffer = address(page.as_mut_ptr());
    call!(preview1::fd_readdir(
        fd,
        buffer,
        capacity as u32,
        cookie,
        address(&raw mut used)
    ))?;
    let mut rest = &page[..used as usize];
    let mut entries = Vec::new();
    while rest.len() >= 24 {
        let long = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().expect("eight bytes"));
        let len = u32::from_le_bytes(rest[16..20].try_into().expect("four bytes")) as usize;
        if rest.len() < 24 + len {
            break;
        }
        entries.push(Entry {
            name: rest[24..24 + len].to_vec(),
            next: long(0),
            ino: long(8),
            filetype: rest[20],
        });
        rest = &rest[24 + len..];
    }
    Ok((entries, used as usize))
}

/// The names in a directory without `.` and `..`, read in pages of `capacity` bytes.
pub fn names(fd: u32, capacity: usize) -> Answer<Vec<String>> {
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        let (entries, used) = readdir(fd, cookie, capacity)?;
        if let Some(last) = entries.last() {
            cookie = last.next;
        } else {
            assert!(used < capacity, "an entry does not fit {capacity} bytes");
        }
        names.extend(
            entries
                .into_iter()
                .map(|entry| String::from_utf8_lossy(&entry.name).into_owned()),
        );
        if used < capacity {
            names.retain(|name| name != "." && name != "..");
            return Ok(names);
        }
    }
}

/// `path_create_directory`.
pub fn mkdir(dir: u32, path: impl AsRef<[u8]>) -> Answer {
    let path = path.as_ref();
    call!(preview1::path_create_directory(dir, address(path), path.len() as u32))
}

/// `path_remove_directory`.
pub fn rmdir(dir: u32, path: impl AsRef<[u8]>) -> Answer {
    let path = path.as_ref();
    call!(preview1::path_remove_directory(dir, address(path), path.len() as u32))
}

/// `path_unlink_file`.
pub fn unlink(dir: u32, path: impl AsRef<[u8]>) -> Answer {
    let path = path.as_ref();
    call!(preview1::path_unlink_file(dir, address(path), path.len() as u32))
}

/// `path_rename` within one directory.
pub fn rename(dir: u32, old: impl AsRef<[u8]>, new: impl AsRef<[u8]>) -> Answer {
    rename_between(dir, old, dir, new)
}

/// `path_rename`.
pub fn rename_between(old_dir: u32, old: impl AsRef<[u8]>, new_dir: u32, new: impl AsRef<[u8]>) -> Answer {
    let (old, new) = (old.as_ref(), new.as_ref());
    let (from, to) = (address(old), address(new));
    call!(preview1::path_rename(
        old_dir,
        from,
        old.len() as u32,
        new_dir,
        to,
        new.len() as u32
    ))
}

/// `path_link` within one directory.
pub fn link(dir: u32, lookup: u32, old: impl AsRef<[u8]>, new: impl AsRef<[u8]>) -> Answer {
    let (old, new) = (old.as_ref(), new.as_ref());
    let (from, to) = (address(old), address(new));
    call!(preview1::path_link(
        dir,
        lookup,
        from,
        old.len() as u32,
        dir,
        to,
        new.len() as u32
    ))
}

/// `path_symlink`: makes `path`, which leads to `target`.
pub fn symlink(target: impl AsRef<[u8]>, dir: u32, path: impl AsRef<[u8]>) -> Answer {
    let (target, path) = (target.as_ref(), path.as_ref());
    call!(preview1::path_symlink(
        address(target),
        target.len() as u32,
        dir,
        address(path),
        path.len() as u32
    ))
}

/// `path_readlink` into `capacity` bytes.
pub fn readlink(dir: u32, path: impl AsRef<[u8]>, capacity: usize) -> Answer<Vec<u8>> {
    let path = path.as_ref();
    let mut target = vec![0; capacity];
    let mut used = 0u32;
    let (buffer, out) = (address(target.as_mut_ptr()), address(&raw mut used));
    call!(preview1::path_readlink(
        dir,
        address(path),
        path.len() as u32,
        buffer,
        capacity as u32,
        out
    ))?;
    target.truncate(used as usize);
    Ok(target)
}

/// `wisp.pipe`: read end, write end.
pub fn pipe() -> Answer<(u32, u32)> {
    let mut ends = [0u32; 2];
    call!(wisp::pipe(address(&raw mut ends)))?;
    Ok((ends[0], ends[1]))
}

/// `wisp.dup`.
pub fn dup(fd: u32, min: u32) -> Answer<u32> {
    let mut number = 0u32;
    call!(wisp::dup(fd, min, address(&raw mut number)))?;
    Ok(number)
}

/// What the kernel has written over bytes that are not zero.
fn decoded(bytes: &[u8; Stat::SIZE]) -> Stat {
    assert_eq!(bytes[80..], [0; 16], "the end of a Stat is zero");
    Stat::decode(bytes)
}

/// `wisp.stat`.
pub fn stat(path: impl AsRef<[u8]>, follow: u32) -> Answer<Stat> {
    let path = path.as_ref();
    let mut bytes = [0xff; Stat::SIZE];
    call!(wisp::stat(
        address(path),
        path.len() as u32,
        follow,
        address(&raw mut bytes)
    ))?;
    Ok(decoded(&bytes))
}

/// `wisp.fstat`.
pub fn fstat(fd: u32) -> Answer<Stat> {
    let mut bytes = [0xff; Stat::SIZE];
    call!(wisp::fstat(fd, address(&raw mut bytes)))?;
    Ok(decoded(&bytes))
}

/// `wisp.chmod`.
pub fn chmod(path: impl AsRef<[u8]>, mode: u32) -> Answer {
    let path = path.as_ref();
    call!(wisp::chmod(address(path), path.len() as u32, 1, mode))
}

/// `wisp.umask`; `u32::MAX` only asks.
pub fn umask(mask: u32) -> Answer<u32> {
    let mut old = 0u32;
    call!(wisp::umask(mask, address(&raw mut old)))?;
    Ok(old)
}

/// `wisp.statfs`: bytes in all, bytes used, inodes in all, inodes used.
pub fn statfs() -> Answer<[u64; 4]> {
    let mut numbers = [0u64; 4];
    call!(wisp::statfs(address(&raw mut numbers)))?;
    Ok(numbers)
}

/// `wisp.mkfifo`.
pub fn mkfifo(path: impl AsRef<[u8]>, mode: u32) -> Answer {
    let path = path.as_ref();
    call!(wisp::mkfifo(address(path), path.len() as u32, mode))
}
