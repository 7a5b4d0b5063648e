//! What a hostile command can take, and how it ends.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::Ran;
use crate::api::Sandbox;
use crate::images::PYTHON;
use crate::setting::Setting;

/// How late the answer of a command that passes its timeout may be.
const SLACK: Duration = Duration::from_millis(150);
const TIMEOUT: Duration = Duration::from_millis(500);

/// Runs a command that never ends; its answer must be the timeout's, on time, with what it wrote until then.
async fn assert_times_out(sandbox: &Sandbox, command: &str) -> Ran {
    let answer = sandbox.exec(json!({"command": command, "timeout": "500ms"})).await;
    assert_eq!(answer.status, 408, "{command}: {answer:?}");
    assert_eq!(answer.text("code"), "timeout", "{command}: {answer:?}");
    assert_eq!(answer.ran().exit_code, 124, "{command}: {answer:?}");
    assert!(answer.elapsed >= TIMEOUT, "{command}: too early: {answer:?}");
    assert!(answer.elapsed <= TIMEOUT + SLACK, "{command}: too late: {answer:?}");
    answer.ran()
}

#[tokio::test]
async fn a_command_that_never_ends_is_stopped_on_time() {
    let setting = Setting::alone().await;
    let sandbox = setting.sandbox().await;
    // What is loaded at first use must not count.
    sandbox.output("python3 -c 'print(1)'").await;
    for command in [
        "while :; do :; done",
        "sleep 100",
        "sleep 100 | cat",
        "(sleep 100 & sleep 100 & wait)",
        "python3 -c 'while True: pass'",
        "python3 -c 'import time; time.sleep(100)'",
        "python3 -c 'sum(range(10**12))'",
        "yes >/dev/null",
        "mkfifo /tmp/fifo 2>/dev/null; cat /tmp/fifo",
        "sh -c 'sh -c \"sh -c \\\"while :; do :; done\\\"\"'",
        "trap '' TERM INT HUP; while :; do :; done",
    ] {
        let ran = assert_times_out(&sandbox, &format!("echo partial; echo oops >&2; {command}")).await;
        assert_eq!(ran.stdout, "partial\n", "{command}");
        assert!(ran.stderr.starts_with("oops\n"), "{command}: {ran:?}");
    }
    setting.api.assert_alive().await;
}

#[tokio::test]
async fn nothing_of_a_process_tree_outlives_its_timeout() {
    let setting = Setting::alone().await;
    let sandbox = setting.sandbox().await;
    let tree = "for i in 1 2 3 4; do (sleep 100 | cat) & done; sh -c 'sleep 100 & while :; do :; done' & wait";
    assert_times_out(&sandbox, tree).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let names = sandbox.process_names().await;
    assert!(!names.contains("sleep") && names.lines().count() <= 2, "{names}");
}

#[tokio::test]
async fn a_command_without_standard_input_reads_its_end() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    assert_eq!(sandbox.output("cat; read line || echo end").await, "end\n");
    assert_eq!(
        sandbox
            .output("python3 -c 'import sys; print(repr(sys.stdin.read()))'")
            .await,
        "''\n"
    );
    let ran = sandbox.run_with(json!({"command": "cat", "stdin": "given"})).await;
    assert_eq!(ran.stdout, "given");
}

#[tokio::test]
async fn a_memory_bomb_harms_only_itself() {
    let setting = Setting::alone().await;
    let sandbox = setting.api.create(json!({"image": PYTHON, "memory_mb": 256})).await;
    let ran = sandbox.run("python3 -c 'x = bytearray(10**9)'").await;
    assert!(ran.exit_code == 137 || ran.stderr.contains("MemoryError"), "{ran:?}");
    assert_ne!(ran.exit_code, 0, "{ran:?}");
    let growing = "x = []\nwhile True: x.append(bytes(1 << 20))";
    let ran = sandbox
        .run_with(json!({"command": "python3", "args": ["-c", growing], "mode": "argv"}))
        .await;
    assert!(ran.exit_code == 137 || ran.stderr.contains("MemoryError"), "{ran:?}");
    let ran = sandbox.run("x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done").await;
    assert_ne!(ran.exit_code, 0, "{ran:?}");
    setting.api.assert_alive().await;
    assert_eq!(
        sandbox.output("python3 -c 'print(len(bytearray(10**8)))'").await,
        "100000000\n"
    );
}

#[tokio::test]
async fn a_fork_bomb_harms_only_itself() {
    let setting = Setting::alone().await;
    let sandbox = setting.sandbox().await;
    let answer = sandbox
        .exec(json!({"command": "f() { f | f & }; f; wait; sleep 100", "timeout": "2s"}))
        .await;
    assert!(matches!(answer.status, 200 | 408), "{answer:?}");
    assert!(answer.elapsed < Duration::from_secs(3), "{answer:?}");
    setting.api.assert_alive().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(sandbox.output("echo $(echo still here)").await, "still here\n");
}

#[tokio::test]
async fn a_full_disk_is_an_error_of_the_command() {
    let setting = Setting::shared().await;
    let sandbox = setting.api.create(json!({"image": PYTHON, "disk_mb": 8})).await;
    let ran = sandbox.run("yes >/tmp/flood").await;
    assert_ne!(ran.exit_code, 0, "{ran:?}");
    assert!(ran.stderr.contains("No space left"), "{ran:?}");
    let full = json!({"path": "/tmp/more", "content": "x".repeat(9 << 20)});
    let answer = setting
        .api
        .post(&format!("{}/files", sandbox.path), full.to_string())
        .await;
    answer.assert_error(429, "resource_limit");
    assert_eq!(
        sandbox
            .output("rm /tmp/flood; echo fits >/tmp/more; cat /tmp/more")
            .await,
        "fits\n"
    );
    let ran = sandbox.run("cd /tmp; i=0; while : >$i; do i=$((i+1)); done").await;
    assert_ne!(ran.stderr, "", "inodes have an end too: {ran:?}");
}

#[tokio::test]
async fn a_flood_of_output_is_cut_and_says_so() {
    let setting = Setting::alone().await;
    let sandbox = setting.sandbox().await;
    let answer = sandbox
        .exec(json!({"command": "yes | head -c 20000000; echo oops >&2; exit 3"}))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.status);
    let (json, ran) = (answer.json(), answer.ran());
    assert_eq!(
        (&json["truncated"], ran.exit_code, ran.stderr.as_str()),
        (&json!(true), 3, "oops\n")
    );
    assert!(
        ran.stdout.len() <= 8 << 20 && ran.stdout.starts_with("y\ny\n"),
        "{} bytes",
        ran.stdout.len()
    );
    let small = sandbox.exec(json!({"command": "echo hi"})).await.json();
    assert!(small["truncated"].is_null(), "{small}");
    // A flood without end stops at its timeout, with what was kept.
    let endless = sandbox.exec(json!({"command": "yes", "timeout": "1s"})).await;
    assert_eq!((endless.status, &endless.json()["exit_code"]), (408, &json!(124)));
    // Making a text of so much takes a while where the compiler did not optimise: the command's own time counts.
    let duration: f64 = endless.text("duration").trim_end_matches('s').parse().expect("seconds");
    assert!((1.0..1.15).contains(&duration), "{duration}");
    setting.api.assert_alive().await;
}

#[tokio::test]
async fn deep_recursion_ends_the_program_and_not_the_server() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    let ran = sandbox
        .run_with(json!({"command": "f() { f; }; f", "timeout": "20s"}))
        .await;
    assert_ne!(ran.exit_code, 0, "{ran:?}");
    let ran = sandbox.run("python3 -c 'def f(): f()\nf()'").await;
    assert_eq!(ran.exit_code, 1, "{ran:?}");
    assert!(ran.stderr.contains("RecursionError"), "{ran:?}");
    // A parser of Python's own, which has no such guard.
    let ran = sandbox.run("python3 -c 'eval(\"(\" * 100000)'").await;
    assert_ne!(ran.exit_code, 0, "{ran:?}");
    setting.api.assert_alive().await;
}

#[tokio::test]
async fn busy_guests_do_not_delay_the_server() {
    let setting = Setting::alone().await;
    let mut busy = Vec::new();
    for _ in 0..8 {
        let sandbox = setting.sandbox().await;
        busy.push(tokio::spawn(async move {
            sandbox
                .exec(json!({"command": "while :; do :; done", "timeout": "3s"}))
                .await
        }));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut times = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        setting.api.assert_alive().await;
        times.push(started.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    times.sort_unstable();
    assert!(
        times[197] < Duration::from_millis(100),
        "p99 of /health: {:?}, worst {:?}",
        times[197],
        times[199]
    );
    let sandbox = setting.sandbox().await;
    let ran = sandbox.exec(json!({"command": "echo $((40 + 2))"})).await;
    assert_eq!(ran.ran().stdout, "42\n");
    assert!(
        ran.elapsed < Duration::from_secs(1),
        "a small command among busy ones: {ran:?}"
    );
    for task in busy {
        let ended = task.await.expect("the task ends");
        assert_eq!(ended.status, 408, "{ended:?}");
        assert!(ended.elapsed < Duration::from_millis(3500), "{ended:?}");
    }
}

#[tokio::test]
async fn a_sandbox_runs_many_commands_at_once_up_to_a_number() {
    let setting = Setting::alone().await;
    let sandbox = setting.sandbox().await;
    let started = Instant::now();
    let sleeping: Vec<_> = (0..80)
        .map(|_| {
            let (api, path) = (sandbox.api.clone(), sandbox.path.clone());
            let sandbox = Sandbox { api, path };
            tokio::spawn(async move {
                sandbox
                    .exec(json!({"command": "sleep", "args": ["1"], "mode": "argv"}))
                    .await
            })
        })
        .collect();
    let mut refused = 0;
    for task in sleeping {
        let answer = task.await.expect("the task ends");
        if answer.status == 429 {
            answer.assert_error(429, "resource_limit");
            refused += 1;
        } else {
            assert_eq!(answer.ran().exit_code, 0, "{answer:?}");
        }
    }
    assert_eq!(refused, 80 - 64, "as many as `max_execs_per_sandbox` run at once");
    let elapsed = started.elapsed();
    assert!(
        elapsed < Duration::from_secs(4),
        "they did not run at the same time: {elapsed:?}"
    );
    assert_eq!(sandbox.output("echo free again").await, "free again\n");
}
