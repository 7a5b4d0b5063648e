//! The output of a command, gathered until it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::execution::reserve;
use super::life::Sandbox;
use super::{ExecExit, ExecItem, RunningExec, SandboxError};
use crate::provider::OutputStream;

/// What a command wrote, and how it ended.
pub struct CollectedExec {
    /// Descriptor 1.
    pub stdout: Vec<u8>,
    /// Descriptor 2.
    pub stderr: Vec<u8>,
    /// Output beyond a cap was thrown away.
    pub truncated: bool,
    /// How it ended.
    pub exit: ExecExit,
    /// Held for its `Drop`.
    _reservation: Reservation,
}

/// Bytes of output charged to a sandbox until this is dropped.
struct Reservation {
    sandbox: Arc<Sandbox>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.sandbox.buffered_output.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The beginning of one stream: once something was thrown away, nothing that follows is kept.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    truncated: bool,
}

impl RunningExec {
    /// Waits for the end and keeps the output up to the caps: per stream, and for all running commands of the sandbox
    /// together. A command that writes more runs on as if it were read.
    ///
    /// # Errors
    /// See [`RunningExec::next`].
    pub async fn collect(mut self) -> Result<CollectedExec, SandboxError> {
        let mut reservation = Reservation {
            sandbox: Arc::clone(&self.sandbox),
            bytes: 0,
        };
        let (mut stdout, mut stderr) = (Kept::default(), Kept::default());
        loop {
            match self.next().await? {
                ExecItem::Output(stream, bytes) => {
                    let kept = match stream {
                        OutputStream::Stdout => &mut stdout,
                        OutputStream::Stderr => &mut stderr,
                    };
                    if !kept.truncated {
                        let wanted = bytes.len().min(self.max_output_bytes.saturating_sub(kept.bytes.len()));
                        let granted = reserve(&self.sandbox.buffered_output, wanted, self.max_buffered_bytes);
                        reservation.bytes += granted;
                        kept.bytes.extend_from_slice(&bytes[..granted]);
                        kept.truncated = granted < bytes.len();
                    }
                }
                ExecItem::Exit(exit) => {
                    return Ok(CollectedExec {
                        truncated: stdout.truncated || stderr.truncated,
                        stdout: stdout.bytes,
                        stderr: stderr.bytes,
                        exit,
                        _reservation: reservation,
                    });
                }
            }
        }
    }
}
