//! What must survive a restart of the server: one embedded SQLite database.
//!
//! All access goes through one thread of its own, in jobs; jobs that wait at the same time share a transaction, so that
//! a burst of them costs one commit. A job's answer is sent after the commit. One file here for each kind of record.

mod api_keys;
mod audit;
mod data_dir;
mod migrations;
mod quotas;
mod sandboxes;
mod templates;

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub use api_keys::{ApiKeyRecord, ApiKeysSnapshot};
pub use audit::{AuditAction, AuditEntry};
pub use data_dir::{DataDir, DataDirError};
pub use quotas::QuotaRow;
pub use sandboxes::SandboxRow;
pub use templates::{Added, TemplateRow};

/// Most jobs of one transaction; the next ones wait for the next.
const MAX_BATCH: usize = 256;

/// What an acknowledged change survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The end of the server's process, `kill -9` included: the change is with the operating system.
    #[default]
    Process,
    /// The loss of power as well: the change is on the disk, which costs an `fsync` for every change.
    Power,
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite reports an error. For the log.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The database was written by a newer wisp.
    #[error(
        "the database has version {found}, this wisp knows versions up to {known}: use a newer wisp, or another data_dir"
    )]
    TooNew {
        /// Version in the file.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
    /// The database was written by an older wisp, which may be running.
    #[error(
        "the database has version {found}, this wisp needs {known}: start `wisp serve` of this version once, which \
         brings it up to date"
    )]
    TooOld {
        /// Version in the file.
        found: u32,
        /// Version needed here.
        known: u32,
    },
    /// The store's thread is gone.
    #[error("the store has stopped")]
    Stopped,
}

impl StoreError {
    /// Whether the disk is full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

/// A handle on the database. Cheap to clone; the thread ends with the last one.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
}

/// Work on the database. It runs inside a savepoint and returns what tells its caller the result once all is committed
/// (`Ok`) or the commit failed.
type Job = Box<dyn FnOnce(&Connection) -> Reply + Send>;
/// Tells the caller.
type Reply = Box<dyn FnOnce(Result<(), &rusqlite::Error>) + Send>;

impl Store {
    /// Opens the database, makes it if there is none, and brings its tables up to date.
    ///
    /// # Errors
    /// When the file cannot be used, or a newer wisp wrote it.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        Self::start(Connection::open(path)?, durability, || true)
    }

    /// As [`Store::open`], for a process beside a server: tables that a running server may use are not changed.
    ///
    /// # Errors
    /// See [`Store::open`]; when the database would have to be brought up to date.
    pub fn open_beside_server(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        migrations::refuse_older(&connection)?;
        Self::start(connection, durability, || true)
    }

    /// A database whose process can be made to die: from the moment `is_alive` says no, nothing is written and nobody is
    /// told anything. It is asked before and after each commit.
    #[cfg(test)]
    pub(crate) fn mortal(path: &Path, is_alive: impl Fn() -> bool + Send + 'static) -> Result<Self, StoreError> {
        Self::start(Connection::open(path)?, Durability::Process, is_alive)
    }

    /// A database that is gone with its last handle.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::start(Connection::open_in_memory()?, Durability::Process, || true)
    }

    fn start(
        mut connection: Connection,
        durability: Durability,
        is_alive: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self, StoreError> {
        let synchronous = match durability {
            // In WAL mode this is safe against the end of the process: what was written is with the operating system.
            Durability::Process => "OFF",
            Durability::Power => "FULL",
        };
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        migrations::apply(&mut connection)?;
        let (jobs, waiting) = mpsc::channel();
        // The thread ends when the last sender is dropped.
        thread::Builder::new()
            .name("wisp-store".to_owned())
            .spawn(move || work(&connection, &waiting, is_alive))
            .map_err(|_| StoreError::Stopped)?;
        Ok(Self { jobs })
    }

    /// Size of the database, bytes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn size_bytes(&self) -> Result<u64, StoreError> {
        let size = |db: &Connection| {
            let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            let bytes = pragma("page_count")?.saturating_mul(pragma("page_size")?);
            Ok(u64::try_from(bytes).unwrap_or_default())
        };
        self.run(size).await
    }

    /// Runs `work` in a transaction and waits until it is committed. When `work` fails, nothing it did is kept.
    ///
    /// # Errors
    /// What `work` or the commit reports.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run_then(work, |_| {}).await
    }

    /// As [`Store::run`]; what `work` returned goes to `committed`, on the store's thread and in the order of the commits:
    /// what is kept in memory of the database can follow it without a lock.
    ///
    /// # Errors
    /// See [`Store::run`]; `committed` is not called then.
    pub(crate) async fn run_then<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        committed: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.jobs
            .send(job(work, committed, sender))
            .map_err(|_| StoreError::Stopped)?;
        receiver.await.map_err(|_| StoreError::Stopped)?
    }
}

fn job<T: Send + 'static>(
    work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    then: impl FnOnce(&T) + Send + 'static,
    sender: oneshot::Sender<Result<T, StoreError>>,
) -> Job {
    Box::new(move |connection| {
        let result = in_savepoint(connection, work);
        Box::new(move |committed| {
            let result = match committed {
                Ok(()) => result.map_err(StoreError::Sqlite),
                // rusqlite's errors cannot be cloned; several callers get this one.
                Err(error) => Err(StoreError::Sqlite(rusqlite::Error::SqliteFailure(
                    error
                        .sqlite_error()
                        .copied()
                        .unwrap_or(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR)),
                    Some(error.to_string()),
                ))),
            };
            if let Ok(value) = &result {
                then(value);
            }
            // The caller may have stopped waiting.
            let _ = sender.send(result);
        })
    })
}

/// Undoes what a job did when it fails or panics.
fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    if connection.is_autocommit() {
        // There is no transaction to be part of: it could not begin, or an earlier job met a full disk and SQLite gave the
        // transaction up. What is done now would stay although its caller is told that it failed.
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT),
            Some("the transaction is gone".to_owned()),
        ));
    }
    connection.execute_batch("SAVEPOINT job")?;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(connection))).unwrap_or_else(|_| {
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERNAL),
            Some("a job of the store panicked".to_owned()),
        ))
    });
    let end = if result.is_ok() {
        "RELEASE job"
    } else {
        "ROLLBACK TO job; RELEASE job"
    };
    connection.execute_batch(end)?;
    result
}

/// A time as the tables hold it: milliseconds since 1970, UTC.
pub(crate) fn to_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time a table's milliseconds stand for; 1970 for what is no time.
pub(crate) fn from_millis(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// The store's thread: takes what waits, does it in one transaction, tells the callers.
fn work(connection: &Connection, waiting: &mpsc::Receiver<Job>, is_alive: impl Fn() -> bool) {
    while let Ok(first) = waiting.recv() {
        if !is_alive() {
            continue;
        }
        let begun = connection.execute_batch("BEGIN IMMEDIATE");
        let mut replies = Vec::new();
        for job in std::iter::once(first).chain(waiting.try_iter().take(MAX_BATCH - 1)) {
            replies.push(job(connection));
        }
        let committed = begun.and_then(|()| connection.execute_batch("COMMIT"));
        if let Err(error) = &committed {
            tracing::error!(%error, "the database cannot be written");
            if !connection.is_autocommit() {
                // Nothing else can be done about a failing rollback.
                let _ = connection.execute_batch("ROLLBACK");
            }
        }
        if !is_alive() {
            continue;
        }
        for reply in replies {
            reply(committed.as_ref().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(connection: &Connection) -> rusqlite::Result<i64> {
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
    }

    #[tokio::test]
    async fn a_job_that_fails_or_panics_leaves_nothing_and_the_others_are_kept() {
        let store = Store::in_memory().unwrap();
        store
            .run(|db| db.execute_batch("CREATE TABLE t (n INTEGER)"))
            .await
            .unwrap();
        let insert = |n: i64| move |db: &Connection| db.execute("INSERT INTO t VALUES (?1)", [n]);
        let failing = store.run(move |db| insert(1)(db).and_then(|_| db.execute_batch("no such statement")));
        let panicking = store.run(move |db| insert(2)(db).map(|_| panic!("on purpose")));
        let good = store.run(insert(3));
        let (failed, panicked, kept) = tokio::join!(failing, panicking, good);
        assert!(failed.is_err());
        assert!(panicked.is_err());
        kept.unwrap();
        assert_eq!(store.run(count).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_job_after_a_lost_transaction_fails_and_leaves_nothing() {
        let store = Store::in_memory().unwrap();
        store
            .run(|db| db.execute_batch("CREATE TABLE t (n INTEGER)"))
            .await
            .unwrap();
        // What SQLite does by itself when the disk is full.
        let losing = store.run(|db| db.execute_batch("ROLLBACK"));
        let next = store.run(|db| db.execute("INSERT INTO t VALUES (1)", []));
        let (lost, next) = tokio::join!(losing, next);
        assert!(lost.is_err());
        // It may have come in time for the same transaction, or not.
        let kept = i64::from(next.is_ok());
        assert_eq!(store.run(count).await.unwrap(), kept);
    }

    #[tokio::test]
    async fn what_is_kept_in_memory_follows_the_commits() {
        let store = Store::in_memory().unwrap();
        let seen = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let note = |n: i64| {
            let seen = std::sync::Arc::clone(&seen);
            store.run_then(move |_| Ok(n), move |n| seen.lock().push(*n))
        };
        let failing = store.run_then(
            |_| Err::<i64, _>(rusqlite::Error::QueryReturnedNoRows),
            |_| unreachable!(),
        );
        let (one, two, failed) = tokio::join!(note(1), note(2), failing);
        assert_eq!((one.unwrap(), two.unwrap()), (1, 2));
        assert!(failed.is_err());
        assert_eq!(*seen.lock(), [1, 2]);
    }

    #[tokio::test]
    async fn acknowledged_changes_are_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wisp.db");
        let store = Store::open(&path, Durability::Power).unwrap();
        store
            .run(|db| db.execute_batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1)"))
            .await
            .unwrap();
        // The first handle still lives, as after a crash the files are as they were.
        let again = Store::open(&path, Durability::Process).unwrap();
        assert_eq!(again.run(count).await.unwrap(), 1);
    }

    #[test]
    fn a_database_of_a_newer_wisp_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wisp.db");
        drop(Store::open(&path, Durability::Process).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 1_000_000).unwrap();
        drop(connection);
        assert!(matches!(
            Store::open(&path, Durability::Process),
            Err(StoreError::TooNew { .. })
        ));
    }

    #[test]
    fn a_process_beside_the_server_changes_no_tables_that_are_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wisp.db");
        let beside = || Store::open_beside_server(&path, Durability::Process);
        drop(beside().expect("a new database has no user yet"));
        drop(beside().expect("one that is up to date"));
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        drop(connection);
        assert!(matches!(beside(), Err(StoreError::TooOld { .. })));
    }
}
