//! Sandboxes begin, are seen, and end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::target::{SHELL_IMAGE, Target};

crate::cases![
    a_new_sandbox_is_what_was_asked_for,
    a_sandbox_is_listed_until_it_is_destroyed,
    both_spellings_of_an_id_are_the_same_sandbox,
    an_image_that_is_not_there_is_not_found,
    sandboxes_do_not_see_each_others_files,
    more_time_counts_from_now,
    a_sandbox_is_gone_when_its_time_is_over,
    nothing_can_be_done_with_a_destroyed_sandbox,
    destroying_twice_is_no_error,
    destroying_ends_the_commands_that_run,
];

async fn a_new_sandbox_is_what_was_asked_for(target: &Target) {
    let answer = target
        .try_create(json!({"memory_mb": 256, "vcpus": 1, "ttl": "10m", "metadata": {"purpose": "conformance"}}))
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let object = answer.json();
    assert!(
        object["id"].as_str().is_some_and(|id| id.starts_with("sb_")),
        "{object}"
    );
    for (field, expected) in [
        ("state", json!("running")),
        ("provider", json!(target.provider())),
        ("image", json!(SHELL_IMAGE)),
        ("memory_mb", json!(256)),
        ("vcpus", json!(1)),
        ("metadata", json!({"purpose": "conformance"})),
    ] {
        assert_eq!(object[field], expected, "{field}: {object}");
    }
    let time = |field: &str| {
        let text = object[field].as_str().expect("a time");
        assert!(text.ends_with('Z'), "{object}");
        humantime::parse_rfc3339(text).expect("RFC 3339")
    };
    let lifetime = time("expires_at").duration_since(time("created_at")).expect("it lives");
    assert_eq!(lifetime, Duration::from_secs(600));
    let shown = target
        .api
        .get(&format!("/sandboxes/{}", object["id"].as_str().unwrap_or_default()))
        .await;
    shown.assert_is(&object);
}

async fn a_sandbox_is_listed_until_it_is_destroyed(target: &Target) {
    let sandbox = target.sandbox().await;
    let listed = async || {
        let list = target.api.get("/sandboxes").await.json();
        let ids: Vec<_> = list
            .as_array()
            .expect("a list")
            .iter()
            .map(|object| object["id"].clone())
            .collect();
        ids.contains(&json!(sandbox.id()))
    };
    assert!(listed().await);
    target
        .api
        .delete(&sandbox.path)
        .await
        .assert_is(&json!({"status": "destroyed"}));
    assert!(!listed().await);
}

async fn both_spellings_of_an_id_are_the_same_sandbox(target: &Target) {
    let sandbox = target.sandbox().await;
    let dashed = sandbox.id().replace("sb_", "sb-");
    let shown = target.api.get(&format!("/sandboxes/{dashed}")).await;
    assert_eq!(shown.json()["id"], json!(sandbox.id()), "{shown:?}");
}

async fn an_image_that_is_not_there_is_not_found(target: &Target) {
    let answer = target.try_create(json!({"image": "no-such-image:1.2.3"})).await;
    answer.assert_error(404, "not_found");
    assert!(answer.text("message").contains("no-such-image:1.2.3"), "{answer:?}");
}

async fn sandboxes_do_not_see_each_others_files(target: &Target) {
    let (one, other) = (target.sandbox().await, target.sandbox().await);
    one.write("/tmp/mine", "secret").await;
    other.get("files?path=/tmp/mine").await.assert_error(404, "not_found");
    assert_eq!(other.run("cat /tmp/mine").await.exit_code, 1);
}

async fn more_time_counts_from_now(target: &Target) {
    let sandbox = target.create(json!({"ttl": "1h"})).await;
    let before = std::time::SystemTime::now();
    let object = sandbox.post("extend", json!({"ttl": "2m"})).await.json();
    let expires = humantime::parse_rfc3339(object["expires_at"].as_str().expect("a time")).expect("RFC 3339");
    let left = expires.duration_since(before).expect("later than now");
    assert!((119..=130).contains(&left.as_secs()), "{left:?}");
    sandbox
        .post("extend", json!({"ttl": "banana"}))
        .await
        .assert_error(400, "bad_request");
}

async fn a_sandbox_is_gone_when_its_time_is_over(target: &Target) {
    let sandbox = target.create(json!({"ttl": "2s"})).await;
    // Its end is the end of the command, too.
    let answer = sandbox.exec(json!({"command": "sleep 60", "timeout": "30s"})).await;
    assert!(answer.elapsed < Duration::from_secs(15), "{answer:?}");
    let message = format!("sandbox {} not found", sandbox.id());
    for answer in [
        target.api.get(&sandbox.path).await,
        sandbox.exec(json!({"command": "true"})).await,
        sandbox.post("extend", json!({"ttl": "1h"})).await,
    ] {
        answer.assert_error(404, "not_found");
        assert_eq!(answer.text("message"), message);
    }
}

async fn nothing_can_be_done_with_a_destroyed_sandbox(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox.write("/tmp/file", "x").await;
    target
        .api
        .delete(&sandbox.path)
        .await
        .assert_is(&json!({"status": "destroyed"}));
    let message = format!("sandbox {} not found", sandbox.id());
    let tar: Vec<u8> = vec![0; 1024];
    for answer in [
        target.api.get(&sandbox.path).await,
        sandbox.exec(json!({"command": "true"})).await,
        sandbox.exec(json!({"command": "true", "stream": true})).await,
        sandbox.post("extend", json!({"ttl": "1h"})).await,
        sandbox.post("files", json!({"path": "/tmp/x", "content": ""})).await,
        sandbox.put("files?path=/tmp/x", vec![1]).await,
        sandbox.put("files/archive?path=/tmp", tar).await,
        sandbox.get("files?path=/tmp/file").await,
        sandbox.get("files/archive?path=/tmp").await,
        sandbox.get("files/list?path=/").await,
        sandbox.get("files/stat?path=/tmp").await,
        sandbox.get("files/glob?pattern=/*").await,
        sandbox
            .post("files/move", json!({"old_path": "/tmp/file", "new_path": "/tmp/y"}))
            .await,
        sandbox
            .post("files/chmod", json!({"path": "/tmp/file", "mode": "0600"}))
            .await,
        sandbox.delete("files?path=/tmp/file").await,
        sandbox.get("stats").await,
        sandbox.get("logs").await,
    ] {
        answer.assert_error(404, "not_found");
        assert_eq!(answer.text("message"), message);
    }
}

async fn destroying_twice_is_no_error(target: &Target) {
    let sandbox = target.sandbox().await;
    for _ in 0..3 {
        target
            .api
            .delete(&sandbox.path)
            .await
            .assert_is(&json!({"status": "destroyed"}));
    }
    let never = target.api.delete("/sandboxes/sb_00000000000000000000").await;
    never.assert_is(&json!({"status": "destroyed"}));
}

async fn destroying_ends_the_commands_that_run(target: &Target) {
    let sandbox = target.sandbox().await;
    let mut lines =
        crate::streaming::start(&sandbox, json!({"command": "echo ready; sleep 60", "timeout": "50s"})).await;
    assert_eq!(lines.next().await, Some(json!({"stream": "stdout", "data": "ready\n"})));
    target
        .api
        .delete(&sandbox.path)
        .await
        .assert_is(&json!({"status": "destroyed"}));
    let mut last = Value::Null;
    while let Some(line) = lines.next().await {
        last = line;
    }
    assert_eq!(
        (&last["type"], &last["exit_code"]),
        (&json!("exit"), &json!(137)),
        "{last}"
    );
}
