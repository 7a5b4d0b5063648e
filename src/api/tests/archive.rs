//! Archives.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::{TestServer, answer};
use crate::config::Limits;

fn tar_of(content: &[u8]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    archive.append_data(&mut header, "dir/file", content).unwrap();
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn an_archive_goes_up_and_down() {
    let server = TestServer::start().await;
    let files = format!("{}/files", server.sandbox().await);
    let tar = tar_of(b"content");
    let put = answer(
        server
            .request("PUT", &format!("{files}/archive?path=/a"))
            .body(tar.clone()),
    )
    .await;
    assert_eq!((put.status, put.json()), (200, json!({"status":"unpacked"})));
    assert_eq!(server.get(&format!("{files}?path=/a/dir/file")).await.text, "content");
    let got = server
        .request("GET", &format!("{files}/archive?path=/a"))
        .send()
        .await
        .unwrap();
    assert_eq!(got.headers()["content-type"], "application/x-tar");
    assert_eq!(got.headers()["x-content-type-options"], "nosniff");
    let bytes = got.bytes().await.unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let paths: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().into_owned())
        .collect();
    assert_eq!(paths, [std::path::Path::new("dir/file")]);
    server
        .get(&format!("{files}/archive?path=/none"))
        .await
        .assert_error(404, "not_found");
}

#[tokio::test]
async fn an_archive_may_be_compressed() {
    let server = TestServer::start().await;
    let files = format!("{}/files", server.sandbox().await);
    let content: Vec<u8> = (0..=250).cycle().take(300_000).collect();
    let compressed = gzip(&tar_of(&content));
    for (path, encoding) in [("/said", Some("gzip")), ("/seen", None)] {
        let mut request = server.request("PUT", &format!("{files}/archive?path={path}"));
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        assert_eq!(answer(request.body(compressed.clone())).await.status, 200, "{path}");
        let read = server.request("GET", &format!("{files}?path={path}/dir/file"));
        assert_eq!(read.send().await.unwrap().bytes().await.unwrap()[..], content[..]);
    }
    let put = || server.request("PUT", &format!("{files}/archive?path=/bad"));
    for bad in [
        put().body(compressed[..compressed.len() - 20].to_vec()),
        put().body([&compressed[..20], &[0; 100]].concat()),
        put().header("content-encoding", "gzip").body(tar_of(b"plain")),
        put().header("content-encoding", "br").body(tar_of(b"plain")),
    ] {
        answer(bad).await.assert_error(400, "bad_request");
    }
}

#[tokio::test]
async fn an_archive_over_the_limit_is_refused_before_and_after_decompression() {
    let server = TestServer::with_limits(Limits {
        max_upload_bytes: 100_000,
        ..Limits::default()
    })
    .await;
    let path = format!("{}/files/archive?path=/a", server.sandbox().await);
    let large = tar_of(&vec![0; 200_000]);
    for body in [large.clone(), gzip(&large)] {
        answer(server.request("PUT", &path).body(body))
            .await
            .assert_error(413, "payload_too_large");
    }
}

#[tokio::test]
async fn a_bad_archive_is_a_bad_request() {
    let server = TestServer::start().await;
    let files = format!("{}/files/archive", server.sandbox().await);
    for body in [Vec::new(), vec![b'x'; 2000], tar_of(&[b'x'; 3000])[..1500].to_vec()] {
        answer(server.request("PUT", &format!("{files}?path=/a")).body(body))
            .await
            .assert_error(400, "bad_request");
    }
    for query in ["", "?path=", "?path=relative", "?path=/a/../b"] {
        let path = format!("{files}{query}");
        answer(server.request("PUT", &path).body(tar_of(b"")))
            .await
            .assert_error(400, "bad_request");
        server.get(&path).await.assert_error(400, "bad_request");
    }
}
