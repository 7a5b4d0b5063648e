//! The console of an exec: where descriptors 1 and 2 of its processes lead.

use parking_lot::Mutex;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::budget::Charge;

/// Most bytes of one piece of output.
pub const MAX_PIECE: usize = 32 << 10;
/// Bytes of output that a sink may let wait for its reader. They are charged to the sandbox for as long as it has the
/// console.
pub const MAX_WAITING: usize = 4 * MAX_PIECE;

/// Which output stream bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// Takes what an exec writes, in pieces of up to [`MAX_PIECE`] bytes. A sink that is slow to accept holds the writing
/// process back; it must not keep more than [`MAX_WAITING`] bytes of which nobody else keeps account.
#[async_trait]
pub trait OutputSink: Send + Sync {
    /// Takes one piece of output.
    async fn write(&self, stream: Stream, bytes: Bytes);
}

/// The console of one exec, shared by all its descriptors.
pub struct Console {
    /// `None` once the exec was answered: output of what still runs in the background goes nowhere.
    sink: Mutex<Option<Arc<dyn OutputSink>>>,
    closed: Arc<Notify>,
    /// For what waits in the sink.
    _charge: Charge,
}

impl Console {
    /// A console that writes to `sink`, and the signal that its last descriptor was closed. `charge` pays for
    /// [`MAX_WAITING`].
    pub fn new(sink: Arc<dyn OutputSink>, charge: Charge) -> (Arc<Self>, Arc<Notify>) {
        let closed = Arc::new(Notify::new());
        (
            Arc::new(Self {
                sink: Mutex::new(Some(sink)),
                closed: Arc::clone(&closed),
                _charge: charge,
            }),
            closed,
        )
    }

    /// Passes output on; it is dropped when nobody listens any more.
    pub async fn write(&self, stream: Stream, bytes: Bytes) {
        let sink = self.sink.lock().clone();
        if let Some(sink) = sink {
            sink.write(stream, bytes).await;
        }
    }

    /// Lets go of the sink.
    pub fn detach(&self) {
        self.sink.lock().take();
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // A stored permit: the exec may not be waiting yet.
        self.closed.notify_one();
    }
}
