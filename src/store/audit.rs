//! What administrators did, kept for ever: each entry is added once and never changed.

use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use super::{Store, StoreError, from_millis, to_millis};

/// Most entries of one page.
const MAX_PAGE: usize = 1000;

/// An action to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditAction {
    /// Name of the API key that was used; `None` on a server without keys, and for the command line.
    pub key: Option<String>,
    /// Tenant of that key.
    pub tenant: String,
    /// What was done, as resource and verb: `image.delete`.
    pub action: &'static str,
    /// To what, such as an image's name. Never a secret.
    pub target: String,
    /// The request's id, to find it in the log.
    pub request_id: Option<String>,
}

/// A kept action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Grows with every entry.
    pub id: i64,
    /// When.
    pub at: SystemTime,
    /// Name of the API key that was used.
    pub key: Option<String>,
    /// Tenant of that key.
    pub tenant: String,
    /// The action, such as `key.create`.
    pub action: String,
    /// To what.
    pub target: String,
    /// The request's id.
    pub request_id: Option<String>,
}

impl Store {
    /// Keeps an action. To be called before the action: one that cannot be kept is not done.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_audit(&self, action: AuditAction) -> Result<(), StoreError> {
        self.run(move |db| insert(db, action)).await
    }

    /// The newest entries first, at most `limit` (and 1000) of them; with `before` only those with a smaller id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_entries(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let before = before.unwrap_or(i64::MAX);
        let limit = i64::try_from(limit.min(MAX_PAGE)).unwrap_or(i64::MAX);
        self.run(move |db| {
            let mut statement = db.prepare_cached(
                "SELECT id, at, key, tenant, action, target, request_id FROM audit WHERE id < ?1 ORDER BY id DESC \
                 LIMIT ?2",
            )?;
            statement.query_map([before, limit], entry)?.collect()
        })
        .await
    }
}

/// Keeps an action within the job that does it, so that both are kept or neither.
pub(super) fn insert(db: &Connection, action: AuditAction) -> rusqlite::Result<()> {
    let AuditAction {
        key,
        tenant,
        action,
        target,
        request_id,
    } = action;
    let now = to_millis(SystemTime::now());
    db.prepare_cached(
        "INSERT INTO audit (at, key, tenant, action, target, request_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![now, key, tenant, action, target, request_id])?;
    Ok(())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        id: row.get(0)?,
        at: from_millis(row.get(1)?),
        key: row.get(2)?,
        tenant: row.get(3)?,
        action: row.get(4)?,
        target: row.get(5)?,
        request_id: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(target: &str) -> AuditAction {
        AuditAction {
            key: Some("ops".to_owned()),
            tenant: "default".to_owned(),
            action: "image.delete",
            target: target.to_owned(),
            request_id: Some("req_1".to_owned()),
        }
    }

    #[tokio::test]
    async fn entries_come_newest_first_and_in_pages() {
        let store = Store::in_memory().unwrap();
        for target in ["a", "b", "c"] {
            store.record_audit(action(target)).await.unwrap();
        }
        let targets = |entries: &[AuditEntry]| {
            let targets: Vec<_> = entries.iter().map(|entry| entry.target.clone()).collect();
            targets.concat()
        };
        let first = store.audit_entries(None, 2).await.unwrap();
        assert_eq!(targets(&first), "cb");
        let second = store.audit_entries(Some(first[1].id), 2).await.unwrap();
        assert_eq!(targets(&second), "a");
        assert_eq!(second[0].key.as_deref(), Some("ops"));
        assert_eq!(second[0].request_id.as_deref(), Some("req_1"));
    }
}
