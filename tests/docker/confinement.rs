//! What a container may not do.

use serde_json::{Value, json};

use crate::server_support::{engine, server::Server};
use crate::{PYTHON, container, create, docker, output};

#[tokio::test]
async fn programs_have_no_rights_beyond_those_of_a_user() {
    if !engine::available() {
        return;
    }
    let server = Server::start("127.0.0.1:0", &[]);
    let sandbox = create(&server, json!({})).await;
    let status = output(&sandbox, "cat /proc/self/status").await;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {status}"))
            .trim()
            .to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    // 2 is SECCOMP_MODE_FILTER.
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(output(&sandbox, "id -u").await, "1000\n");
    let inspected: Value = serde_json::from_str(&docker(&["inspect", &container(&sandbox)])).expect("JSON");
    let inspected = &inspected[0];
    assert_eq!(inspected["Mounts"], json!([]));
    let host = &inspected["HostConfig"];
    assert!(host["Binds"].as_array().is_none_or(Vec::is_empty), "{host}");
    assert_eq!(host["NetworkMode"], "none");
    assert_eq!(host["Privileged"], false);
    assert_eq!(host["Memory"], host["MemorySwap"]);
    assert_eq!(output(&sandbox, "ls /sys/class/net").await, "lo\n");
}

#[tokio::test]
async fn a_program_beyond_its_memory_is_killed_with_a_message() {
    if !engine::available() {
        return;
    }
    let server = Server::start("127.0.0.1:0", &[]);
    let sandbox = create(&server, json!({"image": PYTHON, "memory_mb": 64})).await;
    let ran = sandbox
        .exec(json!({"args": ["-c", "x = b'x' * (1 << 30)"], "command": "python3"}))
        .await;
    assert_eq!(ran.json()["exit_code"], 137, "{ran:?}");
    assert!(ran.text("stderr").contains("memory limit of 64 MiB"), "{ran:?}");
    assert_eq!(output(&sandbox, "echo alive").await, "alive\n");
}

#[tokio::test]
async fn a_fork_bomb_meets_its_limit_and_is_gone_after_its_timeout() {
    if !engine::available() {
        return;
    }
    let server = Server::start("127.0.0.1:0", &[("WISP_DOCKER_PIDS_LIMIT", "40")]);
    let sandbox = create(&server, json!({})).await;
    // The last command needs no fork, which may be impossible by then.
    let bomb = "b() { b | b & }; b; exec sleep 1000";
    let ran = sandbox.exec(json!({"command": bomb, "timeout": "2s"})).await;
    assert_eq!(ran.status, 408, "{ran:?}");
    let left = crate::processes(&container(&sandbox));
    // The container's init, and what keeps it running.
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(output(&sandbox, "echo alive").await, "alive\n");
}
