//! The lifecycle layer against the fake provider, without HTTP.

mod crash;
mod many;
mod queue;
mod quota;
mod recovery;
mod registry;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Caller, CreateRequest, Providers, SandboxError, SandboxManager, SandboxView, UserId};
use crate::config::{Config, Limits};
use crate::provider::Provider;
use crate::provider::fake::FakeProvider;
use crate::store::{AuditAction, Durability, Store};

/// A server's files and its provider, which outlive its process.
struct Machine {
    dir: tempfile::TempDir,
    provider: Arc<FakeProvider>,
}

impl Machine {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            provider: Arc::default(),
        }
    }

    fn store(&self) -> Store {
        Store::open(&self.dir.path().join("wisp.db"), Durability::Process).unwrap()
    }

    /// A new process. What the last one knew is lost.
    fn boot(&self) -> SandboxManager {
        self.boot_with(Limits::default(), Vec::new())
    }

    fn boot_with(&self, limits: Limits, others: Vec<Arc<dyn Provider>>) -> SandboxManager {
        let mut providers: Vec<Arc<dyn Provider>> = vec![self.provider.clone()];
        providers.extend(others);
        manager(limits, providers, self.store())
    }
}

fn manager(limits: Limits, providers: Vec<Arc<dyn Provider>>, store: Store) -> SandboxManager {
    let config = Config {
        limits,
        ..Config::default()
    };
    SandboxManager::new(Arc::new(config), Providers::new(providers, "wasm").unwrap(), store)
}

/// What the audit trail is told.
fn action() -> AuditAction {
    AuditAction {
        key: None,
        tenant: "default".to_owned(),
        action: "test",
        target: String::new(),
        request_id: None,
    }
}

/// A manager of nothing yet, and its provider.
fn fresh(limits: Limits) -> (SandboxManager, Arc<FakeProvider>) {
    let provider = Arc::new(FakeProvider::default());
    let manager = manager(limits, vec![provider.clone()], Store::in_memory().unwrap());
    (manager, provider)
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn caller() -> Caller {
    Caller::default()
}

/// A request for a sandbox of this owner; of nobody when it is empty.
fn of(owner: &str) -> CreateRequest {
    CreateRequest {
        owner: (!owner.is_empty()).then(|| user(owner)),
        ..CreateRequest::default()
    }
}

async fn create(manager: &SandboxManager) -> SandboxView {
    manager.create(&caller(), CreateRequest::default()).await.unwrap()
}

/// Waits until something becomes true, for ten seconds at most.
async fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "it never became true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn prune_counts_what_it_ended() {
    let (manager, provider) = fresh(Limits::default());
    create(&manager).await;
    for _ in 0..2 {
        let request = CreateRequest {
            ttl: Some(Duration::from_millis(1)),
            ..CreateRequest::default()
        };
        manager.create(&caller(), request).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(manager.prune(&caller()).await, 2);
    assert_eq!(manager.prune(&caller()).await, 0);
    let deadline = Instant::now() + Duration::from_secs(10);
    while provider.count() > 1 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(provider.count(), 1);
}
