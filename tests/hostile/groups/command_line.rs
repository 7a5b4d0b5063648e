//! Attacks on the one who uses the `wisp` program: by a sandbox, or by a server that is not what it seems.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::attack::{Attack, Verdict, steps};
use crate::check;
use crate::scene::Scene;

pub fn attacks() -> Vec<Attack> {
    vec![
        steps("escape sequences in a server's error", escape_in_error),
        steps("escape sequences in a list of sandboxes", escape_in_list),
        steps("escape sequences in the error of an exec", escape_in_exec),
        steps("an endless answer", endless_answer),
        steps("an answer that is no JSON", no_json),
        steps("a redirect to another server", redirect),
        steps("links out in what is copied", copied_links),
        steps("names that look like options", option_names),
        steps("a link that waits at the target", waiting_link),
        steps("an archive of a fake server that climbs", climbing_archive),
    ]
}

/// Runs `wisp` against a server.
async fn wisp(url: &str, key: &str, arguments: &[&str], directory: &Path) -> Result<Output, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wisp"));
    command
        .args(arguments)
        .current_dir(directory)
        .env("WISP_SERVER", url)
        .env("WISP_API_KEY", key)
        .env("RUST_LOG", "off")
        .kill_on_drop(true)
        .stdin(Stdio::null());
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), command.output()).await;
    let ended = ended.map_err(|_| format!("{arguments:?} does not end"))?;
    ended.map_err(|error| error.to_string())
}

/// A server that answers every request with these bytes.
async fn fake(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&answer).await;
            });
        }
    });
    url
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn check_terminal(output: &Output) -> Result<(), String> {
    let is_control = |byte: &u8| *byte < 0x20 && !matches!(*byte, b'\n' | b'\t' | b'\r');
    for bytes in [&output.stdout, &output.stderr] {
        check!(
            !bytes.iter().any(is_control),
            "control characters reach the terminal: {:?}",
            String::from_utf8_lossy(bytes)
        );
    }
    Ok(())
}

const ESCAPE: &str = "\\u001b]0;owned\\u0007\\u001b[2Jgone";

async fn against(answer: Vec<u8>, arguments: &[&str]) -> Result<Output, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    wisp(&fake(answer).await, "key", arguments, directory.path()).await
}

async fn escape_in_error(_: Arc<Scene>) -> Verdict {
    let body = format!("{{\"code\":\"not_found\",\"message\":\"{ESCAPE}\",\"request_id\":\"{ESCAPE}\"}}");
    check_terminal(&against(http("404 Not Found", &body), &["list"]).await?)?;
    Ok("escaped".to_owned())
}

async fn escape_in_list(_: Arc<Scene>) -> Verdict {
    let body = format!(
        "[{{\"id\":\"sb_{ESCAPE}\",\"state\":\"running{ESCAPE}\",\"provider\":\"wasm\",\"image\":\"{ESCAPE}\",\
         \"memory_mb\":1,\"vcpus\":1,\"disk_mb\":1,\"created_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\
         \"2026-01-01T00:00:00Z\",\"metadata\":{{\"a\":\"{ESCAPE}\"}},\"preview_domain\":\"x\"}}]"
    );
    check_terminal(&against(http("200 OK", &body), &["list"]).await?)?;
    Ok("escaped".to_owned())
}

async fn escape_in_exec(_: Arc<Scene>) -> Verdict {
    let body = format!("{{\"code\":\"provider_error\",\"message\":\"{ESCAPE}\"}}");
    let answer = http("500 Internal Server Error", &body);
    check_terminal(&against(answer, &["exec", "sb_00000000000000000000", "--", "true"]).await?)?;
    Ok("escaped".to_owned())
}

async fn endless_answer(_: Arc<Scene>) -> Verdict {
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n[".to_vec();
    answer.extend(b" ".repeat(8 << 20));
    let ended = against(answer, &["list"]).await?;
    check!(!ended.status.success(), "taken");
    Ok("refused".to_owned())
}

async fn no_json(_: Arc<Scene>) -> Verdict {
    for body in ["", "null", "{}", "[1]", "<html>", "{\"code\":1}"] {
        for status in ["200 OK", "500 Internal Server Error", "204 No Content"] {
            let ended = against(http(status, body), &["list"]).await?;
            check!(ended.status.code().is_some_and(|code| code < 101), "{status} {body}: {ended:?}");
        }
    }
    Ok("refused".to_owned())
}

/// The key must not go to another server.
async fn redirect(_: Arc<Scene>) -> Verdict {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    let other = listener.local_addr().map_err(|error| error.to_string())?;
    let answer = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{other}/api/v1/sandboxes\r\nContent-Length: 0\r\n\r\n");
    let watching = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.ok()?;
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.ok()?;
        request.truncate(length);
        Some(String::from_utf8_lossy(&request).into_owned())
    });
    against(answer.into_bytes(), &["list"]).await?;
    let seen = tokio::time::timeout(std::time::Duration::from_millis(100), watching).await;
    if let Ok(Ok(Some(request))) = seen {
        let lower = request.to_ascii_lowercase();
        check!(!lower.contains("x-api-key: key") && !lower.contains("bearer key"), "the key went to another server");
    }
    Ok("the key stayed".to_owned())
}

/// Copies a directory out of a sandbox that was prepared by a command.
async fn copied(scene: &Scene, prepare: &str, target: &Path) -> Result<Output, String> {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
    sandbox.run(prepare).await;
    let id = sandbox.path.rsplit('/').next().unwrap_or_default().to_owned();
    let url = format!("http://{}", scene.address);
    let from = format!("{id}:/tmp/d");
    let to = target.to_str().unwrap_or_default();
    let output = wisp(&url, &scene.key_a, &["cp", &from, to], target).await;
    scene.a.delete(&sandbox.path).await;
    output
}

/// Everything below a directory; links are not followed.
fn files_below(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    let mut next = vec![directory.to_owned()];
    while let Some(directory) = next.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                next.push(entry.path());
            }
            all.push(entry.path());
        }
    }
    all
}

async fn copied_links(scene: Arc<Scene>) -> Verdict {
    let place = tempfile::tempdir().map_err(|error| error.to_string())?;
    let prepare = "mkdir /tmp/d; cd /tmp/d; ln -s /etc/passwd abs; ln -s ../../../../etc/passwd up; ln -s . loop; \
                   mkdir e; ln -s ../.. e/out; echo x >file; mkfifo pipe";
    let output = copied(&scene, prepare, place.path()).await?;
    let root = place.path().canonicalize().map_err(|error| error.to_string())?;
    for file in files_below(place.path()) {
        if let Ok(target) = file.canonicalize() {
            check!(target.starts_with(&root), "{} leads out: {output:?}", file.display());
        }
    }
    check_terminal(&output)?;
    Ok("left out".to_owned())
}

async fn option_names(scene: Arc<Scene>) -> Verdict {
    let place = tempfile::tempdir().map_err(|error| error.to_string())?;
    let prepare = "mkdir /tmp/d; cd /tmp/d; : >-rf; : >'--help'; : >\"$(printf 'a\\033[2Jb')\"; : >\"$(printf '\\377')\"";
    let output = copied(&scene, prepare, place.path()).await?;
    check_terminal(&output)?;
    check!(place.path().exists(), "the target is gone");
    Ok("copied".to_owned())
}

async fn waiting_link(scene: Arc<Scene>) -> Verdict {
    let place = tempfile::tempdir().map_err(|error| error.to_string())?;
    let outside = tempfile::tempdir().map_err(|error| error.to_string())?;
    let target = place.path().join("t");
    std::fs::create_dir_all(target.join("d")).map_err(|error| error.to_string())?;
    std::os::unix::fs::symlink(outside.path(), target.join("d/e")).map_err(|error| error.to_string())?;
    copied(&scene, "mkdir -p /tmp/d/e; echo x >/tmp/d/e/file", &target).await?;
    check!(!outside.path().join("file").exists(), "written through a link");
    Ok("not through it".to_owned())
}

async fn climbing_archive(_: Arc<Scene>) -> Verdict {
    let place = tempfile::tempdir().map_err(|error| error.to_string())?;
    let target = place.path().join("deep/target");
    std::fs::create_dir_all(&target).map_err(|error| error.to_string())?;
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..17].copy_from_slice(b"../../escaped.txt");
    header.set_size(1);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.extend([b'x'].iter().chain(&[0; 511]));
    archive.extend([0; 1024]);
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        archive.len()
    )
    .into_bytes();
    answer.extend(archive);
    let url = fake(answer).await;
    let to = target.to_str().unwrap_or_default();
    let output = wisp(&url, "key", &["cp", "sb_00000000000000000000:/tmp/d", to], place.path()).await?;
    check!(!place.path().join("escaped.txt").exists() && !place.path().join("deep/escaped.txt").exists(), "written outside");
    check_terminal(&output)?;
    Ok("refused".to_owned())
}
