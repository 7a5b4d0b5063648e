//! The protocol between server and workers: one Unix stream each, with length-prefixed frames.
//!
//! The server makes calls and numbers them. A worker answers each call with any number of replies, of which the last is
//! marked as such. Data goes both ways in pieces of at most [`PIECE_BYTES`]; a sender may be [`WINDOW`] pieces ahead of
//! what the receiver has said it has taken, so that one slow reader costs neither side more than a window.
//!
//! A worker runs code nobody has read, so the server believes nothing it says: frames have a greatest length, a reply to a
//! call that nobody made, or more pieces than the window, end the worker.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::provider::{Command, DirPage, FileInfo, OutputStream, Page, ProviderError, SandboxUsage, Signal};

/// Bytes of data in one frame, at most.
pub const PIECE_BYTES: usize = 64 << 10;
/// Pieces of one call that may be under way in one direction.
pub const WINDOW: usize = 16;
/// Longest frame a worker may send: a page of a directory, a list of matches.
pub const MAX_REPLY_BYTES: usize = 8 << 20;
/// Longest frame the server sends: a command with its standard input. The API's own limits are below it.
pub const MAX_CALL_BYTES: usize = 1 << 30;
/// Bytes of a frame's length.
const HEADER_BYTES: usize = 4;

/// Number of a call, of the server's choice. Never used twice on one connection.
pub type CallId = u64;

/// The digest that tells which files and programs an image has.
pub type ImageIdentity = [u8; 32];

/// What the server says.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// The first message: what the worker is for. It has loaded its images by then.
    Assign(Assignment),
    /// Makes a call.
    Call {
        /// Number of the call, chosen by the server.
        call: CallId,
        /// What the call asks for.
        request: Request,
    },
    /// A piece of what a call reads.
    Input {
        /// Of this call.
        call: CallId,
        /// At most [`PIECE_BYTES`].
        piece: Bytes,
    },
    /// What a call reads has ended, or broke off.
    InputEnd {
        /// Of this call.
        call: CallId,
        /// Why it broke off.
        failure: Option<ProviderError>,
    },
    /// The reader of a call's pieces has taken this many more.
    Taken {
        /// Of this call.
        call: CallId,
        /// Pieces.
        pieces: u32,
    },
    /// Sends a signal to the command of a call.
    Signal {
        /// The call that started it.
        call: CallId,
        /// The signal to send.
        signal: Signal,
    },
    /// Nobody waits for a call any more. Its last reply is still to come.
    Cancel {
        /// The call.
        call: CallId,
    },
    /// Asks for a [`FromWorker::Pong`] by way of the threads that guests run on.
    Ping,
}

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// The images are loaded; it waits for its assignment.
    Loaded {
        /// The images to load.
        images: Vec<ImageIdentity>,
    },
    /// It has confined itself, and serves.
    Ready {
        /// What confines it, in words for the log.
        confinement: Vec<String>,
    },
    /// A reply to a call.
    Reply {
        /// The call.
        call: CallId,
        /// Nothing follows.
        last: bool,
        /// Answer to the call, or a part of it.
        reply: Reply,
    },
    /// What reads a call's input has taken this many more pieces.
    Taken {
        /// Of this call.
        call: CallId,
        /// Pieces.
        pieces: u32,
    },
    /// The answer to [`ToWorker::Ping`].
    Pong {
        /// Whether a process of any sandbox lives.
        busy: bool,
        /// Processor time of sandboxes, all they have used, where that has changed since the last answer.
        cpu_times: Vec<(String, Duration)>,
    },
}

/// What a worker is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assignment {
    /// The directory of its sandboxes' directories.
    pub directory: String,
    /// The user and group it becomes, where the server is root.
    pub uid: Option<u32>,
    /// Whether what is kept has to survive the loss of power.
    pub fsync: bool,
    /// Threads for guests.
    pub guest_threads: usize,
}

/// What the server wants done.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Makes a sandbox of what its directory holds; a new one if there is none. Answered with [`Reply::Done`].
    Open {
        /// The sandbox.
        id: String,
        /// Its spec, as JSON, as it is recorded.
        spec: Vec<u8>,
        /// The image it was created from.
        image: ImageIdentity,
        /// Processor time it has used in earlier workers.
        cpu_time: Duration,
    },
    /// Ends a sandbox and removes its directory. Answered with [`Reply::Done`].
    Destroy {
        /// The sandbox.
        id: String,
    },
    /// Starts a command. Answered with [`Reply::Done`] when it has started, then [`Reply::Output`], last [`Reply::Exit`].
    Exec {
        /// The sandbox.
        id: String,
        /// The command, with its limits.
        exec: Box<WireExec>,
    },
    /// A file's contents. Answered with [`Reply::Done`], then pieces.
    ReadFile {
        /// The sandbox.
        id: String,
        /// The file.
        path: String,
    },
    /// Writes a file from the call's input. Answered with [`Reply::Written`].
    WriteFile {
        /// The sandbox.
        id: String,
        /// The file.
        path: String,
        /// Permission bits.
        mode: Option<u32>,
    },
    /// A page of a directory. Answered with [`Reply::Entries`].
    ListDir {
        /// The sandbox.
        id: String,
        /// The directory.
        path: String,
        /// The part of the list that is wanted.
        page: Page,
    },
    /// One file. Answered with [`Reply::Info`].
    Stat {
        /// The sandbox.
        id: String,
        /// The file.
        path: String,
    },
    /// Removes. Answered with [`Reply::Done`].
    Delete {
        /// The sandbox.
        id: String,
        /// Absolute path of what to remove.
        path: String,
        /// With all that is in it.
        recursive: bool,
    },
    /// Renames. Answered with [`Reply::Done`].
    Rename {
        /// The sandbox.
        id: String,
        /// Old path.
        from: String,
        /// New path.
        to: String,
    },
    /// Sets permission bits. Answered with [`Reply::Done`].
    Chmod {
        /// The sandbox.
        id: String,
        /// Absolute path of the file.
        path: String,
        /// The bits.
        mode: u32,
    },
    /// Paths that match. Answered with [`Reply::Paths`].
    Glob {
        /// The sandbox.
        id: String,
        /// The pattern.
        pattern: String,
    },
    /// What a sandbox uses. Answered with [`Reply::Usage`].
    Usage {
        /// The sandbox.
        id: String,
    },
    /// A tar. Answered with [`Reply::Done`], then pieces.
    ReadArchive {
        /// The sandbox.
        id: String,
        /// The directory or file.
        path: String,
    },
    /// Unpacks a tar from the call's input. Answered with [`Reply::Done`].
    WriteArchive {
        /// The sandbox.
        id: String,
        /// The directory.
        path: String,
    },
}

/// A command, as it crosses the border.
#[derive(Debug, Serialize, Deserialize)]
pub struct WireExec {
    /// What to run.
    pub command: Command,
    /// Environment of its own.
    pub env: BTreeMap<String, String>,
    /// Where to start.
    pub workdir: Option<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// Processor time it may use.
    pub cpu_time: Option<Duration>,
    /// Units of fuel it may use.
    pub fuel: Option<u64>,
    /// All it reads; `None` when that comes as the call's input.
    pub stdin: Option<Bytes>,
}

/// What a worker answers to a call.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It is done, or has begun.
    Done,
    /// It could not be done, or broke off.
    Failed(ProviderError),
    /// Bytes of a file that were written.
    Written(u64),
    /// Entries of a directory.
    Entries(DirPage),
    /// One file.
    Info(FileInfo),
    /// Paths.
    Paths(Vec<String>),
    /// What a sandbox uses.
    Usage(SandboxUsage),
    /// A piece of a file or a tar.
    Piece(Bytes),
    /// What a command wrote.
    Output(OutputStream, Bytes),
    /// How a command ended.
    Exit(crate::provider::ExecOutcome),
}

impl Reply {
    /// Whether it counts against the window.
    #[must_use]
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Piece(_) | Self::Output(..))
    }
}

/// A connection said what it must not, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The other side is gone, or the operating system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A frame is longer than it may be.
    #[error("a frame of {0} bytes")]
    TooLong(usize),
    /// A frame is no message.
    #[error("a malformed frame: {0}")]
    Malformed(#[from] postcard::Error),
    /// A message that does not belong here.
    #[error("{0}")]
    Unexpected(&'static str),
}

/// A message as a frame.
///
/// # Errors
/// When it is longer than its length can tell.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ProtocolError> {
    let mut frame = postcard::to_extend(message, vec![0; HEADER_BYTES])?;
    let len = frame.len() - HEADER_BYTES;
    let header = u32::try_from(len)
        .map_err(|_| ProtocolError::TooLong(len))?
        .to_le_bytes();
    frame[..HEADER_BYTES].copy_from_slice(&header);
    Ok(frame)
}

/// Reads messages from a stream.
pub struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Frames of at most `max` bytes.
    pub fn new(stream: R, max: usize) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            max,
        }
    }

    /// The next message; `None` at the end of the stream.
    ///
    /// # Errors
    /// When the stream breaks, or holds something else.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ProtocolError> {
        loop {
            if let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() {
                let len = u32::from_le_bytes(*header) as usize;
                if len > self.max {
                    return Err(ProtocolError::TooLong(len));
                }
                if self.buffer.len() >= HEADER_BYTES + len {
                    let frame = self.buffer.split_to(HEADER_BYTES + len);
                    if self.buffer.is_empty() {
                        // A long frame's memory is not kept for the next one.
                        self.buffer = BytesMut::new();
                    }
                    return Ok(Some(postcard::from_bytes(&frame[HEADER_BYTES..])?));
                }
            }
            self.buffer.reserve(PIECE_BYTES / 4);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

/// Reads one message from a blocking stream.
///
/// # Errors
/// As [`FrameReader::next`].
pub fn read_blocking<T: DeserializeOwned>(stream: &mut impl io::Read, max: usize) -> Result<T, ProtocolError> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let len = u32::from_le_bytes(header) as usize;
    if len > max {
        return Err(ProtocolError::TooLong(len));
    }
    let mut frame = vec![0; len];
    stream.read_exact(&mut frame)?;
    Ok(postcard::from_bytes(&frame)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn read(bytes: &[u8]) -> Result<Option<FromWorker>, ProtocolError> {
        FrameReader::new(bytes, MAX_REPLY_BYTES).next().await
    }

    #[tokio::test]
    async fn messages_come_back_as_they_were_sent() {
        let reply = Reply::Output(OutputStream::Stderr, Bytes::from_static(b"hello"));
        let message = FromWorker::Reply {
            call: 7,
            last: false,
            reply,
        };
        let mut stream = encode(&message).unwrap();
        let pong = |busy| FromWorker::Pong {
            busy,
            cpu_times: vec![("sb_1".to_owned(), Duration::from_millis(5))],
        };
        stream.extend(encode(&pong(true)).unwrap());
        let mut reader = FrameReader::new(&stream[..], MAX_REPLY_BYTES);
        let first: FromWorker = reader.next().await.unwrap().unwrap();
        assert_eq!(format!("{first:?}"), format!("{message:?}"));
        assert!(matches!(
            reader.next().await.unwrap(),
            Some(FromWorker::Pong { busy: true, .. })
        ));
        assert!(reader.next::<FromWorker>().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_is_refused_before_it_is_read() {
        let header = u32::MAX.to_le_bytes();
        assert!(matches!(read(&header).await, Err(ProtocolError::TooLong(_))));
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_frame_is_an_error() {
        let pong = FromWorker::Pong {
            busy: false,
            cpu_times: Vec::new(),
        };
        let frame = encode(&pong).unwrap();
        assert!(read(&frame[..frame.len() - 1]).await.is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let len = u32::try_from(bytes.len()).unwrap().to_le_bytes();
            let frame = [&len[..], &bytes].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(read(&frame));
            let _ = read_blocking::<ToWorker>(&mut &frame[..], MAX_REPLY_BYTES);
        }
    }
}
