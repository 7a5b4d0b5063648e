//! The tables, as a list of steps that only grows. `PRAGMA user_version` tells how many were done.

use rusqlite::Connection;

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

/// Does the steps that were not done yet, all or none.
pub(super) fn apply(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    let done: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
    let Some(missing) = STEPS.get(done as usize..) else {
        return Err(StoreError::TooNew { found: done, known });
    };
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}
