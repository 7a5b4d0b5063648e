//! `POST /images` and `wisp images add`, with good files.

use serde_json::{Value, json};

use crate::api::{Answer, Api};
use crate::modules::{Parts, memory};
use crate::store::Store;

/// Runs a command in a fresh sandbox of an image.
async fn run(api: &Api, image: &str, command: &str) -> Answer {
    let sandbox = api.create(json!({"image": image})).await;
    sandbox.exec(json!({"command": command})).await
}

#[tokio::test]
async fn fuel_of_a_posted_module_is_counted() {
    let store = Store::new();
    let server = store.serve(&[("WISP_FUEL", "true")]);
    let api = Api::new(server.url(), None);
    let created = api
        .post("/images?name=nothing:1&parent=none", Parts::default().encode())
        .await;
    assert_eq!(created.status, 201, "{created:?}");
    let count = async || {
        let sandbox = api.create(json!({"image": "nothing:1"})).await;
        let request = json!({"command": "/usr/bin/nothing", "mode": "argv", "fuel": 1000});
        sandbox.exec(request).await.json()["fuel_used"].clone()
    };
    let first = count().await;
    assert!(first.as_u64().is_some_and(|units| (1..100).contains(&units)), "{first}");
    assert_eq!(count().await, first);
    // Nothing had to be compiled again.
    let log = server.log();
    assert!(!log.contains("compiling a module"), "{log}");
}

#[tokio::test]
async fn a_posted_module_is_a_program_of_its_image_at_once() {
    let store = Store::new();
    let server = store.serve(&[]);
    let api = Api::new(server.url(), None);
    let path = "/images?name=nothing:1&program=/usr/bin/nothing:/opt/also&summary=Does%20nothing&licence=MIT";
    let created = api.post(path, Parts::default().encode()).await;
    assert_eq!(created.status, 201, "{created:?}");
    let image = created.json();
    assert_eq!(image["name"], "nothing:1");
    assert_eq!(image["licence"], "nothing:1: MIT");
    assert!(image["digest"].as_str().expect("a digest").starts_with("sha256:"));
    assert_eq!(api.get("/images/nothing:1").await.json(), image);

    let ran = run(&api, "nothing:1", "nothing && /opt/also && echo done | cat").await;
    assert_eq!(
        (&ran.json()["exit_code"], ran.text("stdout").as_str()),
        (&json!(0), "done\n"),
        "{ran:?}"
    );

    // Who did it is recorded.
    let audit = api.get("/audit").await.json();
    let entry = |entry: &&Value| entry["action"] == "image.import" && entry["target"] == "nothing:1";
    assert!(
        audit.as_array().expect("entries").iter().any(|found| entry(&found)),
        "{audit}"
    );

    // The name is taken now, unless it is to be replaced.
    let again = api.post(path, Parts::default().encode()).await;
    assert_eq!(
        (again.status, again.text("code").as_str()),
        (409, "conflict"),
        "{again:?}"
    );
    let other = Parts {
        data: b"other".to_vec(),
        ..Parts::default()
    };
    let replaced = api
        .post(
            "/images?name=nothing:1&program=/usr/bin/other&replace=true",
            other.encode(),
        )
        .await;
    assert_eq!(replaced.status, 201, "{replaced:?}");
    assert_ne!(replaced.json()["digest"], image["digest"]);
    let ran = run(&api, "nothing:1", "other; nothing").await;
    assert_eq!(ran.json()["exit_code"], 127, "the replaced image is gone: {ran:?}");
}

#[tokio::test]
async fn a_name_of_a_shipped_image_or_a_wrong_parameter_is_refused() {
    let store = Store::new();
    let server = store.serve(&[]);
    let api = Api::new(server.url(), None);
    let before = store.files();
    for name in ["base", "alpine", "python:3.12"] {
        let refused = api
            .post(&format!("/images?name={name}&replace=true"), Parts::default().encode())
            .await;
        assert_eq!(
            (refused.status, refused.text("code").as_str()),
            (409, "conflict"),
            "{name}: {refused:?}"
        );
    }
    for query in [
        "",
        "name=",
        "name=No",
        "name=..%2Fa",
        "name=a&program=bin",
        "name=a&program=/proc/1",
        "name=a&parent=absent",
        "name=a&env=1",
        "name=a&workdir=x",
        "name=a&replace=maybe",
    ] {
        let refused = api.post(&format!("/images?{query}"), Parts::default().encode()).await;
        assert_eq!(
            (refused.status, refused.text("code").as_str()),
            (400, "bad_request"),
            "{query}: {refused:?}"
        );
    }
    assert_eq!(store.files(), before);
}

#[tokio::test]
async fn a_module_that_wants_much_memory_says_so_and_fails_in_its_sandbox_only() {
    let store = Store::new();
    let server = store.serve(&[]);
    let api = Api::new(server.url(), None);
    let huge = Parts {
        memory: memory(65_536),
        ..Parts::default()
    };
    let created = api.post("/images?name=huge", huge.encode()).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert!(
        created.json()["known_limits"].to_string().contains("4096 MiB"),
        "{created:?}"
    );
    let ran = run(&api, "huge", "huge").await;
    assert_eq!(ran.status, 200, "{ran:?}");
    assert_ne!(ran.json()["exit_code"], 0, "{ran:?}");
    api.assert_alive().await;
}

#[test]
fn the_command_line_adds_shows_and_removes_an_image() {
    let store = Store::new();
    let before = store.files();
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("tool.wasm");
    std::fs::write(&file, Parts::default().encode()).expect("a file");
    let file = file.to_str().expect("text");

    let added = store.wisp(&["images", "add", file, "--name", "mine", "-e", "COLOUR=red"]);
    assert!(added.status.success(), "{added:?}");
    let shown = store.wisp(&["images", "inspect", "mine", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["provenance"], "tool.wasm");
    assert_eq!(shown["programs"], json!(["/usr/bin/tool"]));
    let ran = store.wisp(&["run", "mine", "-c", "tool && echo $COLOUR"]);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "red\n", "{ran:?}");

    let again = store.wisp(&["images", "add", file, "--name", "mine"]);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("already"), "{again:?}");

    assert!(store.wisp(&["images", "rm", "mine"]).status.success());
    assert_eq!(store.files(), before, "nothing is left of it");
}
