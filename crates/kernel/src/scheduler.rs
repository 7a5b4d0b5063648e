//! How many processes of a sandbox execute at the same instant: its virtual CPUs.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::stack::StackMeter;
use super::table::Control;
use super::{Kernel, signal};

/// After a turn that took this long, the next one's processor time is asked for. The system takes a microsecond or two to
/// tell: too much for each of the short turns of a process that waits, nothing beside those of one that computes.
const LONG_TURN: Duration = Duration::from_micros(200);

/// The virtual CPUs of one sandbox.
///
/// A CPU that becomes free is handed to the process that has waited longest, so that one that yields and comes back
/// at once cannot starve the others.
#[derive(Debug)]
pub struct CpuGate {
    state: Mutex<State>,
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
    pub fn new(vcpus: usize) -> Self {
        let state = State {
            free: vcpus.max(1),
            waiting: VecDeque::new(),
            granted: Vec::new(),
            next_ticket: 0,
        };
        Self {
            state: Mutex::new(state),
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
        self.state.lock()
    }
}

/// A process's task, polled only while it holds one of the sandbox's virtual CPUs.
pub struct Gated<F> {
    kernel: Arc<Kernel>,
    process: Pin<Box<F>>,
    ticket: Option<u64>,
    account: Arc<Control>,
    stack: StackMeter,
    /// Its last turn was a long one, and its next is likely to be.
    computes: bool,
}

impl<F> Gated<F> {
    /// `process` on this machine; the time it executes is added to `account`, to its exec's and to the machine's.
    pub fn new(kernel: &Arc<Kernel>, process: F, account: Arc<Control>) -> Self {
        Self {
            kernel: Arc::clone(kernel),
            process: Box::pin(process),
            ticket: None,
            account,
            stack: StackMeter::default(),
            computes: false,
        }
    }
}

impl<F: Future> Future for Gated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let gate = &this.kernel.gate;
        if !gate.enter(&mut this.ticket, context.waker()) {
            return Poll::Pending;
        }
        let held = Held(gate);
        let used_before = this.computes.then(thread_time);
        let start = Instant::now();
        this.account.turn_began(start);
        let result = this.process.as_mut().poll(context);
        this.account.turn_ended();
        let took = start.elapsed();
        this.computes = took >= LONG_TURN;
        let spent = match used_before {
            Some(before) => thread_time().saturating_sub(before),
            None => u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
        };
        drop(held);
        this.kernel.used_cpu(&this.account, spent);
        let top = this.account.stack_top.load(Ordering::Relaxed);
        if result.is_pending() && this.stack.settle(&this.kernel.budget, top, spent).is_err() {
            this.account.out_of_stack.store(true, Ordering::Relaxed);
            this.account.signals.deliver(signal::KILL);
        }
        result
    }
}

/// Processor time that the calling thread has used, nanoseconds. The time of day would count what others took of the
/// processor meanwhile.
fn thread_time() -> u64 {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(used.tv_nsec).unwrap_or_default()
}

impl Kernel {
    /// Accounts for processor time that a process has used, nanoseconds, and ends those who have none left.
    fn used_cpu(&self, control: &Control, spent: u64) {
        control.cpu_ns.fetch_add(spent, Ordering::Relaxed);
        if !control.exec_cpu_time.add(spent) {
            self.table.kill_exec(control.exec);
        }
        if !self.cpu_time.add(spent) {
            self.table.kill_all();
        }
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
            self.kernel.gate.forget(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_a_thread_does_nothing_is_not_processor_time() {
        let before = thread_time();
        std::thread::sleep(Duration::from_millis(200));
        let slept = thread_time() - before;
        assert!(slept < 100_000_000, "{slept} ns");
        while thread_time() - before < 20_000_000 {
            std::hint::spin_loop();
        }
    }
}
