//! The files of a sandbox, and keeping them beyond the end of the server.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore};

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

/// How many sandboxes may be kept at once. They take turns in the order of their asking; each waits for one at a time.
const SYNC_THREADS: usize = 4;
static SYNC_TURNS: Semaphore = Semaphore::const_new(SYNC_THREADS);

/// Threads that one sandbox may have at once for work on its files beside its sync, so that no sandbox can fill the pool
/// that all share.
const THREADS: usize = 4;

/// The files of one sandbox. Clones are the same.
#[derive(Clone)]
pub struct Files {
    kind: Kind,
    /// A permit for each thread.
    threads: Arc<Semaphore>,
}

#[derive(Clone)]
enum Kind {
    /// Gone with the process.
    InMemory(Fs),
    /// Kept on the disk.
    Kept(Arc<Kept>),
}

struct Kept {
    durable: Arc<Durable>,
    /// Held by the one sync there is at a time.
    turn: Arc<Mutex<()>>,
}

impl From<Kind> for Files {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            threads: Arc::new(Semaphore::new(THREADS)),
        }
    }
}

impl From<Durable> for Files {
    fn from(durable: Durable) -> Self {
        let durable = Arc::new(durable);
        durable.spill_while_writing();
        Kind::Kept(Arc::new(Kept {
            durable,
            turn: Arc::default(),
        }))
        .into()
    }
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
        Ok(Durable::new(tree, limits, place).into())
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
            Ok(files.into())
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
        Kind::InMemory(fs).into()
    }

    /// The file system.
    pub fn fs(&self) -> &Fs {
        match &self.kind {
            Kind::InMemory(fs) => fs,
            Kind::Kept(kept) => kept.durable.fs(),
        }
    }

    /// Runs work on these files that may take long on a thread for such work, in turn with other work on them.
    pub async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ProviderError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let permit = Arc::clone(&self.threads).acquire_owned().await;
        blocking(move || {
            // Back when the work is done, whether or not somebody still waits for it.
            let _permit = permit;
            work()
        })
        .await
    }

    /// Keeps all changes so far. To be called before a change is acknowledged; free when there was none.
    pub async fn sync(&self) -> Result<(), ProviderError> {
        let Kind::Kept(kept) = &self.kind else { return Ok(()) };
        if kept.durable.is_synced() {
            return Ok(());
        }
        let turn = Arc::clone(&kept.turn).lock_owned().await;
        // The one before may have kept this change, too.
        if kept.durable.is_synced() {
            return Ok(());
        }
        let permit = SYNC_TURNS.acquire().await;
        let kept = Arc::clone(kept);
        blocking(move || {
            let _held = (turn, permit);
            kept.durable.sync().map_err(not_kept)
        })
        .await
    }

    /// Moves what was written to a file from byte `from` on out of memory.
    pub async fn spill(&self, file: &Arc<Handle>, from: u64) -> Result<(), ProviderError> {
        match &self.kind {
            Kind::Kept(kept) => {
                let (kept, file) = (Arc::clone(kept), Arc::clone(file));
                self.work(move || kept.durable.spill(&file, from).map_err(not_kept))
                    .await
            }
            Kind::InMemory(_) => Ok(()),
        }
    }

    /// Removes what is kept. Nothing is kept from now on.
    pub async fn remove(&self) -> Result<(), ProviderError> {
        match &self.kind {
            Kind::Kept(kept) if !kept.durable.forget() => {
                // After a sync that is under way, without a thread that waits for it.
                let turn = Arc::clone(&kept.turn).lock_owned().await;
                let kept = Arc::clone(kept);
                blocking(move || {
                    let _turn = turn;
                    kept.durable.remove().map_err(|error| not_kept(error.into()))
                })
                .await
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::vfs::ROOT;

    const LIMITS: Limits = Limits {
        max_bytes: 1 << 20,
        max_inodes: 100,
    };

    /// With so few threads, and one sandbox whose disk does not answer.
    #[test]
    fn syncs_of_one_sandbox_take_one_thread_and_delay_no_other() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let keeper = Keeper {
            root: directory.path().to_owned(),
            fsync: false,
        };
        let image = Fs::new(LIMITS).freeze();
        let create = |id: &str| keeper.create(id, &image, [0; 32], LIMITS).unwrap();
        let (slow, other) = (create("slow"), create("other"));
        // To open it for writing waits until somebody opens it for reading.
        std::fs::create_dir(directory.path().join("slow")).unwrap();
        let fifo = directory.path().join("slow/journal.new");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        slow.fs().mkdir(ROOT, b"/a", 0o755).unwrap();
        runtime.block_on(async {
            let syncs: Vec<_> = (0..50)
                .map(|_| {
                    let slow = slow.clone();
                    tokio::spawn(async move { slow.sync().await })
                })
                .collect();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let others = async {
                for round in 0..10 {
                    other.fs().mkdir(ROOT, format!("/{round}").as_bytes(), 0o755).unwrap();
                    other.sync().await.unwrap();
                }
            };
            let in_time = tokio::time::timeout(Duration::from_secs(20), others).await.is_ok();
            // The record cannot be written to a pipe; what waited tries again, until the pipe is gone.
            let reader = std::thread::spawn(move || {
                let reader = std::fs::File::open(&fifo).unwrap();
                std::fs::remove_file(&fifo).unwrap();
                drop(reader);
            });
            for sync in syncs {
                let _ = sync.await.unwrap();
            }
            reader.join().unwrap();
            slow.sync().await.unwrap();
            assert!(in_time, "another sandbox was waited for");
        });
    }
}
