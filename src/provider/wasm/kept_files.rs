//! The files of a sandbox, and keeping them beyond the end of the server.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::blocking;
use crate::provider::ProviderError;
use crate::vfs::{Durable, DurableError, Fs, Handle, Identity, Limits, Place, Tree, remove_durable};

/// Where the files of all sandboxes are kept: a directory for each, named by its id.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// The directory of directories.
    pub root: PathBuf,
    /// Whether what is kept has to survive the loss of power.
    pub fsync: bool,
}

/// The files of one sandbox. Clones are the same.
#[derive(Clone)]
pub enum Files {
    /// Gone with the process.
    InMemory(Fs),
    /// Kept on the disk.
    Kept(Arc<Durable>),
}

impl Keeper {
    fn place(&self, id: &str, identity: Identity) -> Result<Place, ProviderError> {
        Ok(Place {
            directory: self.directory(id)?,
            identity,
            fsync: self.fsync,
        })
    }

    fn directory(&self, id: &str) -> Result<PathBuf, ProviderError> {
        let is_name = !id.is_empty()
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if is_name {
            Ok(self.root.join(id))
        } else {
            Err(ProviderError::Internal(format!("{id:?} cannot name a directory")))
        }
    }

    /// The files of a new sandbox, which begin as `tree`. Nothing is done on the disk before there is something to keep.
    pub fn create(&self, id: &str, tree: &Tree, identity: Identity, limits: Limits) -> Result<Files, ProviderError> {
        let place = self.place(id, identity)?;
        Ok(Files::Kept(Arc::new(Durable::new(tree, limits, place))))
    }

    /// The files of a sandbox that an earlier process made.
    pub async fn recover(
        &self,
        id: &str,
        tree: Tree,
        identity: Identity,
        limits: Limits,
    ) -> Result<Files, ProviderError> {
        let place = self.place(id, identity)?;
        blocking(move || {
            let files = Durable::recover(&tree, limits, place)
                .map_err(|error| ProviderError::Internal(format!("its files cannot be brought back: {error}")))?;
            Ok(Files::Kept(Arc::new(files)))
        })
        .await
    }

    /// Removes what is kept of a sandbox.
    pub async fn remove(&self, id: &str) -> Result<(), ProviderError> {
        let directory = self.directory(id)?;
        blocking(move || remove_durable(&directory).map_err(|error| not_kept(error.into()))).await
    }

    /// Removes what is kept of sandboxes that are not `known`, and returns how many there were.
    pub async fn remove_unknown(&self, known: BTreeSet<String>) -> Result<usize, ProviderError> {
        let root = self.root.clone();
        blocking(move || {
            let failed = |error: std::io::Error| ProviderError::Internal(format!("{}: {error}", root.display()));
            let mut removed = 0;
            for entry in std::fs::read_dir(&root).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if !entry.file_name().to_str().is_some_and(|name| known.contains(name)) {
                    remove_durable(&entry.path()).map_err(failed)?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }
}

impl Files {
    /// Files that are gone with the process.
    pub fn in_memory(fs: Fs) -> Self {
        Self::InMemory(fs)
    }

    /// The file system.
    pub fn fs(&self) -> &Fs {
        match self {
            Self::InMemory(fs) => fs,
            Self::Kept(durable) => durable.fs(),
        }
    }

    /// Keeps all changes so far. To be called before a change is acknowledged; free when there was none.
    pub async fn sync(&self) -> Result<(), ProviderError> {
        match self {
            Self::Kept(durable) if !durable.is_synced() => {
                let durable = Arc::clone(durable);
                blocking(move || durable.sync().map_err(not_kept)).await
            }
            _ => Ok(()),
        }
    }

    /// Moves what was written to a file from byte `from` on out of memory.
    pub async fn spill(&self, file: &Arc<Handle>, from: u64) -> Result<(), ProviderError> {
        match self {
            Self::Kept(durable) => {
                let (durable, file) = (Arc::clone(durable), Arc::clone(file));
                blocking(move || durable.spill(&file, from).map_err(not_kept)).await
            }
            Self::InMemory(_) => Ok(()),
        }
    }

    /// Removes what is kept. Nothing is kept from now on.
    pub async fn remove(&self) -> Result<(), ProviderError> {
        match self {
            Self::Kept(durable) if !durable.forget() => {
                let durable = Arc::clone(durable);
                blocking(move || durable.remove().map_err(|error| not_kept(error.into()))).await
            }
            _ => Ok(()),
        }
    }
}

fn not_kept(error: DurableError) -> ProviderError {
    match error {
        DurableError::Removed => ProviderError::SandboxNotFound,
        error if error.is_out_of_space() => {
            ProviderError::StorageFull("the server has no space left to keep the files of sandboxes".to_owned())
        }
        error => ProviderError::Internal(format!("files cannot be kept: {error}")),
    }
}
