//! Limits of a sandbox hold, and reaching one leaves the sandbox and the server alive.

use serde_json::json;

use crate::target::{PYTHON_IMAGE, Target};

crate::cases![
    memory_is_bounded,
    processes_are_bounded,
    disk_is_bounded,
    there_is_no_network_unless_asked_for,
    values_out_of_range_are_bad_requests,
];

async fn memory_is_bounded(target: &Target) {
    let sandbox = target.create(json!({"image": PYTHON_IMAGE, "memory_mb": 128})).await;
    let command = "python3 -c 'x = [bytearray(1 << 20) for _ in range(400)]; print(\"too much\")'";
    let ran = sandbox.run(command).await;
    assert_ne!(ran.exit_code, 0, "{ran:?}");
    assert!(!ran.stdout.contains("too much"), "{ran:?}");
    assert!(!ran.stderr.is_empty(), "a reason is told: {ran:?}");
    assert_eq!(sandbox.output("echo alive").await, "alive\n");
}

async fn processes_are_bounded(target: &Target) {
    let sandbox = target.create(json!({"memory_mb": 512})).await;
    let bomb = json!({"command": "f() { f | f & }; f; sleep 60", "timeout": "3s"});
    let answer = sandbox.exec(bomb).await;
    assert!([200, 408].contains(&answer.status), "{answer:?}");
    // What it left is gone, or leaves room for this.
    let mut last = None;
    for _ in 0..50 {
        let answer = sandbox.exec(json!({"command": "echo alive", "timeout": "10s"})).await;
        if answer.status == 200 && answer.ran().stdout == "alive\n" {
            target.api.assert_alive().await;
            return;
        }
        last = Some(answer);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("the sandbox does not recover: {last:?}");
}

async fn disk_is_bounded(target: &Target) {
    let sandbox = target.create(json!({"disk_mb": 16})).await;
    let ran = sandbox
        .run("dd if=/dev/zero of=/tmp/big bs=1048576 count=64 2>&1")
        .await;
    assert_ne!(ran.exit_code, 0, "{ran:?}");
    if !target.differs("disk_mb bounds each file").await {
        assert!(ran.stdout.contains("No space left"), "{ran:?}");
    }
    sandbox
        .put("files?path=/tmp/more", vec![7; 32 << 20])
        .await
        .assert_error(429, "resource_limit");
    assert_eq!(sandbox.output("rm /tmp/big; echo alive").await, "alive\n");
}

async fn there_is_no_network_unless_asked_for(target: &Target) {
    let sandbox = target.create(json!({"image": PYTHON_IMAGE})).await;
    let ran = sandbox
        .run("python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 80), timeout=5)'")
        .await;
    assert_ne!(ran.exit_code, 0, "{ran:?}");
    let asked = target.try_create(json!({"network": "public"})).await;
    if target.differs("no network").await {
        asked.assert_error(422, "unsupported");
    } else {
        assert_eq!(asked.status, 201, "{asked:?}");
    }
}

async fn values_out_of_range_are_bad_requests(target: &Target) {
    for request in [
        json!({"memory_mb": 0}),
        json!({"memory_mb": -1}),
        json!({"memory_mb": 1_000_000_000}),
        json!({"vcpus": 0}),
        json!({"vcpus": 100_000}),
        json!({"disk_mb": 0}),
        json!({"ttl": "0s"}),
        json!({"ttl": "banana"}),
        json!({"ttl": "10000h"}),
        json!({"network": "everything"}),
        json!({"metadata": {"a": 1}}),
        json!({"env": {"A=B": ""}}),
    ] {
        let answer = target.try_create(request.clone()).await;
        assert_eq!(
            (answer.status, answer.text("code").as_str()),
            (400, "bad_request"),
            "{request}: {answer:?}"
        );
    }
}
