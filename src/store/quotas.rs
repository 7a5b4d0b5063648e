//! What each owner may use. See [`crate::sandbox::Quota`] for the meaning.

use rusqlite::params;

use super::audit::{self, AuditAction};
use super::{Store, StoreError};

/// The quota of one owner. What is `None` is not limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaRow {
    /// Whose owner it is.
    pub tenant: String,
    /// The owner.
    pub owner: String,
    /// Sandboxes at once.
    pub max_sandboxes: Option<i64>,
    /// Nanoseconds.
    pub max_ttl: Option<i64>,
    /// Nanoseconds.
    pub max_exec_timeout: Option<i64>,
    /// Nanoseconds since 1970, UTC.
    pub created_at: i64,
    /// Nanoseconds since 1970, UTC.
    pub updated_at: i64,
}

impl Store {
    /// All quotas.
    ///
    /// # Errors
    /// What the database reports.
    pub async fn quotas(&self) -> Result<Vec<QuotaRow>, StoreError> {
        self.run(|db| {
            let mut rows = db.prepare(
                "SELECT tenant, owner, max_sandboxes, max_ttl, max_exec_timeout, created_at, updated_at FROM quotas",
            )?;
            rows.query_map([], |row| {
                Ok(QuotaRow {
                    tenant: row.get(0)?,
                    owner: row.get(1)?,
                    max_sandboxes: row.get(2)?,
                    max_ttl: row.get(3)?,
                    max_exec_timeout: row.get(4)?,
                    created_at: row.get(5)?,
                    updated_at: row.get(6)?,
                })
            })?
            .collect()
        })
        .await
    }

    /// Sets an owner's quota, says so in the audit trail, and calls `committed` once that is kept, with the time the quota
    /// was first set. Calls come in the order of the changes.
    ///
    /// # Errors
    /// What the database reports; nothing was changed then.
    pub async fn put_quota(
        &self,
        row: QuotaRow,
        action: AuditAction,
        committed: impl FnOnce(i64) + Send + 'static,
    ) -> Result<i64, StoreError> {
        let put = move |db: &rusqlite::Connection| {
            audit::insert(db, action)?;
            db.query_row(
                "INSERT INTO quotas (tenant, owner, max_sandboxes, max_ttl, max_exec_timeout, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (tenant, owner) DO UPDATE SET max_sandboxes = excluded.max_sandboxes,
                     max_ttl = excluded.max_ttl, max_exec_timeout = excluded.max_exec_timeout,
                     updated_at = excluded.updated_at
                 RETURNING created_at",
                params![
                    row.tenant,
                    row.owner,
                    row.max_sandboxes,
                    row.max_ttl,
                    row.max_exec_timeout,
                    row.created_at,
                    row.updated_at
                ],
                |row| row.get(0),
            )
        };
        self.run_then(put, move |created_at| committed(*created_at)).await
    }

    /// Removes an owner's quota, says so in the audit trail, and calls `committed` once it is gone. `false` when there was
    /// none; nothing is said then.
    ///
    /// # Errors
    /// What the database reports; nothing was changed then.
    pub async fn delete_quota(
        &self,
        tenant: String,
        owner: String,
        action: AuditAction,
        committed: impl FnOnce() + Send + 'static,
    ) -> Result<bool, StoreError> {
        let delete = move |db: &rusqlite::Connection| {
            let deleted = db.execute(
                "DELETE FROM quotas WHERE tenant = ?1 AND owner = ?2",
                params![tenant, owner],
            )?;
            if deleted > 0 {
                audit::insert(db, action)?;
            }
            Ok(deleted)
        };
        Ok(self.run_then(delete, move |_| committed()).await? == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(owner: &str, max_sandboxes: Option<i64>, at: i64) -> QuotaRow {
        QuotaRow {
            tenant: "default".to_owned(),
            owner: owner.to_owned(),
            max_sandboxes,
            max_ttl: None,
            max_exec_timeout: Some(1),
            created_at: at,
            updated_at: at,
        }
    }

    fn action(name: &'static str) -> AuditAction {
        AuditAction {
            key: None,
            tenant: "default".to_owned(),
            action: name,
            target: "a".to_owned(),
            request_id: None,
        }
    }

    #[tokio::test]
    async fn quotas_are_set_replaced_and_removed() {
        let store = Store::in_memory().unwrap();
        assert_eq!(
            store
                .put_quota(row("a", Some(1), 10), action("put"), |_| {})
                .await
                .unwrap(),
            10
        );
        assert_eq!(
            store
                .put_quota(row("a", None, 20), action("put"), |_| {})
                .await
                .unwrap(),
            10
        );
        let mut replaced = row("a", None, 20);
        replaced.created_at = 10;
        assert_eq!(store.quotas().await.unwrap(), [replaced]);
        let owned = |text: &str| text.to_owned();
        let delete = |tenant| store.delete_quota(owned(tenant), owned("a"), action("delete"), || {});
        assert!(!delete("other").await.unwrap());
        assert!(delete("default").await.unwrap());
        assert_eq!(store.quotas().await.unwrap(), []);
        let entries = store.audit_entries(None, 9).await.unwrap();
        let actions: Vec<_> = entries.iter().map(|entry| entry.action.as_str()).collect();
        assert_eq!(actions, ["delete", "put", "put"]);
    }
}
