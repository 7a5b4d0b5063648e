//! A client's connection as bytes, watched: how long the client leaves an answer unread, and, once the connection is a
//! WebSocket, how much of a message it has sent and how long that takes.

use parking_lot::{Mutex, MutexGuard};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::connections::Place;
use crate::sandbox::{Exhausted, Permit};

/// Bytes of an incomplete message that are not charged: each connection may have so many.
const FREE_BYTES: u64 = 16 << 10;
/// What a message costs on the wire beyond its text: frame headers, and control frames between its frames.
const FRAMING_BYTES: u64 = 64 << 10;

/// How long a client that sent too much is listened to after it was told. A connection that is closed with bytes unread
/// is reset, and the client may lose what it was told.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// One connection. Its place among all connections is free when this is dropped.
pub struct ClientStream {
    /// `None` only while it is dropped.
    stream: Option<TcpStream>,
    place: Arc<Place>,
    write_timeout: Duration,
    /// When the write that waits is given up. Kept from one wait to the next.
    write_timer: Option<Pin<Box<Sleep>>>,
    /// The last write had to wait.
    write_waits: bool,
    /// The client has sent something.
    received: bool,
    inbox: Inbox,
    /// When an incomplete message is given up, as armed last.
    message_timer: Option<Pin<Box<Sleep>>>,
}

/// What a WebSocket's client has sent of its next message. Clones are the same.
#[derive(Clone, Default)]
pub struct Inbox(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Whether the connection is a WebSocket. Plain requests pay for no lock.
    open: AtomicBool,
    incoming: Mutex<Option<Incoming>>,
}

/// The message that is coming.
struct Incoming {
    /// Bytes of it so far.
    bytes: u64,
    /// Most bytes it may have.
    max_bytes: u64,
    /// When the first of them came.
    begun: Option<Instant>,
    /// How long it may take.
    timeout: Duration,
    /// Memory for it.
    permit: Permit,
    /// Why nothing more is read.
    fault: Option<Fault>,
}

/// Why a message is not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is too long.
    TooLong,
    /// It takes too long.
    TooSlow,
    /// There is no memory for it.
    NoMemory(Exhausted),
}

impl Inbox {
    /// Begins to watch messages: each at most `max_bytes` long, in `timeout`, and paid for with `permit`.
    pub fn open(&self, max_bytes: usize, timeout: Duration, permit: Permit) {
        *self.incoming() = Some(Incoming {
            bytes: 0,
            max_bytes: max_bytes as u64 + FRAMING_BYTES,
            begun: None,
            timeout,
            permit,
            fault: None,
        });
        self.0.open.store(true, Ordering::Release);
    }

    /// A message has come: the next one may have `max_bytes`. The memory of this one must be paid for elsewhere now.
    pub fn message_came(&self, max_bytes: usize) {
        if let Some(incoming) = self.incoming().as_mut() {
            incoming.bytes = 0;
            incoming.max_bytes = max_bytes as u64 + FRAMING_BYTES;
            incoming.begun = None;
            incoming.permit.shrink_to(0);
        }
    }

    /// Why nothing more is read, if so.
    pub fn fault(&self) -> Option<Fault> {
        self.incoming().as_ref().and_then(|incoming| incoming.fault)
    }

    /// A poisoned lock means that a thread panicked while it held it. Nothing that is done under it panics.
    fn incoming(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.0.incoming.lock()
    }
}

impl Incoming {
    /// Notes bytes of the message.
    fn received(&mut self, bytes: u64) -> Result<(), Fault> {
        self.bytes += bytes;
        self.begun.get_or_insert_with(Instant::now);
        if self.bytes > self.max_bytes {
            return Err(Fault::TooLong);
        }
        let charged = self.bytes.saturating_sub(FREE_BYTES);
        let missing = charged.saturating_sub(self.permit.amount());
        self.permit.grow(missing).map_err(Fault::NoMemory)
    }
}

impl ClientStream {
    /// Of an accepted connection, which ends when its client leaves an answer unread for `write_timeout`.
    pub fn new(stream: TcpStream, place: Place, write_timeout: Duration) -> Self {
        Self {
            stream: Some(stream),
            place: Arc::new(place),
            write_timeout,
            write_timer: None,
            write_waits: false,
            received: false,
            inbox: Inbox::default(),
            message_timer: None,
        }
    }

    /// Its place among all connections.
    pub fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place)
    }

    /// Its messages, for when it becomes a WebSocket.
    pub fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        self.stream.as_mut().map(Pin::new).ok_or_else(closed)
    }

    /// Passes on how a write went, or that it waits for too long.
    fn watch_write<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if std::mem::take(&mut self.write_waits) {
                self.place.set_unread(false);
            }
            return written;
        }
        let deadline = Instant::now() + self.write_timeout;
        let timer = self
            .write_timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.write_waits {
            self.write_waits = true;
            self.place.set_unread(true);
            timer.as_mut().reset(deadline);
        }
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client does not read its answer",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Notes what a read brought of a WebSocket's message, and ends a message that breaks a limit.
    fn watch_message(&mut self, context: &mut Context<'_>, read: u64, pending: bool) -> Result<(), Fault> {
        let mut incoming = self.inbox.incoming();
        let Some(incoming) = incoming.as_mut() else {
            return Ok(());
        };
        let mut outcome = match incoming.fault {
            Some(fault) => Err(fault),
            None if read > 0 => incoming.received(read),
            None => Ok(()),
        };
        if let (Ok(()), true, Some(begun)) = (outcome, pending, incoming.begun) {
            let deadline = begun + incoming.timeout;
            let timer = self
                .message_timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(context).is_ready() {
                outcome = Err(Fault::TooSlow);
            }
        }
        incoming.fault = outcome.err();
        outcome
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        let (Some(fault), Some(mut stream)) = (self.inbox.fault(), self.stream.take()) else {
            return;
        };
        // There is none when the server is being torn down.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let place = Arc::clone(&self.place);
        tracing::debug!(?fault, "a client broke a limit");
        runtime.spawn(tokio::time::timeout(LINGER_TIME, async move {
            let mut unread = [0; 4096];
            stream.shutdown().await?;
            while stream.read(&mut unread).await? > 0 {}
            drop(place);
            Ok::<_, io::Error>(())
        }));
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.stream()?.poll_read(context, buffer);
        if !self.received && buffer.filled().len() > before {
            self.received = true;
            self.place.set_received();
        }
        if !self.inbox.0.open.load(Ordering::Acquire) {
            return read;
        }
        let bytes = (buffer.filled().len() - before) as u64;
        match self.watch_message(context, bytes, read.is_pending()) {
            Ok(()) => read,
            Err(_) => Poll::Ready(Err(io::Error::other("a message of the client breaks a limit"))),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write(context, bytes);
        self.watch_write(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write_vectored(context, slices);
        self.watch_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}
