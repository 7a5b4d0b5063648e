//! WASI 0.2 command components as images of users' own.

#[path = "../guest_support/component.rs"]
mod component;
#[path = "../guest_support/build.rs"]
#[allow(dead_code, reason = "the path to the sources is not needed here")]
mod guest_build;
mod limits;
mod programs;
#[path = "../server_support/mod.rs"]
mod server_support;

use std::sync::LazyLock;

use serde_json::{Value, json};

use server_support::api::{Answer, Api, Ran, Sandbox};
use server_support::server::Server;
use server_support::store::Store;

/// The program of `tests/guests/component`.
static COMPONENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let guests = guest_build::build().unwrap_or_else(|error| panic!("the guest programs cannot be built: {error}"));
    let module = std::fs::read(guests.join("component.wasm")).expect("the guest was built");
    component::of_module(&module)
});

/// A store in which the component is the program `tool` of the image `tool:1`. It is added on the command line: there the
/// usual limits of compiling hold, which a busy machine needs.
static STORE: LazyLock<Store> = LazyLock::new(|| {
    let store = Store::new();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), COMPONENT.as_slice()).expect("the component is written");
    let path = file.path().to_str().expect("a path that is text");
    let added = store.wisp(&["images", "add", path, "--name", "tool:1", "--program", "/usr/bin/tool"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    store
});

/// A server with that store.
struct Scene {
    _server: Server,
    api: Api,
}

impl Scene {
    fn set(settings: &[(&str, &str)]) -> Self {
        let server = STORE.serve(settings);
        let api = Api::new(server.url(), None);
        Self { _server: server, api }
    }

    /// A sandbox of the image.
    async fn sandbox(&self, mut body: Value) -> Sandbox {
        body["image"] = json!("tool:1");
        self.api.create(body).await
    }
}

/// Runs the component with these arguments and nothing else.
async fn tool(sandbox: &Sandbox, arguments: &[&str]) -> Ran {
    let answer = tool_with(sandbox, arguments, json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.ran()
}

/// Runs the component; `body` says what else the request does.
async fn tool_with(sandbox: &Sandbox, arguments: &[&str], mut body: Value) -> Answer {
    body["command"] = json!("tool");
    body["args"] = json!(arguments);
    body["mode"] = json!("argv");
    sandbox.exec(body).await
}

fn ran(exit_code: i64, stdout: &str, stderr: &str) -> Ran {
    Ran {
        exit_code,
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
    }
}
