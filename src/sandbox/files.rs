//! Files of a sandbox. Paths were checked by the caller: absolute, no `..` component, no NUL.

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{Caller, SandboxError, SandboxId, SandboxManager};
use crate::provider::{ByteStream, DirPage, FileInfo, Page, ProviderError};

impl SandboxManager {
    /// Contents of a regular file.
    ///
    /// # Errors
    /// [`SandboxError::NotFound`] and what the provider reports; so for every method here.
    pub async fn read_file(&self, caller: &Caller, id: &SandboxId, path: &str) -> Result<ByteStream, SandboxError> {
        let sandbox = self.running(caller, id)?;
        let metrics = self.shared.metrics.clone();
        let content = named(id, sandbox.provider()?.read_file(id.as_str(), path).await)?;
        Ok(content
            .inspect_ok(move |piece| metrics.sent(piece.len() as u64))
            .boxed())
    }

    /// Creates or replaces a file, with its parents. Returns the bytes written.
    ///
    /// # Errors
    /// See [`SandboxManager::read_file`].
    pub async fn write_file(
        &self,
        caller: &Caller,
        id: &SandboxId,
        path: &str,
        mode: Option<u32>,
        body: ByteStream,
    ) -> Result<u64, SandboxError> {
        let sandbox = self.running(caller, id)?;
        let written = named(id, sandbox.provider()?.write_file(id.as_str(), path, mode, body).await)?;
        self.shared.metrics.received(written);
        Ok(written)
    }

    /// A page of the entries of a directory, in name order.
    ///
    /// # Errors
    /// See [`SandboxManager::read_file`].
    pub async fn list_dir(
        &self,
        caller: &Caller,
        id: &SandboxId,
        path: &str,
        page: Page,
    ) -> Result<DirPage, SandboxError> {
        let sandbox = self.running(caller, id)?;
        named(id, sandbox.provider()?.list_dir(id.as_str(), path, page).await)
    }

    /// One file or directory.
    ///
    /// # Errors
    /// See [`SandboxManager::read_file`].
    pub async fn stat(&self, caller: &Caller, id: &SandboxId, path: &str) -> Result<FileInfo, SandboxError> {
        let sandbox = self.running(caller, id)?;
        named(id, sandbox.provider()?.stat(id.as_str(), path).await)
    }

    /// Removes a file, an empty directory, or with `recursive` a whole tree.
    ///
    /// # Errors
    /// See [`SandboxManager::read_file`].
    pub async fn delete_file(
        &self,
        caller: &Caller,
        id: &SandboxId,
        path: &str,
        recursive: bool,
    ) -> Result<(), SandboxError> {
        let sandbox = self.running(caller, id)?;
        named(id, sandbox.provider()?.delete(id.as_str(), path, recursive).await)
    }

    /// Renames, as `rename(2)`.
    ///
    /// # Errors
    /// See [`SandboxManager::read_file`].
    pub async fn rename(&self, caller: &Caller, id: &SandboxId, from: &str, to: &str) -> Result<(), SandboxError> {
        let sandbox = self.running(caller, id)?;
        named(id, sandbox.provider()?.rename(id.as_str(), from, to).await)
    }

    /// Sets permission bits, at most `0o7777`.
    ///
    /// # Errors
    /// See [`SandboxManager::read_file`].
    pub async fn chmod(&self, caller: &Caller, id: &SandboxId, path: &str, mode: u32) -> Result<(), SandboxError> {
        let sandbox = self.running(caller, id)?;
        named(id, sandbox.provider()?.chmod(id.as_str(), path, mode).await)
    }

    /// Paths that match an absolute pattern, in order.
    ///
    /// # Errors
    /// See [`SandboxManager::read_file`].
    pub async fn glob(&self, caller: &Caller, id: &SandboxId, pattern: &str) -> Result<Vec<String>, SandboxError> {
        let sandbox = self.running(caller, id)?;
        named(id, sandbox.provider()?.glob(id.as_str(), pattern).await)
    }

    /// A tar of the tree below a directory, or of one file.
    ///
    /// # Errors
    /// See [`SandboxManager::read_file`].
    pub async fn read_archive(&self, caller: &Caller, id: &SandboxId, path: &str) -> Result<ByteStream, SandboxError> {
        let sandbox = self.running(caller, id)?;
        let metrics = self.shared.metrics.clone();
        let tar = named(id, sandbox.provider()?.read_archive(id.as_str(), path).await)?;
        Ok(tar.inspect_ok(move |piece| metrics.sent(piece.len() as u64)).boxed())
    }

    /// Unpacks a tar into a directory, which is made if there is none. What came before an error stays.
    ///
    /// # Errors
    /// See [`SandboxManager::read_file`].
    pub async fn write_archive(
        &self,
        caller: &Caller,
        id: &SandboxId,
        path: &str,
        tar: ByteStream,
    ) -> Result<(), SandboxError> {
        let sandbox = self.running(caller, id)?;
        let metrics = self.shared.metrics.clone();
        let counted = tar
            .inspect_ok(move |piece| metrics.received(piece.len() as u64))
            .boxed();
        named(id, sandbox.provider()?.write_archive(id.as_str(), path, counted).await)
    }
}

/// Gives a provider's error the sandbox's name.
fn named<T>(id: &SandboxId, result: Result<T, ProviderError>) -> Result<T, SandboxError> {
    result.map_err(|error| SandboxError::of_provider(id, error))
}
