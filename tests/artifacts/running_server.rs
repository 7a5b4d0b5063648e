//! A running server and the command line share a store.

use serde_json::json;

use crate::api::Api;
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
