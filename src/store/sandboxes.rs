//! The sandboxes that exist. A row is there exactly as long as the sandbox is for its clients: from just before its
//! creation is answered to just before its destruction is.

use rusqlite::{Connection, Row, params};

use super::{Store, StoreError};

/// What is kept of a sandbox. Texts and times are as the sandbox layer writes them; nothing here looks into them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxRow {
    /// The sandbox's id, `sb_…`.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// To whom it is attributed.
    pub owner: Option<String>,
    /// Name of its provider.
    pub provider: String,
    /// JSON of its specification.
    pub spec: String,
    /// JSON of its labels.
    pub metadata: String,
    /// Nanoseconds since 1970, UTC.
    pub created_at: i64,
    /// Nanoseconds since 1970, UTC.
    pub expires_at: i64,
}

impl Store {
    /// All sandboxes, oldest first.
    ///
    /// # Errors
    /// What the database reports.
    pub async fn sandboxes(&self) -> Result<Vec<SandboxRow>, StoreError> {
        self.run(|db| {
            let mut rows = db.prepare(
                "SELECT id, tenant, owner, provider, spec, metadata, created_at, expires_at FROM sandboxes
                 ORDER BY created_at, id",
            )?;
            rows.query_map([], read)?.collect()
        })
        .await
    }

    /// Adds a sandbox, unless it is no longer `wanted` when its turn has come.
    ///
    /// # Errors
    /// What the database reports; nothing was added then.
    pub async fn insert_sandbox(
        &self,
        row: SandboxRow,
        wanted: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<(), StoreError> {
        self.run(move |db| if wanted() { insert(db, &row) } else { Ok(()) })
            .await
    }

    /// Changes when a sandbox ends, and calls `committed` once that is kept. Calls come in the order of the changes.
    ///
    /// # Errors
    /// What the database reports; nothing was changed then.
    pub async fn set_expiry(
        &self,
        id: String,
        expires_at: i64,
        committed: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let update = move |db: &Connection| {
            db.prepare_cached("UPDATE sandboxes SET expires_at = ?2 WHERE id = ?1")?
                .execute(params![id, expires_at])
        };
        self.run_then(update, move |_| committed()).await.map(|_| ())
    }

    /// Forgets a sandbox, if it is known.
    ///
    /// # Errors
    /// What the database reports; it is still known then.
    pub async fn delete_sandbox(&self, id: String) -> Result<(), StoreError> {
        self.run(move |db| delete(db, &id)).await
    }

    /// Forgets many sandboxes, all or none.
    ///
    /// # Errors
    /// What the database reports.
    pub async fn delete_sandboxes(&self, ids: Vec<String>) -> Result<(), StoreError> {
        self.run(move |db| ids.iter().try_for_each(|id| delete(db, id))).await
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<SandboxRow> {
    Ok(SandboxRow {
        id: row.get(0)?,
        tenant: row.get(1)?,
        owner: row.get(2)?,
        provider: row.get(3)?,
        spec: row.get(4)?,
        metadata: row.get(5)?,
        created_at: row.get(6)?,
        expires_at: row.get(7)?,
    })
}

fn insert(db: &Connection, row: &SandboxRow) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO sandboxes (id, tenant, owner, provider, spec, metadata, created_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        row.id,
        row.tenant,
        row.owner,
        row.provider,
        row.spec,
        row.metadata,
        row.created_at,
        row.expires_at
    ])
    .map(|_| ())
}

fn delete(db: &Connection, id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM sandboxes WHERE id = ?1")?
        .execute([id])
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, created_at: i64) -> SandboxRow {
        SandboxRow {
            id: id.to_owned(),
            tenant: "default".to_owned(),
            owner: None,
            provider: "wasm".to_owned(),
            spec: "{}".to_owned(),
            metadata: "{}".to_owned(),
            created_at,
            expires_at: created_at + 10,
        }
    }

    #[tokio::test]
    async fn sandboxes_are_kept_changed_and_forgotten() {
        let store = Store::in_memory().unwrap();
        for (id, at) in [("sb_b", 2), ("sb_a", 1), ("sb_c", 3)] {
            store.insert_sandbox(row(id, at), || true).await.unwrap();
        }
        store.insert_sandbox(row("sb_d", 4), || false).await.unwrap();
        assert!(store.insert_sandbox(row("sb_a", 9), || true).await.is_err());
        store.set_expiry("sb_a".to_owned(), 99, || {}).await.unwrap();
        store.set_expiry("sb_unknown".to_owned(), 99, || {}).await.unwrap();
        store.delete_sandbox("sb_b".to_owned()).await.unwrap();
        store.delete_sandbox("sb_b".to_owned()).await.unwrap();
        let mut first = row("sb_a", 1);
        first.expires_at = 99;
        assert_eq!(store.sandboxes().await.unwrap(), [first, row("sb_c", 3)]);
        store
            .delete_sandboxes(vec!["sb_a".to_owned(), "sb_c".to_owned()])
            .await
            .unwrap();
        assert_eq!(store.sandboxes().await.unwrap(), []);
    }
}
