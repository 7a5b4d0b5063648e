//! Layers: directory trees packed into one file each.
//!
//! A packed layer is a plain tar archive, so that any tool can look into it. It is mapped into memory when an image is
//! loaded, and the files of the sandbox are slices of the mapping.

use std::ffi::OsStr;
use std::io::{self, Cursor};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, PermissionsExt};
use memmap2::{Mmap, UncheckedAdvice};
use tar::{EntryType, Header};

use super::digest::Digest;
use super::error::ImageError;
use super::private_dir::PrivateDir;
use super::soundness;
use wisp_vfs::{Blob, FileKind, Fs, PathError, ROOT};

/// Time of every file of an image, s since 1970: 2026-01-01. A fixed one makes the same files give the same digest;
/// one after 1980 can be stored in zip files.
const FILE_TIME: u64 = 1_767_225_600;

/// The clock of a file system that is being filled from layers, ns since 1970.
pub fn file_time() -> u64 {
    FILE_TIME * 1_000_000_000
}

/// What an entry of a layer is.
enum Content {
    Directory,
    Symlink(Vec<u8>),
    File(Vec<u8>),
}

/// Collects the entries of a layer.
struct Packer(tar::Builder<Vec<u8>>);

impl Packer {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(&mut self, path: &Path, mode: u32, content: &Content) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_mode(mode & 0o7777);
        header.set_mtime(FILE_TIME);
        header.set_size(0);
        match content {
            Content::Directory => {
                header.set_entry_type(EntryType::Directory);
                self.0.append_data(&mut header, path, io::empty())
            }
            Content::Symlink(target) => {
                header.set_entry_type(EntryType::Symlink);
                self.0.append_link(&mut header, path, OsStr::from_bytes(target))
            }
            Content::File(bytes) => {
                header.set_size(bytes.len() as u64);
                self.0.append_data(&mut header, path, bytes.as_slice())
            }
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        self.0.into_inner()
    }
}

/// Packs a directory of the host. Names are sorted and times left out, so that equal trees give equal bytes.
pub fn pack_directory(path: &Path) -> Result<Vec<u8>, ImageError> {
    let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(ImageError::io(path))?;
    let mut packer = Packer::new();
    let mut pending = vec![Path::new(".").to_owned()];
    while let Some(name) = pending.pop() {
        let failed = || ImageError::io(path.join(&name));
        let metadata = dir.symlink_metadata(&name).map_err(failed())?;
        let content = if metadata.is_dir() {
            let entries = dir.read_dir(&name).map_err(failed())?;
            let mut children = Vec::new();
            for entry in entries {
                children.push(name.join(entry.map_err(failed())?.file_name()));
            }
            // The last one pushed is visited next.
            children.sort_unstable_by(|a, b| b.cmp(a));
            pending.append(&mut children);
            Content::Directory
        } else if metadata.is_symlink() {
            let target = dir.read_link_contents(&name).map_err(failed())?;
            Content::Symlink(target.as_os_str().as_bytes().to_vec())
        } else if metadata.is_file() {
            Content::File(dir.read(&name).map_err(failed())?)
        } else {
            return Err(failed()(io::Error::other(
                "neither a file, a directory nor a symbolic link",
            )));
        };
        let inner = name.strip_prefix(".").unwrap_or(&name);
        if !inner.as_os_str().is_empty() {
            packer
                .add(inner, metadata.permissions().mode(), &content)
                .map_err(failed())?;
        }
    }
    packer.finish().map_err(ImageError::io(path))
}

/// Packs a directory of a sandbox's file system.
pub fn pack_tree(fs: &Fs, directory: &str) -> Result<Vec<u8>, ImageError> {
    let failed = || ImageError::io(directory);
    let mut found = Vec::new();
    let walked = fs.walk(ROOT, directory.as_bytes(), |entry| {
        found.push((entry.path.to_vec(), entry.stat, entry.target.map(<[u8]>::to_vec)));
        std::ops::ControlFlow::<()>::Continue(())
    });
    let _ = walked.map_err(|error| failed()(io::Error::other(error.to_string())))?;
    let mut packer = Packer::new();
    for (path, stat, target) in found {
        let content = match (stat.kind, target) {
            (FileKind::Directory, _) => Content::Directory,
            (FileKind::Symlink, Some(target)) => Content::Symlink(target),
            (FileKind::Regular, _) => {
                let handle = fs
                    .open_ino(stat.ino)
                    .map_err(|error| failed()(io::Error::other(error)))?;
                let mut bytes = vec![0; usize::try_from(stat.size).unwrap_or(usize::MAX)];
                let read = handle
                    .read_at(0, &mut bytes)
                    .map_err(|error| failed()(io::Error::other(error)))?;
                bytes.truncate(read);
                Content::File(bytes)
            }
            _ => continue,
        };
        if !path.is_empty() {
            packer
                .add(Path::new(OsStr::from_bytes(&path)), stat.mode, &content)
                .map_err(failed())?;
        }
    }
    packer.finish().map_err(failed())
}

/// Name of a packed layer in the store.
pub(super) fn stored_name(digest: Digest) -> String {
    format!("layers/{digest}.tar")
}

/// Stores a packed layer.
pub(super) fn store(store: &PrivateDir, packed: &[u8]) -> Result<Digest, ImageError> {
    let digest = Digest::of(packed);
    let name = stored_name(digest);
    if !store.exists(&name) {
        store.write(&name, packed)?;
    }
    Ok(digest)
}

/// Maps a layer of the store into memory.
pub(super) fn map(store: &PrivateDir, digest: Digest) -> Result<Arc<Mmap>, ImageError> {
    let name = stored_name(digest);
    let damaged = || ImageError::Damaged(store.path(&name).display().to_string());
    let file = store.open_file(&name)?.ok_or_else(damaged)?;
    // SAFETY: nobody but this user can write to the store's directory, and wisp replaces files there by renaming, never
    // changes or shortens them.
    #[expect(unsafe_code, reason = "a mapping changes with its file")]
    let map = unsafe { Mmap::map(&file) }.map_err(ImageError::io(store.path(&name)))?;
    let check = || Ok(Digest::of(&map) == digest);
    if soundness::is_sound(store, &name, &file, &digest.to_string(), check)? {
        Ok(Arc::new(map))
    } else {
        Err(damaged())
    }
}

/// Lets go of the pages that [`apply`] has read: the header of each file, and with it what lies around it. What is used of
/// the files comes back from the page cache.
pub(super) fn release_pages(map: &Mmap) {
    // SAFETY: the mapping is of a file and read-only, so that no page has anything that is not in the file.
    #[expect(unsafe_code, reason = "on other mappings the call loses what was written")]
    let released = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
    // If not, they are only in the way.
    let _ = released;
}

/// Why a layer cannot be laid over a file system.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayerError {
    /// Not a tar archive.
    #[error("{0}")]
    Archive(#[from] io::Error),
    /// An entry does not fit what is there.
    #[error("/{path}: {error}")]
    Entry {
        /// The entry.
        path: String,
        /// What the file system said.
        error: PathError,
    },
    /// An entry that is neither a file, a directory nor a symbolic link, or one outside of the archive.
    #[error("/{0}: not an entry a layer may have")]
    Kind(String),
}

/// Lays a packed layer over a file system: directories are merged, anything else replaces what is there.
pub(super) fn apply<B>(fs: &Fs, layer: &Arc<B>) -> Result<(), LayerError>
where
    B: AsRef<[u8]> + Send + Sync + 'static,
{
    let blob: Blob = layer.clone();
    let bytes = (**layer).as_ref();
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = entry.path_bytes();
        let name = name.strip_suffix(b"/").unwrap_or(&name);
        let path = [b"/", name].concat();
        let shown = || String::from_utf8_lossy(name).into_owned();
        let failed = |error: PathError| LayerError::Entry { path: shown(), error };
        let mode = entry.header().mode()? & 0o7777;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            let ino = fs.create_dir_all(ROOT, &path, 0o755).map_err(failed)?;
            fs.chmod(ino, mode).map_err(|error| failed(error.into()))?;
            continue;
        }
        make_room(fs, &path).map_err(failed)?;
        if kind.is_symlink() {
            let target = entry.link_name_bytes().ok_or_else(|| LayerError::Kind(shown()))?;
            fs.symlink(&target, ROOT, &path).map_err(failed)?;
        } else if kind.is_file() {
            let start = usize::try_from(entry.raw_file_position()).ok();
            let size = usize::try_from(entry.size()).ok();
            let range = start
                .zip(size)
                .and_then(|(start, size)| Some(start..start.checked_add(size)?));
            let range = range
                .filter(|range| range.end <= bytes.len())
                .ok_or_else(|| LayerError::Kind(shown()))?;
            fs.import_file(ROOT, &path, mode, Arc::clone(&blob), range)
                .map_err(failed)?;
        } else {
            return Err(LayerError::Kind(shown()));
        }
    }
    Ok(())
}

/// Makes the parent directories of a path and removes what has that name.
pub fn make_room(fs: &Fs, path: &[u8]) -> Result<(), PathError> {
    let parent = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    // Nearly always the directory is there: its entry came before.
    if parent > 0 && fs.lookup(ROOT, &path[..parent], true).is_err() {
        fs.create_dir_all(ROOT, &path[..parent], 0o755)?;
    }
    match fs.lookup(ROOT, path, false) {
        Ok(_) => fs.remove_all(ROOT, path),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use wisp_vfs::Limits;

    fn empty() -> Fs {
        Fs::new(Limits {
            max_bytes: 1 << 30,
            max_inodes: 1 << 20,
        })
    }

    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("usr/lib").join("x".repeat(200));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("file"), b"contents").unwrap();
        std::fs::set_permissions(deep.join("file"), std::fs::Permissions::from_mode(0o4755)).unwrap();
        std::os::unix::fs::symlink("usr/lib", dir.path().join("lib")).unwrap();
        dir
    }

    #[test]
    fn a_packed_directory_comes_back_with_modes_links_and_long_names() {
        let dir = sample();
        let fs = empty();
        fs.set_clock(file_time);
        apply(&fs, &Arc::new(pack_directory(dir.path()).unwrap())).unwrap();
        let path = format!("/lib/{}/file", "x".repeat(200));
        let stat = fs.stat_at(ROOT, path.as_bytes(), true).unwrap();
        assert_eq!((stat.mode, stat.size, stat.mtime), (0o4755, 8, file_time()));
        assert_eq!(fs.read_link(ROOT, b"/lib").unwrap(), b"usr/lib");
    }

    #[test]
    fn equal_trees_pack_to_equal_bytes() {
        assert_eq!(
            pack_directory(sample().path()).unwrap(),
            pack_directory(sample().path()).unwrap()
        );
    }

    #[test]
    fn a_tree_of_the_sandbox_packs_like_one_of_the_host() {
        let packed = pack_directory(sample().path()).unwrap();
        let fs = empty();
        apply(&fs, &Arc::new(packed.clone())).unwrap();
        let again = empty();
        apply(&again, &Arc::new(pack_tree(&fs, "/").unwrap())).unwrap();
        assert_eq!(pack_tree(&again, "/").unwrap(), pack_tree(&fs, "/").unwrap());
    }

    #[test]
    fn a_broken_layer_is_an_error() {
        let packed = pack_directory(sample().path()).unwrap();
        for cut in [1, 600, packed.len() / 2] {
            let _ = apply(&empty(), &Arc::new(packed[..cut].to_vec()));
        }
        let mut damaged = packed;
        damaged[148] ^= 1;
        assert!(apply(&empty(), &Arc::new(damaged)).is_err());
    }

    #[test]
    fn later_layers_replace_files_and_merge_directories() {
        let fs = empty();
        let first = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(first.path().join("etc")).unwrap();
        std::fs::write(first.path().join("etc/a"), b"1").unwrap();
        std::fs::write(first.path().join("etc/b"), b"1").unwrap();
        apply(&fs, &Arc::new(pack_directory(first.path()).unwrap())).unwrap();
        std::fs::remove_file(first.path().join("etc/a")).unwrap();
        std::fs::write(first.path().join("etc/b"), b"22").unwrap();
        apply(&fs, &Arc::new(pack_directory(first.path()).unwrap())).unwrap();
        assert_eq!(fs.stat_at(ROOT, b"/etc/a", true).unwrap().size, 1);
        assert_eq!(fs.stat_at(ROOT, b"/etc/b", true).unwrap().size, 2);
    }
}
