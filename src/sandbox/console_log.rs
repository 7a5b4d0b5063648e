//! The last output lines of a sandbox's commands, for `GET /sandboxes/{id}/logs`.
//!
//! Chunks are kept as they come; lines are made of them only when somebody asks, so that a command pays for one short
//! copy.

use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};

use crate::provider::OutputStream;

/// Bytes a sandbox keeps, unless the server has less for each.
const MAX_BYTES: usize = 64 << 10;
/// What a chunk costs beside its bytes.
const PER_CHUNK: usize = 64;
/// Short chunks of one stream of one command are joined up to this size.
const JOINED_BYTES: usize = 4 << 10;

/// The last chunks, oldest first.
#[derive(Debug)]
pub(super) struct ConsoleLog {
    /// Most bytes kept, chunks' own costs included.
    max_bytes: usize,
    chunks: Mutex<Chunks>,
}

#[derive(Debug, Default)]
struct Chunks {
    chunks: VecDeque<Chunk>,
    /// What all of them cost.
    bytes: usize,
}

#[derive(Debug)]
struct Chunk {
    source: Source,
    bytes: Vec<u8>,
}

/// A stream of a command, which is known by its number.
type Source = (u64, OutputStream);

impl Chunk {
    fn cost(&self) -> usize {
        self.bytes.capacity() + PER_CHUNK
    }
}

impl ConsoleLog {
    /// A log for one of `sandboxes` that together may keep `total` bytes.
    pub(super) fn new(total: usize, sandboxes: usize) -> Self {
        Self {
            max_bytes: MAX_BYTES.min(total / sandboxes.max(1)),
            chunks: Mutex::default(),
        }
    }

    /// Keeps a chunk of output, at the expense of the oldest ones.
    pub(super) fn push(&self, exec: u64, stream: OutputStream, output: &[u8]) {
        let Some(room) = self.max_bytes.checked_sub(PER_CHUNK) else {
            return;
        };
        let output = &output[output.len().saturating_sub(room)..];
        if output.is_empty() {
            return;
        }
        let source = (exec, stream);
        let mut log = self.chunks.lock();
        let joined = log.chunks.back_mut().and_then(|last| {
            let joins = last.source == source && last.bytes.len() + output.len() <= JOINED_BYTES;
            joins.then(|| {
                let before = last.cost();
                last.bytes.extend_from_slice(output);
                last.cost() - before
            })
        });
        let added = joined.unwrap_or_else(|| {
            let chunk = Chunk {
                source,
                bytes: output.to_vec(),
            };
            let cost = chunk.cost();
            log.chunks.push_back(chunk);
            cost
        });
        log.bytes += added;
        while log.bytes > self.max_bytes {
            let Some(oldest) = log.chunks.pop_front() else { break };
            log.bytes -= oldest.cost();
        }
    }

    /// The last `count` lines, oldest first. A line stands where it ended; what no line feed ended yet comes last.
    /// Bytes that are not UTF-8 become U+FFFD.
    pub(super) fn last_lines(&self, count: usize) -> Vec<String> {
        let mut lines = VecDeque::new();
        let mut add = |line: &[u8]| {
            if lines.len() == count {
                lines.pop_front();
            }
            if count > 0 {
                lines.push_back(String::from_utf8_lossy(line).into_owned());
            }
        };
        let log = self.chunks.lock();
        let mut unfinished: BTreeMap<Source, Vec<u8>> = BTreeMap::new();
        for chunk in &log.chunks {
            let line = unfinished.entry(chunk.source).or_default();
            for piece in chunk.bytes.split_inclusive(|byte| *byte == b'\n') {
                match piece.strip_suffix(b"\n") {
                    Some(end) if line.is_empty() => add(end),
                    Some(end) => {
                        line.extend_from_slice(end);
                        add(line);
                        line.clear();
                    }
                    None => line.extend_from_slice(piece),
                }
            }
        }
        for line in unfinished.values().filter(|line| !line.is_empty()) {
            add(line);
        }
        lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::OutputStream::{Stderr, Stdout};
    use super::*;

    fn log() -> ConsoleLog {
        ConsoleLog::new(1 << 20, 1)
    }

    #[test]
    fn lines_are_whole_whatever_the_chunks_were() {
        let log = log();
        log.push(1, Stdout, b"one\ntw");
        log.push(1, Stderr, b"warning\n");
        log.push(2, Stdout, b"other\n");
        log.push(1, Stdout, b"o\n\nth");
        log.push(1, Stdout, b"ree\xe2\x82");
        log.push(1, Stdout, b"\xac\xff");
        let all = ["one", "warning", "other", "two", "", "three€\u{fffd}"];
        assert_eq!(log.last_lines(100), all);
        assert_eq!(log.last_lines(2), all[4..]);
        assert!(log.last_lines(0).is_empty());
    }

    #[test]
    fn the_log_is_bounded_and_keeps_the_end() {
        let log = log();
        for n in 0..100_000 {
            log.push(n / 1000, Stdout, format!("line {n}\n").as_bytes());
        }
        let held = |log: &ConsoleLog| {
            let log = log.chunks.lock();
            assert_eq!(log.bytes, log.chunks.iter().map(Chunk::cost).sum::<usize>());
            log.bytes
        };
        assert!(held(&log) <= MAX_BYTES);
        let lines = log.last_lines(10_000);
        assert!(lines.len() > 1000);
        assert_eq!(lines.last().unwrap(), "line 99999");
        log.push(7, Stdout, &vec![b'x'; 10 << 20]);
        assert!(held(&log) <= MAX_BYTES);
        assert_eq!(log.last_lines(10).len(), 1);
        for _ in 0..100_000 {
            log.push(7, Stdout, b"a");
            log.push(7, Stderr, b"b");
        }
        assert!(held(&log) <= MAX_BYTES);
    }

    #[test]
    fn a_server_with_room_for_no_logs_keeps_none() {
        let log = ConsoleLog::new(1000, 1000);
        log.push(1, Stdout, b"text\n");
        assert!(log.last_lines(10).is_empty());
    }
}
