//! The limits of a sandbox hold for components as for modules.

use std::time::Duration;

use serde_json::json;

use crate::{Scene, ran, tool, tool_with};

/// How late the answer of a command that passes its timeout may be.
const SLACK: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_millis(500);

#[tokio::test]
async fn files_take_no_more_than_the_disk_has() {
    let scene = Scene::set(&[]);
    let sandbox = scene.sandbox(json!({"disk_mb": 8})).await;
    let filled = tool(&sandbox, &["fill", "/tmp/full"]).await;
    assert_eq!(filled.exit_code, 0, "{filled:?}");
    let (first, size) = filled.stdout.split_once('\n').expect("two lines");
    assert!(first.starts_with("StorageFull after "), "{filled:?}");
    let kib: u64 = size
        .trim()
        .strip_prefix("size ")
        .and_then(|rest| rest.strip_suffix(" KiB"))
        .expect("a size")
        .parse()
        .expect("a number");
    assert!((7 << 10..=8 << 10).contains(&kib), "{filled:?}");
    // Standard output in a file is no way around.
    let ran = sandbox
        .run("tool flood > /tmp/more; echo $?; rm /tmp/full; tool nothing")
        .await;
    assert!(ran.stdout.ends_with("1\n") && ran.exit_code == 0, "{ran:?}");
}

#[tokio::test]
async fn memory_is_the_sandboxes() {
    let scene = Scene::set(&[]);
    let sandbox = scene.sandbox(json!({"memory_mb": 64})).await;
    let grown = tool(&sandbox, &["grow"]).await;
    assert_eq!(grown.exit_code, 0, "{grown:?}");
    let mib: u64 = grown
        .stdout
        .trim()
        .strip_suffix(" MiB")
        .expect("MiB")
        .parse()
        .expect("a number");
    assert!((40..64).contains(&mib), "{grown:?}");
    // All of it is given back.
    for _ in 0..5 {
        assert_eq!(tool(&sandbox, &["grow"]).await, grown);
    }
    // Two share it.
    let shared = sandbox.run("tool grow & tool grow & wait").await;
    let sum: u64 = shared
        .stdout
        .lines()
        .map(|line| {
            line.strip_suffix(" MiB")
                .map_or(0, |mib| mib.parse().expect("a number"))
        })
        .sum();
    assert!(sum <= 2 * mib, "{shared:?}");
}

#[tokio::test]
async fn a_deadline_ends_it_whatever_it_does() {
    let scene = Scene::set(&[]);
    let sandbox = scene.sandbox(json!({})).await;
    tool(&sandbox, &["nothing"]).await;
    for arguments in [
        &["spin"][..],
        &["sleep", "100"],
        &["wait"],
        &["poll-ready"],
        &["fill-memory"],
        &["flood"],
    ] {
        let answer = tool_with(&sandbox, arguments, json!({"timeout": "500ms"})).await;
        assert_eq!(answer.status, 408, "{arguments:?}: {}", answer.status);
        assert!(
            answer.elapsed >= TIMEOUT && answer.elapsed <= TIMEOUT + SLACK,
            "{arguments:?}: {:?}",
            answer.elapsed
        );
        let names = sandbox.process_names().await;
        assert!(!names.contains("tool"), "{arguments:?}: {names}");
    }
    // Blocked on standard input that stays open.
    let answer = sandbox
        .exec(json!({"command": "sleep 100 | tool stdin", "timeout": "500ms"}))
        .await;
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(answer.elapsed <= TIMEOUT + SLACK, "{answer:?}");
    let names = sandbox.process_names().await;
    assert!(!names.contains("tool"), "{names}");
}

#[tokio::test]
async fn output_is_cut_off_at_the_servers_limit() {
    let scene = Scene::set(&[("WISP_LIMITS_MAX_OUTPUT_BYTES", "100000")]);
    let sandbox = scene.sandbox(json!({})).await;
    let answer = tool_with(&sandbox, &["flood"], json!({"timeout": "1s"})).await;
    let body = answer.json();
    assert_eq!(
        (&body["truncated"], answer.status),
        (&json!(true), 408),
        "{}",
        answer.status
    );
    assert_eq!(answer.ran().stdout.len(), 100_000);
}

#[tokio::test]
async fn processor_time_is_counted_and_limited() {
    let scene = Scene::set(&[]);
    let sandbox = scene.sandbox(json!({})).await;
    let answer = tool_with(&sandbox, &["spin"], json!({"cpu_time": "300ms", "timeout": "20s"})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.ran(), ran(137, "", "wisp: killed: its cpu_time is used up\n"));
    let slept = tool_with(&sandbox, &["sleep", "0.4"], json!({"cpu_time": "300ms"})).await;
    assert_eq!(slept.ran(), ran(0, "true\n", ""), "{slept:?}");
}

#[tokio::test]
async fn what_it_can_make_the_host_keep_is_bounded() {
    let scene = Scene::set(&[]);
    let sandbox = scene.sandbox(json!({"memory_mb": 64})).await;
    // What is kept without end ends the process.
    for what in ["pollables", "streams", "directories", "listings"] {
        let killed = tool(&sandbox, &[what]).await;
        assert_eq!(
            (killed.exit_code, killed.stdout.as_str()),
            (134, ""),
            "{what}: {killed:?}"
        );
        assert!(killed.stderr.starts_with("tool: killed: "), "{what}: {killed:?}");
    }
    assert_eq!(tool(&sandbox, &["files"]).await, ran(0, "quota after 255\n", ""));
    // A list that is too long ends the process as well; one that is not does not.
    assert_eq!(tool(&sandbox, &["poll-many", "1024"]).await, ran(0, "1024\n", ""));
    for count in ["1025", "3000000"] {
        let killed = tool(&sandbox, &["poll-many", count]).await;
        assert_eq!((killed.exit_code, killed.stdout.as_str()), (134, ""), "{killed:?}");
    }
    assert_eq!(
        tool(&sandbox, &["long-path"]).await,
        ran(0, "Err(\"name-too-long\")\n", "")
    );
    let killed = tool(&sandbox, &["unpermitted"]).await;
    assert_eq!(killed.exit_code, 134, "{killed:?}");
    let killed = tool(&sandbox, &["recurse"]).await;
    let expected = "tool: killed: memory access out of bounds\n";
    assert_eq!(killed, ran(139, "", expected));
}

#[tokio::test]
async fn one_call_moves_a_bounded_number_of_bytes() {
    let scene = Scene::set(&[]);
    let sandbox = scene.sandbox(json!({"memory_mb": 64, "disk_mb": 64})).await;
    sandbox.output("head -c 3000000 /dev/zero > /tmp/large").await;
    let expected = "65536 false\nOk(65536)\nOk(([], true))\n";
    assert_eq!(tool(&sandbox, &["read", "tmp/large"]).await, ran(0, expected, ""));
    let expected = "Ok(1048576)\nErr(\"file-too-large\")\nErr(\"file-too-large\")\n";
    assert_eq!(
        tool(&sandbox, &["write", "tmp/written", "3"]).await,
        ran(0, expected, "")
    );
    let killed = tool(&sandbox, &["write", "tmp/written", "8"]).await;
    assert_eq!(killed.exit_code, 134, "{killed:?}");
    // Standard input as well.
    let answer = tool_with(&sandbox, &["stdin"], json!({"stdin": "x".repeat(200_000)})).await;
    assert_eq!(answer.ran(), ran(0, "Ok(65536)\n", ""));
}
