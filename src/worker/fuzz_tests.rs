//! Mutated messages between the server and a worker, in both directions.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use wisp_fuzzing::{fuzz, kind_of, outcome};

use super::connection::Connection;
use super::outbox::Outbox;
use super::protocol::{
    FrameReader, FromWorker, MAX_CALL_BYTES, MAX_REPLY_BYTES, ProtocolError, Reply, Request, ToWorker, WINDOW, encode,
};
use crate::provider::{ExecOutcome, OutputStream, ProviderError, Signal};

/// Replies that may wait for whoever made a call.
const MAX_WAITING: usize = WINDOW + 2;

fn frames(messages: &[FromWorker]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|message| encode(message).expect("a message"))
        .collect()
}

fn reply(call: u64, last: bool, reply: Reply) -> FromWorker {
    FromWorker::Reply { call, last, reply }
}

/// A worker may say what it likes: the server ends the conversation or takes it, holds no more than the window allows,
/// and each call ends.
#[test]
fn fuzz_worker_replies() {
    let piece = || Reply::Piece(Bytes::from_static(b"piece"));
    let output = |bytes| Reply::Output(OutputStream::Stdout, Bytes::from_static(bytes));
    let pong = FromWorker::Pong {
        busy: true,
        cpu_times: vec![("sb_1".to_owned(), Duration::from_millis(5))],
    };
    let exit = ExecOutcome {
        exit_code: 0,
        timed_out: false,
        duration: Duration::from_millis(5),
        cpu_time: Some(Duration::from_millis(1)),
        fuel_used: None,
        limit: None,
    };
    let failed = Reply::Failed(ProviderError::SandboxNotFound);
    let seeds = [
        frames(&[reply(1, true, Reply::Paths(vec!["/a".to_owned()])), pong]),
        frames(&[
            reply(2, false, Reply::Done),
            reply(2, false, piece()),
            reply(2, true, Reply::Done),
        ]),
        frames(&[
            reply(2, false, Reply::Done),
            reply(2, false, output(b"x")),
            reply(2, true, Reply::Exit(exit)),
            FromWorker::Taken { call: 2, pieces: 1 },
        ]),
        frames(&[reply(1, true, failed), FromWorker::Taken { call: 1, pieces: 17 }]),
    ];
    let word = frames(&[reply(2, false, piece())]);
    let words: &[&[u8]] = &[&word, b"\0", b"\x01", b"\x02", b"\x0a\0\0\0", b"\xff\xff\xff\xff\x0f"];
    let tokio = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    fuzz(crate::FUZZ, "worker_replies", &seeds, words, |said| {
        tokio.block_on(async {
            let (outbox, writing) = Outbox::new(tokio::io::sink());
            let mut writing = Box::pin(writing);
            let connection = Connection::new(outbox);
            let request = || Request::Usage { id: "sb_1".to_owned() };
            let mut calls = [
                connection.call(request()).await.expect("the first call"),
                connection.call(request()).await.expect("the second call"),
            ];
            let input = calls[1].input();
            let mut ping = Box::pin(connection.ping());
            assert!(ping.as_mut().now_or_never().is_none(), "nobody has answered yet");
            let ended = connection.receive_from(FrameReader::new(said, MAX_REPLY_BYTES)).await;
            connection.lose();
            drop(input);
            let ponged = ping.await.is_ok();
            let mut replies = [0, 0];
            for (call, count) in calls.iter_mut().zip(&mut replies) {
                while let Ok((_, last)) = call.next().await {
                    *count += 1;
                    if last {
                        break;
                    }
                }
                assert!(*count <= MAX_WAITING, "{count} replies waited");
            }
            assert!(connection.call(request()).await.is_err(), "the worker is gone");
            // What was to be sent is sent.
            let _ = writing.as_mut().now_or_never();
            outcome(&(ended.err().map(|error| kind_of(&error)), replies, ponged))
        })
    });
}

/// What a worker reads is a message that says the same when it is written again, or an error.
#[test]
fn fuzz_server_calls() {
    let call = |request| encode(&ToWorker::Call { call: 1, request }).expect("a message");
    let id = || "sb_1".to_owned();
    let seeds = [
        call(Request::Stat {
            id: id(),
            path: "/tmp/x".to_owned(),
        }),
        call(Request::WriteFile {
            id: id(),
            path: "/tmp/x".to_owned(),
            mode: Some(0o644),
        }),
        [
            encode(&ToWorker::Input {
                call: 1,
                piece: Bytes::from_static(b"input"),
            }),
            encode(&ToWorker::InputEnd { call: 1, failure: None }),
            encode(&ToWorker::Signal {
                call: 1,
                signal: Signal::Int,
            }),
            encode(&ToWorker::Ping),
        ]
        .into_iter()
        .flat_map(|frame| frame.expect("a message"))
        .collect(),
    ];
    let words: &[&[u8]] = &[b"\0", b"\x01", b"\xff\xff\xff\xff\x0f", b"\x10\0\0\0", b"sb_1", b"/"];
    let tokio = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    fuzz(crate::FUZZ, "server_calls", &seeds, words, |said| {
        tokio.block_on(async {
            let mut frames = FrameReader::new(said, MAX_CALL_BYTES);
            let mut kinds = Vec::new();
            loop {
                let message: ToWorker = match frames.next().await {
                    Ok(Some(message)) => message,
                    Ok(None) => return outcome(&(0, kinds)),
                    Err(error) => return outcome(&(1, kinds, kind_of(&error))),
                };
                kinds.push(std::mem::discriminant(&message));
                kinds.truncate(4);
                let again = encode(&message).expect("what was read can be written");
                let read: Result<Option<ToWorker>, ProtocolError> =
                    FrameReader::new(&again[..], MAX_CALL_BYTES).next().await;
                let read = read.expect("what was written can be read").expect("a message");
                assert_eq!(format!("{read:?}"), format!("{message:?}"));
            }
        })
    });
}
