//! Attacks over `/exec/ws`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::attack::{Attack, Verdict, steps};
use crate::check;
use crate::scene::Scene;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub fn attacks() -> Vec<Attack> {
    vec![
        steps("a page of another origin", other_origin),
        steps("a key that is wrong", wrong_key),
        steps("a handshake without its parts", broken_handshakes),
        steps("60 connections that say nothing", silent),
        steps("frames of 15 MiB that do not end", partial_frames),
        steps("a message of 15 MiB in frames of one byte", tiny_frames),
        steps("frames that break the rules", broken_frames),
        steps("messages that break the rules", broken_messages),
        steps("frames that are noise", noise),
        steps("5,000 pings", pings),
        steps("output that nobody reads", unread_output).memory(128),
        steps("input that nobody reads", unread_input),
        steps("connections dropped in the middle", dropped),
    ]
}

fn ws_url(scene: &Scene, path: &str) -> String {
    format!("{}{path}/exec/ws", scene.url().replace("http://", "ws://"))
}

async fn open_with(scene: &Scene, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, u16> {
    let mut request = ws_url(scene, path).into_client_request().expect("a request");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    match connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(_) => Err(0),
    }
}

async fn open(scene: &Scene, path: &str) -> Result<Socket, String> {
    open_with(scene, path, &[("x-api-key", &scene.key_a)])
        .await
        .map_err(|status| format!("no WebSocket: {status}"))
}

async fn say(socket: &mut Socket, message: &serde_json::Value) -> Result<(), String> {
    socket.send(Message::text(message.to_string())).await.map_err(|error| error.to_string())
}

/// A WebSocket whose frames the caller writes byte by byte.
async fn raw(scene: &Scene, path: &str) -> Result<TcpStream, String> {
    let mut connection = scene.connect().await;
    let request = format!(
        "GET /api/v1{path}/exec/ws HTTP/1.1\r\nHost: {}\r\nX-API-Key: {}\r\nUpgrade: websocket\r\nConnection: \
         Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        scene.address, scene.key_a
    );
    connection.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = connection.read_u8().await.map_err(|error| error.to_string())?;
        head.push(byte);
    }
    check!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    Ok(connection)
}

/// The head of a masked frame whose mask is 0.
fn frame(first: u8, length: u64) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | 127];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame
}

async fn other_origin(scene: Arc<Scene>) -> Verdict {
    let headers = [("origin", "https://evil.example")];
    match open_with(&scene, &scene.named, &headers).await {
        Err(401 | 403) => Ok("refused".to_owned()),
        other => Err(format!("{:?}", other.map(|_| "opened"))),
    }
}

async fn wrong_key(scene: Arc<Scene>) -> Verdict {
    for headers in [
        vec![("x-api-key", "x")],
        vec![],
        vec![("x-api-key", scene.key_b.as_str())],
        vec![("authorization", "Bearer x")],
    ] {
        match open_with(&scene, &scene.named, &headers).await {
            Err(401 | 403 | 404) => {}
            // A stranger's sandbox may be refused only after the handshake.
            Ok(mut socket) if headers.len() == 1 => {
                say(&mut socket, &json!({"command": "echo mine"})).await?;
                while let Some(Ok(message)) = socket.next().await {
                    check!(!message.to_string().contains("mine"), "a stranger ran a command");
                }
            }
            other => return Err(format!("{headers:?}: {:?}", other.map(|_| "opened"))),
        }
    }
    Ok("refused".to_owned())
}

async fn broken_handshakes(scene: Arc<Scene>) -> Verdict {
    let complete = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
                    dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for left_out in complete.split_inclusive("\r\n") {
        let request = format!(
            "GET /api/v1{}/exec/ws HTTP/1.1\r\nHost: {}\r\nX-API-Key: {}\r\n{}\r\n",
            scene.named,
            scene.address,
            scene.key_a,
            complete.replace(left_out, "")
        );
        let text = scene.raw(request.as_bytes()).await;
        check!(text.starts_with("HTTP/1.1 4"), "without {left_out}: {text:.200}");
    }
    Ok("refused".to_owned())
}

async fn silent(scene: Arc<Scene>) -> Verdict {
    let mut held = Vec::new();
    for _ in 0..60 {
        match open(&scene, &scene.named).await {
            Ok(socket) => held.push(socket),
            Err(refused) if refused.ends_with("429") || refused.ends_with("503") => break,
            Err(other) => return Err(other),
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let opened = held.len();
    drop(held);
    Ok(format!("{opened} held"))
}

/// 12 frames of 15 MiB are 180 MiB when nobody charges them.
async fn partial_frames(scene: Arc<Scene>) -> Verdict {
    let piece = vec![b' '; 15 << 20];
    let mut held = Vec::new();
    for _ in 0..28 {
        let Ok(mut connection) = raw(&scene, &scene.named).await else { break };
        let head = frame(0x81, (16 << 20) - 1);
        connection.write_all(&head).await.map_err(|error| error.to_string())?;
        // The server may refuse it or not read on.
        let _ = tokio::time::timeout(Duration::from_secs(1), connection.write_all(&piece)).await;
        held.push(connection);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(held);
    Ok("held or refused".to_owned())
}

async fn tiny_frames(scene: Arc<Scene>) -> Verdict {
    let mut connection = raw(&scene, &scene.named).await?;
    let mut frames = vec![0x01, 0x81, 0, 0, 0, 0, b'{'];
    frames.extend([0x00, 0x81, 0, 0, 0, 0, b' '].repeat(300_000));
    let sent = tokio::time::timeout(Duration::from_secs(3), connection.write_all(&frames)).await;
    Ok(format!("sent: {}", matches!(sent, Ok(Ok(())))))
}

async fn broken_frames(scene: Arc<Scene>) -> Verdict {
    for frames in [
        // Not masked.
        vec![0x81, 0x02, b'{', b'}'],
        // Reserved bits.
        vec![0xf1, 0x82, 0, 0, 0, 0, b'{', b'}'],
        // Unknown operation.
        vec![0x83, 0x80, 0, 0, 0, 0],
        // A control frame in parts, and one that is too long.
        vec![0x09, 0x80, 0, 0, 0, 0],
        [frame(0x89, 70_000), vec![b' '; 70_000]].concat(),
        // More of a message that did not begin.
        vec![0x80, 0x80, 0, 0, 0, 0],
        // A length of 2^63.
        frame(0x81, 1 << 63),
        frame(0x81, u64::MAX),
        // A close of one byte.
        vec![0x88, 0x81, 0, 0, 0, 0, 1],
        // Half a character.
        vec![0x81, 0x81, 0, 0, 0, 0, 0xff],
    ] {
        let mut connection = raw(&scene, &scene.named).await?;
        connection.write_all(&frames).await.map_err(|error| error.to_string())?;
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(6), connection.read_to_end(&mut rest)).await;
        check!(closed.is_ok(), "{:?} keeps the connection open", &frames[..2]);
    }
    Ok("closed".to_owned())
}

/// Frames whose heads make sense half of the time and whose contents seldom do; more of them in the long form.
async fn noise(scene: Arc<Scene>) -> Verdict {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let until = std::time::Instant::now() + Duration::from_secs_f64(seconds.unwrap_or(0.5));
    let mut state = std::env::var("FUZZ_SEED").map_or(1u32, |seed| seed.parse().expect("a number"));
    let mut draw = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    let first = br#"{"command":"cat","timeout":"1s"}"#;
    let (mut frames, mut connections) = (0, 0);
    while std::time::Instant::now() < until {
        let mut connection = raw(&scene, &scene.named).await?;
        connections += 1;
        let mut bytes = Vec::new();
        if draw() & 1 == 0 {
            bytes.extend([0x81, 0x80 | u8::try_from(first.len()).unwrap_or(0), 0, 0, 0, 0]);
            bytes.extend(first);
        }
        for _ in 0..20 {
            let operation = [0x81, 0x01, 0x80, 0x00, 0x82, 0x88, 0x89, 0x8a, draw()][usize::from(draw() % 9)];
            let length = draw() % 126;
            bytes.extend([operation, 0x80 | length, 0, 0, 0, 0]);
            let told = if draw() % 8 == 0 { draw() } else { length };
            bytes.extend((0..told).map(|_| if draw() % 4 == 0 { draw() } else { b" {}\":stdin"[usize::from(draw() % 10)] }));
            frames += 1;
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), connection.write_all(&bytes)).await;
    }
    Ok(format!("{frames} frames on {connections} connections"))
}

async fn broken_messages(scene: Arc<Scene>) -> Verdict {
    for first in ["", "x", "[]", "{}", "{\"command\":1}", "{\"command\":\"true\",\"timeout\":\"x\"}"] {
        let mut socket = open(&scene, &scene.named).await?;
        socket.send(Message::text(first)).await.map_err(|error| error.to_string())?;
        let mut text = String::new();
        while let Some(Ok(message)) = socket.next().await {
            text.push_str(&message.to_string());
        }
        check!(text.contains("\"error\"") && text.contains("bad_request"), "{first}: {text}");
    }
    for second in [
        json!({"stdin": 1}),
        json!({"stdin": "x", "stdin_base64": "eA=="}),
        json!({"stdin_base64": "%"}),
        json!({"signal": "NOPE"}),
        json!({"unknown": 1}),
        json!({}),
    ] {
        let mut socket = open(&scene, &scene.named).await?;
        say(&mut socket, &json!({"command": "cat", "timeout": "5s"})).await?;
        say(&mut socket, &second).await?;
        let mut text = String::new();
        while let Some(Ok(message)) = socket.next().await {
            text.push_str(&message.to_string());
        }
        check!(text.contains("\"error\""), "{second}: {text}");
    }
    Ok("refused".to_owned())
}

async fn pings(scene: Arc<Scene>) -> Verdict {
    let mut connection = raw(&scene, &scene.named).await?;
    let ping = [0x89, 0x80, 0, 0, 0, 0].repeat(5000);
    let _ = tokio::time::timeout(Duration::from_secs(2), connection.write_all(&ping)).await;
    drop(connection);
    Ok("answered or closed".to_owned())
}

async fn unread_output(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 128, "disk_mb": 16})).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut socket = open(&scene, &sandbox.path).await?;
        say(&mut socket, &json!({"command": "yes", "timeout": "1s"})).await?;
        held.push(socket);
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    scene.a.delete(&sandbox.path).await;
    drop(held);
    Ok("held".to_owned())
}

async fn unread_input(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut socket = open(&scene, &sandbox.path).await?;
        say(&mut socket, &json!({"command": "sleep 2", "timeout": "2s"})).await?;
        let input = json!({"stdin": "x".repeat(1 << 20)});
        for _ in 0..8 {
            // Beyond what the command has room for, nothing is read.
            let sent = tokio::time::timeout(Duration::from_millis(50), say(&mut socket, &input)).await;
            if sent.is_err() {
                break;
            }
        }
        held.push(socket);
    }
    scene.a.delete(&sandbox.path).await;
    drop(held);
    Ok("held".to_owned())
}

async fn dropped(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 128, "disk_mb": 16})).await;
    for number in 0..30 {
        let mut socket = open(&scene, &sandbox.path).await?;
        if number % 3 > 0 {
            say(&mut socket, &json!({"command": "sleep 60", "timeout": "50s"})).await?;
        }
        if number % 3 > 1 {
            let _ = tokio::time::timeout(Duration::from_millis(5), socket.next()).await;
        }
        drop(socket);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let names = sandbox.process_names().await;
    scene.a.delete(&sandbox.path).await;
    check!(!names.contains("sleep"), "left: {names}");
    Ok("none left".to_owned())
}
