//! Output and end of a running command as text, for clients that read them as they come.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::text::Decoder;
use crate::duration::GoDuration;
use crate::provider::OutputStream;
use crate::sandbox::{ExecExit, ExecItem, RunningExec, SandboxError};

/// Exit status when the runtime lost the command: 128 + SIGKILL.
const LOST: i32 = 137;

/// Output that JSON makes much longer is told in pieces of at most so many bytes, so that what waits for a client to
/// read is short.
const PIECE_BYTES: usize = 8 << 10;

/// A running command. Dropping it kills the command.
pub struct Transcript {
    running: RunningExec,
    stdout: Decoder,
    stderr: Decoder,
    /// What is left of the last chunk.
    rest: Option<(OutputStream, Bytes)>,
    /// The last reports, once the command has ended.
    last: Option<VecDeque<Report>>,
}

/// One report.
pub enum Report {
    /// Text it wrote; never empty.
    Output(Output),
    /// It ended; nothing follows.
    End(End),
}

/// A piece of output.
#[derive(Serialize, ToSchema)]
#[schema(as = ExecOutput)]
pub struct Output {
    #[schema(inline)]
    stream: OutputStream,
    data: String,
}

/// How a command ended.
#[derive(Serialize, ToSchema)]
#[schema(as = ExecEnd)]
pub struct End {
    exit_code: i32,
    duration: GoDuration,
    /// Processor time that it and everything it started used until its end; absent when it is not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_time: Option<GoDuration>,
    /// Units of fuel that it and everything it started used until its end; absent when they are not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    fuel_used: Option<u64>,
    /// Whether it was killed because it passed its timeout.
    timed_out: bool,
    /// Who killed the command, or what failed, when it did not end by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Transcript {
    /// Of this command.
    pub fn new(running: RunningExec) -> Self {
        Self {
            running,
            stdout: Decoder::default(),
            stderr: Decoder::default(),
            rest: None,
            last: None,
        }
    }

    /// The next report; `None` after the end. Nothing is lost when the future is dropped before it completes.
    pub async fn next(&mut self) -> Option<Report> {
        if let Some(last) = &mut self.last {
            return last.pop_front();
        }
        let end = loop {
            let item = match self.rest.take() {
                Some((stream, rest)) => Ok(ExecItem::Output(stream, rest)),
                None => self.running.next().await,
            };
            match item {
                Ok(ExecItem::Output(stream, mut chunk)) => {
                    if chunk.len() > PIECE_BYTES && grows(&chunk) {
                        self.rest = Some((stream, chunk.split_off(PIECE_BYTES)));
                    }
                    let decoder = match stream {
                        OutputStream::Stdout => &mut self.stdout,
                        OutputStream::Stderr => &mut self.stderr,
                    };
                    // A chunk that ends within a character may have nothing to tell yet.
                    if let Some(report) = output(stream, decoder.push(&chunk)) {
                        return Some(report);
                    }
                }
                Ok(ExecItem::Exit(exit)) => break exit.into(),
                Err(error) => break self.lost(error),
            }
        };
        // Halves of characters whose rest never came.
        let rest = [
            output(OutputStream::Stdout, self.stdout.finish()),
            output(OutputStream::Stderr, self.stderr.finish()),
        ];
        let mut last: VecDeque<Report> = rest.into_iter().flatten().collect();
        last.push_back(Report::End(end));
        self.last.insert(last).pop_front()
    }

    /// The answer has begun, so the failure goes into the last report.
    fn lost(&self, error: SandboxError) -> End {
        End {
            exit_code: LOST,
            duration: self.running.elapsed().into(),
            cpu_time: None,
            fuel_used: None,
            timed_out: false,
            error: Some(ApiError::from(error).message().to_owned()),
        }
    }
}

impl From<ExecExit> for End {
    fn from(exit: ExecExit) -> Self {
        Self {
            exit_code: exit.outcome.exit_code,
            duration: exit.outcome.duration.into(),
            cpu_time: exit.outcome.cpu_time.map(GoDuration::from),
            fuel_used: exit.outcome.fuel_used,
            timed_out: exit.outcome.timed_out,
            error: exit.killed_because,
        }
    }
}

/// Whether JSON needs more than twice as many bytes for some output: a control character takes six, and a byte that is
/// no UTF-8 three.
fn grows(chunk: &[u8]) -> bool {
    let long = chunk.iter().filter(|byte| !matches!(byte, b'\n' | 0x20..=0x7e));
    5 * long.count() > chunk.len()
}

fn output(stream: OutputStream, data: String) -> Option<Report> {
    (!data.is_empty()).then_some(Report::Output(Output { stream, data }))
}
