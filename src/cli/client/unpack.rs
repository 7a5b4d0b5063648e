//! A tar from a sandbox, unpacked on this machine. Its contents are whatever the sandbox's programs made them: nothing
//! is written outside the directory, and no link is made that leads out of it.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, OpenOptions, OpenOptionsExt as _};

use super::{ClientError, printable};
use crate::provider::ByteStream;
use crate::provider::archive::{Entry, EntryKind, Reader};

/// Permission bits that are kept, less the user's umask: none that give rights of other users.
const KEPT_BITS: u32 = 0o777;
/// What a directory's owner may do in any case, or nothing could be unpacked into it.
const OWNER_BITS: u32 = 0o700;

/// Unpacks into a directory that exists; files that are there are replaced. Whether all was unpacked: what is left out
/// is said on standard error.
///
/// # Errors
/// When the archive is malformed, or something cannot be written. What came before stays.
pub(super) async fn unpack(tar: ByteStream, directory: &Path) -> Result<bool, ClientError> {
    let here = |source| ClientError::Local {
        path: directory.to_owned(),
        source,
    };
    let root = Dir::open_ambient_dir(directory, ambient_authority()).map_err(here)?;
    let mut reader = Reader::new(tar);
    let mut complete = true;
    while let Some(entry) = reader.next().await? {
        let path = Path::new(OsStr::from_bytes(&entry.path));
        let failed = |source| ClientError::Local {
            path: directory.join(path),
            source,
        };
        match make(&root, path, &entry).map_err(failed)? {
            Made::File(mut file) => {
                while let Some(piece) = reader.contents().await? {
                    file.write_all(&piece).map_err(failed)?;
                }
            }
            Made::Done => {}
            Made::LeftOut(reason) => {
                complete = false;
                writeln!(
                    io::stderr(),
                    "wisp: left out {}: {reason}",
                    printable(&directory.join(path))
                )?;
            }
        }
    }
    Ok(complete)
}

/// What became of an entry.
enum Made {
    /// A file that awaits its contents.
    File(cap_std::fs::File),
    Done,
    LeftOut(&'static str),
}

fn make(root: &Dir, path: &Path, entry: &Entry) -> io::Result<Made> {
    if entry.path.is_empty() {
        // The directory itself, which is there.
        return Ok(Made::Done);
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        root.create_dir_all(parent)?;
    }
    let mode = entry.mode & KEPT_BITS;
    match &entry.kind {
        EntryKind::Directory => {
            let mut builder = DirBuilder::new();
            builder.mode(mode | OWNER_BITS);
            match root.create_dir_with(path, &builder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && root.is_dir(path) => {}
                made => made?,
            }
        }
        EntryKind::File { .. } => {
            clear(root, path)?;
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(mode);
            return Ok(Made::File(root.open_with(path, &options)?));
        }
        EntryKind::Symlink { target } if stays_inside(&entry.path, target) => {
            clear(root, path)?;
            root.symlink(OsStr::from_bytes(target), path)?;
        }
        EntryKind::Symlink { .. } => return Ok(Made::LeftOut("a link that leads out of the directory")),
        EntryKind::HardLink { target } => {
            let target = Path::new(OsStr::from_bytes(target));
            // A second name for a symbolic link would be read from another place than the link was checked for.
            if !root.symlink_metadata(target)?.is_file() {
                return Ok(Made::LeftOut("a second name of something that is no file"));
            }
            clear(root, path)?;
            root.hard_link(target, root, path)?;
        }
    }
    Ok(Made::Done)
}

/// Makes room for a file: what has its name is replaced, not written through.
fn clear(root: &Dir, path: &Path) -> io::Result<()> {
    match root.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Whether a link leads to something in the directory that is unpacked into, whatever other links there are: `..` may
/// only come first, and not more often than the link is deep.
fn stays_inside(path: &[u8], target: &[u8]) -> bool {
    let depth = path.split(|byte| *byte == b'/').count() - 1;
    let components: Vec<&[u8]> = target
        .split(|byte| *byte == b'/')
        .filter(|component| !matches!(*component, b"" | b"."))
        .collect();
    let ups = components.iter().take_while(|component| **component == b"..").count();
    !target.starts_with(b"/") && ups <= depth && components[ups..].iter().all(|component| *component != b"..")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use bytes::{Bytes, BytesMut};
    use futures_util::{StreamExt as _, stream};

    use super::*;
    use crate::provider::archive::{END, encode, padding};

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry {
            path: path.as_bytes().to_vec(),
            kind,
            mode: 0o1755,
            mtime: 0,
        }
    }

    fn link(path: &str, target: &str) -> (Entry, &'static str) {
        let target = target.as_bytes().to_vec();
        (entry(path, EntryKind::Symlink { target }), "")
    }

    fn file(path: &str, contents: &'static str) -> (Entry, &'static str) {
        let size = contents.len() as u64;
        (entry(path, EntryKind::File { size }), contents)
    }

    async fn unpacked(entries: &[(Entry, &'static str)], directory: &Path) -> Result<bool, ClientError> {
        let mut tar = BytesMut::new();
        for (entry, contents) in entries {
            encode(entry, &mut tar);
            tar.extend_from_slice(contents.as_bytes());
            tar.extend_from_slice(padding(contents.len() as u64));
        }
        tar.extend_from_slice(&END);
        let tar: Bytes = tar.freeze();
        unpack(stream::once(async { Ok(tar) }).boxed(), directory).await
    }

    #[test]
    fn a_link_stays_inside_when_it_goes_up_no_further_than_it_is_deep() {
        for (path, target) in [
            ("a", "b"),
            ("d/a", "../b"),
            ("a", "./b/c"),
            ("d/e/a", "../../b"),
            ("a", "."),
        ] {
            assert!(stays_inside(path.as_bytes(), target.as_bytes()), "{path} -> {target}");
        }
        for (path, target) in [
            ("a", "/etc/passwd"),
            ("a", ".."),
            ("a", "../b"),
            ("d/a", "../../b"),
            // Where b is a link to ".", this is the parent of the directory.
            ("d/a", "../b/.."),
            ("a", "b/.."),
            ("a", "./../b"),
        ] {
            assert!(!stays_inside(path.as_bytes(), target.as_bytes()), "{path} -> {target}");
        }
    }

    #[tokio::test]
    async fn files_directories_and_links_replace_existing_ones() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        let directory = place.path().join("into");
        fs::create_dir_all(directory.join("d")).unwrap();
        fs::write(&outside, "untouched").unwrap();
        symlink(&outside, directory.join("d/file")).unwrap();
        let hard = EntryKind::HardLink {
            target: b"d/file".to_vec(),
        };
        let entries = [
            (entry("", EntryKind::Directory), ""),
            (entry("d", EntryKind::Directory), ""),
            file("d/file", "hello"),
            (entry("second", hard), ""),
            link("d/link", "../second"),
            file("made/on/the/way", ""),
        ];
        for _ in 0..2 {
            assert!(unpacked(&entries, &directory).await.unwrap());
            for name in ["d/file", "second", "d/link"] {
                assert_eq!(fs::read_to_string(directory.join(name)).unwrap(), "hello", "{name}");
            }
        }
        assert_eq!(fs::read_to_string(outside).unwrap(), "untouched");
        let mode = fs::metadata(directory.join("d/file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7000, 0, "{mode:o}");
    }

    #[tokio::test]
    async fn nothing_is_written_or_linked_outside() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("into");
        fs::create_dir(&directory).unwrap();
        let entries = [link("out", ".."), link("etc", "/etc"), file("last", "")];
        assert!(!unpacked(&entries, &directory).await.unwrap());
        let names: Vec<_> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["last"]);

        // A link of the archive's own, and one that was there.
        assert!(unpacked(&[link("d", "."), file("d/x", "")], &directory).await.is_err());
        symlink("..", directory.join("mine")).unwrap();
        assert!(unpacked(&[file("mine/x", "")], &directory).await.is_err());
        assert!(!place.path().join("x").exists());
    }
}
