//! The server's data directory: created private, and locked while a server uses it.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The operating system refuses.
    #[error("data_dir {path}: {source}", path = path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Another server uses it.
    #[error("data_dir {}: another wisp server uses it; stop that one, or give this one a data_dir of its own", .0.display())]
    InUse(PathBuf),
}

/// A data directory that this process alone uses, until this is dropped or the process ends.
///
/// It holds `wisp.db`, the database, and `sandboxes/`, a directory for each sandbox with files to keep.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl DataDir {
    /// Makes the directory if there is none, for this user only, and takes it.
    ///
    /// # Errors
    /// When it cannot be made or another server uses it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Io {
            path: path.to_owned(),
            source,
        };
        Self::make(path)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let path = fs::canonicalize(path).map_err(failed)?;
        Ok(Self { path, _lock: lock })
    }

    /// Makes the directory if there is none, for this user only, without taking it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(path: &Path) -> Result<(), DataDirError> {
        let failed = |source| DataDirError::Io {
            path: path.to_owned(),
            source,
        };
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(path.join("sandboxes")).map_err(failed)
    }

    /// The database file of the data directory at `path`, whoever uses it.
    #[must_use]
    pub fn database_of(path: &Path) -> PathBuf {
        path.join("wisp.db")
    }

    /// The database file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        Self::database_of(&self.path)
    }

    /// What tells this directory's server from others with which it shares something, such as a Docker Engine: 32
    /// hexadecimal digits, drawn when they are first asked for.
    ///
    /// # Errors
    /// When the file that holds them cannot be read or written.
    pub fn server_id(&self) -> Result<String, DataDirError> {
        let path = self.path.join("server-id");
        let failed = |source| DataDirError::Io {
            path: path.clone(),
            source,
        };
        match fs::read_to_string(&path) {
            Ok(id) if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => return Ok(id),
            Ok(_) => return Err(failed(io::Error::other("it does not hold 32 hexadecimal digits"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| failed(io::Error::other(error.to_string())))?;
        let id = hex::encode(random);
        // It is whole, or not there.
        let new = self.path.join("server-id.new");
        let mut file = File::create(&new).map_err(failed)?;
        file.write_all(id.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        fs::rename(&new, &path).map_err(failed)?;
        Ok(id)
    }

    /// The directory of the sandboxes' files.
    #[must_use]
    pub fn sandboxes(&self) -> PathBuf {
        self.path.join("sandboxes")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_data_directory_is_private_and_has_one_user() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse(_))));
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_server_keeps_its_id_and_shares_it_with_none() {
        let place = tempfile::tempdir().unwrap();
        let id = |name: &str| DataDir::open(&place.path().join(name)).unwrap().server_id().unwrap();
        assert_eq!(id("a"), id("a"));
        assert_ne!(id("a"), id("b"));
    }
}
