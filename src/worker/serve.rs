//! A worker's end of the connection: does what the server asks for.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::outbox::{NotSent, Outbox};
use super::protocol::{
    CallId, FrameReader, FromWorker, MAX_CALL_BYTES, MAX_REPLY_BYTES, PIECE_BYTES, ProtocolError, Reply, Request,
    ToWorker, WINDOW, WireExec,
};
use crate::kernel::Runtime;
use crate::provider::wasm::WasmProvider;
use crate::provider::{ByteStream, ExecControl, ExecEvent, ExecSpec, Execution, Provider as _, ProviderError, Stdin};

/// Sandboxes whose processor time one answer to a ping tells. The others follow with the next.
const MAX_CPU_TIMES: usize = 10_000;

/// Calls that were made in all.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// How many calls the server has made so far.
pub fn calls_so_far() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// A call that is worked on.
struct Incoming {
    /// Cancelled when nobody waits for it any more.
    cancelled: CancellationToken,
    /// Data pieces that may be sent.
    may_send: Arc<Semaphore>,
    /// Takes its input; `None` once that has ended.
    input: Option<mpsc::Sender<Result<Bytes, ProviderError>>>,
    /// The command it started.
    control: Option<Arc<dyn ExecControl>>,
}

type Calls = Arc<Mutex<HashMap<CallId, Incoming>>>;

/// What a call needs to reply.
#[derive(Clone)]
struct Replier {
    call: CallId,
    outbox: Outbox,
    may_send: Arc<Semaphore>,
    calls: Calls,
}

/// Serves until the server is gone.
///
/// # Errors
/// When the server says what makes no sense.
pub async fn serve(
    stream: UnixStream,
    provider: Arc<WasmProvider>,
    runtime: Arc<Runtime>,
) -> Result<(), ProtocolError> {
    let (reader, writer) = tokio::net::UnixStream::from_std(stream)?.into_split();
    let (outbox, writing) = Outbox::new(writer);
    tokio::spawn(writing);
    let calls = Calls::default();
    let mut frames = FrameReader::new(reader, MAX_CALL_BYTES);
    while let Some(message) = frames.next::<ToWorker>().await? {
        match message {
            ToWorker::Call { call, request } => begin(&provider, &outbox, &calls, call, request),
            ToWorker::Input { call, piece } => {
                if let Some(input) = lock(&calls).get(&call).and_then(|call| call.input.as_ref()) {
                    // The server keeps to the window; a call that has ended takes nothing.
                    let _ = input.try_send(Ok(piece));
                }
            }
            ToWorker::InputEnd { call, failure } => {
                if let Some(call) = lock(&calls).get_mut(&call)
                    && let Some(input) = call.input.take()
                    && let Some(failure) = failure
                {
                    let _ = input.try_send(Err(failure));
                }
            }
            ToWorker::Taken { call, pieces } => {
                if let Some(call) = lock(&calls).get(&call) {
                    call.may_send.add_permits(pieces as usize);
                }
            }
            ToWorker::Signal { call, signal } => {
                let control = lock(&calls).get(&call).and_then(|call| call.control.clone());
                if let Some(control) = control {
                    let _ = control.signal(signal).await;
                }
            }
            ToWorker::Cancel { call } => {
                if let Some(call) = lock(&calls).get(&call) {
                    call.cancelled.cancel();
                }
            }
            ToWorker::Ping => pong(&provider, &outbox, &runtime),
            ToWorker::Assign(_) => return Err(ProtocolError::Unexpected("a second assignment")),
        }
    }
    Ok(())
}

/// Answers by way of the guest threads: if they are stuck, so is the worker.
fn pong(provider: &Arc<WasmProvider>, outbox: &Outbox, runtime: &Arc<Runtime>) {
    let (provider, outbox) = (Arc::clone(provider), outbox.clone());
    runtime.run(async move {
        outbox.post(&FromWorker::Pong {
            busy: provider.has_processes(),
            cpu_times: provider.changed_cpu_times(MAX_CPU_TIMES),
        });
    });
}

fn begin(provider: &Arc<WasmProvider>, outbox: &Outbox, calls: &Calls, call: CallId, request: Request) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let cancelled = CancellationToken::new();
    let may_send = Arc::new(Semaphore::new(WINDOW));
    // Room for a window, and for the reason why input broke off.
    let (input, pieces) = mpsc::channel(WINDOW + 1);
    let incoming = Incoming {
        cancelled: cancelled.clone(),
        may_send: Arc::clone(&may_send),
        input: Some(input),
        control: None,
    };
    lock(calls).insert(call, incoming);
    let replier = Replier {
        call,
        outbox: outbox.clone(),
        may_send,
        calls: Arc::clone(calls),
    };
    let provider = Arc::clone(provider);
    tokio::spawn(async move {
        let last = tokio::select! {
            biased;
            () = cancelled.cancelled() => Reply::Failed(ProviderError::Invalid("cancelled".to_owned())),
            result = work(&provider, request, pieces, &replier) => result.unwrap_or_else(Reply::Failed),
        };
        lock(&replier.calls).remove(&call);
        // The server may be gone.
        let message = |reply| FromWorker::Reply {
            call,
            last: true,
            reply,
        };
        if replier.outbox.send_within(MAX_REPLY_BYTES, &message(last)).await == Err(NotSent::TooLong) {
            let error = ProviderError::LimitReached("the answer is too long; ask for less".to_owned());
            let _ = replier.outbox.send(&message(Reply::Failed(error))).await;
        }
    });
}

/// Does what one call asks for; returns its last reply.
async fn work(
    provider: &WasmProvider,
    request: Request,
    pieces: mpsc::Receiver<Result<Bytes, ProviderError>>,
    replier: &Replier,
) -> Result<Reply, ProviderError> {
    match request {
        Request::Open {
            id,
            spec,
            image,
            cpu_time,
        } => {
            let spec = serde_json::from_slice(&spec).map_err(|error| ProviderError::Internal(error.to_string()))?;
            provider.open(&id, &spec, image, cpu_time).await.map(|()| Reply::Done)
        }
        Request::Destroy { id } => provider.destroy(&id).await.map(|()| Reply::Done),
        Request::Exec { id, exec } => execute(provider, &id, *exec, pieces, replier).await,
        Request::ReadFile { id, path } => send_all(provider.read_file(&id, &path).await?, replier).await,
        Request::WriteFile { id, path, mode } => {
            let body = input(pieces, replier);
            provider.write_file(&id, &path, mode, body).await.map(Reply::Written)
        }
        Request::ListDir { id, path, page } => provider.list_dir(&id, &path, page).await.map(Reply::Entries),
        Request::Stat { id, path } => provider.stat(&id, &path).await.map(Reply::Info),
        Request::Delete { id, path, recursive } => provider.delete(&id, &path, recursive).await.map(|()| Reply::Done),
        Request::Rename { id, from, to } => provider.rename(&id, &from, &to).await.map(|()| Reply::Done),
        Request::Chmod { id, path, mode } => provider.chmod(&id, &path, mode).await.map(|()| Reply::Done),
        Request::Glob { id, pattern } => provider.glob(&id, &pattern).await.map(Reply::Paths),
        Request::Usage { id } => provider.usage(&id).await.map(Reply::Usage),
        Request::ReadArchive { id, path } => send_all(provider.read_archive(&id, &path).await?, replier).await,
        Request::WriteArchive { id, path } => {
            let tar = input(pieces, replier);
            provider.write_archive(&id, &path, tar).await.map(|()| Reply::Done)
        }
    }
}

async fn execute(
    provider: &WasmProvider,
    id: &str,
    exec: WireExec,
    pieces: mpsc::Receiver<Result<Bytes, ProviderError>>,
    replier: &Replier,
) -> Result<Reply, ProviderError> {
    let stdin = match exec.stdin {
        Some(bytes) => Stdin::Bytes(bytes),
        None => {
            // A command may end, or never read: then nobody takes its input, and the pieces end with the call.
            let (sender, receiver) = mpsc::channel(1);
            let mut body = input(pieces, replier);
            tokio::spawn(async move {
                while let Some(Ok(bytes)) = body.next().await {
                    if sender.send(bytes).await.is_err() {
                        return;
                    }
                }
            });
            Stdin::Stream(receiver)
        }
    };
    let spec = ExecSpec {
        command: exec.command,
        env: exec.env,
        workdir: exec.workdir,
        timeout: exec.timeout,
        cpu_time: exec.cpu_time,
        fuel: exec.fuel,
        stdin,
    };
    let Execution {
        mut events,
        control,
        cancel: _cancel,
    } = provider.exec(id, spec).await?;
    if let Some(call) = lock(&replier.calls).get_mut(&replier.call) {
        call.control = Some(control);
    }
    replier.begun();
    while let Some(event) = events.recv().await {
        match event {
            ExecEvent::Output(stream, mut bytes) => {
                while !bytes.is_empty() {
                    let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                    replier.data(Reply::Output(stream, piece)).await?;
                }
            }
            ExecEvent::Exit(outcome) => return Ok(Reply::Exit(outcome)),
            ExecEvent::Failed(error) => return Err(error),
        }
    }
    Err(ProviderError::Internal("a command ended without an outcome".to_owned()))
}

/// Sends a file or a tar.
async fn send_all(mut content: ByteStream, replier: &Replier) -> Result<Reply, ProviderError> {
    replier.begun();
    while let Some(bytes) = content.next().await {
        let mut bytes = bytes?;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            replier.data(Reply::Piece(piece)).await?;
        }
    }
    Ok(Reply::Done)
}

/// The input of a call. What was taken is told to the server, half a window at a time.
fn input(pieces: mpsc::Receiver<Result<Bytes, ProviderError>>, replier: &Replier) -> ByteStream {
    let (call, outbox) = (replier.call, replier.outbox.clone());
    stream::unfold((pieces, outbox, 0), move |(mut pieces, outbox, mut taken)| async move {
        let piece = pieces.recv().await?;
        taken += 1;
        if taken >= WINDOW / 2 {
            outbox.post(&FromWorker::Taken {
                call,
                pieces: taken as u32,
            });
            taken = 0;
        }
        Some((piece, (pieces, outbox, taken)))
    })
    .boxed()
}

impl Replier {
    /// Tells that the call has begun.
    fn begun(&self) {
        self.outbox.post(&FromWorker::Reply {
            call: self.call,
            last: false,
            reply: Reply::Done,
        });
    }

    /// Sends a piece of data once the server has room for it.
    async fn data(&self, reply: Reply) -> Result<(), ProviderError> {
        let gone = || ProviderError::Unavailable("the server is gone".to_owned());
        self.may_send.acquire().await.map_err(|_| gone())?.forget();
        let message = FromWorker::Reply {
            call: self.call,
            last: false,
            reply,
        };
        self.outbox.send(&message).await.map_err(|_| gone())
    }
}

fn lock(calls: &Calls) -> MutexGuard<'_, HashMap<CallId, Incoming>> {
    // Every update is complete before anything that could panic.
    calls.lock()
}
