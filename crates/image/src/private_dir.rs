//! The store's directory: private to its owner, written only by renaming finished files into place.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, MetadataExt, OpenOptions, OpenOptionsExt};

use super::digest::{Digest, Hasher};
use super::error::ImageError;

/// A directory below which no name leads out, and which only its owner may write to.
pub struct PrivateDir {
    dir: Dir,
    path: PathBuf,
}

/// Holds back other installers while it lives.
pub(super) struct Lock {
    _file: File,
}

/// A directory for work in progress, removed when dropped.
pub struct Scratch<'a> {
    store: &'a PrivateDir,
    name: String,
}

impl PrivateDir {
    /// Opens a directory, or makes it with access for its owner only.
    pub(super) fn open(path: &Path) -> Result<Self, ImageError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(ImageError::io(parent))?;
        }
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(ImageError::io(path)(error)),
            _ => {}
        }
        let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(ImageError::io(path))?;
        let opened = Self {
            dir,
            path: path.to_owned(),
        };
        opened.check_owner()?;
        Ok(opened)
    }

    /// Refuses a directory that someone else owns or may write to.
    fn check_owner(&self) -> Result<(), ImageError> {
        let directory = self.dir.dir_metadata().map_err(ImageError::io(&self.path))?;
        // A file made now tells which user this process is.
        let (name, file) = self.create_unique("")?;
        let own = file.metadata().map_err(ImageError::io(&self.path));
        self.remove(&name)?;
        let own_uid = std::os::unix::fs::MetadataExt::uid(&own?);
        if directory.uid() != own_uid || directory.mode() & 0o022 != 0 {
            return Err(ImageError::NotPrivate(self.path.clone()));
        }
        Ok(())
    }

    /// The path of something in it, for messages and for other programs.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Waits until no other process installs, and keeps others waiting until the lock is dropped.
    pub(super) fn lock(&self) -> Result<Lock, ImageError> {
        let mut options = OpenOptions::new();
        options.create(true).write(true).mode(0o600);
        let failed = || ImageError::io(self.path("lock"));
        let file = self.dir.open_with("lock", &options).map_err(failed())?.into_std();
        file.lock().map_err(failed())?;
        Ok(Lock { _file: file })
    }

    /// Opens a small file for reading and writing in place, and makes it unless it is there.
    pub(super) fn open_counter(&self, name: &str) -> Result<File, ImageError> {
        let mut options = OpenOptions::new();
        options.create(true).read(true).write(true).mode(0o600);
        let file = self.dir.open_with(name, &options);
        file.map(cap_std::fs::File::into_std)
            .map_err(ImageError::io(self.path(name)))
    }

    /// Makes a directory unless it is there.
    pub(super) fn create_dir(&self, name: &str) -> Result<(), ImageError> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true);
        self.dir
            .create_dir_with(name, &builder)
            .map_err(ImageError::io(self.path(name)))
    }

    /// Whether there is something of this name.
    pub fn exists(&self, name: &str) -> bool {
        self.dir.exists(name)
    }

    /// Opens a file for reading; `None` when there is none.
    pub(super) fn open_file(&self, name: &str) -> Result<Option<File>, ImageError> {
        match self.dir.open(name) {
            Ok(file) => Ok(Some(file.into_std())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io(self.path(name))(error)),
        }
    }

    /// Reads a file; `None` when there is none.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(mut file) = self.open_file(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(ImageError::io(self.path(name)))?;
        Ok(Some(bytes))
    }

    /// Writes a file such that readers see the old one or all of the new one.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        self.write_from(name, bytes).map(|_| ())
    }

    /// Writes a file as [`Self::write`] does, with all that a reader yields; tells its digest and how many bytes it has.
    pub(super) fn write_from(&self, name: &str, reader: impl Read) -> Result<(Digest, u64), ImageError> {
        let (directory, _) = name.rsplit_once('/').unwrap_or_default();
        if !directory.is_empty() {
            self.create_dir(directory)?;
        }
        let (temporary, file) = self.create_unique(directory)?;
        let mut hashing = Hashing {
            reader,
            hasher: Hasher::default(),
        };
        let written = io::copy(&mut hashing, &mut &file).and_then(|count| file.sync_all().map(|()| count));
        let result = written.and_then(|count| self.dir.rename(&temporary, &self.dir, name).map(|()| count));
        if result.is_err() {
            self.remove(&temporary)?;
        }
        let count = result.map_err(ImageError::io(self.path(name)))?;
        Ok((hashing.hasher.finish(), count))
    }

    /// A file without a name, for reading and writing. It is gone when it is closed, whatever happens.
    pub(super) fn unnamed_file(&self) -> Result<File, ImageError> {
        let (name, file) = self.create_unique("")?;
        self.remove(&name)?;
        Ok(file)
    }

    /// Removes a file or a directory with all in it, if it is there.
    pub(super) fn remove(&self, name: &str) -> Result<(), ImageError> {
        let is_dir = self.dir.symlink_metadata(name).is_ok_and(|metadata| metadata.is_dir());
        let result = if is_dir {
            self.dir.remove_dir_all(name)
        } else {
            self.dir.remove_file(name)
        };
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ImageError::io(self.path(name))(error)),
            _ => Ok(()),
        }
    }

    /// The names in one of its directories, sorted; none when it is not there.
    pub(super) fn list(&self, name: &str) -> Result<Vec<String>, ImageError> {
        let entries = match self.dir.read_dir(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(ImageError::io(self.path(name)))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(ImageError::io(self.path(name)))?;
            // Names that are not UTF-8 are not ours.
            names.extend(entry.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Makes a directory for work in progress.
    pub fn scratch(&self) -> Result<Scratch<'_>, ImageError> {
        let name = format!("work/{}", unique_name()?);
        self.create_dir(&name)?;
        Ok(Scratch { store: self, name })
    }

    /// Moves what was made in a scratch directory to its final place.
    pub fn adopt(&self, scratch: &Scratch<'_>, inner: &str, name: &str) -> Result<(), ImageError> {
        if let Some((directory, _)) = name.rsplit_once('/') {
            self.create_dir(directory)?;
        }
        let from = format!("{}/{inner}", scratch.name);
        self.dir
            .rename(from, &self.dir, name)
            .map_err(ImageError::io(self.path(name)))
    }

    /// Makes a file with a name nobody else uses.
    fn create_unique(&self, directory: &str) -> Result<(String, File), ImageError> {
        let unique = unique_name()?;
        let name = if directory.is_empty() {
            unique
        } else {
            format!("{directory}/{unique}")
        };
        let mut options = OpenOptions::new();
        options.create_new(true).read(true).write(true).mode(0o600);
        let file = self
            .dir
            .open_with(&name, &options)
            .map_err(ImageError::io(self.path(&name)))?;
        Ok((name, file.into_std()))
    }
}

/// Digests what is read through it.
struct Hashing<R> {
    reader: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

impl Scratch<'_> {
    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.store.path(&self.name)
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.store.remove(&self.name) {
            tracing::warn!(%error, "a work directory could not be removed");
        }
    }
}

fn unique_name() -> Result<String, ImageError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| ImageError::io("random numbers")(io::Error::other(error)))?;
    Ok(format!(".tmp-{:032x}", u128::from_ne_bytes(bytes)))
}
