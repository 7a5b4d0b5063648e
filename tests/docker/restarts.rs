//! Servers and engines that end, start again, or were never there.

use serde_json::json;

use crate::data_dir::DataDir;
use crate::server_support::api::{Api, Sandbox};
use crate::server_support::{engine, server::Server};
use crate::{container, create, docker, output, processes, serve};

/// The same sandbox at another server.
fn at(server: &Server, sandbox: &Sandbox) -> Sandbox {
    Sandbox {
        api: Api::new(server.url(), None),
        path: sandbox.path.clone(),
    }
}

fn exists(container: &str) -> bool {
    !docker(&["ps", "-aq", "--filter", &format!("name=^{container}$")]).is_empty()
}

#[tokio::test]
async fn a_killed_servers_containers_are_found_again_and_their_commands_ended() {
    if !engine::available() {
        return;
    }
    let data = DataDir::new();
    let server = serve(data.path());
    let running = create(&server, json!({})).await;
    let stopped = create(&server, json!({})).await;
    for sandbox in [&running, &stopped] {
        output(sandbox, "echo kept >/root/file").await;
    }
    let started = running.exec(json!({"command": "touch /tmp/begun; sleep 9999"}));
    let mut started = Box::pin(started);
    let name = container(&running);
    while !processes(&name).iter().any(|process| process.contains("sleep 9999")) {
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), &mut started).await;
        assert!(waited.is_err(), "the command has ended: {waited:?}");
    }
    server.kill();
    drop(started);
    docker(&["stop", "-t", "0", &container(&stopped)]);

    let server = serve(data.path());
    for sandbox in [&running, &stopped] {
        assert_eq!(output(&at(&server, sandbox), "cat /root/file").await, "kept\n");
    }
    let left = processes(&name);
    assert!(!left.iter().any(|process| process.contains("sleep 9999")), "{left:?}");
    for sandbox in [&running, &stopped] {
        let sandbox = at(&server, sandbox);
        assert_eq!(sandbox.api.delete(&sandbox.path).await.status, 200);
        assert!(!exists(&container(&sandbox)));
    }
}

#[tokio::test]
async fn a_server_removes_its_own_orphans_only() {
    if !engine::available() {
        return;
    }
    let (ours, theirs) = (DataDir::new(), DataDir::new());
    let server = serve(ours.path());
    let other = serve(theirs.path());
    let foreign = create(&other, json!({})).await;
    let sandbox = create(&server, json!({})).await;
    let label = docker(&[
        "inspect",
        "--format",
        r#"{{index .Config.Labels "wisp.server"}}"#,
        &container(&sandbox),
    ]);
    server.kill();
    let orphan = format!("wisp-test-orphan-{label}");
    let server_label = format!("wisp.server={label}");
    let made = docker(&[
        "create",
        "--name",
        &orphan,
        "--label",
        &server_label,
        "--label",
        "wisp.sandbox=sb-gone",
        "--network",
        "none",
        crate::SHELL,
    ]);
    assert!(!made.is_empty(), "no orphan was made");

    let server = serve(ours.path());
    assert!(!exists(&orphan));
    assert!(exists(&container(&sandbox)));
    assert_eq!(output(&foreign, "echo alive").await, "alive\n");
    for (server, sandbox) in [(&server, &sandbox), (&other, &foreign)] {
        let sandbox = at(server, sandbox);
        assert_eq!(sandbox.api.delete(&sandbox.path).await.status, 200);
    }
}

#[tokio::test]
async fn without_an_engine_the_provider_is_unhealthy_and_wasm_serves() {
    let nowhere = tempfile::tempdir().unwrap();
    let host = format!("unix://{}/docker.sock", nowhere.path().display());
    let server = Server::start("127.0.0.1:0", &[("WISP_DOCKER_HOST", &host)]);
    let api = Api::new(server.url(), None);
    let provider = api.get("/providers/docker").await;
    assert_eq!(
        (provider.status, &provider.json()["healthy"]),
        (200, &json!(false)),
        "{provider:?}"
    );
    let request = json!({"provider": "docker", "image": crate::SHELL});
    let refused = api.post("/sandboxes", request.to_string()).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.text("message").contains("docker"), "{refused:?}");
    let sandbox = api.create(json!({"image": crate::PYTHON})).await;
    assert_eq!(output(&sandbox, "echo alive").await, "alive\n");
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_not_found() {
    if !engine::available() {
        return;
    }
    let server = Server::start("127.0.0.1:0", &[("WISP_DOCKER_PULL", "never")]);
    let request = json!({"provider": "docker", "image": "no-such-image:1"});
    let refused = Api::new(server.url(), None)
        .post("/sandboxes", request.to_string())
        .await;
    assert_eq!(refused.status, 404, "{refused:?}");
    assert!(refused.text("message").contains(crate::SHELL), "{refused:?}");
}
