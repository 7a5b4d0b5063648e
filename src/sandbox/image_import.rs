//! Images that users bring over the API: the queue before the compiler, and errors in words for clients.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::Semaphore;

use super::image_catalog::{ImageDescription, description};
use crate::config::Limits;
use crate::image::{ImageError, ImageStore, LogProgress, NewImage};
use crate::kernel::Runtime;
use crate::provider::ByteStream;

/// Files that are compiled at the same time. The compiler uses all processors for one.
const AT_ONCE: usize = 1;
/// How long a file waits for its turn.
const QUEUE_TIME: Duration = Duration::from_secs(30);

/// Why a file does not become an image.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file or what is wanted of it is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The file is good, and nothing here can run it; the message says what to do instead.
    #[error("{0}")]
    Unsupported(String),
    /// The name is taken.
    #[error("{0}")]
    Conflict(String),
    /// The file has more than this many bytes.
    #[error("the file is larger than {0} bytes")]
    TooLarge(u64),
    /// The client stopped sending.
    #[error("the client stopped sending")]
    Stalled,
    /// Others are before it.
    #[error("other images are being compiled; try again later")]
    Busy,
    /// The server failed. The message is for the log.
    #[error("{0}")]
    Internal(String),
}

impl From<ImageError> for ImportError {
    fn from(error: ImageError) -> Self {
        let message = error.to_string();
        match error {
            ImageError::Invalid(_) | ImageError::Refused(_) | ImageError::TooExpensive { .. } => Self::Invalid(message),
            ImageError::Unsupported(_) => Self::Unsupported(message),
            ImageError::NameTaken(_) | ImageError::NameReserved { .. } => Self::Conflict(message),
            _ => Self::Internal(message),
        }
    }
}

/// Takes images in.
pub struct ImageImporter {
    store: Arc<ImageStore>,
    runtime: Arc<Runtime>,
    turns: Semaphore,
    /// Largest file, bytes.
    max_bytes: u64,
    /// How long a client may pause.
    pause: Duration,
}

impl ImageImporter {
    /// Into `store`, for the engines of `runtime`, within `limits`.
    #[must_use]
    pub fn new(store: Arc<ImageStore>, runtime: Arc<Runtime>, limits: &Limits) -> Self {
        Self {
            store,
            runtime,
            turns: Semaphore::new(AT_ONCE),
            max_bytes: limits.max_image_bytes,
            pause: limits.body_timeout.0,
        }
    }

    /// Refuses what can be refused before the file is there.
    ///
    /// # Errors
    /// As [`Self::import`].
    pub async fn check(&self, new: &NewImage) -> Result<(), ImportError> {
        let (store, new) = (Arc::clone(&self.store), new.clone());
        blocking(move || store.check_new(&new)).await
    }

    /// Makes an image of a file. An import whose client goes away while it is compiled is carried out.
    ///
    /// # Errors
    /// See [`ImportError`]. A refused file leaves nothing behind.
    pub async fn import(&self, new: NewImage, body: ByteStream) -> Result<ImageDescription, ImportError> {
        let mut file = self.receive(body).await?;
        let turn = tokio::time::timeout(QUEUE_TIME, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| ImportError::Busy)?;
        let (store, runtime) = (Arc::clone(&self.store), Arc::clone(&self.runtime));
        blocking(move || {
            let record = store.import(&new, &mut file, &runtime.engines(), &LogProgress)?;
            store.inspect(&record.name).map(description)
        })
        .await
    }

    /// Gathers the file on disk.
    async fn receive(&self, mut body: ByteStream) -> Result<File, ImportError> {
        let store = Arc::clone(&self.store);
        let file = Arc::new(blocking(move || store.upload_file()).await?);
        let mut received = 0;
        loop {
            let next = tokio::time::timeout(self.pause, body.next()).await;
            let Some(chunk) = next.map_err(|_| ImportError::Stalled)? else {
                break;
            };
            let chunk = chunk.map_err(|error| ImportError::Invalid(error.to_string()))?;
            received += chunk.len() as u64;
            if received > self.max_bytes {
                return Err(ImportError::TooLarge(self.max_bytes));
            }
            let file = Arc::clone(&file);
            blocking(move || {
                (&*file).write_all(&chunk).map_err(|source| ImageError::Io {
                    path: "the file".into(),
                    source,
                })
            })
            .await?;
        }
        Arc::try_unwrap(file).map_err(|_| ImportError::Internal("the file is still being written".to_owned()))
    }
}

/// Runs work that may take long on a thread for such work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImportError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(ImportError::Internal("a worker thread failed".to_owned())),
    }
}
