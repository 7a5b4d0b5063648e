//! Frees removed trees and file data in slices.
//!
//! To free a gigabyte takes a tenth of a second or more. So neither the lock of a filesystem is held for that, nor does a
//! caller wait: one thread of the process does it in small parts, in turn for all that have something to free. What leaves
//! stays charged until it is gone.

use parking_lot::{Mutex, MutexGuard};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};

use super::chunk_map::Removed;

/// Chunks freed in one go: 16 MiB at most, well below a millisecond.
const SLICE: usize = 256;
/// Up to this many chunks (1 MiB) are freed at once where they are removed.
pub(super) const SMALL: u64 = 16;

/// Data of one filesystem that is still charged, though no file has it.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Bytes charged for it.
    bytes: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Each with the layer that is charged.
    parts: Vec<(Removed, u64)>,
    /// Whether the thread knows of it.
    handed_over: bool,
}

impl Leaving {
    /// Bytes still charged.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Its parts are put in and taken out whole, so a poisoned lock says nothing about them.
        self.queue.lock()
    }

    /// Lets go of chunks, of which those of `layer` are no longer in the account. Much is left to the thread, and counted
    /// here until it is gone.
    pub(super) fn add(self: &Arc<Self>, removed: Removed, layer: u64) {
        let sums = removed.sums();
        if sums.chunks <= SMALL {
            return;
        }
        self.bytes.fetch_add(sums.charged_to(layer), Ordering::AcqRel);
        self.put(removed, layer);
    }

    fn put(self: &Arc<Self>, removed: Removed, layer: u64) {
        let mut queue = self.queue();
        queue.parts.push((removed, layer));
        if !std::mem::replace(&mut queue.handed_over, true) {
            drop(queue);
            hand_over(Work::Leaving(Arc::clone(self)));
        }
    }

    /// Frees a part. `false` when there is none that nobody else is freeing.
    pub(super) fn step(self: &Arc<Self>) -> bool {
        let Some((mut removed, layer)) = self.queue().parts.pop() else {
            return false;
        };
        let gone = removed.drop_some(SLICE);
        self.bytes.fetch_sub(gone.charged_to(layer), Ordering::AcqRel);
        if !removed.is_empty() {
            self.put(removed, layer);
        }
        true
    }

    /// What the thread does when it is this one's turn; `false` when nothing is left.
    fn turn(self: &Arc<Self>) -> bool {
        self.step();
        let mut queue = self.queue();
        queue.handed_over = !queue.parts.is_empty();
        queue.handed_over
    }
}

/// Something to be freed.
enum Work {
    Leaving(Arc<Leaving>),
    Chunks(Removed),
    Other(Box<dyn Send>),
}

impl Work {
    /// Does a part. `None` when nothing is left.
    fn turn(self) -> Option<Self> {
        match self {
            Self::Leaving(leaving) => leaving.turn().then_some(Self::Leaving(leaving)),
            Self::Chunks(mut removed) => {
                removed.drop_some(SLICE);
                (!removed.is_empty()).then_some(Self::Chunks(removed))
            }
            Self::Other(value) => {
                drop(value);
                None
            }
        }
    }
}

/// Frees chunks that are charged to nobody any more.
pub(super) fn discard_chunks(removed: Removed) {
    hand_over(Work::Chunks(removed));
}

/// Drops something large on a thread for that, instead of here.
pub fn discard(value: impl Send + 'static) {
    hand_over(Work::Other(Box::new(value)));
}

thread_local! {
    /// Whether this thread may take the time to free much itself.
    static FREES_ITSELF: Cell<bool> = const { Cell::new(false) };
}

/// Drops something here and now, however large. For threads that take their time anyway.
pub(super) fn drop_here<T>(value: T) {
    let before = FREES_ITSELF.replace(true);
    drop(value);
    FREES_ITSELF.set(before);
}

/// Has this thread free all it discards itself, or again another: for a process that must not have threads yet.
pub fn free_on_this_thread(itself: bool) {
    FREES_ITSELF.set(itself);
}

fn hand_over(work: Work) {
    static THREAD: OnceLock<Option<Sender<Work>>> = OnceLock::new();
    if FREES_ITSELF.get() {
        return finish(work);
    }
    let sender = THREAD.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("wisp-free".to_owned());
        let spawned = thread.spawn(move || free_in_turn(&receiver));
        spawned.ok().map(|_| sender)
    });
    let refused = match sender {
        Some(sender) => sender.send(work).err().map(|error| error.0),
        None => Some(work),
    };
    // Without the thread it is done here.
    if let Some(work) = refused {
        finish(work);
    }
}

fn finish(work: Work) {
    let mut rest = Some(work);
    while let Some(work) = rest {
        rest = work.turn();
    }
}

fn free_in_turn(receiver: &Receiver<Work>) {
    let mut turns = VecDeque::new();
    FREES_ITSELF.set(true);
    loop {
        if turns.is_empty() {
            let Ok(work) = receiver.recv() else { return };
            turns.push_back(work);
        }
        turns.extend(receiver.try_iter());
        if let Some(work) = turns.pop_front() {
            turns.extend(work.turn());
        }
    }
}
