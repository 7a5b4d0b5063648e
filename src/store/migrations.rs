//! The tables, as a list of steps that only grows. `PRAGMA user_version` tells how many were done.

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// One step after the other; a step that was released is never changed.
const STEPS: &[&str] = &[
    // Sandboxes: what the lifecycle layer knows of each that is not gone. Times are nanoseconds since 1970, UTC.
    "CREATE TABLE sandboxes (
        id TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        owner TEXT,
        provider TEXT NOT NULL,
        spec TEXT NOT NULL,
        metadata TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT",
    "CREATE TABLE templates (
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        body TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (tenant, name)
    ) STRICT",
    "CREATE TABLE quotas (
        tenant TEXT NOT NULL,
        owner TEXT NOT NULL,
        max_sandboxes INTEGER,
        max_ttl INTEGER,
        max_exec_timeout INTEGER,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (tenant, owner)
    ) STRICT",
    // Keys are known by the SHA-256 of their text only.
    "CREATE TABLE api_keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        sha256 BLOB NOT NULL UNIQUE,
        scopes TEXT NOT NULL,
        tenant TEXT NOT NULL,
        user TEXT,
        created_at INTEGER NOT NULL,
        last_used_at INTEGER,
        revoked_at INTEGER
    ) STRICT",
    "CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        key TEXT,
        tenant TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        request_id TEXT
    ) STRICT",
];

/// How many steps were done on a database.
fn done(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// How many steps there are.
fn known() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

/// Refuses a database that has tables, but not all of them.
pub(super) fn refuse_older(connection: &Connection) -> Result<(), StoreError> {
    let (found, known) = (done(connection)?, known());
    if found > 0 && found < known {
        return Err(StoreError::TooOld { found, known });
    }
    Ok(())
}

/// Does the steps that were not done yet, all or none.
pub(super) fn apply(connection: &mut Connection) -> Result<(), StoreError> {
    let known = known();
    if done(connection)? == known {
        // Without a write, so that a server starts on a full disk.
        return Ok(());
    }
    // At once for writing: another process may be about to do the same.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = done(&transaction)?;
    let Some(missing) = STEPS.get(found as usize..) else {
        return Err(StoreError::TooNew { found, known });
    };
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}
