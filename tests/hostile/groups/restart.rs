//! Attacks that meet a server that is killed and starts again. Each has a server of its own beside the one that the
//! bystander uses.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use crate::attack::{Attack, Verdict, steps};
use crate::check;
use crate::scene::Scene;
use crate::server_support::api::{Api, Sandbox};
use crate::server_support::server::Server;

pub fn attacks() -> Vec<Attack> {
    // The second server is this program's child, not the one whose memory is looked at.
    vec![
        steps("killed while files are written", killed_under_writes),
        steps("killed while commands run", killed_under_commands),
        steps("a flipped byte in a journal", |_| damaged(flip)),
        steps("a journal that is cut off", |_| damaged(cut)),
        steps("a journal that is a link to a file of the host", |_| damaged(relink)),
        steps("chunks that are a link to a file of the host", |_| damaged(relink_chunks)),
        steps("a journal of noise", |_| damaged(noise)),
        steps("directories that nobody knows", unknown_directories),
    ]
}

/// A server of its own with one sandbox of each tenant.
struct Own {
    scene: Arc<Scene>,
    victim: String,
}

impl Own {
    async fn start() -> Self {
        // Starting waits for its own clients.
        let scene = tokio::task::spawn_blocking(|| Scene::set(&[])).await.expect("a server");
        let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
        sandbox.run("head -c 200000 /dev/urandom >/tmp/f; echo kept >/tmp/kept").await;
        Self {
            victim: sandbox.path,
            scene: Arc::new(scene),
        }
    }

    fn directory(&self) -> PathBuf {
        let id = self.victim.rsplit('/').next().unwrap_or_default();
        let compartments = fs::read_dir(self.scene.data.path().join("sandboxes")).expect("a directory");
        let mut directories = compartments.map(|entry| entry.expect("a compartment").path().join(id));
        directories.find(|directory| directory.exists()).expect("the sandbox's directory")
    }

    /// Starts the server again.
    async fn again(&self) -> (Server, Api, Api) {
        let scene = Arc::clone(&self.scene);
        let server = tokio::task::spawn_blocking(move || scene.serve_again()).await.expect("a server");
        let (a, b) = (
            Api::new(server.url(), Some(&self.scene.key_a)),
            Api::new(server.url(), Some(&self.scene.key_b)),
        );
        (server, a, b)
    }
}

/// Runs a command in a sandbox whose path is known.
async fn run(api: &Api, path: &str, command: &str) -> Result<String, String> {
    let sandbox = Sandbox {
        api: api.clone(),
        path: path.to_owned(),
    };
    let answer = sandbox.exec(json!({"command": command, "timeout": "20s"})).await;
    check!(answer.status == 200, "{path}: {answer:?}");
    Ok(answer.ran().stdout)
}

async fn stop(server: Server) {
    tokio::task::spawn_blocking(move || server.stop()).await.expect("it ends");
}

async fn killed_under_writes(_: Arc<Scene>) -> Verdict {
    let own = Own::start().await;
    let mut acknowledged = Vec::new();
    let writing = async {
        for number in 0.. {
            let body = json!({"path": format!("/tmp/w{number}"), "content": "x".repeat(10_000)}).to_string();
            let request = own.scene.a.request(reqwest::Method::POST, &format!("{}/files", own.victim)).body(body);
            match request.send().await {
                Ok(response) if response.status() == 200 => acknowledged.push(number),
                _ => break,
            }
        }
    };
    let killing = async {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        let scene = Arc::clone(&own.scene);
        tokio::task::spawn_blocking(move || scene.kill()).await.expect("it dies");
    };
    tokio::join!(writing, killing);
    let (server, a, b) = own.again().await;
    for number in &acknowledged {
        let size = run(&a, &own.victim, &format!("wc -c </tmp/w{number}")).await?;
        check!(size.trim() == "10000", "w{number} has {size} bytes");
        if *number > 40 {
            break;
        }
    }
    check!(run(&b, &own.scene.bystander, "echo there").await? == "there\n", "the other tenant's sandbox is gone");
    check!(!server.log().contains("panicked"), "{}", server.log());
    stop(server).await;
    Ok(format!("{} kept", acknowledged.len()))
}

async fn killed_under_commands(_: Arc<Scene>) -> Verdict {
    let own = Own::start().await;
    let running = (0..8).map(|_| {
        let body = json!({"command": "while :; do echo x >>/tmp/log; done", "timeout": "20s"}).to_string();
        own.scene.a.request(reqwest::Method::POST, &format!("{}/exec", own.victim)).body(body).send()
    });
    let killing = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let scene = Arc::clone(&own.scene);
        tokio::task::spawn_blocking(move || scene.kill()).await.expect("it dies");
    };
    tokio::join!(futures_util::future::join_all(running), killing);
    let (server, a, _) = own.again().await;
    check!(run(&a, &own.victim, "cat /tmp/kept").await? == "kept\n", "a file is gone");
    stop(server).await;
    Ok("kept".to_owned())
}

fn flip(own: &Own) {
    let journal = own.directory().join("journal");
    let mut bytes = fs::read(&journal).expect("a journal");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(journal, bytes).expect("written");
}

fn cut(own: &Own) {
    let journal = own.directory().join("journal");
    let bytes = fs::read(&journal).expect("a journal");
    fs::write(journal, &bytes[..bytes.len() / 3]).expect("written");
}

fn relink(own: &Own) {
    let journal = own.directory().join("journal");
    fs::remove_file(&journal).expect("there it was");
    symlink(own.scene.data.path().join("host-file"), journal).expect("a link");
}

fn relink_chunks(own: &Own) {
    let chunks = own.directory().join("chunks");
    fs::remove_file(&chunks).expect("there it was");
    symlink(own.scene.data.path().join("host-file"), chunks).expect("a link");
}

fn noise(own: &Own) {
    let noise: Vec<u8> = (0..100_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    fs::write(own.directory().join("journal"), noise).expect("written");
}

/// Damages a sandbox's files while the server is down. The server starts, others work, and no file of the host changes.
async fn damaged(damage: fn(&Own)) -> Verdict {
    let own = Own::start().await;
    let scene = Arc::clone(&own.scene);
    tokio::task::spawn_blocking(move || scene.kill()).await.expect("it dies");
    let host = own.scene.data.path().join("host-file");
    fs::write(&host, "of the host").expect("written");
    damage(&own);
    let (server, a, b) = own.again().await;
    check!(run(&b, &own.scene.bystander, "echo there").await? == "there\n", "another sandbox is harmed");
    let answer = a.post(&format!("{}/exec", own.victim), r#"{"command":"cat /tmp/kept /tmp/f"}"#).await;
    check!(answer.status < 500 || answer.text("code") == "provider_error", "{answer:?}");
    check!(!answer.body.contains("of the host"), "a file of the host was read");
    let gone = a.delete(&own.victim).await;
    check!(gone.status == 200, "{gone:?}");
    check!(fs::read(&host).is_ok_and(|text| text == b"of the host"), "a file of the host was changed");
    check!(!server.log().contains("panicked"), "{}", server.log());
    stop(server).await;
    Ok(format!("{}", answer.status))
}

async fn unknown_directories(_: Arc<Scene>) -> Verdict {
    let own = Own::start().await;
    let scene = Arc::clone(&own.scene);
    tokio::task::spawn_blocking(move || scene.kill()).await.expect("it dies");
    let sandboxes = own.scene.data.path().join("sandboxes");
    let outside = own.scene.data.path().join("outside");
    fs::create_dir(&outside).expect("a directory");
    fs::write(outside.join("file"), "x").expect("written");
    symlink(&outside, sandboxes.join("sb_00000000000000000000000000")).expect("a link");
    fs::create_dir(sandboxes.join("sb_11111111111111111111111111")).expect("a directory");
    symlink(outside.join("file"), sandboxes.join("sb_11111111111111111111111111/journal")).expect("a link");
    let (server, a, _) = own.again().await;
    check!(run(&a, &own.victim, "cat /tmp/kept").await? == "kept\n", "a file is gone");
    check!(outside.join("file").exists(), "what a link leads to was removed");
    stop(server).await;
    Ok("removed or left".to_owned())
}
