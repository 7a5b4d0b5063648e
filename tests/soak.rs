//! Many sandboxes of several tenants for a long time, honest and hostile ones side by side, while clients stall and go
//! away, the disk fills up, the database is locked, workers are killed and stopped, the server is stopped for a moment,
//! and the clock jumps. Every answer is checked; in the end nothing may be left.
//!
//! `SOAK_SECONDS` says for how long; 45 seconds when absent. Every two minutes all clients pause, and the private memory is
//! measured when it has come to rest: beside 64 sandboxes that are attacked it says nothing. With 1800 seconds and more its
//! growth after the first quarter is held to 1 MiB in ten minutes.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the figures are the result")]

#[path = "guest_support/build.rs"]
#[allow(dead_code, reason = "a part of it builds the guests")]
mod guest_build;
#[path = "guest_support/component.rs"]
mod guest_component;
#[path = "hostile/process.rs"]
#[allow(dead_code, reason = "the attacks use the rest")]
mod process;
#[path = "hostile/scene.rs"]
#[allow(dead_code, reason = "the attacks use the rest")]
mod scene;
mod server_support;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::{Pid, Signal};
use scene::{STORE, create_key};
use serde_json::json;
use server_support::api::{Answer, Api, Sandbox, answer};
use server_support::moved_clock;
use server_support::server::Server;
use server_support::workers::workers_of;

const TENANTS: usize = 4;
/// Of each tenant.
const HONEST: usize = 8;
const HOSTILE: usize = 8;
/// Size of the disk, where one can be mounted.
const DISK: &str = "size=400m";
/// What the memory may have grown by once all is destroyed, KiB. A development build on a busy machine: the allocator
/// keeps some of what 64 sandboxes used at once.
const KEPT_KIB: u64 = 96 << 10;
/// What may be left of threads and descriptors: blocking threads end after ten idle seconds, connections of this
/// program after some more.
const LEFT: usize = 24;
/// How long what is left may take to go.
const SETTLING: Duration = Duration::from_secs(40);
/// How far the clock jumps, seconds: less than sandboxes have to live.
const JUMPS: [i64; 4] = [600, -600, 1200, 0];
/// How long the server is stopped: less than a worker has to answer.
const STOPPED: Duration = Duration::from_millis(700);
/// Between two pauses of all clients, and how long one is: the memory that slots keep is given back after four seconds,
/// and what is freed is given back every two.
const BETWEEN_PAUSES: u64 = 120;
const PAUSE: Duration = Duration::from_secs(15);
/// From here on the growth of memory is held to a bound.
const LONG: Duration = Duration::from_secs(1800);
/// Growth in ten minutes, KiB.
const MAX_SLOPE: f64 = 1024.0;

/// Commands that must be stopped or fail, and harm nobody.
const ATTACKS: &[(&str, &[&str])] = &[
    ("shell", &["while :; do :; done"]),
    ("shell", &["f() { f | f & }; f; wait; sleep 9"]),
    ("shell", &["yes >/tmp/flood"]),
    ("shell", &["yes"]),
    ("shell", &["cd /tmp; i=0; while : >$i; do i=$((i + 1)); done"]),
    ("shell", &["x=x; while :; do x=$x$x; done"]),
    ("shell", &["rm -rf / 2>/dev/null; kill -9 -1"]),
    ("guest", &["fork-bomb"]),
    ("guest", &["spawn-bomb"]),
    ("guest", &["memory-bomb"]),
    ("guest", &["poll-storm"]),
    ("guest", &["links"]),
    ("guest", &["orphans"]),
    ("guest", &["exec-self"]),
    ("guest", &["timers"]),
    ("guest", &["pipes"]),
    ("guest", &["random-loop"]),
    ("guest", &["resize-storm"]),
    ("guest", &["recurse"]),
    ("guest", &["traces"]),
];

/// What all clients know of.
struct Soak {
    until: Instant,
    /// The disk is full, so that changes may be refused.
    full: AtomicBool,
    /// Clients make no new requests.
    paused: AtomicBool,
    /// Changes are refused for a while after it was, too: a sandbox notices at its next change.
    honest: AtomicU64,
    hostile: AtomicU64,
    refused: AtomicU64,
    /// Workers that were killed or stopped.
    killed: AtomicU64,
    /// Requests that a lost worker has ended.
    lost: AtomicU64,
}

impl Soak {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// Waits while clients are to make no new requests.
    async fn pass_pause(&self) {
        while self.paused.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A small disk of its own, or a directory where this user may not mount one.
struct Disk {
    place: tempfile::TempDir,
    mounted: bool,
}

impl Disk {
    fn mount() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", DISK, "wisp-soak"])
            .arg(place.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("only root can mount a small disk: the disk is not filled");
        }
        Self { place, mounted }
    }

    fn ballast(&self) -> PathBuf {
        self.place.path().join("ballast")
    }

    /// Takes all room there is.
    fn fill(&self) {
        let mut file = File::create(self.ballast()).expect("a file");
        for piece in [vec![0; 1 << 20], vec![0; 4096]] {
            while file.write_all(&piece).is_ok() {}
        }
    }

    fn empty(&self) {
        let _ = std::fs::remove_file(self.ballast());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // What cannot be unmounted stays until the machine is restarted.
            let _ = Command::new("umount").arg("--lazy").arg(self.place.path()).status();
        }
    }
}

fn soak_time() -> Duration {
    let seconds = std::env::var("SOAK_SECONDS").ok();
    Duration::from_secs(seconds.map_or(45, |text| text.parse().expect("SOAK_SECONDS is a number")))
}

#[test]
fn four_tenants_soak_and_nothing_is_left() {
    let disk = Disk::mount();
    let data = disk.place.path().join("data");
    std::fs::create_dir(&data).expect("a directory");
    let keys: Vec<String> = (0..TENANTS)
        .map(|tenant| create_key(&data, "soak", "read,api", &format!("tenant-{tenant}")))
        .collect();
    let clock = tempfile::tempdir().expect("a directory");
    let moved = moved_clock::settings(clock.path());
    let mut settings = vec![
        ("WISP_DATA_DIR", data.to_str().expect("a path in UTF-8")),
        ("WISP_LIMITS_BODY_TIMEOUT", "2s"),
    ];
    settings.extend(moved.iter().map(|(name, value)| (*name, value.as_str())));
    let server = STORE.serve(&settings);
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let growth = tokio.block_on(async {
        for key in &keys {
            warm_up(&Api::new(server.url(), Some(key))).await;
        }
        let places = Places {
            disk: &disk,
            data: &data,
            clock: clock.path(),
        };
        run(&server, &places, &keys).await
    });
    drop(tokio);
    growth.check();
    assert!(!server.log().contains("panicked"), "{}", server.log());
    server.stop();
}

/// One use of what is loaded at the first.
async fn warm_up(api: &Api) {
    for image in ["base", "hostile", "python:3.13"] {
        let sandbox = api
            .create(json!({"image": image, "memory_mb": 192, "disk_mb": 8}))
            .await;
        assert_eq!(sandbox.output("echo warm").await, "warm\n");
        api.delete(&sandbox.path).await;
    }
}

/// What the server had before and has afterwards.
struct Growth {
    fresh: [usize; 3],
    left: [usize; 3],
    /// KiB in ten minutes.
    slope: f64,
    time: Duration,
}

impl Growth {
    fn check(&self) {
        let [fresh, left] = [self.fresh, self.left];
        println!(
            "memory {} to {} KiB, descriptors {} to {}, threads {} to {}, {:.0} KiB growth in ten minutes",
            fresh[0], left[0], fresh[1], left[1], fresh[2], left[2], self.slope
        );
        assert!(left[0] as u64 <= fresh[0] as u64 + KEPT_KIB, "memory stayed");
        assert!(left[1] <= fresh[1] + LEFT, "descriptors stayed");
        assert!(left[2] <= fresh[2] + LEFT, "threads stayed");
        if self.time >= LONG {
            assert!(self.slope <= MAX_SLOPE, "memory grows");
        }
    }
}

fn uses(pid: u32) -> [usize; 3] {
    let private = usize::try_from(process::private_kib(pid)).unwrap_or(usize::MAX);
    [private, process::descriptors(pid), process::threads(pid)]
}

/// Where faults are made.
struct Places<'a> {
    disk: &'a Disk,
    data: &'a Path,
    clock: &'a Path,
}

async fn run(server: &Server, places: &Places<'_>, keys: &[String]) -> Growth {
    let time = soak_time();
    let fresh = uses(server.pid());
    let soak = Arc::new(Soak {
        until: Instant::now() + time,
        full: AtomicBool::new(false),
        paused: AtomicBool::new(false),
        honest: AtomicU64::new(0),
        hostile: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        killed: AtomicU64::new(0),
        lost: AtomicU64::new(0),
    });
    let mut clients = Vec::new();
    for (tenant, key) in keys.iter().enumerate() {
        for number in 0..HONEST {
            let api = Api::new(server.url(), Some(key));
            clients.push(tokio::spawn(honest(Arc::clone(&soak), api, tenant * 100 + number)));
        }
        for number in 0..HOSTILE {
            let api = Api::new(server.url(), Some(key));
            clients.push(tokio::spawn(hostile(Arc::clone(&soak), api, tenant * 31 + number)));
        }
        let api = Api::new(server.url(), Some(key));
        clients.push(tokio::spawn(leaving(Arc::clone(&soak), api)));
    }
    let memory = faults(&soak, server, places).await;
    for client in clients {
        client.await.expect("a client meets nothing wrong");
    }
    println!("private memory in the pauses, s and KiB: {memory:.0?}");
    println!(
        "{time:?}: {} honest rounds, {} attacks, {} refused for want of room, {} workers killed with {} requests",
        soak.honest.load(Ordering::Relaxed),
        soak.hostile.load(Ordering::Relaxed),
        soak.refused.load(Ordering::Relaxed),
        soak.killed.load(Ordering::Relaxed),
        soak.lost.load(Ordering::Relaxed)
    );
    let settled = Instant::now();
    let mut left = uses(server.pid());
    let is_back = |left: &[usize; 3]| {
        left[0] as u64 <= fresh[0] as u64 + KEPT_KIB && left[1] <= fresh[1] + LEFT && left[2] <= fresh[2] + LEFT
    };
    while !is_back(&left) && settled.elapsed() < SETTLING {
        tokio::time::sleep(Duration::from_millis(500)).await;
        left = uses(server.pid());
    }
    Growth {
        fresh,
        left,
        slope: slope(&memory[memory.len() / 4..]),
        time,
    }
}

/// Growth of evenly spaced values by least squares, in ten minutes.
fn slope(values: &[(f64, f64)]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let count = values.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| values.iter().map(of).sum::<f64>() / count;
    let (time, memory) = (mean(|value| value.0), mean(|value| value.1));
    let above: f64 = values.iter().map(|value| (value.0 - time) * (value.1 - memory)).sum();
    let below: f64 = values.iter().map(|value| (value.0 - time).powi(2)).sum();
    if below == 0.0 { 0.0 } else { above / below * 600.0 }
}

/// Makes faults from time to time; tells the private memory in each pause.
async fn faults(soak: &Soak, server: &Server, places: &Places<'_>) -> Vec<(f64, f64)> {
    let Places { disk, data, clock } = places;
    let began = Instant::now();
    let mut memory = Vec::new();
    for second in 1u64.. {
        if !soak.goes_on() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        if second % BETWEEN_PAUSES == 0 {
            soak.paused.store(true, Ordering::SeqCst);
            tokio::time::sleep(PAUSE).await;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            memory.push((began.elapsed().as_secs_f64(), process::private_kib(server.pid()) as f64));
            soak.paused.store(false, Ordering::SeqCst);
        }
        if second % 15 == 5 && disk.mounted {
            soak.full.store(true, Ordering::SeqCst);
            disk.fill();
        }
        if second % 15 == 8 && disk.mounted {
            disk.empty();
            tokio::time::sleep(Duration::from_millis(300)).await;
            soak.full.store(false, Ordering::SeqCst);
        }
        if second % 20 == 12 {
            lock_database(data).await;
        }
        if second % 10 == 3 {
            strike(soak, server, second / 10);
        }
        if second % 25 == 17 {
            signal(server.pid(), Signal::STOP);
            tokio::time::sleep(STOPPED).await;
            signal(server.pid(), Signal::CONT);
        }
        if second % 10 == 9 {
            let jump = usize::try_from(second / 10).unwrap_or_default();
            moved_clock::set(clock, JUMPS[jump % JUMPS.len()]);
        }
    }
    disk.empty();
    memory
}

/// Kills or stops a worker: one that is stopped is found out by its heartbeat.
fn strike(soak: &Soak, server: &Server, number: u64) {
    let workers = workers_of(server.pid());
    let Some(worker) = workers.get(usize::try_from(number).unwrap_or_default() % workers.len().max(1)) else {
        return;
    };
    soak.killed.fetch_add(1, Ordering::SeqCst);
    let how = if number.is_multiple_of(2) {
        Signal::KILL
    } else {
        Signal::STOP
    };
    signal(*worker, how);
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process number");
    // A worker may have ended meanwhile.
    let _ = rustix::process::kill_process(pid, signal);
}

/// Holds the database for a fifth of a second: requests that need it wait.
async fn lock_database(data: &Path) {
    let path = data.join("wisp.db");
    let locking = tokio::task::spawn_blocking(move || -> rusqlite::Result<()> {
        let connection = rusqlite::Connection::open(path)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        std::thread::sleep(Duration::from_millis(200));
        connection.execute_batch("ROLLBACK")
    });
    // The server may be faster; then there is no lock this time.
    let _ = locking.await;
}

/// A sandbox, made again for as long as the disk is full.
async fn sandbox(soak: &Soak, api: &Api, image: &str) -> Option<Sandbox> {
    while soak.goes_on() {
        let body = json!({"image": image, "memory_mb": 192, "disk_mb": 8, "ttl": "2h"}).to_string();
        let created = api.post("/sandboxes", body).await;
        if created.status == 201 {
            return Some(Sandbox {
                path: format!("/sandboxes/{}", created.text("id")),
                api: api.clone(),
            });
        }
        assert!(excused(soak, &created), "{created:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    None
}

/// Whether a request was refused for a reason this program has made.
fn excused(soak: &Soak, answer: &Answer) -> bool {
    if is_lost(soak, answer) {
        return true;
    }
    let excused = answer.status == 507 || matches!(answer.status, 429 | 503);
    if excused {
        soak.refused.fetch_add(1, Ordering::Relaxed);
    }
    excused
}

/// Whether a request went with a worker that this program has killed.
fn is_lost(soak: &Soak, answer: &Answer) -> bool {
    let lost =
        answer.status == 500 && answer.body.contains("\"worker_lost\"") && soak.killed.load(Ordering::SeqCst) > 0;
    if lost {
        soak.lost.fetch_add(1, Ordering::Relaxed);
    }
    lost
}

/// Uses its sandbox as somebody would who has work to do. What was acknowledged must be there.
async fn honest(soak: Arc<Soak>, api: Api, number: usize) {
    let image = if number.is_multiple_of(4) {
        "python:3.13"
    } else {
        "base"
    };
    let Some(mut own) = sandbox(&soak, &api, image).await else {
        return;
    };
    let mut round = 0;
    while soak.goes_on() {
        soak.pass_pause().await;
        round += 1;
        let word = format!("{number}-{round}");
        let body = json!({"path": "/tmp/word", "content": word}).to_string();
        let written = api.post(&format!("{}/files", own.path), body).await;
        if written.status != 200 {
            assert!(excused(&soak, &written), "{written:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let command = if image == "base" {
            "cat /tmp/word; echo $((6 * 7))"
        } else {
            "python3 -c 'print(open(\"/tmp/word\").read() + str(6 * 7))'"
        };
        let ran = own.exec(json!({"command": command, "timeout": "60s"})).await;
        if ran.status == 200 {
            let said = ran.ran();
            assert_eq!(
                (said.exit_code, said.stdout.as_str()),
                (0, format!("{word}42\n").as_str()),
                "{ran:?}"
            );
        } else {
            assert!(excused(&soak, &ran), "{ran:?}");
        }
        let mut read = api.get(&format!("{}/files?path=/tmp/word", own.path)).await;
        while is_lost(&soak, &read) {
            read = api.get(&format!("{}/files?path=/tmp/word", own.path)).await;
        }
        assert_eq!((read.status, read.body.as_str()), (200, word.as_str()), "{read:?}");
        soak.honest.fetch_add(1, Ordering::Relaxed);
        if round % 40 == 0 {
            destroy(&soak, &own).await;
            match sandbox(&soak, &api, image).await {
                Some(next) => own = next,
                None => return,
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    destroy(&soak, &own).await;
}

async fn destroy(soak: &Soak, own: &Sandbox) {
    for _ in 0..100 {
        let gone = own.api.delete(&own.path).await;
        if gone.status == 200 {
            return;
        }
        assert!(excused(soak, &gone), "{gone:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} cannot be destroyed", own.path);
}

/// Attacks from one sandbox after the other.
async fn hostile(soak: Arc<Soak>, api: Api, number: usize) {
    let mut round = number;
    while soak.goes_on() {
        let Some(own) = sandbox(&soak, &api, "hostile").await else {
            return;
        };
        for _ in 0..5 {
            soak.pass_pause().await;
            round += 1;
            let (kind, arguments) = ATTACKS[round % ATTACKS.len()];
            let request = if kind == "shell" {
                json!({"command": arguments[0], "timeout": "300ms"})
            } else {
                json!({"command": "/usr/bin/hostile", "args": arguments, "mode": "argv", "timeout": "300ms"})
            };
            let ended = own.exec(request).await;
            // A sandbox that removed its own programs has none to start.
            let known = matches!(ended.status, 200 | 400 | 408);
            assert!(
                known || excused(&soak, &ended),
                "{arguments:?}: {} {:.300}",
                ended.status,
                ended.body
            );
            soak.hostile.fetch_add(1, Ordering::Relaxed);
        }
        destroy(&soak, &own).await;
    }
}

/// Clients that go away, stall, or do not read.
async fn leaving(soak: Arc<Soak>, api: Api) {
    let mut number = 0u64;
    while soak.goes_on() {
        let Some(own) = sandbox(&soak, &api, "base").await else {
            return;
        };
        let exec = format!("{}/exec", own.path);
        for _ in 0..12 {
            soak.pass_pause().await;
            number += 1;
            let request = match number % 4 {
                0 => api
                    .request(Method::POST, &exec)
                    .body(json!({"command": "sleep 30", "timeout": "40s"}).to_string()),
                1 => api
                    .request(Method::POST, &exec)
                    .body(json!({"command": "yes", "timeout": "40s", "stream": true}).to_string()),
                2 => api
                    .request(Method::PUT, &format!("{}/files?path=/tmp/up", own.path))
                    .body(reqwest::Body::wrap_stream(futures_util::stream::pending::<
                        std::io::Result<bytes::Bytes>,
                    >())),
                _ => api.request(Method::GET, "/events"),
            };
            let sent = tokio::time::timeout(Duration::from_millis(20 + number % 80), request.send()).await;
            if let Ok(Ok(stalled)) = sent {
                // Not read for a while, then dropped.
                tokio::time::sleep(Duration::from_millis(100)).await;
                drop(stalled);
            }
        }
        let alive = answer(api.request(Method::GET, "/health")).await;
        assert_eq!(alive.status, 200, "{alive:?}");
        destroy(&soak, &own).await;
    }
}
