//! `wisp exec --interactive`: a command over a WebSocket, with standard input and signals while it runs.

use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{Client, ClientError, ExecBody, show};
use crate::provider::Signal;

/// Bytes of input that go into one message.
const PIECE: usize = 32 << 10;
/// What a shell says of a program that Ctrl-C ended: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Messages to the server while the command runs.
#[derive(Serialize)]
#[serde(untagged)]
enum Input {
    Bytes { stdin_base64: String },
    End { eof: bool },
    Signal { signal: Signal },
}

/// The signals that are passed on.
struct Signals {
    interrupt: Listener,
    terminate: Listener,
    hang_up: Listener,
}

/// Runs the command and returns its exit status.
///
/// # Errors
/// What the server reports; a connection that breaks off before the command's end.
pub(super) async fn exec(client: &Client<'_>, path: &str, body: &ExecBody<'_>) -> Result<ExitCode, ClientError> {
    // Before the command runs, or an early Ctrl-C would leave it behind.
    let mut signals = Signals::listen()?;
    let (mut outgoing, mut incoming) = client.websocket(path).await?.split();
    // When this fails, the server's last message says why.
    let _ = outgoing.send(message(body)?).await;
    tokio::select! {
        status = receive(&mut incoming) => status,
        ended = feed(&mut outgoing, &mut signals) => ended,
    }
}

/// Shows what the command writes, up to its end.
async fn receive(incoming: &mut SplitStream<Socket>) -> Result<ExitCode, ClientError> {
    while let Some(message) = incoming.next().await {
        if let Message::Text(text) = message.map_err(ClientError::from)?
            && let Some(status) = show(text.as_bytes())?
        {
            return Ok(status);
        }
    }
    Err(ClientError::Answer(
        "the connection ended before the command's exit status".to_owned(),
    ))
}

/// Passes input and signals on. Returns when standard input cannot be read, or when a signal comes that cannot be
/// passed on because the command does not take the input before it.
async fn feed(outgoing: &mut SplitSink<Socket, Message>, signals: &mut Signals) -> Result<ExitCode, ClientError> {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; PIECE];
    let mut ended = false;
    loop {
        let input = tokio::select! {
            biased;
            signal = signals.next() => Input::Signal { signal },
            count = stdin.read(&mut buffer), if !ended => match count? {
                0 => {
                    ended = true;
                    Input::End { eof: true }
                }
                count => Input::Bytes { stdin_base64: STANDARD.encode(&buffer[..count]) },
            },
        };
        let sent = tokio::select! {
            biased;
            sent = outgoing.send(message(&input)?) => sent,
            // To go kills the command as well.
            _ = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
        };
        if sent.is_err() {
            // The command's end, or why there is none, is among what is still to be received.
            std::future::pending::<()>().await;
        }
    }
}

fn message(value: &impl Serialize) -> Result<Message, ClientError> {
    let text = serde_json::to_string(value).map_err(|error| ClientError::Answer(error.to_string()))?;
    Ok(Message::text(text))
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Int,
            _ = self.terminate.recv() => Signal::Term,
            _ = self.hang_up.recv() => Signal::Hup,
        }
    }
}
