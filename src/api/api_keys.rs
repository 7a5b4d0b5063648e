//! The keys that open the API: those of the configuration and those of the database, found by digest.
//!
//! The server holds all of them in memory. A change by one of its own routes counts at once; one that another process
//! makes in the database is noticed within [`INTERVAL`].

use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use super::periodic::Periodic;
use crate::config::AuthConfig;
use crate::sandbox::{TenantId, UserId};
use crate::scope::Scope;
use crate::store::{ApiKeyRecord, ApiKeysSnapshot, AuditAction, Store, StoreError};

/// How often the database is asked for changes of other processes, and told when keys were used.
const INTERVAL: Duration = Duration::from_millis(500);
/// A key that is not known makes the server look for changes at once, but not more often than this: whoever sends
/// wrong keys costs the database no more than that.
const LOOK_AGAIN_INTERVAL: Duration = Duration::from_millis(100);
/// A key's last use is noted no more often than this.
const USE_INTERVAL: Duration = Duration::from_secs(60);
/// Random bytes of a key.
const KEY_BYTES: usize = 32;
/// Random bytes of a key's id.
const ID_BYTES: usize = 8;
/// How every key we make begins, so that people and secret scanners know one when they see it.
const KEY_PREFIX: &str = "wisp_";
/// Longest name of a key, characters.
const MAX_NAME_CHARS: usize = 128;

/// The keys of a server. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct ApiKeys(Arc<Shared>);

struct Shared {
    store: Store,
    /// Whether requests need a key even when there is none.
    required: bool,
    /// Keys of the configuration, which no route changes.
    configured: Vec<Arc<ApiKey>>,
    /// Replaced as a whole; never locked across an await.
    current: RwLock<Arc<KeySet>>,
    /// Ids of keys, and when they were used, that the database was not told yet.
    uses: Mutex<HashMap<String, SystemTime>>,
    /// Origin of `looked_at`.
    started: Instant,
    /// When an unknown key last made us look for changes, milliseconds since `started`.
    looked_at: AtomicU64,
}

/// The keys that open something now.
struct KeySet {
    by_digest: HashMap<KeyDigest, Arc<ApiKey>>,
    /// Whether there is any key at all. A revoked one counts: a server must not open when its last key is revoked.
    any: bool,
    data_version: i64,
    /// Number of the reading that this came from; 0 before the first.
    reading: u64,
}

/// One key that opens something.
#[derive(Debug)]
pub(super) struct ApiKey {
    /// Name and id, for the log and the audit trail.
    pub(super) label: String,
    /// The highest of its scopes, which includes the others.
    pub(super) scope: Scope,
    pub(super) tenant: TenantId,
    pub(super) user: Option<UserId>,
    digest: KeyDigest,
    /// Its id in the database; `None` for a key of the configuration.
    id: Option<String>,
    /// When its use was last noted, seconds since 1970.
    noted_at: AtomicU64,
}

/// SHA-256 of a key. Two are compared in constant time, also inside a map; where a map looks for one depends on a
/// random number that the map was made with. So the time a look-up takes tells nothing about a key.
#[derive(Debug, Clone, Copy)]
struct KeyDigest([u8; 32]);

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyDigest {}

impl Hash for KeyDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl KeyDigest {
    fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeysError {
    /// One of the configuration is malformed.
    #[error("API key \"{0}\": its digest, scopes, tenant or user are malformed")]
    Malformed(String),
    /// Those of the database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ApiKeys {
    /// The keys of a configuration and of a database.
    ///
    /// # Errors
    /// [`ApiKeysError`].
    pub async fn load(config: &AuthConfig, store: Store) -> Result<Self, ApiKeysError> {
        let configured = configured(config)?;
        let keys = Self(Arc::new(Shared {
            store,
            required: config.required,
            configured,
            current: RwLock::new(Arc::new(KeySet {
                by_digest: HashMap::new(),
                any: false,
                data_version: 0,
                reading: 0,
            })),
            uses: Mutex::default(),
            started: Instant::now(),
            looked_at: AtomicU64::new(0),
        }));
        keys.read_again().await?;
        Ok(keys)
    }

    /// Whether requests need a key: there is one, or was one, or the configuration says so.
    #[must_use]
    pub fn required(&self) -> bool {
        self.0.required || self.current().any
    }

    /// Finds a key, and notes that it is used.
    pub(super) async fn find(&self, presented: &[u8]) -> Option<Arc<ApiKey>> {
        let digest = KeyDigest::of(presented);
        let known = |keys: &Self| keys.current().by_digest.get(&digest).cloned();
        let found = match known(self) {
            Some(key) => key,
            None if self.may_look_again() => {
                self.read_if_changed().await;
                known(self)?
            }
            None => return None,
        };
        self.note_use(&found);
        Some(found)
    }

    /// Adds a key; it opens as soon as this returns.
    pub(super) async fn add(&self, key: ApiKeyRecord, action: AuditAction) -> Result<(), StoreError> {
        self.0.store.add_api_key(key, action).await?;
        self.read_again().await
    }

    /// Revokes a key; it opens nothing as soon as this returns. `false` when the database has none of this id.
    pub(super) async fn revoke(&self, id: String, action: AuditAction) -> Result<bool, StoreError> {
        let known = self.0.store.revoke_api_key(id, action).await?;
        self.read_again().await?;
        Ok(known)
    }

    /// Starts to look for changes in the database and to note there when keys are used.
    pub(super) fn watch(&self) -> Periodic {
        let keys = self.clone();
        Periodic::start(INTERVAL, move || {
            let keys = keys.clone();
            async move {
                keys.read_if_changed().await;
                keys.flush().await;
            }
        })
    }

    /// Tells the database when keys were used.
    pub(super) async fn flush(&self) {
        let uses = std::mem::take(&mut *self.0.uses.lock());
        if uses.is_empty() {
            return;
        }
        if let Err(error) = self.0.store.touch_api_keys(uses.into_iter().collect()).await {
            tracing::warn!(%error, "cannot note when API keys were used");
        }
    }

    fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.0.current.read())
    }

    /// Whether a request with an unknown key may look for changes now; true for one of those that come together.
    fn may_look_again(&self) -> bool {
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.0.looked_at.load(Ordering::Relaxed);
        let interval = u64::try_from(LOOK_AGAIN_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let due = last == 0 || now.saturating_sub(last) >= interval;
        due && self
            .0
            .looked_at
            .compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    async fn read_again(&self) -> Result<(), StoreError> {
        let snapshot = self.0.store.api_keys().await?;
        self.install(snapshot);
        Ok(())
    }

    /// Keeps the keys it has when the database fails.
    async fn read_if_changed(&self) {
        match self.0.store.api_keys_since(self.current().data_version).await {
            Ok(None) => {}
            Ok(Some(snapshot)) => self.install(snapshot),
            Err(error) => tracing::error!(%error, "cannot look for changed API keys; revoked ones may still open"),
        }
    }

    /// Makes these the keys, unless a later reading was faster.
    fn install(&self, snapshot: ApiKeysSnapshot) {
        let of_database = snapshot.keys.into_iter().filter_map(usable).map(Arc::new);
        // Keys of the configuration come last: they win.
        let by_digest: HashMap<_, _> = of_database
            .chain(self.0.configured.iter().cloned())
            .map(|key| (key.digest, key))
            .collect();
        let set = KeySet {
            any: snapshot.count > 0 || !self.0.configured.is_empty(),
            by_digest,
            data_version: snapshot.data_version,
            reading: snapshot.reading,
        };
        let mut current = self.0.current.write();
        if set.any && !current.any && current.reading > 0 {
            tracing::info!("there is an API key now: from here on every request needs one");
        }
        if set.reading > current.reading {
            *current = Arc::new(set);
        }
    }

    fn note_use(&self, key: &ApiKey) {
        let Some(id) = &key.id else { return };
        let now = SystemTime::now();
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let noted = key.noted_at.load(Ordering::Relaxed);
        let due = seconds.saturating_sub(noted) >= USE_INTERVAL.as_secs();
        let first = || {
            key.noted_at
                .compare_exchange(noted, seconds, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        if due && first() {
            let mut uses = self.0.uses.lock();
            uses.insert(id.clone(), now);
        }
    }
}

/// The keys of a configuration.
fn configured(config: &AuthConfig) -> Result<Vec<Arc<ApiKey>>, ApiKeysError> {
    let keys = config.keys.iter().enumerate().map(|(index, key)| {
        let malformed = || ApiKeysError::Malformed(key.name.clone());
        let user = key.user.as_deref().map(UserId::parse).transpose();
        Ok(Arc::new(ApiKey {
            label: format!("{} {}", key.name, configured_id(index)),
            scope: key.scopes.iter().copied().max().ok_or_else(malformed)?,
            tenant: TenantId::parse(&key.tenant).map_err(|_| malformed())?,
            user: user.map_err(|_| malformed())?,
            digest: KeyDigest(key.digest().ok_or_else(malformed)?),
            id: None,
            noted_at: AtomicU64::new(0),
        }))
    });
    keys.collect()
}

/// How the API names a key of the configuration.
pub(super) fn configured_id(index: usize) -> String {
    format!("cfg_{index}")
}

/// A key of the database, unless it is revoked or damaged.
fn usable(record: ApiKeyRecord) -> Option<ApiKey> {
    if record.revoked_at.is_some() {
        return None;
    }
    let label = format!("{} {}", record.name, record.id);
    let (Some(scope), Ok(tenant), Ok(user)) = (
        record.scopes.iter().copied().max(),
        TenantId::parse(&record.tenant),
        record.user.as_deref().map(UserId::parse).transpose(),
    ) else {
        tracing::error!(key = label, "an API key in the database is damaged and opens nothing");
        return None;
    };
    let noted_at = record.last_used_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Some(ApiKey {
        label,
        scope,
        tenant,
        user,
        digest: KeyDigest(record.sha256),
        id: Some(record.id),
        noted_at: AtomicU64::new(noted_at.unwrap_or_default().as_secs()),
    })
}

/// A key to be made.
#[derive(Debug, Clone, Default)]
pub struct KeyRequest {
    /// What to call it.
    pub name: String,
    /// What it may do; `read` and `api` when `None`.
    pub scopes: Option<Vec<Scope>>,
    /// Whose things it sees; the tenant `default` when `None`.
    pub tenant: Option<String>,
    /// The only user it acts for; any when `None`.
    pub user: Option<String>,
}

/// Why a key cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyRequestError {
    /// A value is malformed; the message names it.
    #[error("{0}")]
    Invalid(String),
    /// The operating system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

impl KeyRequest {
    /// Makes the key: what is kept of it, and its text, which exists only here.
    ///
    /// # Errors
    /// [`KeyRequestError`].
    pub fn issue(self) -> Result<(ApiKeyRecord, String), KeyRequestError> {
        let invalid = |message: String| Err(KeyRequestError::Invalid(message));
        let name = self.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
            return invalid(format!(
                "name must be 1 to {MAX_NAME_CHARS} characters without control characters"
            ));
        }
        let mut scopes = self.scopes.unwrap_or_else(|| vec![Scope::Read, Scope::Api]);
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.is_empty() {
            return invalid("scopes must not be empty: a key without any could do nothing".to_owned());
        }
        let tenant = self.tenant.as_deref().map_or(Ok(TenantId::default()), TenantId::parse);
        let tenant = tenant.map_err(|error| KeyRequestError::Invalid(format!("tenant: {error}")))?;
        let user = self.user.as_deref().map(UserId::parse).transpose();
        let user = user.map_err(|error| KeyRequestError::Invalid(format!("user: {error}")))?;
        if user.is_some() && scopes.contains(&Scope::Admin) {
            return invalid(
                "a key with the scope \"admin\" cannot be bound to a user: it changes the whole server".to_owned(),
            );
        }
        let key = format!("{KEY_PREFIX}{}", random_hex::<KEY_BYTES>()?);
        let record = ApiKeyRecord {
            id: format!("key_{}", random_hex::<ID_BYTES>()?),
            name,
            sha256: KeyDigest::of(key.as_bytes()).0,
            scopes,
            tenant: tenant.to_string(),
            user: user.map(|user| user.to_string()),
            created_at: SystemTime::now(),
            last_used_at: None,
            revoked_at: None,
        };
        Ok((record, key))
    }
}

fn random_hex<const N: usize>() -> Result<String, KeyRequestError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KeyRequestError::Random)?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(name: &str) -> (ApiKeyRecord, String) {
        let request = KeyRequest {
            name: name.to_owned(),
            ..KeyRequest::default()
        };
        request.issue().unwrap()
    }

    fn action() -> AuditAction {
        AuditAction {
            key: None,
            tenant: "default".to_owned(),
            action: "key.create",
            target: "key".to_owned(),
            request_id: None,
        }
    }

    async fn without_keys() -> (ApiKeys, Store) {
        let store = Store::in_memory().unwrap();
        let keys = ApiKeys::load(&AuthConfig::default(), store.clone()).await.unwrap();
        (keys, store)
    }

    #[test]
    fn a_key_has_256_random_bits_and_only_its_digest_is_kept() {
        let (record, key) = issued("ci");
        assert_eq!(key.len(), "wisp_".len() + 64);
        assert!(key.starts_with("wisp_"));
        assert_eq!(record.sha256, <[u8; 32]>::from(Sha256::digest(&key)));
        assert!(!format!("{record:?}").contains(&key));
        assert_ne!(issued("ci").1, key);
    }

    #[test]
    fn a_malformed_key_is_not_made() {
        let good = KeyRequest {
            name: "ci".to_owned(),
            ..KeyRequest::default()
        };
        let long = "x".repeat(129);
        for (what, request) in [
            (
                "name",
                KeyRequest {
                    name: "  ".to_owned(),
                    ..good.clone()
                },
            ),
            (
                "name",
                KeyRequest {
                    name: long.clone(),
                    ..good.clone()
                },
            ),
            (
                "name",
                KeyRequest {
                    name: "a\nb".to_owned(),
                    ..good.clone()
                },
            ),
            (
                "scopes",
                KeyRequest {
                    scopes: Some(Vec::new()),
                    ..good.clone()
                },
            ),
            (
                "tenant",
                KeyRequest {
                    tenant: Some("a/b".to_owned()),
                    ..good.clone()
                },
            ),
            (
                "user",
                KeyRequest {
                    user: Some(String::new()),
                    ..good.clone()
                },
            ),
            (
                "admin",
                KeyRequest {
                    scopes: Some(vec![Scope::Admin]),
                    user: Some("ann".to_owned()),
                    ..good.clone()
                },
            ),
        ] {
            let message = request.issue().unwrap_err().to_string();
            assert!(message.contains(what), "{message}");
        }
    }

    #[tokio::test]
    async fn a_revoked_key_opens_nothing_and_does_not_open_the_server() {
        let (keys, _) = without_keys().await;
        assert!(!keys.required());
        let (record, key) = issued("ci");
        let id = record.id.clone();
        keys.add(record, action()).await.unwrap();
        assert!(keys.required());
        let found = keys.find(key.as_bytes()).await.unwrap();
        assert_eq!(
            (found.label.as_str(), found.scope),
            (format!("ci {id}").as_str(), Scope::Api)
        );
        assert!(keys.find(&key.as_bytes()[..key.len() - 1]).await.is_none());

        assert!(keys.revoke(id, action()).await.unwrap());
        assert!(keys.find(key.as_bytes()).await.is_none());
        assert!(keys.required());
        assert!(!keys.revoke("key_0".to_owned(), action()).await.unwrap());
    }

    #[tokio::test]
    async fn a_key_that_another_process_makes_or_revokes_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wisp.db");
        let open = || Store::open(&path, crate::store::Durability::Process).unwrap();
        let keys = ApiKeys::load(&AuthConfig::default(), open()).await.unwrap();
        let command_line = open();
        let (record, key) = issued("ci");
        let id = record.id.clone();
        command_line.add_api_key(record, action()).await.unwrap();
        assert!(
            keys.find(key.as_bytes()).await.is_some(),
            "an unknown key makes it look"
        );
        command_line.revoke_api_key(id, action()).await.unwrap();
        keys.read_if_changed().await;
        assert!(keys.find(key.as_bytes()).await.is_none());
    }

    #[tokio::test]
    async fn the_last_use_is_noted_once_a_minute() {
        let (keys, store) = without_keys().await;
        let (record, key) = issued("ci");
        keys.add(record, action()).await.unwrap();
        for _ in 0..3 {
            keys.find(key.as_bytes()).await.unwrap();
        }
        assert_eq!(keys.0.uses.lock().len(), 1);
        keys.flush().await;
        keys.find(key.as_bytes()).await.unwrap();
        assert!(keys.0.uses.lock().is_empty());
        let kept = store.api_keys().await.unwrap().keys.remove(0);
        assert!(
            kept.last_used_at
                .is_some_and(|at| at.elapsed().unwrap() < Duration::from_secs(60))
        );
    }

    #[tokio::test]
    async fn a_required_key_is_required_even_when_there_is_none() {
        let config = AuthConfig {
            required: true,
            ..AuthConfig::default()
        };
        let keys = ApiKeys::load(&config, Store::in_memory().unwrap()).await.unwrap();
        assert!(keys.required());
        assert!(keys.find(b"anything").await.is_none());
    }
}
