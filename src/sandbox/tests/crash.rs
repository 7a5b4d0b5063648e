//! A server that dies at any instant loses nothing it acknowledged, and leaves nothing that belongs to nobody.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::*;
use crate::sandbox::{SandboxId, SandboxState};

/// A process that dies at its n-th step: before or after a commit, before or after a provider's change.
struct Fate {
    steps_left: AtomicUsize,
    died: Notify,
}

impl Fate {
    fn is_alive(&self) -> bool {
        let alive = self
            .steps_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok();
        if !alive {
            self.died.notify_one();
        }
        alive
    }
}

/// What clients were told.
#[derive(Default)]
struct Told {
    created: BTreeMap<SandboxId, SystemTime>,
    destroying: Vec<SandboxId>,
    destroyed: Vec<SandboxId>,
}

/// Everything that changes what must survive, some of it at the same time.
async fn work(manager: &SandboxManager, told: &Mutex<Told>) {
    let creating = || async {
        if let Ok(view) = manager.create(&caller(), CreateRequest::default()).await {
            told.lock().created.insert(view.id.clone(), view.expires_at);
            return Some(view.id);
        }
        None
    };
    let destroying = |id: SandboxId| async move {
        told.lock().destroying.push(id.clone());
        if manager.destroy(&caller(), &id).await.is_ok() {
            told.lock().destroyed.push(id);
        }
    };
    let Some(first) = creating().await else { return };
    let (second, third) = tokio::join!(creating(), creating());
    if let Ok(view) = manager.extend(&caller(), &first, Duration::from_secs(7200)).await {
        told.lock().created.insert(first.clone(), view.expires_at);
    }
    if let Some(second) = second {
        // Two clients destroy the same one: whoever is told first is told the truth.
        tokio::join!(destroying(second.clone()), destroying(second));
    }
    if let Some(third) = third {
        tokio::join!(destroying(third), creating());
    }
    // A client that goes away while its sandbox is made.
    drop(tokio::time::timeout(Duration::ZERO, creating()).await);
    creating().await;
}

/// Whether the process died before all was done.
async fn dies_at(step: usize) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wisp.db");
    let fate = Arc::new(Fate {
        steps_left: AtomicUsize::new(step),
        died: Notify::new(),
    });
    let (for_store, for_provider) = (Arc::clone(&fate), Arc::clone(&fate));
    let store = Store::mortal(&path, move || for_store.is_alive()).unwrap();
    let provider = Arc::new(FakeProvider::mortal(move || for_provider.is_alive()));
    let told = Mutex::new(Told::default());
    let first = manager(Limits::default(), vec![provider.clone()], store);
    let died = tokio::select! {
        biased;
        () = fate.died.notified() => true,
        () = work(&first, &told) => false,
    };
    // From here on the first process is dead, also when it did all its work.
    fate.steps_left.store(0, Ordering::SeqCst);

    let provider = Arc::new(provider.reopened());
    let store = Store::open(&path, Durability::Process).unwrap();
    let second = manager(Limits::default(), vec![provider.clone()], store.clone());
    second.recover().await.unwrap();
    let told = told.into_inner();
    let views = second.list(&caller()).await;
    for (id, expires_at) in &told.created {
        let view = views.iter().find(|view| view.id == *id);
        if told.destroyed.contains(id) {
            assert!(view.is_none(), "step {step}: {id} was destroyed and is back");
        } else if !told.destroying.contains(id) {
            let view = view.unwrap_or_else(|| panic!("step {step}: {id} is lost"));
            assert_eq!(view.state, SandboxState::Running, "step {step}");
            // An extension that was not acknowledged may have been recorded.
            assert!(view.expires_at >= *expires_at, "step {step}: an extension is lost");
        }
    }
    let held = provider.ids();
    let running: Vec<_> = views
        .iter()
        .filter(|view| view.state == SandboxState::Running)
        .collect();
    assert_eq!(running.len(), views.len(), "step {step}: {views:?}");
    let shown = views.iter().map(|view| view.id.to_string()).collect();
    assert_eq!(held, shown, "step {step}: the provider holds what nobody knows");
    let rows = store.sandboxes().await.unwrap();
    let recorded = rows.into_iter().map(|row| row.id).collect();
    assert_eq!(held, recorded, "step {step}");
    died
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_at_any_step_loses_nothing_and_leaves_nothing() {
    let mut step = 0;
    while dies_at(step).await {
        step += 1;
    }
    // Enough instants were tried: a creation alone has four.
    assert!(step > 25, "{step}");
}
