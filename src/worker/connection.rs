//! The server's end of the connection to a worker: calls, and what comes back for each.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use super::protocol::{CallId, FrameReader, FromWorker, PIECE_BYTES, ProtocolError, Reply, Request, ToWorker, WINDOW};
use crate::provider::{ByteStream, ProviderError, Signal};

/// Replies of one call that may wait here: a window of data, the beginning, and the end.
const QUEUE: usize = WINDOW + 2;

/// The connection to one worker.
pub struct Connection {
    outbox: Outbox,
    next: AtomicU64,
    calls: Mutex<Calls>,
    /// Cancelled when the worker is gone.
    ended: CancellationToken,
    pongs: Mutex<Pongs>,
    ponged: Notify,
}

#[derive(Default)]
struct Calls {
    open: HashMap<CallId, OpenCall>,
    /// No call can be made any more.
    lost: bool,
}

#[derive(Default)]
struct Pongs {
    /// Asked for and not come yet.
    due: usize,
    /// Messages received so far.
    count: u64,
    /// What the last one said.
    last: Pong,
}

/// What a worker says of itself.
#[derive(Debug, Clone, Default)]
pub struct Pong {
    /// Whether a process of any sandbox lives.
    pub busy: bool,
    /// Processor time of sandboxes, all they have used, where that has changed.
    pub cpu_times: Vec<(String, Duration)>,
}

/// A call whose last reply has not come yet.
struct OpenCall {
    replies: mpsc::Sender<(Reply, bool)>,
    flow: Arc<Flow>,
    /// Whether it has been told that it has begun.
    begun: bool,
}

/// How far the two sides of a call are ahead of each other.
struct Flow {
    /// Pieces the worker has sent and was not told are taken.
    received: AtomicUsize,
    /// Pieces that may be sent to the worker.
    may_send: Semaphore,
    /// Cancelled when the call has ended.
    ended: CancellationToken,
}

impl Flow {
    fn end(&self) {
        self.may_send.close();
        self.ended.cancel();
    }
}

/// A call that was made. Dropping it before its last reply cancels it.
pub struct Call {
    id: CallId,
    connection: Arc<Connection>,
    replies: mpsc::Receiver<(Reply, bool)>,
    flow: Arc<Flow>,
    /// Pieces taken that the worker was not told of.
    taken: usize,
    /// Whether the worker gets to know of it.
    sent: bool,
    finished: bool,
}

impl Connection {
    /// A connection that sends through `outbox`. [`Connection::receive_from`] has to run.
    pub fn new(outbox: Outbox) -> Arc<Self> {
        Arc::new(Self {
            outbox,
            next: AtomicU64::new(1),
            calls: Mutex::default(),
            ended: CancellationToken::new(),
            pongs: Mutex::default(),
            ponged: Notify::new(),
        })
    }

    /// Completes when the worker is gone.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether the worker is gone.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Makes a call.
    ///
    /// # Errors
    /// [`ProviderError::WorkerLost`].
    pub async fn call(self: &Arc<Self>, request: Request) -> Result<Call, ProviderError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, replies) = mpsc::channel(QUEUE);
        let flow = Arc::new(Flow {
            received: AtomicUsize::new(0),
            may_send: Semaphore::new(WINDOW),
            ended: CancellationToken::new(),
        });
        {
            let mut calls = self.calls();
            if calls.lost {
                return Err(ProviderError::WorkerLost);
            }
            let open = OpenCall {
                replies: sender,
                flow: Arc::clone(&flow),
                begun: false,
            };
            calls.open.insert(id, open);
        }
        let mut call = Call {
            id,
            connection: Arc::clone(self),
            replies,
            flow,
            taken: 0,
            sent: false,
            finished: false,
        };
        let sent = self.outbox.send(&ToWorker::Call { call: id, request }).await;
        sent.map_err(|_| ProviderError::WorkerLost)?;
        call.sent = true;
        Ok(call)
    }

    /// Asks whether the threads of guests still turn. Completes when the worker answers. One at a time.
    ///
    /// # Errors
    /// [`ProviderError::WorkerLost`].
    pub async fn ping(&self) -> Result<Pong, ProviderError> {
        let before = {
            let mut pongs = self.pongs();
            pongs.due += 1;
            pongs.count
        };
        self.outbox.post(&ToWorker::Ping);
        loop {
            let ponged = self.ponged.notified();
            tokio::pin!(ponged);
            ponged.as_mut().enable();
            {
                let mut pongs = self.pongs();
                if pongs.count > before {
                    return Ok(std::mem::take(&mut pongs.last));
                }
            }
            tokio::select! {
                () = ponged => {}
                () = self.ended() => return Err(ProviderError::WorkerLost),
            }
        }
    }

    /// Receives what the worker says, until it is gone or says what it must not.
    ///
    /// # Errors
    /// Handles the worker's messages until it closes the connection.
    pub async fn receive_from(&self, mut frames: FrameReader<impl AsyncRead + Unpin>) -> Result<(), ProtocolError> {
        while let Some(message) = frames.next().await? {
            self.take(message)?;
        }
        Ok(())
    }

    /// Ends every call: the worker is gone.
    pub fn lose(&self) {
        let open = {
            let mut calls = self.calls();
            calls.lost = true;
            std::mem::take(&mut calls.open)
        };
        for call in open.values() {
            call.flow.end();
        }
        self.ended.cancel();
    }

    fn take(&self, message: FromWorker) -> Result<(), ProtocolError> {
        match message {
            FromWorker::Reply { call, last, reply } => self.take_reply(call, reply, last),
            FromWorker::Taken { call, pieces } => self.take_credit(call, pieces as usize),
            FromWorker::Pong { busy, cpu_times } => {
                let mut pongs = self.pongs();
                if pongs.due == 0 {
                    return Err(ProtocolError::Unexpected("an answer to no ping"));
                }
                pongs.due -= 1;
                pongs.count += 1;
                pongs.last = Pong { busy, cpu_times };
                self.ponged.notify_waiters();
                Ok(())
            }
            FromWorker::Loaded { .. } | FromWorker::Ready { .. } => {
                Err(ProtocolError::Unexpected("a greeting in the middle"))
            }
        }
    }

    fn take_reply(&self, id: CallId, reply: Reply, last: bool) -> Result<(), ProtocolError> {
        let mut calls = self.calls();
        let Some(call) = calls.open.get_mut(&id) else {
            return Err(ProtocolError::Unexpected("a reply to no call"));
        };
        if reply.is_data() {
            if call.flow.received.fetch_add(1, Ordering::Relaxed) >= WINDOW {
                return Err(ProtocolError::Unexpected("more data than was asked for"));
            }
        } else if !last {
            if call.begun || !matches!(reply, Reply::Done) {
                return Err(ProtocolError::Unexpected("a second beginning"));
            }
            call.begun = true;
        }
        // There is room for all that gets here; that nobody listens any more is no fault of the worker.
        let _ = call.replies.try_send((reply, last));
        if last && let Some(call) = calls.open.remove(&id) {
            call.flow.end();
        }
        Ok(())
    }

    fn take_credit(&self, id: CallId, pieces: usize) -> Result<(), ProtocolError> {
        let calls = self.calls();
        // A call that has ended may have taken something just before.
        let Some(call) = calls.open.get(&id) else { return Ok(()) };
        if call.flow.may_send.available_permits() + pieces > WINDOW {
            return Err(ProtocolError::Unexpected("more pieces taken than were sent"));
        }
        call.flow.may_send.add_permits(pieces);
        Ok(())
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // Every update is complete before anything that could panic.
        self.calls.lock()
    }

    fn pongs(&self) -> MutexGuard<'_, Pongs> {
        // As above.
        self.pongs.lock()
    }
}

impl Call {
    /// The next reply, and whether it is the last. Not to be called after that.
    ///
    /// # Errors
    /// [`ProviderError::WorkerLost`], and what the worker failed with.
    pub async fn next(&mut self) -> Result<(Reply, bool), ProviderError> {
        let Some((reply, last)) = self.replies.recv().await else {
            self.finished = true;
            return Err(ProviderError::WorkerLost);
        };
        self.finished = last;
        if reply.is_data() && !last {
            self.taken += 1;
            // Half a window at a time, so that a short command costs no message more.
            if self.taken >= WINDOW / 2 {
                self.flow.received.fetch_sub(self.taken, Ordering::Relaxed);
                self.connection.outbox.post(&ToWorker::Taken {
                    call: self.id,
                    pieces: self.taken as u32,
                });
                self.taken = 0;
            }
        }
        match reply {
            Reply::Failed(error) => Err(error),
            reply => Ok((reply, last)),
        }
    }

    /// The one reply of a call that has no more.
    ///
    /// # Errors
    /// As [`Call::next`].
    pub async fn answer(mut self) -> Result<Reply, ProviderError> {
        self.next().await.map(|(reply, _)| reply)
    }

    /// Waits until the call has begun.
    ///
    /// # Errors
    /// As [`Call::next`].
    pub async fn begun(&mut self) -> Result<(), ProviderError> {
        match self.next().await? {
            (Reply::Done, false) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// What sends the call's input.
    pub fn input(&self) -> CallInput {
        CallInput {
            id: self.id,
            connection: Arc::clone(&self.connection),
            flow: Arc::clone(&self.flow),
        }
    }

    /// What sends signals to the command of this call.
    pub fn signals(&self) -> CallSignals {
        CallSignals {
            id: self.id,
            connection: Arc::clone(&self.connection),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.sent {
            // No last reply will come. It is given up while it waits for room, or the worker is gone.
            self.connection.calls().open.remove(&self.id);
        } else if !self.finished {
            self.connection.outbox.post(&ToWorker::Cancel { call: self.id });
        }
    }
}

/// A reply that does not answer the call.
pub fn unexpected() -> ProviderError {
    ProviderError::Internal("a worker gave an answer to something else".to_owned())
}

/// Sends signals to the command of a call. Once that has ended they reach nobody.
pub struct CallSignals {
    id: CallId,
    connection: Arc<Connection>,
}

impl CallSignals {
    /// Sends one.
    pub fn send(&self, signal: Signal) {
        self.connection.outbox.post(&ToWorker::Signal { call: self.id, signal });
    }
}

/// Sends the input of a call.
pub struct CallInput {
    id: CallId,
    connection: Arc<Connection>,
    flow: Arc<Flow>,
}

/// The call takes no input any more: it has ended.
#[derive(Debug, Clone, Copy)]
pub struct NotTaken;

impl CallInput {
    /// Sends bytes, as fast as they are taken.
    pub async fn send(&self, mut bytes: Bytes) -> Result<(), NotTaken> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            self.flow.may_send.acquire().await.map_err(|_| NotTaken)?.forget();
            let message = ToWorker::Input { call: self.id, piece };
            self.connection.outbox.send(&message).await.map_err(|_| NotTaken)?;
        }
        Ok(())
    }

    /// Tells that all was sent, or why not.
    pub fn end(&self, failure: Option<ProviderError>) {
        self.connection
            .outbox
            .post(&ToWorker::InputEnd { call: self.id, failure });
    }

    /// Sends all of a stream.
    pub async fn send_all(self, mut stream: ByteStream) {
        use futures_util::StreamExt as _;
        loop {
            match stream.next().await {
                Some(Ok(bytes)) => {
                    if self.send(bytes).await.is_err() {
                        return;
                    }
                }
                Some(Err(error)) => return self.end(Some(error)),
                None => return self.end(None),
            }
        }
    }

    /// Completes when the call takes no input any more.
    pub async fn closed(&self) {
        self.flow.ended.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, DuplexStream};

    use super::super::protocol::{MAX_CALL_BYTES, MAX_REPLY_BYTES, encode};
    use super::*;
    use crate::provider::OutputStream;

    /// A connection whose worker is the test.
    struct Worker {
        connection: Arc<Connection>,
        reader: FrameReader<DuplexStream>,
        writer: DuplexStream,
        receiving: tokio::task::JoinHandle<Result<(), ProtocolError>>,
    }

    impl Worker {
        fn start() -> Self {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let (writer, from_worker) = tokio::io::duplex(1 << 20);
            let (outbox, writing) = Outbox::new(ours);
            tokio::spawn(writing);
            let connection = Connection::new(outbox);
            let receiver = Arc::clone(&connection);
            let receiving = tokio::spawn(async move {
                let result = receiver
                    .receive_from(FrameReader::new(from_worker, MAX_REPLY_BYTES))
                    .await;
                receiver.lose();
                result
            });
            Self {
                connection,
                reader: FrameReader::new(theirs, MAX_CALL_BYTES),
                writer,
                receiving,
            }
        }

        async fn call(&mut self) -> Call {
            let request = Request::Usage { id: "sb_1".to_owned() };
            self.connection.call(request).await.unwrap()
        }

        async fn say(&mut self, message: &FromWorker) {
            self.writer.write_all(&encode(message).unwrap()).await.unwrap();
        }

        async fn reply(&mut self, call: &Call, last: bool, reply: Reply) {
            let message = FromWorker::Reply {
                call: call.id,
                last,
                reply,
            };
            self.say(&message).await;
        }

        async fn output(&mut self, call: &Call) {
            let reply = Reply::Output(OutputStream::Stdout, Bytes::from_static(b"x"));
            self.reply(call, false, reply).await;
        }

        /// Fails unless what was said ends the connection.
        async fn assert_refused(self, call: Option<Call>) {
            assert!(matches!(
                self.receiving.await.unwrap(),
                Err(ProtocolError::Unexpected(_))
            ));
            if let Some(mut call) = call {
                while let Ok((_, last)) = call.next().await {
                    assert!(!last);
                }
            }
            assert!(matches!(
                self.connection.call(Request::Usage { id: "sb_1".to_owned() }).await,
                Err(ProviderError::WorkerLost)
            ));
        }
    }

    #[tokio::test]
    async fn a_reply_to_no_call_ends_the_connection() {
        let mut worker = Worker::start();
        let message = FromWorker::Reply {
            call: 77,
            last: true,
            reply: Reply::Done,
        };
        worker.say(&message).await;
        worker.assert_refused(None).await;
    }

    #[tokio::test]
    async fn a_second_last_reply_ends_the_connection() {
        let mut worker = Worker::start();
        let call = worker.call().await;
        worker.reply(&call, true, Reply::Done).await;
        worker.reply(&call, true, Reply::Done).await;
        worker.assert_refused(None).await;
    }

    #[tokio::test]
    async fn a_second_beginning_ends_the_connection() {
        let mut worker = Worker::start();
        let call = worker.call().await;
        worker.reply(&call, false, Reply::Done).await;
        worker.reply(&call, false, Reply::Done).await;
        worker.assert_refused(Some(call)).await;
    }

    #[tokio::test]
    async fn data_beyond_the_window_ends_the_connection() {
        let mut worker = Worker::start();
        let call = worker.call().await;
        for _ in 0..=WINDOW {
            worker.output(&call).await;
        }
        worker.assert_refused(Some(call)).await;
    }

    #[tokio::test]
    async fn more_credit_than_pieces_ends_the_connection() {
        let mut worker = Worker::start();
        let call = worker.call().await;
        let message = FromWorker::Taken {
            call: call.id,
            pieces: 1,
        };
        worker.say(&message).await;
        worker.assert_refused(Some(call)).await;
    }

    #[tokio::test]
    async fn an_answer_to_no_ping_ends_the_connection() {
        let mut worker = Worker::start();
        let message = FromWorker::Pong {
            busy: true,
            cpu_times: Vec::new(),
        };
        worker.say(&message).await;
        worker.assert_refused(None).await;
    }

    #[tokio::test]
    async fn data_within_the_window_goes_on_as_it_is_taken() {
        let mut worker = Worker::start();
        let mut call = worker.call().await;
        assert!(matches!(
            worker.reader.next().await.unwrap(),
            Some(ToWorker::Call { .. })
        ));
        for _ in 0..5 {
            for _ in 0..WINDOW / 2 {
                worker.output(&call).await;
            }
            for _ in 0..WINDOW / 2 {
                assert!(matches!(call.next().await, Ok((Reply::Output(..), false))));
            }
            assert!(matches!(
                worker.reader.next().await.unwrap(),
                Some(ToWorker::Taken { .. })
            ));
        }
        worker.reply(&call, true, Reply::Done).await;
        assert!(matches!(call.next().await, Ok((Reply::Done, true))));
        drop(call);
        assert!(worker.connection.calls().open.is_empty());
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_is_cancelled_and_kept_until_its_last_reply() {
        let mut worker = Worker::start();
        let call = worker.call().await;
        let id = call.id;
        drop(call);
        assert!(matches!(
            worker.reader.next().await.unwrap(),
            Some(ToWorker::Call { .. })
        ));
        assert!(matches!(worker.reader.next().await.unwrap(), Some(ToWorker::Cancel { call }) if call == id));
        let message = FromWorker::Reply {
            call: id,
            last: true,
            reply: Reply::Done,
        };
        worker.say(&message).await;
        drop(worker.writer);
        assert!(worker.receiving.await.unwrap().is_ok());
    }
}
