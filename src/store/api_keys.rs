//! API keys.
//!
//! A key is kept as the SHA-256 of its text only. A fast hash without salt is right here, unlike for passwords: a key
//! is 256 random bits, which nobody finds by trying, however fast each try is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::audit::{self, AuditAction};
use super::{Store, StoreError, from_millis, to_millis};
use crate::scope::Scope;

/// Numbers the readings of all keys.
static READINGS: AtomicU64 = AtomicU64::new(1);

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// Its name in the API, `key_` and 16 hexadecimal digits. Not secret.
    pub id: String,
    /// What its maker called it.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// What it may do; never empty.
    pub scopes: Vec<Scope>,
    /// Whose things it sees.
    pub tenant: String,
    /// The only user it acts for; any when `None`.
    pub user: Option<String>,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it was last used, to the minute.
    pub last_used_at: Option<SystemTime>,
    /// When it ceased to open anything.
    pub revoked_at: Option<SystemTime>,
}

/// All keys, and the state of the database they were read in.
#[derive(Debug)]
pub struct ApiKeysSnapshot {
    /// Revoked ones too, oldest first. One that is damaged is left out and reported in the log.
    pub keys: Vec<ApiKeyRecord>,
    /// How many there are, damaged ones counted.
    pub count: usize,
    /// Changes when another process has written to the database, and only then.
    pub data_version: i64,
    /// Higher than that of any snapshot read from this database before.
    pub reading: u64,
}

impl Store {
    /// Adds a key, and says so in the audit trail.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_api_key(&self, key: ApiKeyRecord, action: AuditAction) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "INSERT INTO api_keys (id, name, sha256, scopes, tenant, user, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    key.id,
                    key.name,
                    key.sha256,
                    scopes_to_text(&key.scopes),
                    key.tenant,
                    key.user,
                    to_millis(key.created_at)
                ],
            )?;
            audit::insert(db, action)
        })
        .await
    }

    /// Revokes a key and says so in the audit trail; neither when it is revoked already. `false` when there is none of
    /// this id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_api_key(&self, id: String, action: AuditAction) -> Result<bool, StoreError> {
        self.run(move |db| {
            let revoked = db.execute(
                "UPDATE api_keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
                params![id, to_millis(SystemTime::now())],
            )?;
            if revoked > 0 {
                audit::insert(db, action)?;
                return Ok(true);
            }
            let known = db
                .query_row("SELECT 1 FROM api_keys WHERE id = ?1", [id], |_| Ok(()))
                .optional()?;
            Ok(known.is_some())
        })
        .await
    }

    /// All keys.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_keys(&self) -> Result<ApiKeysSnapshot, StoreError> {
        self.run(read_all).await
    }

    /// All keys if another process has written to the database since it had this version, else `None`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_keys_since(&self, data_version: i64) -> Result<Option<ApiKeysSnapshot>, StoreError> {
        self.run(move |db| {
            if current_data_version(db)? == data_version {
                return Ok(None);
            }
            read_all(db).map(Some)
        })
        .await
    }

    /// Notes when keys were last used; pairs of id and time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn touch_api_keys(&self, uses: Vec<(String, SystemTime)>) -> Result<(), StoreError> {
        self.run(move |db| {
            let mut statement = db.prepare_cached("UPDATE api_keys SET last_used_at = ?2 WHERE id = ?1")?;
            for (id, at) in uses {
                statement.execute(params![id, to_millis(at)])?;
            }
            Ok(())
        })
        .await
    }
}

fn current_data_version(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "data_version", |row| row.get(0))
}

fn read_all(db: &Connection) -> rusqlite::Result<ApiKeysSnapshot> {
    let mut statement = db.prepare_cached(
        "SELECT id, name, sha256, scopes, tenant, user, created_at, last_used_at, revoked_at
         FROM api_keys ORDER BY created_at, id",
    )?;
    let mut keys = Vec::new();
    let mut count = 0;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        count += 1;
        match from_row(row) {
            Ok(key) => keys.push(key),
            Err(error) => tracing::error!(%error, "an API key in the database is damaged and opens nothing"),
        }
    }
    drop(rows);
    drop(statement);
    Ok(ApiKeysSnapshot {
        keys,
        count,
        data_version: current_data_version(db)?,
        // Jobs of a store run one after the other, so this is the order of what they read.
        reading: READINGS.fetch_add(1, Ordering::Relaxed),
    })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<ApiKeyRecord> {
    let scopes: String = row.get(3)?;
    let last_used_at: Option<i64> = row.get(7)?;
    let revoked_at: Option<i64> = row.get(8)?;
    Ok(ApiKeyRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        sha256: row.get(2)?,
        scopes: scopes_from_text(&scopes),
        tenant: row.get(4)?,
        user: row.get(5)?,
        created_at: from_millis(row.get(6)?),
        last_used_at: last_used_at.map(from_millis),
        revoked_at: revoked_at.map(from_millis),
    })
}

/// Names of scopes with commas between.
fn scopes_to_text(scopes: &[Scope]) -> String {
    let names: Vec<String> = scopes.iter().map(Scope::to_string).collect();
    names.join(",")
}

/// A name that is no scope gives nothing.
fn scopes_from_text(text: &str) -> Vec<Scope> {
    Scope::ALL
        .into_iter()
        .filter(|scope| text.split(',').any(|name| name == scope.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::Durability;
    use super::*;

    const NOON: SystemTime = UNIX_EPOCH;

    fn key(id: &str) -> ApiKeyRecord {
        ApiKeyRecord {
            id: id.to_owned(),
            name: "ci".to_owned(),
            sha256: [id.len() as u8; 32],
            scopes: vec![Scope::Read, Scope::Api],
            tenant: "acme".to_owned(),
            user: Some("ann".to_owned()),
            created_at: NOON,
            last_used_at: None,
            revoked_at: None,
        }
    }

    fn action(action: &'static str) -> AuditAction {
        AuditAction {
            key: None,
            tenant: "acme".to_owned(),
            action,
            target: "key".to_owned(),
            request_id: None,
        }
    }

    #[tokio::test]
    async fn a_key_is_kept_used_and_revoked_once() {
        let store = Store::in_memory().unwrap();
        store.add_api_key(key("k"), action("key.create")).await.unwrap();
        assert_eq!(store.api_keys().await.unwrap().keys, [key("k")]);

        let later = NOON + Duration::from_secs(60);
        store.touch_api_keys(vec![("k".to_owned(), later)]).await.unwrap();
        let revoke = |id: &str| store.revoke_api_key(id.to_owned(), action("key.revoke"));
        assert!(revoke("k").await.unwrap());
        let revoked = store.api_keys().await.unwrap().keys.remove(0);
        assert!(revoke("k").await.unwrap());
        assert!(!revoke("other").await.unwrap());
        assert!(revoked.revoked_at.is_some());
        assert_eq!(revoked.last_used_at, Some(later));
        assert_eq!(
            store.api_keys().await.unwrap().keys,
            [revoked],
            "revoked once and for all"
        );
        let entries = store.audit_entries(None, 9).await.unwrap();
        let actions: Vec<_> = entries.iter().map(|entry| entry.action.as_str()).collect();
        assert_eq!(
            actions,
            ["key.revoke", "key.create"],
            "a revocation that changes nothing is no entry"
        );
    }

    #[tokio::test]
    async fn a_damaged_key_is_left_out_and_counted() {
        let store = Store::in_memory().unwrap();
        for id in ["k", "damaged"] {
            store.add_api_key(key(id), action("key.create")).await.unwrap();
        }
        let damage = "UPDATE api_keys SET sha256 = x'00' WHERE id = 'damaged'";
        store.run(|db| db.execute_batch(damage)).await.unwrap();
        let snapshot = store.api_keys().await.unwrap();
        assert_eq!((snapshot.keys, snapshot.count), (vec![key("k")], 2));
    }

    #[tokio::test]
    async fn what_another_process_writes_is_noticed_and_what_this_one_writes_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wisp.db");
        let server = Store::open(&path, Durability::Process).unwrap();
        let seen = server.api_keys().await.unwrap().data_version;
        server.add_api_key(key("k"), action("key.create")).await.unwrap();
        assert!(server.api_keys_since(seen).await.unwrap().is_none());

        let command_line = Store::open(&path, Durability::Process).unwrap();
        let other = ApiKeyRecord {
            sha256: [7; 32],
            ..key("other")
        };
        command_line.add_api_key(other, action("key.create")).await.unwrap();
        let now = server.api_keys_since(seen).await.unwrap().unwrap();
        assert_eq!(now.keys.len(), 2);
        assert!(server.api_keys_since(now.data_version).await.unwrap().is_none());
    }

    #[test]
    fn scopes_are_read_back_as_written() {
        for scopes in [vec![Scope::Read], vec![Scope::Read, Scope::Api], vec![Scope::Admin]] {
            assert_eq!(scopes_from_text(&scopes_to_text(&scopes)), scopes);
        }
        assert!(scopes_from_text("root,").is_empty());
    }
}
