//! How many processes of a sandbox execute at the same instant: its virtual CPUs.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::table::Control;

/// The virtual CPUs of one sandbox.
///
/// A CPU that becomes free is handed to the process that has waited longest, so that one that yields and comes back
/// at once cannot starve the others.
#[derive(Debug)]
pub struct CpuGate {
    state: Mutex<State>,
    /// Time all processes have spent executing, nanoseconds.
    cpu_ns: AtomicU64,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Processes that wait, oldest first: ticket and how to wake it.
    waiting: VecDeque<(u64, Waker)>,
    /// Tickets that were handed a CPU and have not used it yet.
    granted: Vec<u64>,
    next_ticket: u64,
}

impl CpuGate {
    /// A gate for `vcpus` processes at once, at least one.
    pub fn new(vcpus: usize) -> Arc<Self> {
        let state = State {
            free: vcpus.max(1),
            waiting: VecDeque::new(),
            granted: Vec::new(),
            next_ticket: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            cpu_ns: AtomicU64::new(0),
        })
    }

    /// Time all processes have spent executing, nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed)
    }

    /// Runs `process` through the gate; the time it executes is added to `account` as well.
    pub fn run<F: Future>(self: &Arc<Self>, process: F, account: Arc<Control>) -> Gated<F> {
        Gated {
            gate: Arc::clone(self),
            process: Box::pin(process),
            ticket: None,
            account,
        }
    }

    /// Takes a CPU, or queues for one under `ticket`.
    fn enter(&self, ticket: &mut Option<u64>, waker: &Waker) -> bool {
        let mut state = self.lock();
        if let Some(held) = *ticket {
            if let Some(position) = state.granted.iter().position(|granted| *granted == held) {
                state.granted.swap_remove(position);
                *ticket = None;
                return true;
            }
            if let Some(entry) = state.waiting.iter_mut().find(|entry| entry.0 == held) {
                entry.1.clone_from(waker);
            }
            return false;
        }
        if state.free > 0 {
            state.free -= 1;
            return true;
        }
        let number = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back((number, waker.clone()));
        *ticket = Some(number);
        false
    }

    /// Gives a CPU back, or hands it on.
    fn leave(&self) {
        let mut state = self.lock();
        match state.waiting.pop_front() {
            Some((ticket, waker)) => {
                state.granted.push(ticket);
                drop(state);
                waker.wake();
            }
            None => state.free += 1,
        }
    }

    fn forget(&self, ticket: u64) {
        let mut state = self.lock();
        state.waiting.retain(|entry| entry.0 != ticket);
        let granted = state.granted.iter().position(|granted| *granted == ticket);
        if let Some(position) = granted {
            state.granted.swap_remove(position);
            drop(state);
            self.leave();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each update is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process's task, polled only while it holds one of the sandbox's virtual CPUs.
pub struct Gated<F> {
    gate: Arc<CpuGate>,
    process: Pin<Box<F>>,
    ticket: Option<u64>,
    account: Arc<Control>,
}

impl<F: Future> Future for Gated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.gate.enter(&mut this.ticket, context.waker()) {
            return Poll::Pending;
        }
        let held = Held(&this.gate);
        let start = Instant::now();
        let result = this.process.as_mut().poll(context);
        let spent = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        this.account.cpu_ns.fetch_add(spent, Ordering::Relaxed);
        this.gate.cpu_ns.fetch_add(spent, Ordering::Relaxed);
        drop(held);
        result
    }
}

/// A virtual CPU in use; given back on drop, so that a panic does not keep it.
struct Held<'a>(&'a CpuGate);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl<F> Drop for Gated<F> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.gate.forget(ticket);
        }
    }
}
