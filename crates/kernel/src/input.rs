//! Standard input of an exec: there from the start, or fed while the command runs.

use bytes::Bytes;

use super::Kernel;
use super::errno::Errno;
use super::exec::{ExecError, exec_error};
use super::pipe::{Pipe, PipeReader, PipeWriter, WouldBlock};

/// Standard input of a command.
pub enum Input {
    /// All of it.
    Bytes(Bytes),
    /// What comes through [`Kernel::input_pipe`].
    Pipe(InputReader),
}

impl Default for Input {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

/// The command's end of a pipe from outside.
pub struct InputReader(pub(super) PipeReader);

/// The outer end. Dropping it is the end of the input.
pub struct InputWriter(PipeWriter);

/// No process has the command's end open any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the input any more")]
pub struct InputClosed;

impl Kernel {
    /// A pipe that leads into a command. It is charged to the machine, and holds as much as any pipe does.
    pub fn input_pipe(&self) -> Result<(InputReader, InputWriter), ExecError> {
        let (reader, writer) = Pipe::create(&self.budget).map_err(|_| exec_error(b"", Errno::Nomem))?;
        Ok((InputReader(reader), InputWriter(writer)))
    }
}

impl InputWriter {
    /// Writes all of `bytes`, as fast as the command reads.
    pub async fn write_all(&self, mut bytes: &[u8]) -> Result<(), InputClosed> {
        while !bytes.is_empty() {
            let changed = self.0.pipe().changed().notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.0.try_write(bytes) {
                Ok(Ok(count)) => bytes = &bytes[count..],
                Ok(Err(WouldBlock)) => changed.await,
                Err(_) => return Err(InputClosed),
            }
        }
        Ok(())
    }

    /// Completes when nobody can read the input any more.
    pub async fn closed(&self) {
        loop {
            let changed = self.0.pipe().changed().notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.0.pipe().ends().0 {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::{Budget, Limits};
    use super::super::pipe::CAPACITY;
    use super::*;

    fn pipe() -> (InputReader, InputWriter) {
        let (reader, writer) = Pipe::create(&Budget::new(Limits::default())).unwrap();
        (InputReader(reader), InputWriter(writer))
    }

    #[tokio::test]
    async fn a_writer_waits_for_the_reader_and_loses_nothing() {
        let (reader, writer) = pipe();
        let sent: Vec<u8> = (0..3 * CAPACITY + 5).map(|index| (index % 251) as u8).collect();
        let writing = async {
            writer.write_all(&sent).await.unwrap();
            drop(writer);
        };
        let reading = async {
            let mut received = Vec::new();
            let mut buffer = [0; 10_000];
            loop {
                match reader.0.try_read(&mut buffer) {
                    Ok(0) => return received,
                    Ok(count) => received.extend_from_slice(&buffer[..count]),
                    Err(WouldBlock) => tokio::task::yield_now().await,
                }
            }
        };
        let ((), received) = tokio::join!(writing, reading);
        assert_eq!(received, sent);
    }

    #[tokio::test]
    async fn a_writer_learns_that_its_reader_is_gone() {
        let (reader, writer) = pipe();
        let full = vec![0; CAPACITY + 1];
        let (written, (), ()) = tokio::join!(writer.write_all(&full), writer.closed(), async { drop(reader) });
        assert_eq!(written, Err(InputClosed));
    }
}
