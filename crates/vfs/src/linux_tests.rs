//! Random operations here and on the real Linux filesystem give the same answers.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::tests::ROOMY;
use super::*;

#[derive(Debug, Clone)]
enum Op {
    Open {
        path: String,
        create: bool,
        exclusive: bool,
        truncate: bool,
        directory: bool,
        no_follow: bool,
    },
    Close(usize),
    Write(usize, u32, u16),
    Append(usize, u16),
    Truncate(usize, u32),
    Mkdir(String),
    Symlink(String, String),
    Link(String, bool, String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String),
    ReadLink(String),
    Chmod(String, u32),
    Stat(String, bool),
    RemoveAll(String),
}

fn path() -> impl Strategy<Value = String> {
    let component = prop_oneof![6 => "[abc]", 1 => Just("..".to_owned()), 1 => Just(".".to_owned())];
    (
        proptest::collection::vec(component, 1..4),
        prop_oneof![6 => Just(""), 1 => Just("/")],
    )
        .prop_map(|(components, slash)| components.join("/") + slash)
}

fn op() -> impl Strategy<Value = Op> {
    let slot = 0..4usize;
    let offset = prop_oneof![0..10u32, 60_000..140_000u32];
    let flag = || proptest::bool::weighted(0.2);
    prop_oneof![
        6 => (path(), any::<bool>(), flag(), flag(), flag(), flag()).prop_map(
            |(path, create, exclusive, truncate, directory, no_follow)| Op::Open {
                path, create, exclusive: exclusive && create, truncate, directory: directory && !create, no_follow }),
        1 => slot.clone().prop_map(Op::Close),
        3 => (slot.clone(), offset.clone(), 0..3000u16).prop_map(|(s, o, l)| Op::Write(s, o, l)),
        2 => (slot.clone(), 0..3000u16).prop_map(|(s, l)| Op::Append(s, l)),
        2 => (slot, offset).prop_map(|(s, o)| Op::Truncate(s, o)),
        4 => path().prop_map(Op::Mkdir),
        2 => (path(), path()).prop_map(|(a, b)| Op::Symlink(a, b)),
        2 => (path(), any::<bool>(), path()).prop_map(|(a, f, b)| Op::Link(a, f, b)),
        2 => path().prop_map(Op::Unlink),
        2 => path().prop_map(Op::Rmdir),
        4 => (path(), path()).prop_map(|(a, b)| Op::Rename(a, b)),
        1 => path().prop_map(Op::ReadLink),
        1 => (path(), 0..0o10000u32).prop_map(|(p, m)| Op::Chmod(p, m)),
        1 => (path(), any::<bool>()).prop_map(|(p, f)| Op::Stat(p, f)),
        1 => "[abc]".prop_map(Op::RemoveAll),
    ]
}

fn errno(error: Error) -> i32 {
    match error {
        Error::NotFound => libc::ENOENT,
        Error::NotDir => libc::ENOTDIR,
        Error::IsDir => libc::EISDIR,
        Error::Exists => libc::EEXIST,
        Error::NotEmpty => libc::ENOTEMPTY,
        Error::Loop => libc::ELOOP,
        Error::NameTooLong => libc::ENAMETOOLONG,
        Error::NoSpace => libc::ENOSPC,
        Error::TooBig => libc::EFBIG,
        Error::Invalid => libc::EINVAL,
        Error::Busy => libc::EBUSY,
        Error::NotPermitted => libc::EPERM,
        Error::TooManyLinks => libc::EMLINK,
        Error::NotSupported => libc::ENOTSUP,
        Error::Io => libc::EIO,
    }
}

type Answer = std::result::Result<Vec<u8>, i32>;

fn pattern(len: u16) -> Vec<u8> {
    (0..len).map(|n| (n % 250) as u8 + 1).collect()
}

fn describe(kind: u32, mode: u32, nlink: u64, size: u64) -> Vec<u8> {
    let size = if kind == libc::S_IFDIR { 0 } else { size };
    format!("{kind:o} {mode:o} {nlink} {size}").into_bytes()
}

fn describe_ours(stat: Stat) -> Vec<u8> {
    let kind = match stat.kind {
        FileKind::Regular => libc::S_IFREG,
        FileKind::Directory => libc::S_IFDIR,
        FileKind::Symlink => libc::S_IFLNK,
        FileKind::CharDevice => libc::S_IFCHR,
        FileKind::Fifo => libc::S_IFIFO,
    };
    describe(kind, stat.mode, u64::from(stat.nlink), stat.size)
}

struct Ours {
    fs: Fs,
    top: Ino,
    open: [Option<Handle>; 4],
    next: usize,
}

impl Ours {
    fn new() -> Self {
        let fs = Fs::new(ROOMY);
        let top = fs.create_dir_all(ROOT, b"/x/y/z/top", 0o755).unwrap();
        Self {
            fs,
            top,
            open: [const { None }; 4],
            next: 0,
        }
    }

    fn handle(&self, slot: usize) -> std::result::Result<&Handle, PathError> {
        self.open[slot]
            .as_ref()
            .filter(|h| h.stat().unwrap().kind == FileKind::Regular)
            .ok_or(Error::NotSupported.into())
    }

    fn apply(&mut self, op: &Op) -> PathResult<Vec<u8>> {
        let (fs, top) = (self.fs.clone(), self.top);
        match op {
            Op::Open {
                path,
                create,
                exclusive,
                truncate,
                directory,
                no_follow,
            } => {
                let options = OpenOptions {
                    create: *create,
                    exclusive: *exclusive,
                    truncate: *truncate,
                    directory: *directory,
                    no_follow: *no_follow,
                    mode: 0o640,
                };
                let handle = fs.open(top, path.as_bytes(), &options)?;
                self.open[self.next % 4] = Some(handle);
                self.next += 1;
            }
            Op::Close(slot) => self.open[*slot] = None,
            Op::Write(slot, at, len) => {
                let count = self.handle(*slot)?.write_at((*at).into(), &pattern(*len))?;
                assert_eq!(count, usize::from(*len));
            }
            Op::Append(slot, len) => {
                self.handle(*slot)?.append(&pattern(*len))?;
            }
            Op::Truncate(slot, len) => self.handle(*slot)?.set_len((*len).into())?,
            Op::Mkdir(path) => drop(fs.mkdir(top, path.as_bytes(), 0o750)?),
            Op::Symlink(target, path) => drop(fs.symlink(target.as_bytes(), top, path.as_bytes())?),
            Op::Link(old, follow, new) => fs.link(top, old.as_bytes(), *follow, top, new.as_bytes())?,
            Op::Unlink(path) => fs.unlink(top, path.as_bytes())?,
            Op::Rmdir(path) => fs.rmdir(top, path.as_bytes())?,
            Op::Rename(old, new) => fs.rename(top, old.as_bytes(), top, new.as_bytes())?,
            Op::ReadLink(path) => return fs.read_link(top, path.as_bytes()),
            Op::Chmod(path, mode) => fs.chmod(fs.lookup(top, path.as_bytes(), true)?, *mode)?,
            Op::Stat(path, follow) => return Ok(describe_ours(fs.stat_at(top, path.as_bytes(), *follow)?)),
            Op::RemoveAll(path) => fs.remove_all(top, path.as_bytes())?,
        }
        Ok(Vec::new())
    }

    fn dump(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let _ = self.fs.walk::<()>(ROOT, b"/x", |entry| {
            let data = match entry.stat.kind {
                FileKind::Regular => super::tests::contents(&self.fs.open_ino(entry.stat.ino).unwrap()),
                FileKind::Symlink => entry.target.unwrap().to_vec(),
                _ => Vec::new(),
            };
            lines.push(line(entry.path, &describe_ours(entry.stat), &data));
            std::ops::ControlFlow::Continue(())
        });
        lines.sort();
        for handle in self.open.iter().flatten() {
            let stat = handle.stat().unwrap();
            let data = if stat.kind == FileKind::Regular {
                super::tests::contents(handle)
            } else {
                Vec::new()
            };
            lines.push(line(b"(open)", &describe_ours(stat), &data));
        }
        lines
    }
}

fn line(path: &[u8], stat: &[u8], data: &[u8]) -> String {
    let mut hash = std::hash::DefaultHasher::new();
    std::hash::Hasher::write(&mut hash, data);
    let text = String::from_utf8_lossy;
    format!("{} {} {:x}", text(path), text(stat), std::hash::Hasher::finish(&hash))
}

struct Linux {
    root: tempfile::TempDir,
    top: PathBuf,
    open: [Option<File>; 4],
    next: usize,
}

fn checked(result: i32) -> std::result::Result<i32, i32> {
    if result < 0 {
        Err(std::io::Error::last_os_error().raw_os_error().unwrap())
    } else {
        Ok(result)
    }
}

fn plain<T>(result: std::io::Result<T>) -> std::result::Result<T, i32> {
    result.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
}

impl Linux {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("x/y/z/top");
        std::fs::create_dir_all(&top).unwrap();
        Self {
            root,
            top,
            open: [const { None }; 4],
            next: 0,
        }
    }

    fn c_path(&self, path: &str) -> CString {
        CString::new(format!("{}/{path}", self.top.display())).unwrap()
    }

    fn handle(&self, slot: usize) -> std::result::Result<&File, i32> {
        self.open[slot]
            .as_ref()
            .filter(|f| f.metadata().unwrap().is_file())
            .ok_or(libc::ENOTSUP)
    }

    #[allow(unsafe_code, reason = "the test compares with raw system calls")]
    fn apply(&mut self, op: &Op) -> Answer {
        match op {
            Op::Open {
                path,
                create,
                exclusive,
                truncate,
                directory,
                no_follow,
            } => {
                let path = self.c_path(path);
                let flag = |set: &bool, flag| if *set { flag } else { 0 };
                let flags = flag(create, libc::O_CREAT)
                    | flag(exclusive, libc::O_EXCL)
                    | flag(truncate, libc::O_TRUNC)
                    | flag(directory, libc::O_DIRECTORY)
                    | flag(no_follow, libc::O_NOFOLLOW)
                    | libc::O_CLOEXEC;
                // SAFETY: the path is NUL-terminated; the new descriptor is owned by nobody else.
                let open = |access| checked(unsafe { libc::open(path.as_ptr(), flags | access, 0o640) });
                let fd = match open(libc::O_RDWR) {
                    Err(libc::EISDIR) if !create && !truncate => open(libc::O_RDONLY),
                    other => other,
                }?;
                // SAFETY: as above.
                self.open[self.next % 4] = Some(File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
                self.next += 1;
            }
            Op::Close(slot) => self.open[*slot] = None,
            Op::Write(slot, at, len) => plain(self.handle(*slot)?.write_all_at(&pattern(*len), (*at).into()))?,
            Op::Append(slot, len) => {
                let file = self.handle(*slot)?;
                plain(file.write_all_at(&pattern(*len), file.metadata().unwrap().len()))?;
            }
            Op::Truncate(slot, len) => plain(self.handle(*slot)?.set_len((*len).into()))?,
            // SAFETY (here and below): all paths are NUL-terminated strings that outlive the call.
            Op::Mkdir(path) => drop(checked(unsafe { libc::mkdir(self.c_path(path).as_ptr(), 0o750) })?),
            Op::Symlink(target, path) => {
                let target = CString::new(target.as_bytes()).unwrap();
                checked(unsafe { libc::symlink(target.as_ptr(), self.c_path(path).as_ptr()) })?;
            }
            Op::Link(old, follow, new) => {
                let flags = if *follow { libc::AT_SYMLINK_FOLLOW } else { 0 };
                let (old, new) = (self.c_path(old), self.c_path(new));
                checked(unsafe { libc::linkat(libc::AT_FDCWD, old.as_ptr(), libc::AT_FDCWD, new.as_ptr(), flags) })?;
            }
            Op::Unlink(path) => drop(checked(unsafe { libc::unlink(self.c_path(path).as_ptr()) })?),
            Op::Rmdir(path) => drop(checked(unsafe { libc::rmdir(self.c_path(path).as_ptr()) })?),
            Op::Rename(old, new) => {
                let (old, new) = (self.c_path(old), self.c_path(new));
                checked(unsafe { libc::rename(old.as_ptr(), new.as_ptr()) })?;
            }
            Op::ReadLink(path) => {
                let mut target = vec![0u8; 4096];
                let path = self.c_path(path);
                let len = unsafe { libc::readlink(path.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
                let len = checked(i32::try_from(len).unwrap())?;
                target.truncate(usize::try_from(len).unwrap());
                return Ok(target);
            }
            Op::Chmod(path, mode) => drop(checked(unsafe { libc::chmod(self.c_path(path).as_ptr(), *mode) })?),
            Op::Stat(path, follow) => {
                let path = self.top.join(".").into_os_string().into_string().unwrap() + "/" + path;
                let data = if *follow {
                    std::fs::metadata(&path)
                } else {
                    std::fs::symlink_metadata(&path)
                };
                return plain(data).map(|data| describe_linux(&data));
            }
            Op::RemoveAll(path) => {
                let path = self.top.join(path);
                let is_dir = plain(path.symlink_metadata())?.is_dir();
                plain(if is_dir {
                    std::fs::remove_dir_all(&path)
                } else {
                    std::fs::remove_file(&path)
                })?;
            }
        }
        Ok(Vec::new())
    }

    fn dump(&self) -> Vec<String> {
        let base = self.root.path().join("x");
        let mut lines = Vec::new();
        let mut pending = vec![base.clone()];
        while let Some(path) = pending.pop() {
            let data = path.symlink_metadata().unwrap();
            let bytes = if data.is_dir() {
                pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                Vec::new()
            } else if data.is_symlink() {
                std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else {
                std::fs::read(&path).unwrap()
            };
            let relative: &Path = path.strip_prefix(&base).unwrap();
            lines.push(line(relative.as_os_str().as_bytes(), &describe_linux(&data), &bytes));
        }
        lines.sort();
        for file in self.open.iter().flatten() {
            let data = file.metadata().unwrap();
            let mut bytes = Vec::new();
            if data.is_file() {
                bytes.resize(usize::try_from(data.len()).unwrap(), 0);
                file.read_exact_at(&mut bytes, 0).unwrap();
            }
            lines.push(line(b"(open)", &describe_linux(&data), &bytes));
        }
        lines
    }
}

fn describe_linux(data: &std::fs::Metadata) -> Vec<u8> {
    describe(
        data.mode() & libc::S_IFMT,
        data.permissions().mode() & 0o7777,
        data.nlink(),
        data.len(),
    )
}

#[test]
fn random_operations_answer_as_linux() {
    // SAFETY: only the umask of the test process changes.
    #[allow(unsafe_code, reason = "std has no umask")]
    unsafe {
        libc::umask(0o022);
    }
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(150);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&proptest::collection::vec(op(), 1..80), |ops| {
            let (mut ours, mut linux) = (Ours::new(), Linux::new());
            for (step, op) in ops.iter().enumerate() {
                let mine = ours.apply(op).map_err(|error| errno(error.or(Error::NotSupported)));
                let theirs = linux.apply(op);
                prop_assert_eq!(&mine, &theirs, "step {} {:?}", step, op);
                prop_assert_eq!(ours.dump(), linux.dump(), "after step {} {:?}", step, op);
            }
            ours.fs.check_account();
            Ok(())
        })
        .unwrap();
}
