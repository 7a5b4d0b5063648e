//! Memory of an interpreter that lives.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{Measure, Setting, progress};
use crate::competitors::docker::Docker;
use crate::competitors::{ANSWER, BASE, PRINT_42, Runner, peer};
use crate::error::BenchError;
use crate::machine::private_dirty;
use crate::report::Section;
use crate::server::Server;
use crate::statistics::count;

/// How long the programs of a peer live, and when they are looked at: a peer does not say that one has begun.
const PEER_LIVES: Duration = Duration::from_secs(8);
const PEER_LOOK: Duration = Duration::from_secs(5);
/// Programs of a peer that live at once: one for each thread of the driver, at the most.
const PEER_LIVE: usize = 32;

pub(super) async fn measure(setting: &Setting<'_>) -> Section {
    let (field, effort) = (setting.field, setting.effort);
    let method = format!(
        "Interpreters that have printed 42 and wait, each in a sandbox of its own: growth of Private_Dirty, the memory that \
         belongs to a process alone and that the system cannot drop, by their number. wisp and native: {}. Containers: {}, \
         python3 and its containerd-shim. Peers: {PEER_LIVE} in threads. Memory of the system's kernel does not count.",
        effort.live, effort.live_containers,
    );
    let columns = ["MiB each", "MiB all", "instances"];
    let mut section = Section::new(
        Measure::Memory.name(),
        "private memory of a live interpreter",
        method,
        &columns,
    );
    let waiting = waiting_program();
    let python = |_: &str| json!({"command": "python3", "mode": "argv", "args": ["-c", waiting]});
    for image in field.images.iter().map(|image| image.name.as_str()).chain([BASE]) {
        let name = if image == BASE {
            "wisp base (sleep)".to_owned()
        } else {
            format!("wisp {image}")
        };
        progress(&section, &name);
        let command = if image == BASE {
            json!({"command": "echo 42; exec sleep 600"})
        } else {
            python(image)
        };
        section.add(name, of_wisp(image, &command, effort.live).await);
    }
    for (name, native) in field.natives() {
        progress(&section, &name);
        let figures = async {
            let native = native?;
            of_processes((0..effort.live).map(|_| native.command(&waiting))).await
        };
        section.add(name, figures.await);
    }
    progress(&section, "docker run");
    section.add(
        "docker run",
        async { of_containers(field.docker()?, effort.live_containers).await }.await,
    );
    for package in peer::PACKAGES {
        progress(&section, package.name);
        section.add(package.name, of_peer(setting, package).await);
    }
    section
}

fn waiting_program() -> String {
    format!("{PRINT_42}\nimport sys, time\nsys.stdout.flush()\ntime.sleep(600)\n")
}

/// Of a fresh server, so that nothing from before counts or is used again.
async fn of_wisp(image: &str, command: &Value, live: usize) -> Result<Vec<f64>, BenchError> {
    let server = Server::start(&[image], live + 1).await?;
    // What all share is loaded at the first use.
    drop(begun(&server, image, command).await?);
    let before = server.private_dirty()?;
    let mut running = Vec::new();
    for _ in 0..live {
        running.push(begun(&server, image, command).await?);
    }
    let after = server.private_dirty()?;
    Ok(figures(after.saturating_sub(before), live))
}

/// A command in a sandbox of its own that has printed 42, and runs on while what is returned is held: the rest of its
/// answer.
async fn begun(server: &Server, image: &str, command: &Value) -> Result<impl Sized + use<>, BenchError> {
    let sandbox = server.create("wasm", image).await?;
    let mut chunks = Box::pin(sandbox.stream(command.clone()).await?.bytes_stream());
    let first = chunks.next().await.transpose()?.unwrap_or_default();
    let line = String::from_utf8_lossy(&first).into_owned();
    match serde_json::from_str::<Value>(line.lines().next().unwrap_or_default()) {
        Ok(line) if line["data"] == ANSWER => Ok(chunks),
        _ => Err(BenchError::Unexpected(format!("the command's first line is {line:?}"))),
    }
}

async fn of_processes(commands: impl Iterator<Item = tokio::process::Command>) -> Result<Vec<f64>, BenchError> {
    let mut running = Vec::new();
    let mut bytes = 0;
    for mut command in commands {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = child.map_err(BenchError::io("python3"))?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| BenchError::Unexpected("no pipe".to_owned()))?;
        let mut lines = BufReader::new(stdout).lines();
        lines.next_line().await.map_err(BenchError::io("python3"))?;
        running.push((child, lines));
    }
    for (child, _) in &running {
        bytes += private_dirty(child.id().unwrap_or_default()).map_err(BenchError::io("python3's memory"))?;
    }
    Ok(figures(bytes, running.len()))
}

async fn of_containers(docker: &Docker, live: usize) -> Result<Vec<f64>, BenchError> {
    let mut containers = Vec::new();
    for _ in 0..live {
        containers.push(docker.start(&waiting_program()).await?);
    }
    // `docker run --detach` returns before Python is up.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut bytes = 0;
    for container in &containers {
        let python = docker.process(container).await?;
        for process in [Some(python), parent(python)].into_iter().flatten() {
            bytes += private_dirty(process).map_err(BenchError::io("a container's memory (only root may read it)"))?;
        }
    }
    for container in &containers {
        docker.remove(container).await?;
    }
    Ok(figures(bytes, live))
}

/// The parent of a container's first process is its shim.
fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}

/// Of a fresh process, for the same reason as a fresh server.
async fn of_peer(setting: &Setting<'_>, package: peer::Package) -> Result<Vec<f64>, BenchError> {
    let peer = Arc::new(peer::Peer::start(setting.choice.peers.as_deref(), package).await?);
    peer.answer().await?.checked(ANSWER)?;
    let before = peer.private_dirty()?;
    let program = format!("import time; time.sleep({}); {PRINT_42}", PEER_LIVES.as_secs());
    let started = Instant::now();
    let running: Vec<_> = (0..PEER_LIVE)
        .map(|_| {
            let (peer, program) = (Arc::clone(&peer), program.clone());
            tokio::spawn(async move { peer.run(&program).await?.checked(ANSWER).map(|_| Instant::now()) })
        })
        .collect();
    tokio::time::sleep(PEER_LOOK).await;
    let after = peer.private_dirty()?;
    for run in running {
        let ended = run.await??;
        if ended.duration_since(started) > PEER_LIVES + PEER_LOOK {
            return Err(BenchError::Unexpected(
                "its programs did not run at the same time".to_owned(),
            ));
        }
    }
    Ok(figures(after.saturating_sub(before), PEER_LIVE))
}

fn figures(bytes: u64, instances: usize) -> Vec<f64> {
    // Exact up to a tebibyte.
    let mebibytes = count(usize::try_from(bytes >> 10).unwrap_or(usize::MAX)) / 1024.0;
    vec![mebibytes / count(instances), mebibytes, count(instances)]
}
