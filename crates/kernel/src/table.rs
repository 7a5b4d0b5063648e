//! The process table of a sandbox: live processes, parents and children, exit statuses.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::budget::ProcessSlot;
use super::cpu_time::CpuTime;
use super::descriptor::OpenFile;
use super::errno::Errno;
use super::fuel::Fuel;
use super::signal::{self, Signals};
use super::timer::Timer;

/// Process number.
pub type Pid = u32;

/// The parent of processes that have none left. No process has this number.
pub const INIT: Pid = 1;
/// Largest process number; counting starts again after it.
const MAX_PID: Pid = 1 << 22;
/// Ended children kept for a parent that does not wait; the oldest is forgotten first.
const MAX_ZOMBIES: usize = 4096;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Exited(u8),
    /// By this signal.
    Killed(u8),
}

impl ExitStatus {
    /// What a shell shows as `$?`.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Exited(code) => i32::from(code),
            Self::Killed(signal) => 128 + i32::from(signal),
        }
    }

    /// The form of the `wait` import: exit code in bits 0–7, signal in bits 8–15.
    pub fn encoded(self) -> u32 {
        match self {
            Self::Exited(code) => u32::from(code),
            Self::Killed(signal) => u32::from(signal) << 8,
        }
    }
}

/// What others may know of a running process, and how they reach it.
pub struct Control {
    pub pid: Pid,
    /// The exec it belongs to: everything an exec started is ended with it.
    pub exec: u64,
    /// Processor time of that exec.
    pub exec_cpu_time: Arc<CpuTime>,
    /// Fuel of that exec, if it is counted.
    pub exec_fuel: Option<Arc<Fuel>>,
    /// Its parent; [`INIT`] once that has ended.
    pub parent: AtomicU32,
    pub group: AtomicU32,
    /// Dispositions, and signals that were sent and not taken yet.
    pub signals: Arc<Signals>,
    /// The interval timer of `setitimer`.
    pub timer: Timer,
    /// Signalled when one of its children has ended.
    pub child_exited: Notify,
    /// The program it executes at present, as `/proc` shows it.
    pub image: Mutex<Arc<super::process::ImageInfo>>,
    /// Time it has spent executing, nanoseconds.
    pub cpu_ns: AtomicU64,
    /// When it began to execute without a break, nanoseconds after [`Control::started`] and one more; 0 while it does not
    /// execute.
    pub turn_since: AtomicU64,
    /// Bytes of linear memory.
    pub memory_bytes: AtomicU64,
    /// Address at which its native stack starts; 0 while that is not known.
    pub stack_top: AtomicUsize,
    /// Whether it is killed because there was no memory for its stack.
    pub out_of_stack: AtomicBool,
    /// Where its last words go.
    pub stderr: Mutex<Weak<OpenFile>>,
    /// When it was started.
    pub started: Instant,
}

impl Control {
    /// Notes that it begins to execute.
    pub fn turn_began(&self, now: Instant) {
        let since = now.saturating_duration_since(self.started).as_nanos();
        let since = u64::try_from(since).unwrap_or(u64::MAX - 1);
        self.turn_since.store(since + 1, Ordering::Relaxed);
    }

    /// Notes that it does not execute any more.
    pub fn turn_ended(&self) {
        self.turn_since.store(0, Ordering::Relaxed);
    }

    /// How long it has executed without a break.
    fn turn(&self) -> Duration {
        match self.turn_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.started.elapsed().saturating_sub(Duration::from_nanos(since - 1)),
        }
    }

    /// What it runs now.
    pub fn image(&self) -> Arc<super::process::ImageInfo> {
        Arc::clone(&self.image.lock())
    }
}

enum Entry {
    Live {
        control: Arc<Control>,
        _slot: ProcessSlot,
        on_exit: Option<oneshot::Sender<ExitStatus>>,
    },
    Zombie {
        parent: Pid,
        group: Pid,
        status: ExitStatus,
    },
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Pid, Entry>,
    last_pid: Pid,
    zombies: usize,
}

/// All processes of a sandbox.
#[derive(Default)]
pub struct ProcessTable {
    state: Mutex<State>,
    /// Signalled whenever a process has ended.
    exited: Notify,
}

/// Which children a `wait` is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// Any child.
    Any,
    /// This one.
    Child(Pid),
}

/// What a look at the children found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitResult {
    /// This child has ended; it is forgotten now.
    Ended(Pid, ExitStatus),
    /// Matching children live.
    StillRunning,
}

impl ProcessTable {
    /// The next free process number.
    pub fn allocate_pid(&self) -> Pid {
        let mut state = self.lock();
        loop {
            state.last_pid = if state.last_pid >= MAX_PID {
                INIT + 1
            } else {
                state.last_pid.max(INIT) + 1
            };
            if !state.entries.contains_key(&state.last_pid) {
                return state.last_pid;
            }
        }
    }

    /// Adds a process. `on_exit` is told the status when it ends; without it the parent waits for it.
    ///
    /// [`Errno::Again`] when the parent is being killed: signals to many are delivered under the same lock, so that no
    /// child of theirs slips past.
    pub fn insert(
        &self,
        control: Arc<Control>,
        slot: ProcessSlot,
        on_exit: Option<oneshot::Sender<ExitStatus>>,
    ) -> Result<(), Errno> {
        let mut state = self.lock();
        if let Some(Entry::Live { control: parent, .. }) = state.entries.get(&control.parent.load(Ordering::SeqCst))
            && parent.signals.fatal_now().is_some()
        {
            return Err(Errno::Again);
        }
        state.entries.insert(
            control.pid,
            Entry::Live {
                control,
                _slot: slot,
                on_exit,
            },
        );
        Ok(())
    }

    /// Records the end of a process.
    pub fn exit(&self, pid: Pid, status: ExitStatus) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(Entry::Live { control, on_exit, .. }) = state.entries.remove(&pid) else {
            return;
        };
        let parent = control.parent.load(Ordering::SeqCst);
        let group = control.group.load(Ordering::SeqCst);
        let mut orphaned_zombies = Vec::new();
        for (child, entry) in &state.entries {
            match entry {
                Entry::Live { control, .. } if control.parent.load(Ordering::SeqCst) == pid => {
                    control.parent.store(INIT, Ordering::SeqCst);
                }
                Entry::Zombie { parent, .. } if *parent == pid => orphaned_zombies.push(*child),
                _ => {}
            }
        }
        for child in orphaned_zombies {
            state.entries.remove(&child);
            state.zombies -= 1;
        }
        let waiting_parent = match state.entries.get(&parent) {
            Some(Entry::Live { control, .. }) if on_exit.is_none() => Some(Arc::clone(control)),
            _ => None,
        };
        if waiting_parent.is_some() {
            state.entries.insert(pid, Entry::Zombie { parent, group, status });
            state.zombies += 1;
            if state.zombies > MAX_ZOMBIES {
                let oldest = state
                    .entries
                    .iter()
                    .find_map(|(pid, entry)| matches!(entry, Entry::Zombie { .. }).then_some(*pid));
                if let Some(oldest) = oldest {
                    state.entries.remove(&oldest);
                    state.zombies -= 1;
                }
            }
        }
        drop(guard);
        if let Some(on_exit) = on_exit {
            // The exec may have been given up already.
            let _ = on_exit.send(status);
        }
        if let Some(parent) = waiting_parent {
            parent.signals.deliver(17);
            parent.child_exited.notify_waiters();
        }
        self.exited.notify_waiters();
    }

    /// Looks for an ended child of `parent` and forgets it. [`Errno::Child`] when there is none to wait for.
    pub fn reap(&self, parent: Pid, which: WaitFor) -> Result<WaitResult, Errno> {
        let mut state = self.lock();
        let mut running = false;
        let mut ended = None;
        let mut look = |pid: Pid, entry: &Entry| match entry {
            Entry::Zombie {
                parent: owner, status, ..
            } if *owner == parent => ended = ended.or(Some((pid, *status))),
            Entry::Live { control, .. } if control.parent.load(Ordering::SeqCst) == parent => running = true,
            _ => {}
        };
        match which {
            WaitFor::Child(pid) => {
                if let Some(entry) = state.entries.get(&pid) {
                    look(pid, entry);
                }
            }
            WaitFor::Any => state.entries.iter().for_each(|(pid, entry)| look(*pid, entry)),
        }
        match ended {
            Some((pid, status)) => {
                state.entries.remove(&pid);
                state.zombies -= 1;
                Ok(WaitResult::Ended(pid, status))
            }
            None if running => Ok(WaitResult::StillRunning),
            None => Err(Errno::Child),
        }
    }

    /// A live process.
    pub fn get(&self, pid: Pid) -> Option<Arc<Control>> {
        match self.lock().entries.get(&pid) {
            Some(Entry::Live { control, .. }) => Some(Arc::clone(control)),
            _ => None,
        }
    }

    /// Whether a process that was killed goes on executing without a break, for longer than `limit`.
    pub fn has_unstoppable(&self, limit: Duration) -> bool {
        self.lock().entries.values().any(|entry| match entry {
            Entry::Live { control, .. } => control.signals.fatal_now().is_some() && control.turn() > limit,
            Entry::Zombie { .. } => false,
        })
    }

    /// All live processes, in order of number.
    pub fn live(&self) -> Vec<Arc<Control>> {
        let state = self.lock();
        let live = state.entries.values().filter_map(|entry| match entry {
            Entry::Live { control, .. } => Some(Arc::clone(control)),
            Entry::Zombie { .. } => None,
        });
        live.collect()
    }

    /// The `kill` of the ABI on behalf of `caller`.
    pub fn kill(&self, caller: &Control, target: i32, signal: u32) -> Result<(), Errno> {
        if signal >= signal::COUNT {
            return Err(Errno::Inval);
        }
        let group = match target {
            0 => Some(caller.group.load(Ordering::SeqCst)),
            -1 => None,
            group if group < 0 => Some(group.unsigned_abs()),
            pid => {
                let state = self.lock();
                let entry = state.entries.get(&pid.unsigned_abs()).ok_or(Errno::Srch)?;
                if let (Entry::Live { control, .. }, true) = (entry, signal != 0) {
                    control.signals.deliver(signal);
                }
                return Ok(());
            }
        };
        let found = self.deliver_to_all(signal, |control| match group {
            Some(group) => control.group.load(Ordering::SeqCst) == group,
            None => control.pid != caller.pid,
        });
        if found || group.is_some_and(|group| self.has_zombie_in(group)) {
            Ok(())
        } else {
            Err(Errno::Srch)
        }
    }

    /// Ends every process of an exec.
    pub fn kill_exec(&self, exec: u64) {
        self.deliver_to_all(signal::KILL, |control| control.exec == exec);
    }

    /// Sends a signal to the processes of an exec that are in this group.
    pub fn signal_exec(&self, exec: u64, group: Pid, signal: u32) {
        self.deliver_to_all(signal, |control| {
            control.exec == exec && control.group.load(Ordering::SeqCst) == group
        });
    }

    /// Ends every process.
    pub fn kill_all(&self) {
        self.deliver_to_all(signal::KILL, |_| true);
    }

    /// Sends a signal, or nothing if it is 0, to all processes that are meant; whether there are any.
    fn deliver_to_all(&self, signal: u32, meant: impl Fn(&Control) -> bool) -> bool {
        let mut found = false;
        for entry in self.lock().entries.values() {
            if let Entry::Live { control, .. } = entry
                && meant(control)
            {
                found = true;
                if signal != 0 {
                    control.signals.deliver(signal);
                }
            }
        }
        found
    }

    /// Completes when no process of `exec` lives any more.
    pub async fn exec_ended(&self, exec: u64) {
        loop {
            let exited = self.exited.notified();
            tokio::pin!(exited);
            exited.as_mut().enable();
            if !self.live().iter().any(|control| control.exec == exec) {
                return;
            }
            exited.await;
        }
    }

    fn has_zombie_in(&self, wanted: Pid) -> bool {
        self.lock()
            .entries
            .values()
            .any(|entry| matches!(entry, Entry::Zombie { group, .. } if *group == wanted))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every update leaves the table consistent before anything that could panic.
        self.state.lock()
    }
}
