//! Runs a command over a WebSocket: input and signals in, output out.
//!
//! The first message is the request, of the form of `POST /sandboxes/{id}/exec`. Then the server sends
//! `{"stream","data"}` and the client `{"stdin"}` or `{"stdin_base64"}`, `{"eof":true}`, `{"signal"}`. The last message
//! is `{"type":"done","exit_code",…}`, or `{"type":"error","code","message","request_id"}` when the client asked for
//! something wrong; a normal close, or one of the code 1008, 1009 or 1011, follows. A client that goes kills its command.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite;
use tracing::Instrument as _;

use super::auth::share_of_requests;
use super::client_stream::{Fault, Inbox};
use super::error::{ApiError, ErrorBody};
use super::exec::{ExecBody, into_request};
use super::extract::{AsCaller, HeldBytes, Id, no_memory, parse_json};
use super::request_id::RequestId;
use super::router::AppState;
use super::transcript::{End, Report, Transcript};
use crate::provider::{ExecControl, Signal, Stdin};
use crate::sandbox::{Caller, Permit, SandboxId};

/// How long a client may take to say what it wants to run.
const FIRST_MESSAGE_TIME: Duration = Duration::from_secs(10);
/// How long the last messages and the client's own close may take.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Input the command has not read yet, bytes. Beyond it nothing is read from the client, signals included.
const MAX_PENDING_BYTES: usize = 1 << 20;
/// Bytes of input handed to the command at once.
const PIECE_BYTES: usize = 64 << 10;
/// Longest message after the first, bytes.
const MAX_LATER_BYTES: usize = 1 << 20;
/// Pending input of so many bytes is not charged: each connection may have so much.
const FREE_BYTES: usize = 16 << 10;
/// Bytes read from a connection at once. The default of 128 KiB is much for one that waits.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Bytes that are gathered before they are written. Each message is written by itself, so none need wait.
const WRITE_BUFFER_BYTES: usize = 0;
/// Pings and pongs that a client may send at once after a pause, and how long it takes to be allowed one more.
const CONTROL_BURST: u32 = 100;
const CONTROL_INTERVAL: Duration = Duration::from_millis(100);

/// A message of the client after the first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// Text for standard input.
    stdin: Option<String>,
    /// Bytes for standard input.
    stdin_base64: Option<String>,
    /// Standard input ends.
    #[serde(default)]
    eof: bool,
    /// For the command and what it started in the foreground.
    signal: Option<Signal>,
}

impl Input {
    /// The input of one message, and the bytes it has for standard input.
    pub(super) fn parse(text: &[u8]) -> Result<(Self, Option<Vec<u8>>), ApiError> {
        let mut input: Self = parse_json(text)?;
        let bytes = match (input.stdin.take(), input.stdin_base64.take()) {
            (Some(_), Some(_)) => {
                return Err(ApiError::bad_request("give either stdin or stdin_base64, not both"));
            }
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(encoded)) => {
                let bad = |error| ApiError::bad_request(format!("stdin_base64 is not standard base64: {error}"));
                Some(STANDARD.decode(encoded).map_err(bad)?)
            }
            (None, None) if !input.eof && input.signal.is_none() => {
                return Err(ApiError::bad_request(
                    "a message must have stdin, stdin_base64, eof or signal",
                ));
            }
            (None, None) => None,
        };
        Ok((input, bytes))
    }
}

/// The last message of a command.
#[derive(Serialize)]
struct DoneMessage {
    r#type: &'static str,
    #[serde(flatten)]
    end: End,
}

/// The last message when the client asked for something wrong.
#[derive(Serialize)]
struct ErrorMessage<'a> {
    r#type: &'static str,
    code: &'static str,
    message: &'a str,
    request_id: &'a str,
}

/// Why a conversation ends before its command does.
enum Ended {
    /// The client is gone.
    Gone,
    /// The client is told why, with this code.
    Refused(ApiError, u16),
}

impl From<ApiError> for Ended {
    fn from(error: ApiError) -> Self {
        let code = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => close_code::SIZE,
            status if status.is_server_error() => close_code::ERROR,
            _ => close_code::POLICY,
        };
        Self::Refused(error, code)
    }
}

/// Runs a command over a WebSocket.
///
/// The first message is the body of `POST /sandboxes/{id}/exec`. Then the server sends `{"stream","data"}` and the client
/// `{"stdin"}` or `{"stdin_base64"}`, `{"eof":true}`, `{"signal":"INT"}`. The last message is
/// `{"type":"done","exit_code","duration","timed_out"}`, or `{"type":"error","code","message","request_id"}`.
#[utoipa::path(
    get,
    path = "/sandboxes/{id}/exec/ws",
    tag = "exec",
    responses(
        (status = 101, description = "The connection is a WebSocket now."),
        (status = 426, description = "The request is no WebSocket handshake.", body = ErrorBody),
    ),
)]
pub async fn exec_ws(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    Extension(RequestId(request_id)): Extension<RequestId>,
    inbox: Option<Extension<Inbox>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    // What the handshake itself gets wrong is refused as on any route; the rest is told in messages.
    state.sandboxes.get(&caller, &id)?;
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Ok(not_a_handshake(&rejection)),
    };
    let limits = &state.config.limits;
    let limit = limits.max_json_bytes;
    // Absent only when the server's own loop does not serve the connection.
    let inbox = inbox.map(|Extension(inbox)| inbox).unwrap_or_default();
    let permit = state.sandboxes.transfer_permit(&caller, &id);
    inbox.open(limit, limits.body_timeout.0, permit);
    // The handshake's own share ends with its answer.
    let share = share_of_requests(&state, &caller)?;
    let client = Client { caller, inbox };
    let session = state.sandboxes.session();
    let span = tracing::Span::current();
    let converse = move |socket| {
        async move {
            converse(socket, &state, &client, &id, &request_id).await;
            drop((session, share));
        }
        .instrument(span)
    };
    Ok(upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(limit)
        .max_frame_size(limit)
        .on_upgrade(converse))
}

fn not_a_handshake(rejection: &WebSocketUpgradeRejection) -> Response {
    match rejection {
        WebSocketUpgradeRejection::InvalidConnectionHeader(_) | WebSocketUpgradeRejection::InvalidUpgradeHeader(_) => {
            let error = ApiError::upgrade_required("this route speaks WebSocket; connect with a WebSocket client");
            let headers = [
                (header::UPGRADE, HeaderValue::from_static("websocket")),
                (header::CONNECTION, HeaderValue::from_static("upgrade")),
            ];
            (headers, error).into_response()
        }
        rejection => ApiError::bad_request(format!("malformed WebSocket handshake: {rejection}")).into_response(),
    }
}

/// A whole conversation.
async fn converse(socket: WebSocket, state: &AppState, client: &Client, id: &SandboxId, request_id: &str) {
    let (mut sink, stream) = socket.split();
    let mut messages = Messages {
        stream,
        inbox: client.inbox.clone(),
        control: ControlRate::new(Instant::now()),
    };
    let ended = match begin(&mut messages, state, &client.caller, id).await {
        Ok((mut transcript, mut feed)) => {
            let output = async {
                while let Some(report) = transcript.next().await {
                    let message = message(report);
                    sink.send(message).await.map_err(|_| Ended::Gone)?;
                }
                Ok(())
            };
            tokio::select! {
                biased;
                ended = output => ended,
                ended = feed.receive(&mut messages) => Err(ended),
            }
            // The command is killed here, if it still runs.
        }
        Err(ended) => Err(ended),
    };
    let code = match &ended {
        Ok(()) => close_code::NORMAL,
        Err(Ended::Refused(_, code)) => *code,
        Err(Ended::Gone) => return,
    };
    // Giving up is all that is left to do when the client takes too long.
    let _ = tokio::time::timeout(CLOSE_TIME, async {
        if let Err(Ended::Refused(error, _)) = &ended {
            sink.send(error_message(error, request_id)).await?;
        }
        let frame = CloseFrame {
            code,
            reason: "".into(),
        };
        sink.send(Message::Close(Some(frame))).await?;
        // What the client still sends is taken, so that the last messages are not lost to a connection reset.
        while let Some(Ok(_)) = messages.stream.next().await {}
        Ok::<_, axum::Error>(())
    })
    .await;
}

/// Reads the first message and starts the command.
async fn begin(
    messages: &mut Messages,
    state: &AppState,
    caller: &Caller,
    id: &SandboxId,
) -> Result<(Transcript, Feed), Ended> {
    let first = tokio::time::timeout(FIRST_MESSAGE_TIME, messages.next_text()).await;
    let too_late = |_| ApiError::bad_request("no request came: the first message must be the command to run");
    let first = Bytes::from(first.map_err(too_late)??);
    let mut permit = state.sandboxes.transfer_permit(caller, id);
    if first.len() > FREE_BYTES {
        permit.grow(first.len() as u64).map_err(no_memory)?;
    }
    let permit = (permit.amount() > 0).then_some(permit);
    messages
        .inbox
        .message_came(MAX_LATER_BYTES.min(state.config.limits.max_json_bytes));
    let (body, held) = HeldBytes::new(first, permit).parse::<ExecBody>().await?;
    let has_stdin = body.stdin.is_some();
    let mut request = into_request(body, held)?;
    let (sender, pieces) = mpsc::channel(1);
    if !has_stdin {
        request.stdin = Stdin::Stream(pieces);
    }
    let running = state
        .sandboxes
        .exec(caller, id, request)
        .await
        .map_err(ApiError::from)?;
    let feed = Feed {
        control: running.control(),
        pipe: (!has_stdin).then_some(sender),
        pending: BytesMut::new(),
        held: state.sandboxes.transfer_permit(caller, id),
        max_bytes: MAX_LATER_BYTES.min(state.config.limits.max_json_bytes),
        ended: has_stdin,
    };
    Ok((Transcript::new(running), feed))
}

/// Who talks to us, and what of it has come.
struct Client {
    caller: Caller,
    inbox: Inbox,
}

/// The messages of a client.
struct Messages {
    stream: SplitStream<WebSocket>,
    inbox: Inbox,
    control: ControlRate,
}

impl Messages {
    /// The next text. Whoever takes it says so to the inbox once it is charged elsewhere or gone.
    async fn next_text(&mut self) -> Result<Utf8Bytes, Ended> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                // Answered below us.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                    if !self.control.allows(Instant::now()) {
                        return Err(ApiError::resource_limit("too many pings; send at most 10 a second").into());
                    }
                }
                Some(Ok(Message::Binary(_))) => {
                    let error = ApiError::bad_request("binary messages are not understood; send {\"stdin_base64\":…}");
                    return Err(Ended::Refused(error, close_code::UNSUPPORTED));
                }
                Some(Ok(Message::Close(_))) | None => return Err(Ended::Gone),
                Some(Err(error)) => {
                    return Err(match self.inbox.fault() {
                        Some(fault) => refused(fault),
                        None => broken(error),
                    });
                }
            }
        }
    }
}

/// How often a client sends control frames, which the server answers.
struct ControlRate {
    /// When all that came until now is forgiven.
    forgiven: Instant,
}

impl ControlRate {
    fn new(now: Instant) -> Self {
        Self { forgiven: now }
    }

    /// Counts one frame, and tells whether it is one too many.
    fn allows(&mut self, now: Instant) -> bool {
        self.forgiven = self.forgiven.max(now) + CONTROL_INTERVAL;
        self.forgiven <= now + CONTROL_INTERVAL * CONTROL_BURST
    }
}

/// What the client is told about a message that was not read to its end.
fn refused(fault: Fault) -> Ended {
    match fault {
        Fault::TooLong => ApiError::payload_too_large("the message is too large").into(),
        Fault::TooSlow => ApiError::bad_request("a message did not arrive in time; send it without pauses").into(),
        Fault::NoMemory(exhausted) => Ended::Refused(no_memory(exhausted), close_code::AGAIN),
    }
}

/// What a connection that cannot be read on means.
fn broken(error: axum::Error) -> Ended {
    match error.into_inner().downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => ApiError::payload_too_large("the message is too large").into(),
        Some(tungstenite::Error::Utf8(_)) => Ended::Refused(
            ApiError::bad_request("a text message is not UTF-8"),
            close_code::INVALID,
        ),
        _ => Ended::Gone,
    }
}

/// What the client sends to a running command.
struct Feed {
    control: Arc<dyn ExecControl>,
    /// Leads to standard input; `None` once that has ended.
    pipe: Option<mpsc::Sender<Bytes>>,
    /// Input that the command has no room for yet.
    pending: BytesMut,
    /// What the pending input is charged to.
    held: Permit,
    /// Longest message, bytes.
    max_bytes: usize,
    /// Nothing more may come.
    ended: bool,
}

impl Feed {
    /// Passes on what the client sends until it goes or sends something wrong. Signals overtake input.
    async fn receive(&mut self, messages: &mut Messages) -> Ended {
        loop {
            let step = tokio::select! {
                text = messages.next_text(), if self.pending.len() < MAX_PENDING_BYTES => match text {
                    Ok(text) => {
                        let taken = self.take(text.as_bytes()).await;
                        messages.inbox.message_came(self.max_bytes);
                        taken
                    }
                    Err(ended) => Err(ended),
                },
                () = pass_on(self.pipe.as_ref(), &mut self.pending), if !self.pending.is_empty() => {
                    self.held.shrink_to(self.charge());
                    Ok(())
                }
            };
            if let Err(ended) = step {
                return ended;
            }
            if self.pending.is_empty() && self.ended {
                self.pipe = None;
            }
        }
    }

    /// What the pending input costs.
    fn charge(&self) -> u64 {
        self.pending.len().saturating_sub(FREE_BYTES) as u64
    }

    /// Does what one message asks for.
    async fn take(&mut self, text: &[u8]) -> Result<(), Ended> {
        if text.len() > self.max_bytes {
            return Err(refused(Fault::TooLong));
        }
        let (input, bytes) = Input::parse(text)?;
        if let Some(bytes) = bytes {
            if self.ended {
                return Err(ApiError::bad_request("standard input has ended already").into());
            }
            self.pending.extend_from_slice(&bytes);
            let missing = self.charge().saturating_sub(self.held.amount());
            let refused = |exhausted| Ended::Refused(no_memory(exhausted), close_code::AGAIN);
            self.held.grow(missing).map_err(refused)?;
        }
        self.ended |= input.eof;
        if let Some(signal) = input.signal {
            self.control.signal(signal).await.map_err(ApiError::from)?;
        }
        Ok(())
    }
}

/// Hands one piece of input to the command when it has room.
async fn pass_on(pipe: Option<&mpsc::Sender<Bytes>>, pending: &mut BytesMut) {
    let room = match pipe {
        Some(pipe) => pipe.reserve().await.ok(),
        None => None,
    };
    match room {
        Some(room) => room.send(pending.split_to(pending.len().min(PIECE_BYTES)).freeze()),
        // Nobody reads it any more. Unlike the writer of a pipe, the client need not care.
        None => pending.clear(),
    }
}

fn message(report: Report) -> Message {
    as_text(&match report {
        Report::Output(output) => serde_json::to_string(&output),
        Report::End(end) => serde_json::to_string(&DoneMessage { r#type: "done", end }),
    })
}

fn error_message(error: &ApiError, request_id: &str) -> Message {
    as_text(&serde_json::to_string(&ErrorMessage {
        r#type: "error",
        code: error.code(),
        message: error.message(),
        request_id,
    }))
}

/// Writing these structures to memory cannot fail.
fn as_text(json: &serde_json::Result<String>) -> Message {
    Message::text(json.as_deref().unwrap_or_default())
}
