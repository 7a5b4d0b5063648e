//! Sandboxes live in worker processes: what a lost worker costs, and what it does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::api::{Answer, Api, Sandbox, answer};

/// The image of these tests.
const BASE: &str = "base";
use crate::server::Server;
use crate::server_support::workers::{worker_environment, worker_status, workers_of};
use crate::stuck_thread;

/// Times each worker is killed in CI. `WORKER_KILLS` asks for more.
const KILLS: usize = 10;

/// A server with a key for each of two tenants, and those keys.
fn serve(settings: &[(&str, &str)]) -> (Server, Api, Api) {
    let keys = tempfile::NamedTempFile::new().expect("a file");
    let digest = |key: &str| {
        use sha2::Digest as _;
        hex::encode(sha2::Sha256::digest(key.as_bytes()))
    };
    let config: String = ["ann", "bob"]
        .map(|tenant| {
            format!(
                "[[auth.keys]]\nname = \"{tenant}\"\ntenant = \"{tenant}\"\nsha256 = \"{}\"\n",
                digest(tenant)
            )
        })
        .concat();
    fs::write(keys.path(), config).expect("the configuration");
    let mut all = vec![
        ("WISP_CONFIG", keys.path().to_str().expect("a path in UTF-8")),
        ("WISP_IMAGES", "base"),
    ];
    all.extend_from_slice(settings);
    let server = Server::start("127.0.0.1:0", &all);
    let (ann, bob) = (Api::new(server.url(), Some("ann")), Api::new(server.url(), Some("bob")));
    (server, ann, bob)
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process number");
    // It may have ended meanwhile.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// The worker of a sandbox: the one whose working directory holds the sandbox's own.
async fn worker_of(server: &Server, sandbox: &Sandbox) -> u32 {
    let id = sandbox.path.rsplit('/').next().expect("an id");
    let ran = sandbox.run("echo here >/worker-test").await;
    assert_eq!(ran.exit_code, 0, "{ran:?}");
    let mut workers = workers_of(server.pid());
    workers.retain(|pid| Path::new(&format!("/proc/{pid}/cwd")).join(id).exists());
    assert_eq!(workers.len(), 1, "one worker has the sandbox");
    workers[0]
}

#[tokio::test]
async fn tenants_have_workers_of_their_own() {
    let (server, ann, bob) = serve(&[]);
    let first = ann.create(json!({"image": BASE})).await;
    let second = ann.create(json!({"image": BASE})).await;
    let other = bob.create(json!({"image": BASE})).await;
    let (first, second) = (worker_of(&server, &first).await, worker_of(&server, &second).await);
    assert_eq!(first, second, "sandboxes of one tenant share a worker");
    assert_ne!(first, worker_of(&server, &other).await, "those of two do not");
}

#[tokio::test]
async fn with_isolation_sandbox_each_sandbox_has_a_worker_of_its_own() {
    let (server, ann, _) = serve(&[("WISP_ISOLATION", "sandbox")]);
    let first = ann.create(json!({"image": BASE})).await;
    let second = ann.create(json!({"image": BASE})).await;
    assert_ne!(worker_of(&server, &first).await, worker_of(&server, &second).await);
}

#[tokio::test]
async fn with_isolation_none_there_are_no_workers() {
    let (server, ann, _) = serve(&[("WISP_ISOLATION", "none")]);
    let sandbox = ann.create(json!({"image": BASE})).await;
    assert_eq!(sandbox.output("echo hi").await, "hi\n");
    assert!(workers_of(server.pid()).is_empty());
}

#[tokio::test]
async fn a_worker_is_confined() {
    let (server, ann, _) = serve(&[]);
    let sandbox = ann.create(json!({"image": BASE})).await;
    let pid = worker_of(&server, &sandbox).await;
    let status = worker_status(pid);
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a field");
        line.trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2", "system calls are filtered");
    assert_eq!(field("CapEff:"), "0000000000000000");
    assert_eq!(field("CapPrm:"), "0000000000000000");
    if rustix::process::geteuid().is_root() {
        let uids: Vec<u32> = field("Uid:")
            .split_whitespace()
            .map(|uid| uid.parse().expect("a number"))
            .collect();
        assert!(
            uids.iter().all(|uid| *uid >= 2_000_000_000),
            "a user of its own: {uids:?}"
        );
        assert_eq!(field("Groups:"), "");
    }
    assert_eq!(worker_environment(pid), "");
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let foreign: Vec<PathBuf> = descriptors
        .filter_map(|entry| fs::read_link(entry.expect("a descriptor").path()).ok())
        .filter(|target| {
            let text = target.to_string_lossy();
            let own = ["socket:", "pipe:", "anon_inode:", "/dev/null", "/memfd:"];
            !own.iter().any(|prefix| text.starts_with(prefix))
                && !text.contains("/sandboxes/")
                // The code and the files of images.
                && !text.contains("/images/")
                && text != format!("/proc/{pid}/pagemap")
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

#[tokio::test]
async fn a_lost_worker_fails_what_runs_and_loses_no_acknowledged_file() {
    let (server, ann, bob) = serve(&[]);
    let sandbox = Arc::new(ann.create(json!({"image": BASE})).await);
    let bystander = bob.create(json!({"image": BASE})).await;
    sandbox.write("/kept", "kept").await;
    let pid = worker_of(&server, &sandbox).await;
    assert_eq!(bystander.output("echo fine").await, "fine\n");
    let running = {
        let sandbox = Arc::clone(&sandbox);
        tokio::spawn(async move { sandbox.exec(json!({"command": "sleep 60"})).await })
    };
    while !sandbox.process_names().await.contains("sleep") {}
    kill(pid);
    let lost = running.await.expect("the request is answered");
    assert_eq!(
        (lost.status, lost.json()["code"].as_str()),
        (500, Some("worker_lost")),
        "{lost:?}"
    );
    assert_eq!(sandbox.output("cat /kept /worker-test").await, "kepthere\n");
    assert_ne!(worker_of(&server, &sandbox).await, pid);
    assert_eq!(bystander.output("echo fine").await, "fine\n");
    ann.assert_alive().await;
}

#[tokio::test]
async fn a_worker_that_is_stopped_is_noticed_and_replaced() {
    let (server, ann, _) = serve(&[]);
    let sandbox = ann.create(json!({"image": BASE})).await;
    let pid = worker_of(&server, &sandbox).await;
    let stopped = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process number");
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).expect("it is stopped");
    let started = Instant::now();
    let lost = sandbox.exec(json!({"command": "echo hi"})).await;
    assert_eq!(lost.json()["code"], "worker_lost", "{lost:?}");
    // Two seconds, and what a busy machine adds.
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert_eq!(sandbox.output("cat /worker-test").await, "here\n");
}

#[tokio::test]
async fn a_sandbox_whose_worker_was_let_go_comes_back() {
    let (server, ann, _) = serve(&[]);
    let sandbox = ann.create(json!({"image": BASE})).await;
    let pid = worker_of(&server, &sandbox).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while workers_of(server.pid()).contains(&pid) {
        assert!(Instant::now() < deadline, "an idle worker is not let go");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(sandbox.output("cat /worker-test").await, "here\n");
    // What still runs in the background keeps it.
    let ran = sandbox.run("sleep 300 >/dev/null 2>&1 &").await;
    assert_eq!(ran.exit_code, 0);
    let pid = worker_of(&server, &sandbox).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(
        workers_of(server.pid()).contains(&pid),
        "a worker with processes was let go"
    );
}

#[tokio::test]
async fn a_sandboxs_processor_time_is_not_new_in_another_worker() {
    let (server, ann, _) = serve(&[]);
    let sandbox = ann.create(json!({"image": BASE, "cpu_time": "2s"})).await;
    let spin = |cpu_time: &str| {
        let request = json!({"command": "while :; do :; done", "cpu_time": cpu_time, "timeout": "1m"});
        sandbox.exec(request)
    };
    let first = spin("1s").await;
    assert_eq!(first.json()["exit_code"], 137, "{first:?}");
    // The worker tells what was used twice a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for pid in workers_of(server.pid()) {
        kill(pid);
    }
    let second = loop {
        let answer = spin("1m").await;
        if answer.json()["code"] != "worker_lost" {
            break answer;
        }
    };
    assert_eq!(second.json()["exit_code"], 137, "{second:?}");
    assert!(second.elapsed < Duration::from_secs(30), "{second:?}");
    let third = sandbox.exec(json!({"command": "true"})).await;
    third.assert_error(429, "resource_limit");
}

#[tokio::test]
async fn a_host_call_that_hangs_ends_only_its_worker() {
    let (server, ann, bob) = serve(&[]);
    let sandbox = Arc::new(ann.create(json!({"image": BASE})).await);
    let bystander = bob.create(json!({"image": BASE})).await;
    sandbox.write("/kept", "kept").await;
    let pid = worker_of(&server, &sandbox).await;
    let running = {
        let sandbox = Arc::clone(&sandbox);
        let request = json!({"command": "while :; do :; done", "timeout": "3s"});
        tokio::spawn(async move { sandbox.exec(request).await })
    };
    while !sandbox.process_names().await.contains("sh") {}
    // No host call is known that does not return. A debugger that holds the thread looks the same from outside.
    let held = stuck_thread::hold(busiest_guest_thread(pid).await);
    let ended = running.await.expect("the request is answered");
    assert_eq!(ended.status, 408, "{ended:?}");
    let deadline = Instant::now() + Duration::from_secs(20);
    while workers_of(server.pid()).contains(&pid) {
        assert!(Instant::now() < deadline, "a worker with a stuck thread lives on");
        assert_eq!(bystander.output("echo fine").await, "fine\n");
    }
    assert!(held.join().expect("the debugger"), "the thread was held to its end");
    // Its own watchdog has seen it; or its heartbeat has stopped before, if the thread that is held is the one that all
    // others wait for. The log of a worker comes a little later.
    let reasons = ["a process that was killed does not end", "a worker does not answer"];
    while !reasons.iter().any(|reason| server.log().contains(reason)) {
        assert!(Instant::now() < deadline, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(sandbox.output("cat /kept").await, "kept");
}

/// The thread of a worker that has executed most of a busy loop so far.
async fn busiest_guest_thread(pid: u32) -> i32 {
    let used = || -> Vec<(u64, i32)> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        let of_thread = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            let fields = stat.rsplit_once(')')?.1;
            let ticks = fields.split_whitespace().nth(11)?.parse().ok()?;
            let id = task.file_name().to_str()?.parse().ok()?;
            stat.contains("(wisp-guest").then_some((ticks, id))
        };
        tasks.flatten().filter_map(of_thread).collect()
    };
    let before = used();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let grown = used().into_iter().map(|(ticks, id)| {
        let before = before.iter().find(|(_, other)| *other == id);
        (ticks - before.map_or(0, |(ticks, _)| *ticks), id)
    });
    grown.max().expect("a guest thread").1
}

#[tokio::test]
async fn a_workers_address_space_is_bounded_by_what_its_sandboxes_may_use() {
    let (server, ann, _) = serve(&[]);
    let limit = |pid: u32| -> u64 {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max data size"));
        let soft = line.and_then(|line| line.split_whitespace().next()).expect("a limit");
        soft.parse().expect("bytes")
    };
    let shape = json!({"image": BASE, "memory_mb": 64, "disk_mb": 16});
    let first = ann.create(shape.clone()).await;
    let pid = worker_of(&server, &first).await;
    let with_one = limit(pid);
    // The engine reserves some of it at its start.
    assert!(with_one < 10 << 30, "{with_one}");
    let second = ann.create(shape).await;
    assert_eq!(worker_of(&server, &second).await, pid);
    let with_two = limit(pid);
    assert!(with_two > with_one + (120 << 20), "{with_two} after {with_one}");
}

#[tokio::test]
async fn a_worker_in_which_nothing_runs_makes_room_for_another_tenant() {
    let (server, ann, bob) = serve(&[("WISP_LIMITS_MAX_WORKERS", "1")]);
    let first = ann.create(json!({"image": BASE})).await;
    let second = bob.create(json!({"image": BASE})).await;
    worker_of(&server, &first).await;
    // Whether nothing runs in it is asked twice a second.
    let deadline = Instant::now() + Duration::from_secs(20);
    while second.exec(json!({"command": "true"})).await.status != 200 {
        assert!(Instant::now() < deadline, "an idle worker does not make room");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What runs in the background has no request, but runs.
    let left = second.run("sleep 60 >/dev/null 2>&1 &").await;
    assert_eq!(left.exit_code, 0);
    for _ in 0..15 {
        let refused = first.exec(json!({"command": "true"})).await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.body.contains("every worker"), "{refused:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(second.process_names().await.contains("sleep"));
    second.api.delete(&second.path).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while first.exec(json!({"command": "true"})).await.status != 200 {
        assert!(Instant::now() < deadline, "no room after the sandbox was removed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(first.output("cat /worker-test").await, "here\n");
}

#[tokio::test]
async fn a_burst_of_sandboxes_starts_no_more_workers_than_there_may_be() {
    let (_server, ann, _) = serve(&[("WISP_LIMITS_MAX_WORKERS", "2"), ("WISP_ISOLATION", "sandbox")]);
    let mut execs = Vec::new();
    for _ in 0..8 {
        let sandbox = ann.create(json!({"image": BASE})).await;
        execs.push(async move { sandbox.exec(json!({"command": "sleep 3"})).await.status });
    }
    let statuses = futures_util::future::join_all(execs).await;
    let ran = statuses.iter().filter(|status| **status == 200).count();
    assert!((1..=2).contains(&ran), "{statuses:?}");
    assert_eq!(
        statuses.iter().filter(|status| **status == 503).count(),
        8 - ran,
        "{statuses:?}"
    );
}

#[tokio::test]
async fn sandboxes_are_found_again_when_the_isolation_changes() {
    let data = tempfile::tempdir().expect("a data directory");
    let data = data.path().to_str().expect("a path in UTF-8");
    let mut path = String::new();
    for (round, isolation) in ["none", "tenant", "sandbox", "none", "tenant"].into_iter().enumerate() {
        let server = Server::start("127.0.0.1:0", &[("WISP_DATA_DIR", data), ("WISP_ISOLATION", isolation)]);
        let api = Api::new(server.url(), None);
        if path.is_empty() {
            path = api.create(json!({"image": BASE, "ttl": "1h"})).await.path;
        }
        let sandbox = Sandbox {
            api,
            path: path.clone(),
        };
        let said = sandbox.output(&format!("echo {round} >>/rounds; cat /rounds")).await;
        assert_eq!(said.lines().count(), round + 1, "{isolation}: {said}");
        server.kill();
    }
}

#[tokio::test]
async fn workers_killed_under_load_lose_nothing_acknowledged_and_disturb_no_other_tenant() {
    let kills = std::env::var("WORKER_KILLS").ok().and_then(|kills| kills.parse().ok());
    let kills = kills.unwrap_or(KILLS);
    let (server, ann, bob) = serve(&[]);
    let sandboxes = [
        ann.create(json!({"image": BASE})).await,
        ann.create(json!({"image": BASE})).await,
    ];
    let bystander = bob.create(json!({"image": BASE})).await;
    let spared = worker_of(&server, &bystander).await;
    let done = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = sandboxes
        .into_iter()
        .map(|sandbox| tokio::spawn(write_until(sandbox, Arc::clone(&done), Arc::clone(&answered))))
        .collect();
    let watching = {
        let done = Arc::clone(&done);
        tokio::spawn(async move {
            let mut rounds = 0;
            while !done.load(Ordering::SeqCst) {
                let said = bystander.output(&format!("echo by{rounds} >/f; cat /f")).await;
                assert_eq!(said, format!("by{rounds}\n"));
                rounds += 1;
            }
            rounds
        })
    };
    for _ in 0..kills {
        // Each at another instant of a few requests.
        let before = answered.load(Ordering::SeqCst);
        let deadline = Instant::now() + Duration::from_secs(30);
        while answered.load(Ordering::SeqCst) < before + 3 {
            assert!(Instant::now() < deadline, "nothing is answered any more");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        for pid in workers_of(server.pid()).into_iter().filter(|pid| *pid != spared) {
            kill(pid);
        }
    }
    done.store(true, Ordering::SeqCst);
    for writer in writers {
        let (sandbox, acknowledged) = writer.await.expect("a writer");
        assert!(!acknowledged.is_empty());
        for (name, content) in acknowledged {
            let path = format!("{}/files?path={name}", sandbox.path);
            let mut read = answer(sandbox.api.request(Method::GET, &path)).await;
            // The worker that was killed last may take this request with it.
            if read.status == 500 {
                read = answer(sandbox.api.request(Method::GET, &path)).await;
            }
            assert_eq!((read.status, read.body.as_str()), (200, content.as_str()), "{name}");
        }
    }
    let rounds = watching.await.expect("the other tenant is not disturbed");
    assert!(rounds > 0);
}

/// Whether a request was done. If not, a lost worker is the reason.
fn is_done(answer: &Answer) -> bool {
    assert!(
        answer.status == 200 || answer.json()["code"] == "worker_lost",
        "{answer:?}"
    );
    answer.status == 200
}

/// Writes files by both ways until told to stop, through any number of lost workers. Returns what was acknowledged.
async fn write_until(
    sandbox: Sandbox,
    done: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> (Sandbox, Vec<(String, String)>) {
    let mut acknowledged = Vec::new();
    let mut number = 0;
    while !done.load(Ordering::SeqCst) {
        let (name, content) = (format!("/file-{number}"), format!("{number}").repeat(500));
        let written = if number % 2 == 0 {
            let request = sandbox
                .api
                .request(Method::PUT, &format!("{}/files?path={name}", sandbox.path))
                .body(content.clone());
            let written = answer(request).await;
            is_done(&written)
        } else {
            let request = json!({"command": format!("printf %s \"$CONTENT\" >{name}"), "env": {"CONTENT": content}});
            let ran = sandbox.exec(request).await;
            is_done(&ran)
        };
        if written {
            acknowledged.push((name, content));
        }
        answered.fetch_add(1, Ordering::SeqCst);
        number += 1;
    }
    (sandbox, acknowledged)
}
