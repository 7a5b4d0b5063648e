//! Streams over open files of the kernel.
//!
//! A stream moves at most [`CHUNK`] bytes at a time. Files take and give them at once; what is written to a pipe or to the
//! exec's output may have to wait, and is held for that long: one chunk for each stream.

use parking_lot::{Mutex, MutexGuard};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};
use wisp_kernel::{Errno, File, Writer};

/// Most bytes that one call moves.
pub(super) const CHUNK: usize = 64 << 10;

/// An operation on a file failed: what `filesystem-error-code` looks for.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{0:?}")]
pub(super) struct Failed(pub Errno);

fn failed(errno: Errno) -> StreamError {
    match errno {
        // Nobody reads it any more.
        Errno::Pipe => StreamError::Closed,
        errno => StreamError::LastOperationFailed(Failed(errno).into()),
    }
}

/// Bytes of an open file, from a position on or from where it stands.
pub(super) struct Reader {
    file: Option<File>,
    offset: Option<u64>,
}

impl Reader {
    /// Reads from `offset` on if the file has positions, and from where it stands otherwise.
    pub fn new(file: File, offset: u64) -> Self {
        let offset = file.is_seekable().then_some(offset);
        Self {
            file: Some(file),
            offset,
        }
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        if let Some(file) = &self.file {
            file.readable().await;
        }
    }
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let Some(file) = &self.file else {
            return Err(StreamError::Closed);
        };
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut buffer = vec![0; size.min(CHUNK)];
        let count = match &mut self.offset {
            None => file.try_read(&mut buffer),
            Some(offset) => file.read_at(*offset, &mut buffer).map(|count| {
                *offset = offset.saturating_add(count as u64);
                Some(count)
            }),
        };
        match count.map_err(failed)? {
            None => Ok(Bytes::new()),
            Some(0) => Err(StreamError::Closed),
            Some(count) => {
                buffer.truncate(count);
                Ok(buffer.into())
            }
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        loop {
            self.ready().await;
            let bytes = self.read(size)?;
            // Another process may have been faster.
            if size == 0 || !bytes.is_empty() {
                return Ok(bytes);
            }
        }
    }
}

/// Standard input.
pub(super) struct Input(Option<File>);

impl Input {
    /// The input a process starts with, if it has one.
    pub fn new(file: Option<File>) -> Self {
        Self(file)
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        // Only WASI 0.3 asks.
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(Reader {
            file: self.0.clone(),
            offset: None,
        })
    }
}

/// Bytes into a regular file, at a position or at its end.
pub(super) struct FileWriter {
    file: File,
    offset: Option<u64>,
}

impl FileWriter {
    /// Writes at `offset`, or at the end without one.
    pub fn new(file: File, offset: Option<u64>) -> Self {
        Self { file, offset }
    }
}

#[async_trait]
impl Pollable for FileWriter {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for FileWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > CHUNK {
            return Err(StreamError::trap("a write that check-write does not permit"));
        }
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            let (written, end) = self.file.write_at(self.offset, rest).map_err(failed)?;
            if written == 0 {
                return Err(failed(Errno::Nospc));
            }
            self.offset = self.offset.map(|_| end);
            rest = &rest[written..];
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}

/// Bytes to where writing may have to wait: standard output and error, pipes, devices. All clones are one stream.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Writing>>);

struct Writing {
    writer: Option<Writer>,
    /// What was written last, as long as it is on its way.
    pending: Option<BoxFuture<'static, Result<(), Errno>>>,
    /// Why that failed, until somebody has been told.
    failure: Option<Errno>,
}

impl Output {
    /// A stream to `writer`; without one it is closed.
    pub fn new(writer: Option<Writer>) -> Self {
        Self(Arc::new(Mutex::new(Writing {
            writer,
            pending: None,
            failure: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        // A writer that panicked is not polled again: its process ends.
        self.0.lock()
    }

    /// Completes when nothing is on its way any more.
    pub async fn settled(&self) {
        poll_fn(|context| self.lock().advance(context)).await;
    }
}

impl Writing {
    /// Goes on with what is on its way.
    fn advance(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(pending) = &mut self.pending {
            let Poll::Ready(written) = pending.as_mut().poll(context) else {
                return Poll::Pending;
            };
            self.pending = None;
            self.failure = written.err();
        }
        Poll::Ready(())
    }

    /// As [`Self::advance`], without anybody to wake.
    fn try_advance(&mut self) -> bool {
        self.advance(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        self.settled().await;
    }
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > self.check_write()? {
            return Err(StreamError::trap("a write that check-write does not permit"));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let mut writing = self.lock();
        let Some(writer) = &writing.writer else {
            return Err(StreamError::Closed);
        };
        writing.pending = Some(writer.write(bytes));
        writing.try_advance();
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        // It is on its way as it is.
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let mut writing = self.lock();
        let settled = writing.try_advance();
        if let Some(errno) = writing.failure.take() {
            // There is no more to write to it.
            let ended = writing.writer.take().is_some_and(|writer| writer.is_ended());
            if ended {
                return Err(StreamError::trap("a signal has ended the process"));
            }
            return Err(failed(errno));
        }
        match (&writing.writer, settled) {
            (None, _) => Err(StreamError::Closed),
            (Some(_), true) => Ok(CHUNK),
            (Some(_), false) => Ok(0),
        }
    }

    async fn write_ready(&mut self) -> StreamResult<usize> {
        loop {
            self.ready().await;
            match self.check_write()? {
                // A clone has written meanwhile.
                0 => {}
                permitted => return Ok(permitted),
            }
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}
