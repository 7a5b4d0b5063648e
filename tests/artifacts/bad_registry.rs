//! Registries that mean harm.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::{EmptyStore, refusal};

/// Answers each request with what `answer` makes of its head. Tells the heads.
fn serve(answer: impl Fn(u16, &str) -> Vec<u8> + Send + Sync + 'static) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let (told, answer) = (Arc::clone(&heads), Arc::new(answer));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (told, answer) = (Arc::clone(&told), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|count| count == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let bytes = answer(port, &head);
                told.lock().expect("nobody panics").push(head);
                // A client that has heard enough goes.
                let _ = client.write_all(&bytes);
            });
        }
    });
    (port, heads)
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}").into_bytes()
}

fn pull(port: u16, variables: &[(&str, &str)]) -> String {
    let store = EmptyStore::new();
    let pulled = store.wisp_with(variables, &["images", "pull", &format!("127.0.0.1:{port}/tool")]);
    let said = refusal(&pulled);
    assert!(store.files().is_empty(), "{said}");
    said
}

#[test]
fn a_manifest_without_end_is_given_up() {
    let (port, _) = serve(|_, _| {
        let body = "x".repeat(64 << 20);
        answer("200 OK", "Content-Type: application/json\r\n", &body)
    });
    let said = pull(port, &[]);
    assert!(said.contains("sends more than"), "{said}");
}

#[test]
fn redirects_in_a_ring_end() {
    let (port, heads) =
        serve(|port, _| answer("302 Found", &format!("Location: http://127.0.0.1:{port}/again\r\n"), ""));
    let said = pull(port, &[]);
    assert!(said.contains("302"), "{said}");
    assert!(heads.lock().expect("nobody panics").len() < 10);
}

#[test]
fn a_manifest_that_says_nonsense_is_refused() {
    for body in ["", "{}", "[[[[", "{\"schemaVersion\": 2}", &"[".repeat(100_000)] {
        let body = body.to_owned();
        let (port, _) = serve(move |_, _| answer("200 OK", "", &body));
        let said = pull(port, &[]);
        assert!(said.contains("cannot be installed"), "{said}");
    }
}

#[test]
fn a_token_is_fetched_with_the_password_and_used() {
    let (port, heads) = serve(|port, head| {
        if head.starts_with("GET /token") {
            return answer("200 OK", "", "{\"token\": \"sesame\"}");
        }
        if head.to_ascii_lowercase().contains("authorization: bearer sesame") {
            return answer("404 Not Found", "", "");
        }
        let scheme =
            format!("Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"s\",scope=\"repository:tool:pull\"");
        answer("401 Unauthorized", &format!("WWW-Authenticate: {scheme}\r\n"), "")
    });
    let said = pull(
        port,
        &[("WISP_REGISTRY_USER", "test"), ("WISP_REGISTRY_PASSWORD", "secret")],
    );
    assert!(said.contains("there is no image"), "{said}");
    let heads = heads.lock().expect("nobody panics");
    let asked = heads
        .iter()
        .find(|head| head.starts_with("GET /token"))
        .expect("a token was fetched");
    assert!(asked.contains("service=s&scope=repository%3Atool%3Apull"), "{asked}");
    assert!(
        asked
            .to_ascii_lowercase()
            .contains("authorization: basic dgvzddpzzwnyzxq="),
        "{asked}"
    );
}

#[test]
fn a_host_that_is_not_there_is_an_error_at_once() {
    let port = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("its address")
        .port();
    let started = Instant::now();
    let said = pull(port, &[]);
    assert!(said.contains("the registry of"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
