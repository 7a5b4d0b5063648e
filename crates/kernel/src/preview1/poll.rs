//! Waiting: for a time, for descriptors, or for whichever comes first.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::futures::Notified;
use wasmtime::{Caller, Linker};

use super::MODULE;
use super::clock;
use crate::descriptor::{Kind, OpenFile};
use crate::errno::Errno;
use crate::fuel::settled;
use crate::memory::GuestMemory;
use crate::process::{Process, answer, with_memory};
use crate::slice::Slices;

/// Most subscriptions of one call.
const MAX_SUBSCRIPTIONS: u32 = 1024;
const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: usize = 32;
const EVENT_CLOCK: u8 = 0;
const EVENT_READ: u8 = 1;
const EVENT_WRITE: u8 = 2;
/// Subscription flag: the time is a point, not a span.
const ABSOLUTE: u16 = 1;
/// Event flag: the other end of the pipe is gone.
const HANGUP: u16 = 1;
/// Host memory of a subscription while the call waits.
const HELD_BYTES: u64 = 256;

/// Defines the function of this file.
pub fn add_to_linker(linker: &mut Linker<Process>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "poll_oneoff",
        |mut caller: Caller<'_, Process>, (subscriptions, events, count, out): (u32, u32, u32, u32)| {
            Box::new(async move {
                settled!(
                    caller,
                    answer(poll_oneoff(&mut caller, subscriptions, events, count, out).await)
                )
            })
        },
    )?;
    Ok(())
}

/// One thing to wait for.
struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    what: What,
}

enum What {
    /// Ready when this much of the monotonic clock has passed since the call.
    Time(Duration),
    /// A file, by its place in [`Files`].
    Read(usize),
    Write(usize),
    /// Answered at once with an error.
    Wrong(Errno),
}

/// The files that a call waits for, each once however many subscriptions it has.
#[derive(Default)]
struct Files {
    list: Vec<Watched>,
    /// By their addresses.
    places: HashMap<usize, usize>,
}

struct Watched {
    file: Arc<OpenFile>,
    for_reading: bool,
    for_writing: bool,
}

/// What is found of a file in one round.
struct State {
    readable: Option<u64>,
    writable: Option<u64>,
    /// The other end of the pipe is gone, as a reader and as a writer sees it.
    hangup: (bool, bool),
}

impl Files {
    fn watch(&mut self, file: &Arc<OpenFile>, kind: u8) -> usize {
        let place = *self.places.entry(Arc::as_ptr(file).addr()).or_insert(self.list.len());
        if place == self.list.len() {
            self.list.push(Watched {
                file: Arc::clone(file),
                for_reading: false,
                for_writing: false,
            });
        }
        let watched = &mut self.list[place];
        watched.for_reading |= kind == EVENT_READ;
        watched.for_writing |= kind == EVENT_WRITE;
        place
    }
}

impl Watched {
    /// The signal that its readiness may have changed.
    fn change(&self) -> Option<Notified<'_>> {
        match &self.file.kind {
            Kind::PipeReader(reader) => Some(reader.pipe().changed().notified()),
            Kind::PipeWriter(writer) => Some(writer.pipe().changed().notified()),
            _ => None,
        }
    }

    fn state(&self) -> State {
        let hangup = match &self.file.kind {
            Kind::PipeReader(reader) => (!reader.pipe().ends().1, false),
            Kind::PipeWriter(writer) => {
                let gone = !writer.pipe().ends().0;
                (gone, gone)
            }
            _ => (false, false),
        };
        State {
            readable: self.for_reading.then(|| self.file.readable()).flatten(),
            writable: self.for_writing.then(|| self.file.writable()).flatten(),
            hangup,
        }
    }
}

async fn poll_oneoff(
    caller: &mut Caller<'_, Process>,
    subscriptions: u32,
    events: u32,
    count: u32,
    out: u32,
) -> Result<(), Errno> {
    if count == 0 || count > MAX_SUBSCRIPTIONS {
        return Err(Errno::Inval);
    }
    let mut files = Files::default();
    let (list, _charge) = with_memory(caller, |memory, process| {
        let table = memory.slice(subscriptions, count * SUBSCRIPTION_BYTES)?;
        let charge = process.kernel.budget.charge(u64::from(count) * HELD_BYTES);
        let list = table
            .chunks_exact(SUBSCRIPTION_BYTES as usize)
            .map(|bytes| parse(process, &mut files, bytes))
            .collect::<Result<Vec<_>, _>>()?;
        Ok((list, charge.map_err(|_| Errno::Nomem)?))
    })?;
    let files = files.list;
    let started = tokio::time::Instant::now();
    let shortest = list
        .iter()
        .filter_map(|entry| {
            if let What::Time(span) = entry.what {
                Some(span)
            } else {
                None
            }
        })
        .min();
    let deadline = shortest.and_then(|span| started.checked_add(span));
    let control = Arc::clone(&caller.data().control);
    let mut slices = Slices::start();
    loop {
        let mut changes: Vec<Pin<Box<Notified<'_>>>> = files.iter().filter_map(Watched::change).map(Box::pin).collect();
        for change in &mut changes {
            change.as_mut().enable();
        }
        let mut states = Vec::with_capacity(files.len());
        for watched in &files {
            states.push(watched.state());
            slices.pause().await;
        }
        let elapsed = started.elapsed();
        let ready: Vec<[u8; EVENT_BYTES]> = list.iter().filter_map(|entry| event(entry, &states, elapsed)).collect();
        if !ready.is_empty() {
            return with_memory(caller, |memory, _| write_events(memory, events, out, &ready));
        }
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let change = async {
            if changes.is_empty() {
                std::future::pending::<()>().await;
            } else {
                select_all(changes).await;
            }
        };
        tokio::select! {
            () = timer => {}
            () = change => {}
            () = control.signals.interrupted() => return Err(Errno::Intr),
        }
    }
}

fn parse(process: &Process, files: &mut Files, bytes: &[u8]) -> Result<Subscription, Errno> {
    let word = |at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(|four| four.try_into().ok())
            .map(u32::from_le_bytes)
    };
    let long = |at: usize| {
        bytes
            .get(at..at + 8)
            .and_then(|eight| eight.try_into().ok())
            .map(u64::from_le_bytes)
    };
    let (Some(id), Some(timeout), Some(flags)) = (word(16), long(24), word(40)) else {
        return Err(Errno::Inval);
    };
    let kind = bytes[8];
    let what = match kind {
        EVENT_CLOCK => time_until(process, id, timeout, flags as u16),
        EVENT_READ => process
            .descriptors
            .get(id)
            .map(|file| What::Read(files.watch(file, kind))),
        EVENT_WRITE => process
            .descriptors
            .get(id)
            .map(|file| What::Write(files.watch(file, kind))),
        _ => return Err(Errno::Inval),
    };
    let userdata = long(0).unwrap_or_default().to_le_bytes();
    Ok(Subscription {
        userdata,
        kind,
        what: what.unwrap_or_else(What::Wrong),
    })
}

fn time_until(process: &Process, id: u32, timeout: u64, flags: u16) -> Result<What, Errno> {
    if id != clock::REALTIME && id != clock::MONOTONIC {
        return Err(Errno::Notsup);
    }
    let span = if flags & ABSOLUTE == 0 {
        timeout
    } else {
        timeout.saturating_sub(clock::now(process, id)?)
    };
    Ok(What::Time(Duration::from_nanos(span)))
}

/// The event of a subscription that is ready.
fn event(subscription: &Subscription, states: &[State], elapsed: Duration) -> Option<[u8; EVENT_BYTES]> {
    let (errno, available, hangup) = match subscription.what {
        What::Time(span) => (elapsed >= span).then_some((0, 0, false))?,
        What::Read(place) => (0, states[place].readable?, states[place].hangup.0),
        What::Write(place) => (0, states[place].writable?, states[place].hangup.1),
        What::Wrong(errno) => (errno as u16, 0, false),
    };
    let mut bytes = [0; EVENT_BYTES];
    bytes[0..8].copy_from_slice(&subscription.userdata);
    bytes[8..10].copy_from_slice(&errno.to_le_bytes());
    bytes[10] = subscription.kind;
    bytes[16..24].copy_from_slice(&available.to_le_bytes());
    bytes[24..26].copy_from_slice(&(if hangup { HANGUP } else { 0 }).to_le_bytes());
    Some(bytes)
}

fn write_events(
    memory: &mut GuestMemory<'_>,
    address: u32,
    out: u32,
    ready: &[[u8; EVENT_BYTES]],
) -> Result<(), Errno> {
    memory.write(address, ready.as_flattened())?;
    memory.write_u32(out, ready.len() as u32)
}
