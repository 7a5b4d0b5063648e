//! A limited resource of the server that tenants share, each up to its share.
//!
//! A tenant may hold a share of what it holds and what is free together: with a share of 75 percent, one tenant alone
//! may hold three quarters of all, the next one three quarters of the rest, and each newcomer finds something free. This
//! is the dynamic threshold of shared packet buffers (Choudhury and Hahne, 1998).

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::TenantId;

/// A bounded quantity: bytes, MiB, places.
#[derive(Debug)]
pub struct Budget {
    /// All there is; `None` is no limit.
    total: Option<u64>,
    /// Of what a tenant holds and what is free together, the percentage that the tenant may hold.
    share_percent: u64,
    /// Never locked across an await.
    held: Mutex<Held>,
}

/// Who holds how much.
#[derive(Debug, Default)]
struct Held {
    total: u64,
    /// No zero entries.
    by_tenant: HashMap<TenantId, u64>,
}

/// What keeps a tenant from holding more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// What one sandbox may hold.
    Sandbox,
    /// The tenant has used up its share.
    Tenant,
    /// The server has no more, whoever asks.
    Server,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    tenant: TenantId,
    /// The sandbox it is for, if it is for one.
    sandbox: Option<Account>,
    amount: u64,
}

/// What one sandbox holds of a budget, and how much that may be.
#[derive(Debug, Clone)]
pub struct Account {
    held: Arc<AtomicU64>,
    max: u64,
}

impl Account {
    /// Nothing yet of at most `max`.
    #[must_use]
    pub fn new(max: u64) -> Self {
        Self {
            held: Arc::default(),
            max,
        }
    }

    fn add(&self, amount: u64) -> Result<(), Exhausted> {
        // The counter only keeps count; nothing else is published through it.
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(amount).filter(|held| *held <= self.max)
            })
            .map(drop)
            .map_err(|_| Exhausted::Sandbox)
    }

    fn remove(&self, amount: u64) {
        self.held.fetch_sub(amount, Ordering::Relaxed);
    }
}

impl Held {
    fn of(&self, tenant: &TenantId) -> u64 {
        self.by_tenant.get(tenant).copied().unwrap_or_default()
    }

    fn add(&mut self, tenant: &TenantId, amount: u64) {
        if amount == 0 {
            return;
        }
        self.total += amount;
        match self.by_tenant.get_mut(tenant) {
            Some(held) => *held += amount,
            None => {
                self.by_tenant.insert(tenant.clone(), amount);
            }
        }
    }

    fn remove(&mut self, tenant: &TenantId, amount: u64) {
        self.total -= amount;
        if let Some(held) = self.by_tenant.get_mut(tenant) {
            *held -= amount;
            if *held == 0 {
                self.by_tenant.remove(tenant);
            }
        }
    }
}

impl Budget {
    /// `total` of something; 0 is no limit. A tenant may hold `share_percent` of what it holds and what is free together,
    /// rounded up: of one, it may hold that one.
    #[must_use]
    pub fn new(total: u64, share_percent: u8) -> Arc<Self> {
        Arc::new(Self {
            total: (total > 0).then_some(total),
            share_percent: u64::from(share_percent.min(100)),
            held: Mutex::default(),
        })
    }

    /// A poisoned lock means that a thread panicked while it held it. Nothing that is done under it panics.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock()
    }

    /// What a tenant may still take.
    fn room(&self, held: &Held, tenant: &TenantId) -> Result<u64, Exhausted> {
        let Some(total) = self.total else {
            return Ok(u64::MAX);
        };
        let own = held.of(tenant);
        let free = total.saturating_sub(held.total);
        if free == 0 {
            return Err(Exhausted::Server);
        }
        let most = (u128::from(own + free) * u128::from(self.share_percent)).div_ceil(100);
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        match most.saturating_sub(own).min(free) {
            0 => Err(Exhausted::Tenant),
            room => Ok(room),
        }
    }

    /// Takes an amount, all or nothing.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub fn take(self: &Arc<Self>, tenant: &TenantId, amount: u64) -> Result<Permit, Exhausted> {
        let mut permit = self.empty(tenant);
        permit.grow(amount)?;
        Ok(permit)
    }

    /// Takes an amount whether it is there or not: for what exists already.
    pub fn take_over(self: &Arc<Self>, tenant: &TenantId, amount: u64) -> Permit {
        let mut permit = self.empty(tenant);
        self.held().add(tenant, amount);
        permit.amount = amount;
        permit
    }

    /// A permit that holds nothing yet.
    #[must_use]
    pub fn empty(self: &Arc<Self>, tenant: &TenantId) -> Permit {
        Permit {
            budget: Arc::clone(self),
            tenant: tenant.clone(),
            sandbox: None,
            amount: 0,
        }
    }

    /// Whether an amount could be taken now.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub fn check(&self, tenant: &TenantId, amount: u64) -> Result<(), Exhausted> {
        self.check_locked(&self.held(), tenant, amount)
    }

    fn check_locked(&self, held: &Held, tenant: &TenantId, amount: u64) -> Result<(), Exhausted> {
        if amount == 0 || self.room(held, tenant)? >= amount {
            return Ok(());
        }
        let free = self.total.map_or(u64::MAX, |total| total.saturating_sub(held.total));
        Err(if free < amount {
            Exhausted::Server
        } else {
            Exhausted::Tenant
        })
    }

    /// What is held by all tenants together.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.held().total
    }

    /// All there is; `None` is no limit.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total
    }
}

impl Permit {
    /// Takes more, all or nothing.
    ///
    /// # Errors
    /// [`Exhausted`]; what is held already stays.
    pub fn grow(&mut self, amount: u64) -> Result<(), Exhausted> {
        if let Some(sandbox) = &self.sandbox {
            sandbox.add(amount)?;
        }
        let mut held = self.budget.held();
        if let Err(exhausted) = self.budget.check_locked(&held, &self.tenant, amount) {
            if let Some(sandbox) = &self.sandbox {
                sandbox.remove(amount);
            }
            return Err(exhausted);
        }
        held.add(&self.tenant, amount);
        self.amount += amount;
        Ok(())
    }

    /// The same for what a sandbox holds, which holds nothing of it yet.
    #[must_use]
    pub fn of_sandbox(mut self, sandbox: &Account) -> Self {
        debug_assert_eq!(self.amount, 0, "what it holds already is not counted");
        self.sandbox = Some(sandbox.clone());
        self
    }

    /// Takes as much of an amount as there is, and says how much that was.
    pub fn grow_up_to(&mut self, amount: u64) -> u64 {
        debug_assert!(self.sandbox.is_none(), "a sandbox's account is all or nothing");
        let mut held = self.budget.held();
        let granted = self.budget.room(&held, &self.tenant).map_or(0, |room| room.min(amount));
        held.add(&self.tenant, granted);
        self.amount += granted;
        granted
    }

    /// Gives back all but an amount.
    pub fn shrink_to(&mut self, amount: u64) {
        let excess = self.amount.saturating_sub(amount);
        if excess > 0 {
            self.budget.held().remove(&self.tenant, excess);
            if let Some(sandbox) = &self.sandbox {
                sandbox.remove(excess);
            }
            self.amount -= excess;
        }
    }

    /// Another permit of the same tenant, which holds nothing yet.
    #[must_use]
    pub fn empty(&self) -> Self {
        self.budget.empty(&self.tenant)
    }

    /// The amount that is charged.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.amount
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    #[test]
    fn one_sandbox_holds_no_more_than_its_account() {
        let budget = Budget::new(100, 75);
        let account = Account::new(30);
        let permit = || budget.empty(&tenant("ann")).of_sandbox(&account);
        let (mut first, mut second) = (permit(), permit());
        first.grow(20).unwrap();
        assert_eq!(second.grow(11), Err(Exhausted::Sandbox));
        second.grow(10).unwrap();
        drop(first);
        assert_eq!(second.grow(21), Err(Exhausted::Sandbox));
        // What the tenant may not have is not counted to the sandbox.
        let other = budget.take(&tenant("ann"), 60).unwrap();
        assert_eq!(second.grow(20), Err(Exhausted::Tenant));
        drop(other);
        second.grow(20).unwrap();
    }

    #[test]
    fn one_tenant_holds_no_more_than_its_share() {
        let budget = Budget::new(1000, 75);
        let mut greedy = budget.empty(&tenant("greedy"));
        assert_eq!(greedy.grow_up_to(5000), 750);
        assert_eq!(greedy.grow(1), Err(Exhausted::Tenant));
        let other = budget.take(&tenant("other"), 100).unwrap();
        assert_eq!(budget.used(), 850);
        drop((greedy, other));
        assert_eq!(budget.used(), 0);
        assert!(budget.held().by_tenant.is_empty());
    }

    #[test]
    fn newcomer_finds_room_beside_greedy_tenants() {
        let budget = Budget::new(1 << 20, 75);
        let _greedy: Vec<_> = (0..5)
            .map(|n| {
                let mut permit = budget.empty(&tenant(&format!("t{n}")));
                while permit.grow_up_to(u64::MAX) > 0 {}
                permit
            })
            .collect();
        assert!(budget.take(&tenant("new"), 500).is_ok());
    }

    #[test]
    fn all_or_nothing_takes_nothing_when_refused() {
        let budget = Budget::new(10, 100);
        let held = budget.take(&tenant("a"), 8).unwrap();
        assert_eq!(budget.take(&tenant("b"), 3).unwrap_err(), Exhausted::Server);
        assert_eq!(budget.used(), 8);
        assert_eq!(held.amount(), 8);
    }

    #[test]
    fn a_small_budget_serves_each_tenant_once() {
        let budget = Budget::new(1, 75);
        let one = budget.take(&tenant("a"), 1).unwrap();
        assert_eq!(budget.take(&tenant("b"), 1).unwrap_err(), Exhausted::Server);
        drop(one);
        assert!(budget.take(&tenant("b"), 1).is_ok());
    }

    #[test]
    fn nothing_is_refused_without_a_limit() {
        let budget = Budget::new(0, 75);
        let permit = budget.take(&tenant("a"), u64::MAX / 2).unwrap();
        assert_eq!(budget.used(), permit.amount());
    }

    #[test]
    fn existing_holdings_are_counted_beyond_the_limit() {
        let budget = Budget::new(10, 75);
        let over = budget.take_over(&tenant("a"), 20);
        assert_eq!(budget.take(&tenant("b"), 1).unwrap_err(), Exhausted::Server);
        drop(over);
        assert_eq!(budget.used(), 0);
    }
}
