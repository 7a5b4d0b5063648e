//! Every sandbox that still holds something, in the order of ids and in that of ages.
//!
//! There may be a hundred thousand of them. Whoever looks at all of them does so in slices, between which others have
//! their turn: at the lock, and on the thread.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use super::admission::Slot;
use super::budgets::Room;
use super::life::Sandbox;
use super::{Caller, SandboxId, SandboxManager, SandboxView};

/// Sandboxes that are looked at in one slice, some tens of nanoseconds each.
const SLICE: usize = 1024;

/// All sandboxes.
#[derive(Default)]
pub(super) struct Registry {
    /// Never locked across an await.
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    by_id: BTreeMap<SandboxId, Entry>,
    by_age: BTreeMap<Age, Arc<Sandbox>>,
}

/// When a sandbox was created; the id tells those of one instant apart.
type Age = (SystemTime, SandboxId);

/// A sandbox and what it takes.
struct Entry {
    sandbox: Arc<Sandbox>,
    /// Held for its `Drop`.
    _slot: Slot,
    /// Held for its `Drop`.
    _room: Room,
}

/// The sandboxes that a caller sees, oldest first, each as it is when its turn comes.
pub struct Listing {
    manager: SandboxManager,
    caller: Caller,
    /// The last one that was looked at.
    last: Option<Age>,
    /// Found, and not given out yet.
    found: VecDeque<Arc<Sandbox>>,
    done: bool,
}

/// Some of the sandboxes that a caller sees, in the order of their ids.
#[derive(Debug, Clone)]
pub struct SandboxPage {
    /// The sandboxes.
    pub views: Vec<SandboxView>,
    /// Whether more follow.
    pub more: bool,
}

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write()
    }

    pub(super) fn insert(&self, sandbox: &Arc<Sandbox>, slot: Slot, room: Room) {
        let entry = Entry {
            sandbox: Arc::clone(sandbox),
            _slot: slot,
            _room: room,
        };
        let mut table = self.write();
        let age = (sandbox.created_at, sandbox.id.clone());
        table.by_age.insert(age, Arc::clone(sandbox));
        table.by_id.insert(sandbox.id.clone(), entry);
    }

    /// Drops a sandbox, and gives its room to whoever waits.
    pub(super) fn remove(&self, id: &SandboxId) {
        let entry = {
            let mut table = self.write();
            let entry = table.by_id.remove(id);
            if let Some(entry) = &entry {
                table.by_age.remove(&(entry.sandbox.created_at, id.clone()));
            }
            entry
        };
        // Not under the lock: the slot wakes others.
        drop(entry);
    }

    pub(super) fn get(&self, id: &SandboxId) -> Option<Arc<Sandbox>> {
        self.read().by_id.get(id).map(|entry| Arc::clone(&entry.sandbox))
    }

    /// All sandboxes that are wanted, in the order of their ids.
    pub(super) async fn select(&self, mut wanted: impl FnMut(&Sandbox) -> bool) -> Vec<Arc<Sandbox>> {
        let mut selected = Vec::new();
        let mut last = None;
        loop {
            let slice = self.slice(last.as_ref(), &mut |sandbox| {
                if wanted(sandbox) {
                    selected.push(Arc::clone(sandbox));
                }
                true
            });
            match slice {
                Some(id) => last = Some(id),
                None => return selected,
            }
            tokio::task::yield_now().await;
        }
    }

    /// Shows the sandboxes of one slice, after the id `last`, until one is not wanted. Returns the last that was looked
    /// at; `None` when no more follow or more are not wanted.
    fn slice(&self, last: Option<&SandboxId>, show: &mut dyn FnMut(&Arc<Sandbox>) -> bool) -> Option<SandboxId> {
        let table = self.read();
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut seen: Option<&SandboxId> = None;
        let rest = table.by_id.range::<SandboxId, _>((after, Bound::Unbounded));
        for (count, (id, entry)) in rest.enumerate() {
            if count == SLICE {
                return seen.cloned();
            }
            if !show(&entry.sandbox) {
                return None;
            }
            seen = Some(id);
        }
        None
    }
}

impl SandboxManager {
    /// All sandboxes the caller sees, oldest first.
    #[must_use]
    pub fn listing(&self, caller: &Caller) -> Listing {
        Listing {
            manager: self.clone(),
            caller: caller.clone(),
            last: None,
            found: VecDeque::new(),
            done: false,
        }
    }

    /// Up to `limit` sandboxes that the caller sees, in the order of their ids, after the id `after`, which need not be
    /// there any more.
    pub async fn page(&self, caller: &Caller, after: Option<SandboxId>, limit: usize) -> SandboxPage {
        let now = SystemTime::now();
        let mut page = SandboxPage {
            views: Vec::new(),
            more: false,
        };
        let mut last = after;
        loop {
            let slice = self.shared.sandboxes.slice(last.as_ref(), &mut |sandbox| {
                if let Some(view) = caller.sees(&sandbox.holder).then(|| sandbox.view(now)).flatten() {
                    if page.views.len() == limit {
                        page.more = true;
                        return false;
                    }
                    page.views.push(view);
                }
                true
            });
            match slice {
                Some(id) => last = Some(id),
                None => return page,
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Listing {
    /// The next sandbox; `None` after the last one.
    pub async fn next(&mut self) -> Option<SandboxView> {
        loop {
            while let Some(sandbox) = self.found.pop_front() {
                if let Some(view) = sandbox.view(SystemTime::now()) {
                    return Some(view);
                }
            }
            if self.done {
                return None;
            }
            self.look();
            tokio::task::yield_now().await;
        }
    }

    /// Looks at one slice.
    fn look(&mut self) {
        let table = self.manager.shared.sandboxes.read();
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut count = 0;
        let mut last = None;
        for (age, sandbox) in table.by_age.range::<Age, _>((after, Bound::Unbounded)).take(SLICE) {
            if self.caller.sees(&sandbox.holder) {
                self.found.push_back(Arc::clone(sandbox));
            }
            last = Some(age);
            count += 1;
        }
        self.done = count < SLICE;
        if let Some(last) = last {
            self.last = Some(last.clone());
        }
    }
}
