//! Clients that take much and give little back.

use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::api::Api;
use crate::server::Server;

/// Memory of the server's own process, KiB.
fn own_resident_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the server's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.expect("its memory").trim().trim_end_matches(" kB");
    number.parse().expect("a number")
}

fn address(server: &Server) -> std::net::SocketAddr {
    let url = reqwest::Url::parse(server.url()).expect("a URL");
    url.socket_addrs(|| None).expect("an address")[0]
}

#[tokio::test]
async fn unread_answers_take_bounded_memory_and_end() {
    let settings = [
        ("WISP_LIMITS_MAX_TRANSFER_BYTES", "16777216"),
        ("WISP_LIMITS_WRITE_TIMEOUT", "3s"),
    ];
    let server = Server::start("127.0.0.1:0", &settings);
    let api = Api::new(server.url(), None);
    let sandbox = api.create(json!({"image": "base", "memory_mb": 64})).await;
    assert_eq!(sandbox.output("echo warm").await, "warm\n");
    let before = own_resident_kib(&server);
    // Control bytes, which take six bytes each in JSON: 8 times 8 MiB would be 384 MiB.
    let body = json!({"command": "head -c 8388608 /dev/zero"}).to_string();
    let request = format!(
        "POST /api/v1{}/exec HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        sandbox.path,
        body.len()
    );
    let mut clients = Vec::new();
    for _ in 0..8 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut client = socket.connect(address(&server)).await.expect("a connection");
        client.write_all(request.as_bytes()).await.expect("the request is sent");
        clients.push(client);
    }
    let mut peak = 0;
    let deadline = Instant::now() + Duration::from_secs(6);
    while Instant::now() < deadline {
        peak = peak.max(own_resident_kib(&server).saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(peak < 80 << 10, "{peak} KiB for a budget of 16 MiB");
    // Given up, they leave the budget to others: this needs a good part of it.
    let whole = sandbox
        .exec(json!({"command": "head -c 8388608 /dev/zero | tr '\\0' a"}))
        .await;
    assert_eq!(whole.json()["stdout"].as_str().map(str::len), Some(8 << 20));
    drop(clients);
}

#[tokio::test]
async fn clients_without_a_request_keep_nobody_out() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("as many descriptors as may be");
    let server = Server::start("127.0.0.1:0", &[("WISP_IMAGES", "")]);
    for half in ["GET /api/v1/health HTTP/1.1\r\nHost: loc", ""] {
        let mut silent = Vec::new();
        for _ in 0..4200 {
            let mut client = TcpStream::connect(address(&server)).await.expect("a connection");
            // One that lost its place cannot write.
            let _ = client.write_all(half.as_bytes()).await;
            silent.push(client);
        }
        for _ in 0..5 {
            let began = Instant::now();
            let mut client = TcpStream::connect(address(&server)).await.expect("a connection");
            let request = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            client.write_all(request).await.expect("the request is sent");
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            // The grace of connections on which nothing came yet is 2 s.
            assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        }
    }
}
