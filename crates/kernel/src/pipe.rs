//! Pipes: a bounded byte queue between descriptors of a sandbox.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use super::budget::{Budget, Charge, OverBudget};
use super::errno::Errno;

/// Bytes a pipe holds, as on Linux. Charged in full when the pipe is made.
pub const CAPACITY: usize = 64 << 10;
/// Writes up to this many bytes are never split (`PIPE_BUF`).
pub const ATOMIC_WRITE: usize = 4096;

/// The queue both ends share.
#[derive(Debug)]
pub struct Pipe {
    state: Mutex<State>,
    /// Signalled when bytes, room, or the number of ends change.
    changed: Notify,
    _charge: Charge,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<u8>,
    readers: usize,
    writers: usize,
    /// How often a read and a write end were opened: who waits for the other end must see one that came and went.
    opened: (u64, u64),
}

/// What is left of an attempt that could not go on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WouldBlock;

impl Pipe {
    /// A new pipe with one reader and one writer.
    pub fn create(budget: &Arc<Budget>) -> Result<(PipeReader, PipeWriter), OverBudget> {
        let pipe = Self::detached(budget)?;
        Ok((PipeReader::new(&pipe), PipeWriter::new(&pipe)))
    }

    /// A pipe without ends yet, for a named pipe.
    pub fn detached(budget: &Arc<Budget>) -> Result<Arc<Self>, OverBudget> {
        Ok(Arc::new(Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                readers: 0,
                writers: 0,
                opened: (0, 0),
            }),
            changed: Notify::new(),
            _charge: budget.charge(CAPACITY as u64)?,
        }))
    }

    /// Signalled when an attempt that would have blocked may go on.
    pub fn changed(&self) -> &Notify {
        &self.changed
    }

    /// Whether the pipe has a reader and a writer.
    pub fn ends(&self) -> (bool, bool) {
        let state = self.lock();
        (state.readers > 0, state.writers > 0)
    }

    /// How often a read end and a write end were opened so far.
    pub fn opened(&self) -> (u64, u64) {
        self.lock().opened
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The queue stays consistent even if a holder panicked: every update is one push or drain.
        self.state.lock()
    }
}

/// The read end. Dropping the last one makes writers see a broken pipe.
#[derive(Debug)]
pub struct PipeReader(Arc<Pipe>);

/// The write end. Dropping the last one makes readers see the end.
#[derive(Debug)]
pub struct PipeWriter(Arc<Pipe>);

impl PipeReader {
    /// Another read end of `pipe`.
    pub fn new(pipe: &Arc<Pipe>) -> Self {
        let mut state = pipe.lock();
        state.readers += 1;
        state.opened.0 += 1;
        drop(state);
        pipe.changed.notify_waiters();
        Self(Arc::clone(pipe))
    }

    /// The shared queue.
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.0
    }

    /// Moves up to `buffer.len()` bytes out; 0 means that every writer is gone.
    pub fn try_read(&self, buffer: &mut [u8]) -> Result<usize, WouldBlock> {
        let mut state = self.0.lock();
        if state.queue.is_empty() {
            return if state.writers == 0 || buffer.is_empty() {
                Ok(0)
            } else {
                Err(WouldBlock)
            };
        }
        let count = buffer.len().min(state.queue.len());
        let (front, back) = state.queue.as_slices();
        let from_front = count.min(front.len());
        buffer[..from_front].copy_from_slice(&front[..from_front]);
        buffer[from_front..count].copy_from_slice(&back[..count - from_front]);
        state.queue.drain(..count);
        drop(state);
        self.0.changed.notify_waiters();
        Ok(count)
    }

    /// Bytes that can be read now, or `None` when a read would block.
    pub fn readable(&self) -> Option<usize> {
        let state = self.0.lock();
        (!state.queue.is_empty() || state.writers == 0).then_some(state.queue.len())
    }
}

impl PipeWriter {
    /// Another write end of `pipe`.
    pub fn new(pipe: &Arc<Pipe>) -> Self {
        let mut state = pipe.lock();
        state.writers += 1;
        state.opened.1 += 1;
        drop(state);
        pipe.changed.notify_waiters();
        Self(Arc::clone(pipe))
    }

    /// The shared queue.
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.0
    }

    /// Moves bytes in, all of them when they are few ([`ATOMIC_WRITE`]). [`Errno::Pipe`] when every reader is gone.
    pub fn try_write(&self, bytes: &[u8]) -> Result<Result<usize, WouldBlock>, Errno> {
        let mut state = self.0.lock();
        if state.readers == 0 {
            return Err(Errno::Pipe);
        }
        let room = CAPACITY.saturating_sub(state.queue.len());
        let needed = if bytes.len() <= ATOMIC_WRITE { bytes.len() } else { 1 };
        if room < needed {
            return Ok(Err(WouldBlock));
        }
        let count = room.min(bytes.len());
        let len = state.queue.len();
        // It never has room for more bytes than were charged.
        let wanted = (len + count).next_power_of_two().min(CAPACITY);
        state.queue.reserve_exact(wanted - len);
        state.queue.extend(&bytes[..count]);
        drop(state);
        self.0.changed.notify_waiters();
        Ok(Ok(count))
    }

    /// Bytes that can be written now, or `None` when a write would block. A broken pipe is "ready": the write fails.
    pub fn writable(&self) -> Option<usize> {
        let state = self.0.lock();
        let room = CAPACITY.saturating_sub(state.queue.len());
        (state.readers == 0 || room >= ATOMIC_WRITE).then_some(room)
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.readers -= 1;
        if state.readers == 0 {
            state.queue = VecDeque::new();
        }
        drop(state);
        self.0.changed.notify_waiters();
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.0.lock().writers -= 1;
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Limits;
    use super::*;

    fn pipe() -> (PipeReader, PipeWriter) {
        Pipe::create(&Budget::new(Limits::default())).unwrap()
    }

    #[test]
    fn a_read_ends_when_the_last_writer_is_gone() {
        let (reader, writer) = pipe();
        let mut buffer = [0; 8];
        assert_eq!(reader.try_read(&mut buffer), Err(WouldBlock));
        assert_eq!(writer.try_write(b"abc"), Ok(Ok(3)));
        drop(writer);
        assert_eq!(reader.try_read(&mut buffer), Ok(3));
        assert_eq!(reader.try_read(&mut buffer), Ok(0));
    }

    #[test]
    fn a_write_without_a_reader_is_a_broken_pipe() {
        let (reader, writer) = pipe();
        drop(reader);
        assert_eq!(writer.try_write(b"x"), Err(Errno::Pipe));
        assert!(writer.writable().is_some());
    }

    #[test]
    fn small_writes_are_not_split_and_large_ones_fill_the_pipe() {
        let (reader, writer) = pipe();
        assert_eq!(writer.try_write(&vec![1; CAPACITY - 10]), Ok(Ok(CAPACITY - 10)));
        assert_eq!(writer.try_write(&[2; 11]), Ok(Err(WouldBlock)));
        assert_eq!(writer.try_write(&[3; 5000]), Ok(Ok(10)));
        let mut buffer = vec![0; CAPACITY];
        assert_eq!(reader.try_read(&mut buffer), Ok(CAPACITY));
        assert_eq!(buffer[CAPACITY - 1], 3);
    }

    #[test]
    fn a_queue_takes_no_more_memory_than_is_charged() {
        let (reader, writer) = pipe();
        let mut buffer = vec![0; CAPACITY];
        for len in [1, 5000, 40_000, 65_000, CAPACITY] {
            assert_eq!(writer.try_write(&vec![0; len]), Ok(Ok(len)));
            assert!(reader.0.lock().queue.capacity() <= CAPACITY, "for {len}");
            assert_eq!(reader.try_read(&mut buffer), Ok(len));
        }
    }

    #[test]
    fn a_pipe_is_charged_to_its_sandbox() {
        let budget = Budget::new(Limits {
            memory_bytes: CAPACITY as u64,
            ..Limits::default()
        });
        let ends = Pipe::create(&budget).unwrap();
        assert!(Pipe::create(&budget).is_err());
        drop(ends);
        assert_eq!(budget.memory_used(), 0);
    }
}
