//! A provider that cannot be used holds up nothing that does not use it.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use serde_json::json;

use crate::api::Api;
use crate::server::Server;

/// Well below the five seconds after which a health check gives up.
const FAST: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_engine_that_hangs_delays_no_answer_about_the_server() {
    let place = tempfile::tempdir().expect("a directory");
    let socket = place.path().join("engine.sock");
    let engine = UnixListener::bind(&socket).expect("a socket");
    // It takes every connection and never says anything.
    std::thread::spawn(move || engine.incoming().collect::<Vec<_>>());
    let host = format!("unix://{}", socket.display());
    let server = Server::start("127.0.0.1:0", &[("WISP_DOCKER_HOST", &host)]);
    let api = Api::new(server.url(), None);
    for round in 0..3 {
        for path in [
            "/ready",
            "/providers",
            "/providers/docker",
            "/metrics",
            "/metrics/prometheus",
            "/diagnostics",
        ] {
            let answer = api.get(path).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            assert!(answer.elapsed < FAST, "{path} took {:?}", answer.elapsed);
        }
        let docker = api.get("/providers/docker").await.json();
        assert_eq!(docker["healthy"], false, "{docker}");
        assert!(!docker["error"].as_str().expect("a reason").is_empty(), "{docker}");
        assert_eq!(api.get("/providers/wasm").await.json()["healthy"], true);
        // So that the checks of the last round have timed out, or not yet.
        tokio::time::sleep(Duration::from_secs(3 * round)).await;
    }
    let tested = api.post("/providers/test", "").await;
    assert_eq!(tested.json(), json!({"docker": false, "wasm": true}));
    server.stop();
}
