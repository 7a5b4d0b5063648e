//! Fuel: a deterministic budget of an exec, counted by the compiled code itself.
//!
//! wasmtime counts about one unit for each WebAssembly instruction, and one for each byte of a bulk memory instruction. The
//! count of a process is in its store; the budget is one for all processes of an exec. A store gets all that is left of it
//! when its process starts, and again after each host call that may have waited ([`settle`]): that is when others of the
//! same exec may have used some. What a store has used is charged
//! - before and after each of those calls, exactly;
//! - at each tick, up to what the code has last written to the store ([`YIELD_INTERVAL`]): compiled code keeps its count in a
//!   register, which the host cannot see or change there;
//! - when the store is dropped, however its process ends.
//!
//! So processes that run one after the other have one exact count, and stop at the same instruction each time. Those that
//! run at the same time share the budget as they happen to run, and the sum is exact when they have ended.

use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::{AsContextMut, StoreContextMut};

use super::process::Process;

/// Units after which compiled code writes its count to the store, and lets others run: less than a tick. It is what is not
/// charged, at most, of a process that is killed while it computes.
pub const YIELD_INTERVAL: u64 = 1_000_000;

/// The fuel of an exec.
#[derive(Debug)]
pub struct Fuel {
    limit: u64,
    used: AtomicU64,
}

impl Fuel {
    /// A budget of this many units.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            used: AtomicU64::new(0),
        }
    }

    /// Adds units that were used. `false` when these are more than there were.
    fn add(&self, spent: u64) -> bool {
        let before = self.used.fetch_add(spent, Ordering::Relaxed);
        before.saturating_add(spent) <= self.limit
    }

    fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Units used, and whether more were wanted than the budget has; then it is all of the budget that was used.
    pub fn used(&self) -> (u64, bool) {
        let used = self.used.load(Ordering::Relaxed);
        (used.min(self.limit), used > self.limit)
    }
}

/// Charges what a process has used to its exec, as far as its store tells, and ends the exec when that is too much.
/// Nothing for a process whose fuel is not counted.
pub fn charge(store: &mut StoreContextMut<'_, Process>) {
    if store.data().control.exec_fuel.is_none() {
        return;
    }
    // A store that counts fuel always tells.
    let Ok(now) = store.get_fuel() else { return };
    let process = store.data_mut();
    let spent = std::mem::replace(&mut process.fuel_seen, now).saturating_sub(now);
    if let Some(fuel) = &process.control.exec_fuel
        && !fuel.add(spent)
    {
        process.kernel.table.kill_exec(process.control.exec);
    }
}

/// Charges what a process has used, and gives it all that is left of its exec's fuel. Exact when its code does not run: in
/// a host call, or before it starts.
pub fn settle(mut store: impl AsContextMut<Data = Process>) {
    let mut store = store.as_context_mut();
    charge(&mut store);
    let Some(fuel) = &store.data().control.exec_fuel else {
        return;
    };
    // One more than there is: a store that has that left used no more than it had, and one that has nothing left did. At
    // zero it could not be told whether the last unit was the last one wanted.
    let granted = fuel.left().saturating_add(1);
    if store.set_fuel(granted).is_ok() {
        store.data_mut().fuel_seen = granted;
    }
}

/// The value of a host call's body that may wait, with the fuel of the caller settled before and after it.
macro_rules! settled {
    ($caller:ident, $body:expr) => {{
        $crate::fuel::settle(&mut $caller);
        let value = $body;
        $crate::fuel::settle(&mut $caller);
        value
    }};
}
pub(super) use settled;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_used_up_when_more_is_wanted_than_it_has() {
        let fuel = Fuel::new(100);
        assert!(fuel.add(60) && fuel.add(40));
        assert_eq!((fuel.used(), fuel.left()), ((100, false), 0));
        assert!(!fuel.add(1));
        assert_eq!((fuel.used(), fuel.left()), ((100, true), 0));
    }
}
