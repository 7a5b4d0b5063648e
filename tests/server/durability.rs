//! Files of sandboxes outlive the server, and large ones do not live in its memory.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use reqwest::{Body, Method};
use serde_json::json;
use tokio::sync::mpsc;

use crate::api::{Api, Sandbox, answer};
use crate::images::PYTHON;
use crate::server::Server;
use crate::server_support::workers::resident_kib;

const MIB: u64 = 1 << 20;
/// Most by which the server's memory may grow while a large file goes through it.
const MAX_GROWTH: u64 = 32 * MIB;

/// A server that keeps its data in `directory`.
fn serve(directory: &Path) -> (Server, Api) {
    let data = directory.to_str().expect("a path in UTF-8");
    let server = Server::start("127.0.0.1:0", &[("WISP_DATA_DIR", data)]);
    let api = Api::new(server.url(), None);
    (server, api)
}

fn files_path(sandbox: &Sandbox, path: &str) -> String {
    format!("{}/files?path={path}", sandbox.path)
}

async fn put(sandbox: &Sandbox, path: &str, body: impl Into<Body>) {
    let request = sandbox.api.request(Method::PUT, &files_path(sandbox, path)).body(body);
    let written = answer(request).await;
    assert_eq!(written.status, 200, "{path}: {written:?}");
}

async fn get(sandbox: &Sandbox, path: &str) -> String {
    let read = sandbox.api.get(&files_path(sandbox, path)).await;
    assert_eq!(read.status, 200, "{path}: {read:?}");
    read.body
}

/// The same sandbox at another server.
fn at(api: &Api, sandbox: &Sandbox) -> Sandbox {
    Sandbox {
        api: api.clone(),
        path: sandbox.path.clone(),
    }
}

fn journal(data: &Path, sandbox: &Sandbox) -> PathBuf {
    let id = sandbox.path.rsplit('/').next().expect("an id");
    let compartments = fs::read_dir(data.join("sandboxes")).expect("a directory");
    let mut directories = compartments.map(|entry| entry.expect("a compartment").path().join(id));
    let directory = directories
        .find(|directory| directory.exists())
        .expect("the sandbox's directory");
    directory.join("journal")
}

#[tokio::test]
async fn no_acknowledged_file_is_lost_when_the_server_is_killed() {
    let data = tempfile::tempdir().expect("a data directory");
    let (mut server, mut api) = serve(data.path());
    let mut sandbox = api.create(json!({"image": PYTHON})).await;
    for round in 0..3 {
        let large = format!("{round}").repeat(300_000);
        put(&sandbox, &format!("/put-{round}"), large).await;
        let command = format!("echo {round} >/exec-{round}; ln -s exec-{round} /link; rm -f /link; mkdir /dir-{round}");
        let ran = sandbox.exec(json!({"command": command})).await;
        assert_eq!(ran.json()["exit_code"], 0, "{ran:?}");
        server.kill();
        (server, api) = serve(data.path());
        sandbox = at(&api, &sandbox);
        for earlier in 0..=round {
            let kept = get(&sandbox, &format!("/put-{earlier}")).await;
            assert!(kept == format!("{earlier}").repeat(300_000), "/put-{earlier} differs");
            assert_eq!(get(&sandbox, &format!("/exec-{earlier}")).await, format!("{earlier}\n"));
        }
        let listed = sandbox.exec(json!({"command": "ls -d /dir-* | wc -l; ls /link"})).await;
        assert_eq!(listed.text("stdout").trim(), (round + 1).to_string(), "{listed:?}");
    }
    let path = journal(data.path(), &sandbox);
    assert!(path.exists(), "{}", path.display());
    assert_eq!(api.delete(&sandbox.path).await.status, 200);
    assert!(
        !path.parent().expect("a directory").exists(),
        "files of a destroyed sandbox"
    );
    server.stop();
}

#[tokio::test]
async fn a_damaged_record_is_isolated_and_a_torn_one_is_cut_off() {
    let data = tempfile::tempdir().expect("a data directory");
    let (server, api) = serve(data.path());
    let mut sandboxes = Vec::new();
    for _ in 0..3 {
        let sandbox = api.create(json!({"image": PYTHON})).await;
        put(&sandbox, "/first", "1").await;
        put(&sandbox, "/second", "2").await;
        sandboxes.push(sandbox);
    }
    server.kill();

    let damaged = journal(data.path(), &sandboxes[0]);
    let middle = fs::metadata(&damaged).expect("a journal").len() / 2;
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&damaged)
        .expect("the journal");
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).expect("a byte");
    file.write_all_at(&[!byte[0]], middle).expect("another byte");
    let torn = fs::File::options()
        .write(true)
        .open(journal(data.path(), &sandboxes[1]))
        .expect("the journal");
    let length = torn.metadata().expect("its length").len();
    torn.set_len(length - 3).expect("a shorter journal");

    let (server, api) = serve(data.path());
    let states: Vec<_> = sandboxes.iter().map(|sandbox| at(&api, sandbox)).collect();
    let shown = api.get(&states[0].path).await;
    assert_eq!(shown.json()["state"], "error", "{shown:?}");
    assert_eq!(get(&states[1], "/first").await, "1");
    let cut_off = api.get(&files_path(&states[1], "/second")).await;
    assert_eq!(cut_off.status, 404, "{cut_off:?}");
    assert_eq!(get(&states[2], "/second").await, "2");
    // Even the damaged one can be got rid of.
    assert_eq!(api.delete(&states[0].path).await.status, 200);
    assert!(!damaged.exists());
    server.stop();
}

/// A change the server has answered with success: the writer, the file and what is in it now.
type Acknowledged = (usize, String, String);

/// Changes files until the server is gone. `number` tells where it goes on.
async fn change_files(writer: usize, sandbox: Sandbox, mut number: u64, told: mpsc::UnboundedSender<Acknowledged>) {
    let send = async |path: &str, method: Method, body: String| {
        let response = sandbox.api.request(method, path).body(body).send().await.ok()?;
        assert_eq!(response.status(), 200, "{path}");
        response.text().await.ok()
    };
    loop {
        let (put, run) = (format!("/put-{number}"), format!("/run-{number}"));
        let content = number.to_string().repeat(1 + 5000 * (number as usize % 5));
        let exec = format!("{}/exec", sandbox.path);
        let command = json!({"command": format!("echo {number} >{run}")}).to_string();
        let steps = [
            (
                put,
                content.clone(),
                files_path(&sandbox, &format!("/put-{number}")),
                Method::PUT,
                content,
            ),
            (run, format!("{number}\n"), exec, Method::POST, command),
            (
                "/same".to_owned(),
                number.to_string(),
                files_path(&sandbox, "/same"),
                Method::PUT,
                number.to_string(),
            ),
        ];
        for (file, content, path, method, body) in steps {
            if send(&path, method, body).await.is_none() {
                return;
            }
            told.send((writer, file, content)).expect("the test listens");
        }
        number += 1;
    }
}

#[tokio::test]
async fn a_server_killed_under_load_has_all_it_acknowledged_and_no_orphans() {
    const ROUNDS: usize = 20;
    const WRITERS: usize = 4;
    let data = tempfile::tempdir().expect("a data directory");
    let (mut server, mut api) = serve(data.path());
    let mut sandboxes = Vec::new();
    for _ in 0..WRITERS {
        sandboxes.push(api.create(json!({"image": PYTHON})).await);
    }
    for round in 0..ROUNDS {
        let doomed = api.create(json!({"image": PYTHON})).await;
        put(&doomed, "/file", "1").await;
        assert_eq!(api.delete(&doomed.path).await.status, 200);
        let (told, mut acknowledged) = mpsc::unbounded_channel();
        for (writer, sandbox) in sandboxes.iter().enumerate() {
            let first = 1000 * (round as u64 + 1);
            tokio::spawn(change_files(writer, at(&api, sandbox), first, told.clone()));
        }
        drop(told);
        let mut kept = Vec::new();
        while kept.len() < 20 + 5 * round {
            kept.push(acknowledged.recv().await.expect("more changes"));
        }
        server.kill();
        while let Some(change) = acknowledged.recv().await {
            kept.push(change);
        }
        (server, api) = serve(data.path());
        sandboxes = sandboxes.iter().map(|sandbox| at(&api, sandbox)).collect();
        let mut last = [0; WRITERS];
        for (writer, file, content) in kept {
            if file == "/same" {
                last[writer] = content.parse().expect("a number");
            } else {
                assert!(
                    get(&sandboxes[writer], &file).await == content,
                    "{file} of {writer} in round {round}"
                );
            }
        }
        for (sandbox, last) in sandboxes.iter().zip(last).filter(|(_, last)| *last > 0) {
            // One more may have been written, but not been answered.
            let now: u64 = get(sandbox, "/same").await.parse().expect("a number");
            assert!(now == last || now == last + 1, "{now} after {last}");
        }
        // They are all of one tenant.
        let compartments = fs::read_dir(data.path().join("sandboxes")).expect("a directory");
        let directories: usize = compartments
            .map(|entry| {
                fs::read_dir(entry.expect("a compartment").path())
                    .expect("a directory")
                    .count()
            })
            .sum();
        assert_eq!(directories, WRITERS, "round {round}");
    }
    server.stop();
}

/// Resident memory of a server and its workers, mapped files included, in bytes.
fn resident(server: u32) -> u64 {
    resident_kib(server) << 10
}

/// Piece `number` of the large file: no two are alike.
fn piece(number: u64) -> Bytes {
    let mut bytes = vec![number as u8; MIB as usize];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes.into()
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the measured memory is a result")]
async fn a_file_of_a_gibibyte_goes_up_and_down_without_living_in_memory() {
    const PIECES: u64 = 1024;
    let data = tempfile::tempdir().expect("a data directory");
    let (server, api) = serve(data.path());
    let sandbox = api.create(json!({"image": PYTHON, "disk_mb": 2048})).await;
    // What the first transfer of any size needs is not growth.
    put(&sandbox, "/small", piece(0)).await;
    let _ = sandbox.api.get(&files_path(&sandbox, "/small")).await;
    let before = resident(server.pid());
    let mut most = before;

    let pid = server.pid();
    let peak = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&peak);
    let body = stream::iter(0..PIECES).map(move |number| {
        if number % 32 == 0 {
            seen.fetch_max(resident(pid), Ordering::Relaxed);
        }
        Ok::<_, std::io::Error>(piece(number))
    });
    put(&sandbox, "/large", Body::wrap_stream(body)).await;
    let after_upload = resident(pid);
    most = most.max(peak.load(Ordering::Relaxed)).max(after_upload);

    let request = api.request(Method::GET, &files_path(&sandbox, "/large"));
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let mut received = response.bytes_stream();
    let (mut offset, mut number, mut expected) = (0, 0, piece(0));
    while let Some(bytes) = received.next().await {
        let bytes = bytes.expect("more of the file");
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let count = rest.len().min(expected.len() - offset);
            assert!(
                rest[..count] == expected[offset..offset + count],
                "piece {number} differs"
            );
            rest = &rest[count..];
            offset += count;
            if offset == expected.len() {
                (offset, number) = (0, number + 1);
                expected = piece(number);
                if number % 32 == 0 {
                    most = most.max(resident(pid));
                }
            }
        }
    }
    assert_eq!((number, offset), (PIECES, 0));
    most = most.max(resident(pid));
    println!(
        "resident: {} KiB before, {} KiB after the upload, {} KiB at most",
        before >> 10,
        after_upload >> 10,
        most >> 10
    );
    assert!(most - before < MAX_GROWTH, "grew by {} MiB", (most - before) / MIB);
    server.stop();
}
