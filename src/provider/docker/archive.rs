//! Trees of a sandbox as archives, through the engine's archive calls.

use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::body_try_stream;
use bollard::query_parameters::UploadToContainerOptionsBuilder;
use futures_util::StreamExt as _;

use super::engine::Engine;
use super::owner::Owner;
use super::{errno, files, script};
use crate::provider::archive::{ArchiveError, Entry, EntryKind, Reader, rewritten};
use crate::provider::{ByteStream, ProviderError};

/// Most bytes that the directories and links below a directory may take to tell.
const MAX_TREE: usize = 32 << 20;
/// How long an upload may take.
const UPLOAD_TIME: Duration = Duration::from_secs(3600);

/// A tar of the tree below a directory, or of one file.
///
/// # Errors
/// See [`files::look`].
pub async fn read(engine: &Arc<Engine>, container: &str, path: &str) -> Result<ByteStream, ProviderError> {
    let (found, target) = files::follow(engine, container, path).await?;
    let source = if found.is_directory() {
        // Names are then relative to the directory.
        format!("{}/.", target.trim_end_matches('/'))
    } else {
        target
    };
    let reader = Reader::new(files::download(engine, container, &source).await?).without_devices();
    // The owners in the container mean nothing elsewhere.
    Ok(rewritten(reader, (0, 0), |entry| Ok(vec![entry])))
}

/// Unpacks a tar into a directory, which is made if there is none. What comes before an error stays.
///
/// # Errors
/// See [`files::look`]; [`ProviderError::Invalid`] for a malformed archive.
pub async fn write(engine: &Arc<Engine>, container: &str, path: &str, tar: ByteStream) -> Result<(), ProviderError> {
    const SCRIPT: &str = include_str!("scripts/unpack.sh");
    let looked = script::run(engine, container, SCRIPT, &[path], MAX_TREE).await?;
    if looked.status != 0 {
        return Err(errno::of_script(path, &looked));
    }
    let Some((owner, target, tree)) = Tree::parse(&looked.output) else {
        return Err(ProviderError::Internal(format!("the tree below {path} cannot be read")));
    };
    let broken = Arc::new(Mutex::new(None));
    let body = {
        let broken = Arc::clone(&broken);
        let mut tree = tree;
        let entries = rewritten(Reader::new(tar), (owner.uid, owner.gid), move |entry| tree.place(entry));
        entries.map(move |piece| {
            piece.map_err(|error| {
                let message = error.to_string();
                *broken.lock() = Some(error);
                std::io::Error::other(message)
            })
        })
    };
    let options = UploadToContainerOptionsBuilder::default()
        .path(&target)
        .no_overwrite_dir_non_dir("true")
        .build();
    let connection = engine.connect().await?;
    let docker = connection.docker.clone().with_timeout(UPLOAD_TIME);
    let uploaded = docker
        .upload_to_container(container, Some(options), body_try_stream(body))
        .await;
    // What is wrong with the archive tells more than how the engine took its end.
    if let Some(error) = broken.lock().take() {
        return Err(error);
    }
    uploaded.map_err(|error| match files::path_failure(engine, path, error) {
        // The directory was there a moment ago: it is an entry's hard link that leads nowhere within it.
        ProviderError::FileNotFound(path) => ProviderError::BadPath {
            path,
            reason: "an entry of the archive links to a file that is not there".to_owned(),
        },
        other => other,
    })
}

/// What is below the directory that an archive is unpacked into.
struct Tree {
    /// Paths of symbolic links: nothing is unpacked through them.
    links: HashSet<Vec<u8>>,
    /// Paths of directories.
    directories: HashSet<Vec<u8>>,
}

impl Tree {
    /// Reads what `unpack.sh` writes: the user, the directory's real path, the tree.
    fn parse(told: &[u8]) -> Option<(Owner, String, Self)> {
        let mut fields = told.split(|byte| *byte == 0);
        let mut text = || fields.next().and_then(|field| String::from_utf8(field.to_vec()).ok());
        let owner = Owner::parse(&text()?, &text()?)?;
        let target = text()?;
        let path = |field: &[u8]| field.strip_prefix(b"./").unwrap_or(field).to_vec();
        // An empty field ends the links.
        let links = fields
            .by_ref()
            .take_while(|field| !field.is_empty())
            .map(path)
            .collect();
        let directories = fields.map(path).collect();
        Some((owner, target, Self { links, directories }))
    }

    /// What to unpack for an entry: before it the directories it needs, which the engine would make as root's.
    fn place(&mut self, entry: Entry) -> Result<Vec<Entry>, ArchiveError> {
        let mut entries = Vec::new();
        let slashes = |path: &[u8]| -> Vec<usize> {
            let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            slashes.map(|(at, _)| at).collect()
        };
        let through = |path: &[u8]| slashes(path).into_iter().any(|end| self.links.contains(&path[..end]));
        let target_through = matches!(&entry.kind, EntryKind::HardLink { target } if through(target));
        if through(&entry.path) || target_through {
            return Err(ArchiveError::refused(&entry.path, "leads through a symbolic link"));
        }
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        for end in slashes(&entry.path) {
            let parent = &entry.path[..end];
            if self.directories.insert(parent.to_vec()) {
                entries.push(Entry {
                    path: parent.to_vec(),
                    kind: EntryKind::Directory,
                    mode: 0o755,
                    mtime: now.as_secs(),
                });
            }
        }
        if entry.kind == EntryKind::Directory {
            self.directories.insert(entry.path.clone());
        }
        // It takes the place of a link of that name.
        self.links.remove(&entry.path);
        entries.push(entry);
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry {
            path: path.as_bytes().to_vec(),
            kind,
            mode: 0o644,
            mtime: 1,
        }
    }

    fn tree() -> Tree {
        let told = b"1000\x001000\0/dir\0./out\0./a/in\0\0.\0./a\0";
        let (owner, target, tree) = Tree::parse(told).unwrap();
        assert_eq!((owner, target.as_str()), (Owner { uid: 1000, gid: 1000 }, "/dir"));
        tree
    }

    #[test]
    fn nothing_is_unpacked_through_a_link_that_is_there() {
        let file = EntryKind::File { size: 0 };
        let link = EntryKind::HardLink {
            target: b"out/passwd".to_vec(),
        };
        for refused in [
            entry("out/x", file.clone()),
            entry("a/in/b/c", file.clone()),
            entry("x", link),
        ] {
            assert!(tree().place(refused.clone()).is_err(), "{refused:?}");
        }
        // The link itself may be replaced.
        let mut tree = tree();
        tree.place(entry("out", EntryKind::Directory)).unwrap();
        tree.place(entry("out/x", file)).unwrap();
    }

    #[test]
    fn missing_directories_of_an_archive_come_before_their_contents() {
        let mut tree = tree();
        let mut placed = |path| {
            let entries = tree.place(entry(path, EntryKind::File { size: 0 })).unwrap();
            let paths = entries.into_iter().map(|entry| String::from_utf8(entry.path).unwrap());
            paths.collect::<Vec<_>>()
        };
        assert_eq!(placed("a/b/c/f"), ["a/b", "a/b/c", "a/b/c/f"]);
        assert_eq!(placed("a/b/g"), ["a/b/g"]);
    }
}
