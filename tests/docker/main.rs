//! What only the provider `docker` must do. What every provider must do is in `tests/conformance`.

mod confinement;
mod crashes;
mod data_dir;
mod processes;
mod restarts;
#[path = "../server_support/mod.rs"]
mod server_support;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use server_support::api::{Api, Sandbox};
use server_support::server::Server;

/// A shell and the usual tools.
const SHELL: &str = "alpine:latest";
/// Debian with Python.
const PYTHON: &str = "python:3.12";

/// A server that keeps its data in `directory`.
fn serve(directory: &Path) -> Server {
    let data = directory.to_str().expect("a path in UTF-8");
    Server::start("127.0.0.1:0", &[("WISP_DATA_DIR", data)])
}

/// A sandbox on the Docker Engine.
async fn create(server: &Server, mut request: Value) -> Sandbox {
    let fields = request.as_object_mut().expect("an object");
    fields.entry("image").or_insert(json!(SHELL));
    fields.insert("provider".to_owned(), json!("docker"));
    Api::new(server.url(), None).create(request).await
}

/// What a shell command that must succeed prints.
async fn output(sandbox: &Sandbox, command: &str) -> String {
    let ran = sandbox.exec(json!({"command": command})).await;
    assert_eq!(
        (ran.status, &ran.json()["exit_code"]),
        (200, &json!(0)),
        "{command}: {ran:?}"
    );
    ran.text("stdout")
}

/// The name of a sandbox's container.
fn container(sandbox: &Sandbox) -> String {
    format!("wisp-{}", sandbox.path.trim_start_matches("/sandboxes/"))
}

/// What the engine's own command line prints; empty when it fails.
fn docker(arguments: &[&str]) -> String {
    let ran = Command::new("docker").args(arguments).output().expect("docker starts");
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

/// The processes of a container as the engine's machine sees them, one command line each.
fn processes(container: &str) -> Vec<String> {
    let listed = docker(&["top", container, "-eo", "pid,args"]);
    listed.lines().skip(1).map(str::to_owned).collect()
}
