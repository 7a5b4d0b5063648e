//! Clients that do not read their answers, or do not send all of their requests.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{TestServer, eventually};
use crate::config::Limits;
use crate::duration::GoDuration;

const MIB: usize = 1 << 20;

/// A connection that holds little of an answer that is not read.
async fn connect(server: &TestServer) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(server.address().parse().unwrap()).await.unwrap()
}

/// Sends a request whose answer nobody reads.
async fn ask(server: &TestServer, path: &str, body: &str) -> TcpStream {
    ask_on(connect(server).await, path, body).await
}

async fn ask_on(mut client: TcpStream, path: &str, body: &str) -> TcpStream {
    let head = format!(
        "POST /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.write_all((head + body).as_bytes()).await.unwrap();
    client
}

fn transferred(server: &TestServer) -> u64 {
    server.sandboxes.budgets().transfer.used()
}

#[tokio::test]
async fn answer_that_is_not_read_stays_charged_and_is_given_up() {
    let server = TestServer::with_limits(Limits {
        write_timeout: GoDuration(Duration::from_millis(1500)),
        max_output_bytes: 16 * MIB,
        max_buffered_output_bytes: 17 * MIB,
        ..Limits::default()
    })
    .await;
    let sandbox = server.sandbox().await;
    let exec = format!("{sandbox}/exec");
    let _client = ask(&server, &exec, r#"{"command":"flood 16777216"}"#).await;
    let held = || transferred(&server) >= 16 * MIB as u64;
    eventually(held).await;
    // What is left of the sandbox's budget is all that another command gets, though the first has ended.
    let second = server.post(&exec, r#"{"command":"flood 16777216"}"#).await.json();
    assert_eq!(
        (second["stdout"].as_str().unwrap().len(), &second["truncated"]),
        (MIB, &json!(true))
    );
    // It outlives the sandbox, still charged.
    assert_eq!(server.delete(&sandbox).await.status, 200);
    assert!(held());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while transferred(&server) > 0 {
        assert!(tokio::time::Instant::now() < deadline, "the answer is held for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn answer_that_is_read_slowly_comes_whole() {
    let server = TestServer::with_limits(Limits {
        write_timeout: GoDuration(Duration::from_secs(2)),
        max_output_bytes: 16 * MIB,
        ..Limits::default()
    })
    .await;
    let exec = format!("{}/exec", server.sandbox().await);
    let client = TcpStream::connect(server.address()).await.unwrap();
    let mut client = ask_on(client, &exec, r#"{"command":"flood 16777216"}"#).await;
    let (mut received, mut buffer) = (0, vec![0; MIB]);
    while received < 16 * MIB {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let read = client.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the connection ended after {received} bytes");
        received += read;
    }
}

#[tokio::test]
async fn stream_that_is_not_read_ends_its_command() {
    let server = TestServer::with_limits(Limits {
        write_timeout: GoDuration(Duration::from_millis(300)),
        ..Limits::default()
    })
    .await;
    let exec = format!("{}/exec", server.sandbox().await);
    let _client = ask(&server, &exec, r#"{"command":"flood 100000000","stream":true}"#).await;
    eventually(|| server.provider.running.load(Ordering::SeqCst) == 1).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while server.provider.running.load(Ordering::SeqCst) > 0 {
        assert!(tokio::time::Instant::now() < deadline, "the command waits for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn control_bytes_come_back_as_they_were() {
    let server = TestServer::start().await;
    let exec = format!("{}/exec", server.sandbox().await);
    let stdin = "\u{1}".repeat(4 * MIB / 6);
    let answer = server
        .post(&exec, json!({"command": "cat", "stdin": stdin}).to_string())
        .await;
    assert!(answer.json()["stdout"] == json!(stdin));
}

#[tokio::test]
async fn bodies_that_do_not_end_are_bounded_in_all() {
    let server = TestServer::with_limits(Limits {
        max_transfer_bytes: MIB as u64,
        ..Limits::default()
    })
    .await;
    let exec = format!("{}/exec", server.sandbox().await);
    let head = format!("POST /api/v1{exec} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = connect(&server).await;
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![b'{'; 100_000]).await.unwrap();
        clients.push(client);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut refused = 0;
    for client in &mut clients {
        let mut start = [0; 12];
        let reading = tokio::time::timeout(Duration::from_millis(100), client.read_exact(&mut start)).await;
        if reading.is_ok() {
            assert!(
                start.starts_with(b"HTTP/1.1 429"),
                "{:?}",
                String::from_utf8_lossy(&start)
            );
            refused += 1;
        }
    }
    // Three quarters of the budget hold seven of them.
    assert!((12..=14).contains(&refused), "{refused}");
    assert!(transferred(&server) <= MIB as u64 * 3 / 4 + 1);
    assert_eq!(server.post(&exec, r#"{"command":"echo small"}"#).await.status, 200);
    drop(clients);
    eventually(|| transferred(&server) == 0).await;
}

#[tokio::test]
async fn standard_input_is_charged_while_its_command_runs() {
    let server = TestServer::start().await;
    let exec = format!("{}/exec", server.sandbox().await);
    let body = json!({"command": "sleep", "timeout": "1s", "stdin": "x".repeat(MIB)}).to_string();
    let answering = server.post(&exec, body);
    let watching = async {
        eventually(|| server.provider.running.load(Ordering::SeqCst) == 1).await;
        assert!(transferred(&server) >= MIB as u64);
    };
    let (answer, ()) = tokio::join!(answering, watching);
    answer.assert_error(408, "timeout");
    assert_eq!(transferred(&server), 0);
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn web_socket(server: &TestServer) -> Socket {
    let sandbox = server.sandbox().await;
    let url = format!("ws://{}/api/v1{sandbox}/exec/ws", server.address());
    let (mut socket, _) = connect_async(url).await.unwrap();
    socket.send(Message::text(r#"{"command":"deaf"}"#)).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_text());
    socket
}

/// The last message and the code of the close.
async fn refusal(socket: &mut Socket) -> (Value, CloseCode) {
    let mut last = Value::Null;
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => last = serde_json::from_str(&text).unwrap(),
            Some(Ok(Message::Close(Some(frame)))) => return (last, frame.code),
            Some(Ok(_)) => {}
            other => panic!("{other:?} after {last}"),
        }
    }
}

/// The head of a text frame of a client that says that it has `length` bytes, with a mask of zeros.
fn frame_head(length: u64) -> Vec<u8> {
    let mut head = vec![0x81, 0x80 | 127];
    head.extend_from_slice(&length.to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    head
}

async fn send_raw(socket: &mut Socket, bytes: &[u8]) {
    let MaybeTlsStream::Plain(stream) = socket.get_mut() else {
        panic!("no plain stream")
    };
    stream.write_all(bytes).await.unwrap();
}

#[tokio::test]
async fn web_socket_message_that_does_not_end_is_given_up() {
    let server = TestServer::with_limits(Limits {
        body_timeout: GoDuration(Duration::from_millis(500)),
        ..Limits::default()
    })
    .await;
    let mut socket = web_socket(&server).await;
    send_raw(&mut socket, &frame_head(900_000)).await;
    send_raw(&mut socket, &vec![b'x'; 500_000]).await;
    eventually(|| transferred(&server) >= 400_000).await;
    let (message, code) = refusal(&mut socket).await;
    assert_eq!((&message["code"], code), (&json!("bad_request"), CloseCode::Policy));
    assert!(message["message"].as_str().unwrap().contains("in time"), "{message}");
    eventually(|| transferred(&server) == 0).await;
}

#[tokio::test]
async fn web_socket_message_after_the_first_is_short() {
    let server = TestServer::start().await;
    let mut socket = web_socket(&server).await;
    // More than may come, less than the limit of the first message.
    send_raw(&mut socket, &frame_head(15 * MIB as u64)).await;
    let MaybeTlsStream::Plain(stream) = socket.get_mut() else {
        panic!("no plain stream")
    };
    // The server stops reading at its limit.
    let _ = stream.write_all(&vec![b'x'; 3 * MIB]).await;
    let (message, code) = refusal(&mut socket).await;
    assert_eq!((&message["code"], code), (&json!("payload_too_large"), CloseCode::Size));
    eventually(|| transferred(&server) == 0).await;
}

#[tokio::test]
async fn web_socket_without_memory_for_its_message_gets_a_retry_later() {
    let server = TestServer::with_limits(Limits {
        max_transfer_bytes: 100_000,
        ..Limits::default()
    })
    .await;
    let mut socket = web_socket(&server).await;
    send_raw(&mut socket, &frame_head(900_000)).await;
    send_raw(&mut socket, &vec![b'x'; 200_000]).await;
    let (message, code) = refusal(&mut socket).await;
    assert_eq!((&message["code"], code), (&json!("resource_limit"), CloseCode::Again));
}

#[tokio::test]
async fn web_socket_that_floods_pings_is_closed() {
    let server = TestServer::start().await;
    let mut socket = web_socket(&server).await;
    for _ in 0..50 {
        socket.feed(Message::Ping("x".into())).await.unwrap();
    }
    socket.flush().await.unwrap();
    socket.send(Message::text(r#"{"stdin":"still here"}"#)).await.unwrap();
    // Ten a second are allowed; thousands take no second.
    let mut flood = Vec::new();
    for _ in 0..5000 {
        flood.extend_from_slice(&[0x89, 0x80, 0, 0, 0, 0]);
    }
    let MaybeTlsStream::Plain(stream) = socket.get_mut() else {
        panic!("no plain stream")
    };
    let _ = stream.write_all(&flood).await;
    let (message, code) = refusal(&mut socket).await;
    assert_eq!((&message["code"], code), (&json!("resource_limit"), CloseCode::Policy));
    eventually(|| server.provider.running.load(Ordering::SeqCst) == 0).await;
}
