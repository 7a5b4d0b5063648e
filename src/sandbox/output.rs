//! The output of a command, gathered until it ends and charged until the client has read it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::execution::reserve;
use super::life::Sandbox;
use super::{ExecExit, ExecItem, Permit, RunningExec, SandboxError};
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
    /// What the output is charged to. It must live as long as the output does.
    pub held: HeldOutput,
}

/// Bytes of output charged to a sandbox, its tenant and the server until this is dropped.
#[derive(Debug)]
pub struct HeldOutput {
    /// Held for its `Drop`.
    _reservation: Option<Reservation>,
}

#[derive(Debug)]
struct Reservation {
    sandbox: Arc<Sandbox>,
    bytes: usize,
    permit: Permit,
}

impl HeldOutput {
    /// Of no output.
    #[cfg(test)]
    pub fn nothing() -> Self {
        Self { _reservation: None }
    }
}

impl Reservation {
    /// Charges up to `wanted` bytes, and says how many: the sandbox may have `max` in all.
    fn grow(&mut self, wanted: usize, max: usize) -> usize {
        let of_sandbox = reserve(&self.sandbox.buffered_output, wanted, max);
        let granted = self.permit.grow_up_to(of_sandbox as u64) as usize;
        self.sandbox
            .buffered_output
            .fetch_sub(of_sandbox - granted, Ordering::Relaxed);
        self.bytes += granted;
        granted
    }
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
    /// Waits for the end and keeps the output up to the caps: per stream, for all commands of the sandbox together, and
    /// for all that is on its way to clients of the tenant and of the server. A command that writes more runs on as if it
    /// were read.
    ///
    /// # Errors
    /// See [`RunningExec::next`].
    pub async fn collect(mut self) -> Result<CollectedExec, SandboxError> {
        let mut reservation = Reservation {
            sandbox: Arc::clone(&self.sandbox),
            bytes: 0,
            permit: self.transfer.empty(),
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
                        let granted = reservation.grow(wanted, self.max_buffered_bytes);
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
                        held: HeldOutput {
                            _reservation: Some(reservation),
                        },
                    });
                }
            }
        }
    }
}
