//! More connections than there is room for.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{TestServer, eventually};
use crate::config::Limits;

/// After this time without a request a connection may lose its place.
const GRACE: Duration = Duration::from_millis(700);
/// How soon a new client is answered however many others there are. Generous: the test machine may be busy.
const SOON: Duration = Duration::from_secs(2);

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.address()).await.unwrap()
}

/// A server for as many connections as this process can open to itself.
async fn of_4096() -> TestServer {
    TestServer::with_limits(Limits {
        max_connections: 4096,
        ..Limits::default()
    })
    .await
}

/// A connection on which part of a request came.
async fn half_sent(server: &TestServer) -> TcpStream {
    let mut client = connect(server).await;
    client.write_all(b"GET /api").await.unwrap();
    client
}

/// Asks for the server's health on a new connection, and says how long the answer took.
async fn health(server: &TestServer) -> Duration {
    ask(server, "/health").await
}

/// Asks on a new connection, and says how long the answer took.
async fn ask(server: &TestServer, path: &str) -> Duration {
    let began = Instant::now();
    let mut client = connect(server).await;
    let request = format!("GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    began.elapsed()
}

#[tokio::test]
async fn burst_of_clients_is_answered_to_the_last() {
    let server = TestServer::with_limits(Limits {
        max_connections: 64,
        ..Limits::default()
    })
    .await;
    let clients = futures_util::future::join_all((0..120).map(|_| health(&server)));
    for took in clients.await {
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

/// Whether the server has closed a connection.
async fn is_closed(client: &mut TcpStream) -> bool {
    loop {
        // What it said before does not matter.
        match tokio::time::timeout(Duration::from_millis(10), client.read(&mut [0; 1024])).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return false,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_heads_keep_nobody_out() {
    let server = of_4096().await;
    let mut silent = Vec::new();
    for _ in 0..4096 {
        let mut client = connect(&server).await;
        // A client that lost its place cannot write.
        let _ = client.write_all(b"GET /api/v1/health HTTP/1.1\r\nHost: loc").await;
        silent.push(client);
    }
    for _ in 0..5 {
        let took = health(&server).await;
        assert!(took < SOON, "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_keep_nobody_out() {
    let server = of_4096().await;
    let mut idle = Vec::new();
    for _ in 0..4096 {
        let mut client = connect(&server).await;
        client
            .write_all(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut start = [0; 12];
        client.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        idle.push(client);
    }
    for _ in 0..5 {
        let took = health(&server).await;
        assert!(took < SOON, "{took:?}");
    }
}

#[tokio::test]
async fn connection_with_a_request_keeps_its_place() {
    let server = TestServer::with_limits(Limits {
        max_connections: 4,
        ..Limits::default()
    })
    .await;
    let exec = format!("{}/exec", server.sandbox().await);
    let working = server.post(&exec, r#"{"command":"sleep","timeout":"3s"}"#);
    let crowding = async {
        eventually(|| server.provider.running.load(Ordering::SeqCst) == 1).await;
        let mut others = Vec::new();
        for _ in 0..20 {
            others.push(half_sent(&server).await);
        }
        tokio::time::sleep(GRACE).await;
        for _ in 0..3 {
            assert!(health(&server).await < SOON);
        }
        let mut open = 0;
        for other in &mut others {
            open += usize::from(!is_closed(other).await);
        }
        assert!(open <= 4, "{open} of 20 are open");
    };
    let (answer, ()) = tokio::join!(working, crowding);
    answer.assert_error(408, "timeout");
}

#[tokio::test]
async fn health_is_answered_while_every_connection_has_a_request() {
    let server = TestServer::with_limits(Limits {
        max_connections: 4,
        max_connections_per_address: 4,
        ..Limits::default()
    })
    .await;
    let exec = format!("{}/exec", server.sandbox().await);
    let sleep = || server.post(&exec, r#"{"command":"sleep","timeout":"3s"}"#);
    let working = futures_util::future::join_all((0..4).map(|_| sleep()));
    let asking = async {
        eventually(|| server.provider.running.load(Ordering::SeqCst) == 4).await;
        // Neither silence nor half a request is served beside the others.
        let (_silent, _half) = (connect(&server).await, half_sent(&server).await);
        let busy = Instant::now();
        for _ in 0..20 {
            assert!(health(&server).await < SOON);
        }
        assert_eq!(
            server.provider.running.load(Ordering::SeqCst),
            4,
            "{:?}",
            busy.elapsed()
        );
    };
    let (answers, ()) = tokio::join!(working, asking);
    for answer in answers {
        answer.assert_error(408, "timeout");
    }
}

#[tokio::test]
async fn the_longest_idle_connection_makes_room() {
    let server = TestServer::with_limits(Limits {
        max_connections: 8,
        max_connections_per_address: 8,
        ..Limits::default()
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(half_sent(&server).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(GRACE).await;
    health(&server).await;
    // It is looked at once more before it is closed.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(is_closed(&mut clients[0]).await);
    for client in &mut clients[1..] {
        assert!(!is_closed(client).await);
    }
}

#[tokio::test]
async fn connection_waits_while_all_others_have_a_request() {
    let server = TestServer::with_limits(Limits {
        max_connections: 2,
        max_connections_per_address: 2,
        ..Limits::default()
    })
    .await;
    let exec = format!("{}/exec", server.sandbox().await);
    let sleep = r#"{"command":"sleep","timeout":"500ms"}"#;
    let asking = async {
        eventually(|| server.provider.running.load(Ordering::SeqCst) == 2).await;
        ask(&server, "/providers").await
    };
    let (first, second, waited) = tokio::join!(server.post(&exec, sleep), server.post(&exec, sleep), asking);
    first.assert_error(408, "timeout");
    second.assert_error(408, "timeout");
    assert!(waited >= Duration::from_millis(100), "{waited:?}");
}

#[tokio::test]
async fn connections_beyond_those_that_may_wait_are_refused_in_words() {
    let server = TestServer::with_limits(Limits {
        max_connections: 1,
        ..Limits::default()
    })
    .await;
    let exec = format!("{}/exec", server.sandbox().await);
    let asking = async {
        eventually(|| server.provider.running.load(Ordering::SeqCst) == 1).await;
        let _waits = connect(&server).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut refused = connect(&server).await;
        let mut answer = String::new();
        refused.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.contains("retry-after: 1") && answer.contains("\"code\":\"unavailable\""),
            "{answer}"
        );
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    };
    let (answer, ()) = tokio::join!(server.post(&exec, r#"{"command":"sleep","timeout":"1s"}"#), asking);
    answer.assert_error(408, "timeout");
}

#[tokio::test]
async fn web_socket_counts_as_a_connection() {
    let server = TestServer::with_limits(Limits {
        max_connections: 2,
        max_connections_per_address: 2,
        ..Limits::default()
    })
    .await;
    let sandbox = server.sandbox().await;
    let url = format!("ws://{}/api/v1{sandbox}/exec/ws", server.address());
    let (_socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(half_sent(&server).await);
        tokio::time::sleep(GRACE).await;
    }
    let mut open = 0;
    for client in &mut clients {
        open += usize::from(!is_closed(client).await);
    }
    assert_eq!(open, 1, "one place of two is the WebSocket's");
}
