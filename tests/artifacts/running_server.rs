//! A running server and the command line share a store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::api::Api;
use crate::peer::DockerRegistry;
use crate::registry::descendants;
use crate::server::Server;
use crate::{EmptyStore, assert_ok};

#[tokio::test]
async fn a_running_server_notices_what_the_command_line_installs_replaces_and_removes() {
    let store = EmptyStore::new();
    let cache = store.path().to_str().expect("UTF-8");
    let server = Server::start("127.0.0.1:0", &[("WISP_CACHE_DIR", cache), ("WISP_IMAGES", "")]);
    let api = Api::new(server.url(), None);
    let missing = api.post("/sandboxes", json!({"image": "tool"}).to_string()).await;
    assert_eq!(missing.status, 404, "{missing:?}");
    assert!(missing.body.contains("wisp images pull"), "{missing:?}");
    for (version, exit_code) in [(1, 0), (2, 134)] {
        store.add_tool(version);
        let sandbox = api.create(json!({"image": "tool"})).await;
        let ran = sandbox
            .run_with(json!({"command": "/usr/bin/tool", "mode": "argv"}))
            .await;
        assert_eq!(ran.exit_code, exit_code, "{ran:?}");
        api.delete(&sandbox.path).await;
    }
    assert_ok(&store.wisp(&["images", "rm", "tool"]));
    let gone = api.post("/sandboxes", json!({"image": "tool"}).to_string()).await;
    assert_eq!(gone.status, 404, "{gone:?}");
}

#[tokio::test]
async fn a_pull_over_the_api_installs_from_the_registry_and_starts_only_the_limited_compiler() {
    let Some(registry) = DockerRegistry::start() else {
        return;
    };
    let (from, to) = (EmptyStore::new(), EmptyStore::new());
    from.add_tool(1);
    assert_ok(&from.wisp(&["images", "push", "tool", &registry.reference("wisp/tool")]));
    let cache = to.path().to_str().expect("UTF-8");
    let address = registry.reference("wisp");
    let settings = [
        ("WISP_CACHE_DIR", cache),
        ("WISP_IMAGES", ""),
        ("WISP_REGISTRY_ADDRESS", &address),
    ];
    let server = Server::start("127.0.0.1:0", &settings);
    let api = Api::new(server.url(), None);
    let unknown = api.post("/images/pull", json!({"image": "other"}).to_string()).await;
    assert_eq!(unknown.status, 404, "{unknown:?}");

    let (pid, ended) = (server.pid(), Arc::new(AtomicBool::new(false)));
    let watch = std::thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            let mut seen = BTreeSet::new();
            while !ended.load(Ordering::Relaxed) {
                descendants(pid, &mut seen);
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        }
    });
    let pulled = api.post("/images/pull", json!({"image": "tool"}).to_string()).await;
    ended.store(true, Ordering::Relaxed);
    let seen = watch.join().expect("it watches");
    assert_eq!(pulled.status, 200, "{pulled:?}");
    let last = pulled.body.lines().last().unwrap_or_default();
    assert_eq!(last, r#"{"type":"done","image":"tool"}"#, "{pulled:?}");
    assert!(
        seen.iter().any(|line| line.starts_with("wisp compile-module")),
        "{seen:?}"
    );
    // A process that is about to become another still has its parent's command line.
    let is_ours = |line: &&String| {
        ["wisp compile-module", " worker ", " serve "]
            .iter()
            .any(|part| line.contains(part))
    };
    assert_eq!(seen.iter().filter(|line| !is_ours(line)).count(), 0, "{seen:?}");

    let sandbox = api.create(json!({"image": "tool"})).await;
    let ran = sandbox
        .run_with(json!({"command": "/usr/bin/tool", "mode": "argv"}))
        .await;
    assert_eq!(ran.exit_code, 0, "{ran:?}");
}
