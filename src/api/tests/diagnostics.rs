//! What administrators see of the server.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{TestServer, answer};
use crate::config::Config;

#[tokio::test]
async fn diagnostics_tell_the_state_and_no_secret_and_only_to_administrators() {
    let digest = |text: &str| hex::encode(Sha256::digest(text));
    let key = |name: &str, scope: &str| json!({"name": name, "sha256": digest(name), "scopes": [scope]});
    let auth = json!({"keys": [key("boss", "admin"), key("works", "api")]});
    let server = TestServer::with(Config {
        auth: serde_json::from_value(auth).unwrap(),
        ..Config::default()
    })
    .await;
    let ask = |key| answer(server.request("GET", "/diagnostics").header("X-API-Key", key));
    ask("works").await.assert_error(403, "forbidden");
    let told = ask("boss").await;
    assert_eq!(told.status, 200, "{told:?}");
    let state = told.json();
    assert_eq!(state["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(state["providers"][0]["healthy"], true);
    assert_eq!(state["sandboxes"], 0);
    assert!(state["store_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{state}");
    assert_eq!(state["configuration"]["auth"]["keys"][0]["name"], "boss");
    assert_eq!(state["configuration"]["limits"]["max_sandboxes"], 1000);
    assert!(!told.text.contains(&digest("boss")), "{state}");
}
