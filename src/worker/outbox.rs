//! Sends frames on one stream for many tasks.

use std::sync::Arc;

use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::protocol::{ProtocolError, encode};

/// Bytes of frames that may wait to be sent. A longer frame waits until it is alone.
const ROOM: usize = 4 << 20;
/// Bytes that are sent by one system call, at most, when several frames wait.
const BATCH: usize = 256 << 10;

/// Where messages are put to be sent, in order. Clones are the same.
#[derive(Clone)]
pub struct Outbox {
    queue: mpsc::UnboundedSender<Queued>,
    room: Arc<Semaphore>,
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The other side is gone.
    #[error("the connection has ended")]
    Gone,
    /// It is longer than the other side takes.
    #[error("the message is too long")]
    TooLong,
}

struct Queued {
    frame: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

impl Outbox {
    /// An outbox, and the task that empties it into `stream`. It ends when the stream breaks or all clones are dropped.
    pub fn new(stream: impl AsyncWrite + Unpin) -> (Self, impl Future<Output = ()>) {
        let (queue, queued) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(ROOM));
        (Self { queue, room }, write_all(stream, queued))
    }

    /// Sends a message once there is room for it.
    ///
    /// # Errors
    /// When nothing can be sent any more.
    pub async fn send<T: Serialize>(&self, message: &T) -> Result<(), NotSent> {
        self.send_within(usize::MAX, message).await
    }

    /// Sends a message of at most `max` bytes once there is room for it.
    ///
    /// # Errors
    /// When it is longer, or nothing can be sent any more.
    pub async fn send_within<T: Serialize>(&self, max: usize, message: &T) -> Result<(), NotSent> {
        let frame = encode(message).map_err(|_: ProtocolError| NotSent::TooLong)?;
        if frame.len() > max {
            return Err(NotSent::TooLong);
        }
        // A `u32` holds `ROOM`.
        let wanted = frame.len().min(ROOM) as u32;
        let room = Arc::clone(&self.room)
            .acquire_many_owned(wanted)
            .await
            .map_err(|_| NotSent::Gone)?;
        let queued = Queued {
            frame,
            room: Some(room),
        };
        self.queue.send(queued).map_err(|_| NotSent::Gone)
    }

    /// Sends a message of a few bytes, without waiting. That the other side is gone shows elsewhere.
    pub fn post<T: Serialize>(&self, message: &T) {
        if let Ok(frame) = encode(message) {
            let _ = self.queue.send(Queued { frame, room: None });
        }
    }
}

async fn write_all(mut stream: impl AsyncWrite + Unpin, mut queued: mpsc::UnboundedReceiver<Queued>) {
    while let Some(mut next) = queued.recv().await {
        let mut room = vec![next.room.take()];
        while next.frame.len() < BATCH
            && let Ok(mut more) = queued.try_recv()
        {
            next.frame.append(&mut more.frame);
            room.push(more.room.take());
        }
        if stream.write_all(&next.frame).await.is_err() {
            return;
        }
    }
}
