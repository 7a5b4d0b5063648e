//! Time and waiting.

use crate::{Answer, Errno, address, call};

/// The wall clock.
pub const REALTIME: u32 = 0;
/// Time since the machine started.
pub const MONOTONIC: u32 = 1;
/// Time the process has executed.
pub const PROCESS_CPU: u32 = 2;
/// A millisecond in nanoseconds.
pub const MILLISECOND: u64 = 1_000_000;

/// What one `poll_oneoff` subscription waits for.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// This much time on a clock, ns.
    Passed(u32, u64),
    /// A point of time on a clock, ns.
    Reached(u32, u64),
    /// A descriptor can be read.
    Readable(u32),
    /// A descriptor can be written.
    Writable(u32),
}

/// What `poll_oneoff` says of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The place of the subscription in the list.
    pub index: u64,
    /// 0 clock, 1 read, 2 write.
    pub kind: u8,
    /// What went wrong, if anything.
    pub error: Option<Errno>,
    /// Bytes that can be read or written.
    pub bytes: u64,
    /// The other end of the pipe is gone.
    pub hangup: bool,
}

/// `poll_oneoff`.
pub fn poll(list: &[Until]) -> Answer<Vec<Event>> {
    let mut subscriptions = Vec::new();
    for (index, until) in list.iter().enumerate() {
        let mut bytes = [0u8; 48];
        bytes[0..8].copy_from_slice(&(index as u64).to_le_bytes());
        let (kind, id, time, absolute) = match *until {
            Until::Passed(clock, time) => (0, clock, time, 0),
            Until::Reached(clock, time) => (0, clock, time, 1),
            Until::Readable(fd) => (1, fd, 0, 0),
            Until::Writable(fd) => (2, fd, 0, 0),
        };
        bytes[8] = kind;
        bytes[16..20].copy_from_slice(&id.to_le_bytes());
        bytes[24..32].copy_from_slice(&time.to_le_bytes());
        bytes[40] = absolute;
        subscriptions.extend(bytes);
    }
    let mut events = vec![0u8; list.len() * 32];
    let mut count = 0u32;
    let (input, output) = (address(subscriptions.as_ptr()), address(events.as_mut_ptr()));
    call!(preview1::poll_oneoff(
        input,
        output,
        list.len() as u32,
        address(&raw mut count)
    ))?;
    let parse = |bytes: &[u8]| {
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let errno = i32::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        Event {
            index: long(0),
            kind: bytes[10],
            error: Errno::check(errno).err(),
            bytes: long(16),
            hangup: bytes[24] & 1 != 0,
        }
    };
    Ok(events.chunks_exact(32).take(count as usize).map(parse).collect())
}

/// Waits for some milliseconds.
pub fn sleep(milliseconds: u64) {
    let slept = poll(&[Until::Passed(MONOTONIC, milliseconds * MILLISECOND)]);
    assert!(slept.is_ok(), "sleeping: {slept:?}");
}

/// `clock_time_get`, ns.
pub fn now(clock: u32) -> Answer<u64> {
    let mut time = 0u64;
    call!(preview1::clock_time_get(clock, 1, address(&raw mut time)))?;
    Ok(time)
}
