//! A fuzzer that reads the API's description against the running server: whatever it sends, the server does not fail,
//! and answers with what the description says.

#[path = "../server_support/mod.rs"]
mod server_support;

use std::path::Path;
use std::process::Command;

use serde_json::json;
use server_support::api::Api;
use server_support::python;
use server_support::server::Server;
use server_support::store::Store;
use sha2::Digest as _;

/// Where the hooks and the versions are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi");
/// The key of a server with authentication.
const KEY: &str = "sk_test_27b7fcf0a9";
/// The file and the template that are there to be met; not those of the description's examples, which are removed.
const FILE: &str = "/srv/live.txt";
const TEMPLATE: &str = "live";
/// Routes it does not call: both keep their connection open for as long as the client wants, so a request for one
/// never ends by itself. Tests of their own hold them.
const ENDLESS: [&str; 2] = ["/events", "/sandboxes/{id}/exec/ws"];
/// What must hold of every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// Fuzzes a server whose routes have live things behind them. `examples` is how many requests are made up for each
/// route, besides those that follow from the description.
async fn fuzz(server: Server, key: Option<&'static str>, phases: &'static str, examples: u32) {
    let api = Api::new(server.url(), key);
    let sandbox = api.create(json!({"ttl": "1h"})).await;
    let file = json!({"path": FILE, "content": "here\n"}).to_string();
    let written = api.post(&format!("{}/files", sandbox.path), file).await;
    assert_eq!(written.status, 200, "{written:?}");
    let template = json!({"name": TEMPLATE, "image": "alpine:latest"}).to_string();
    let saved = api.post("/templates", template).await;
    assert_eq!(saved.status, 201, "{saved:?}");

    let fuzzer = tokio::task::spawn_blocking({
        let (api, path) = (api.clone(), sandbox.path.clone());
        move || {
            let bin = python::bin("openapi", &Path::new(SOURCES).join("requirements.txt"));
            let mut command = Command::new(bin.join("schemathesis"));
            command
                .arg("run")
                .arg(api.url("/openapi.json"))
                .args(["--checks", CHECKS, "--phases", phases])
                .args(["--max-examples", &examples.to_string(), "--seed", "1"])
                .args(["--generation-database", "none", "--suppress-health-check", "all"])
                .args(["--request-timeout", "20", "--continue-on-failure", "--no-color"])
                .args(ENDLESS.iter().flat_map(|path| ["--exclude-path", path]))
                // A server without keys closes to those who have none with its first key.
                .args(
                    key.is_none()
                        .then_some(["--exclude-path", "/keys"])
                        .into_iter()
                        .flatten(),
                )
                .args(
                    key.iter()
                        .flat_map(|key| ["--header".to_owned(), format!("X-API-Key: {key}")]),
                )
                .current_dir(env!("CARGO_TARGET_TMPDIR"))
                .env("PYTHONPATH", SOURCES)
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env("SCHEMATHESIS_HOOKS", "hooks")
                .env("WISP_TEST_SANDBOX", path.trim_start_matches("/sandboxes/"))
                .env("WISP_TEST_TEMPLATE", TEMPLATE)
                .env("WISP_TEST_FILE", FILE);
            python::run(&mut command)
        }
    });
    let printed = fuzzer
        .await
        .unwrap_or_else(|error| panic!("{error}\nthe server's log:\n{}", server.log()));
    #[expect(clippy::print_stdout, reason = "what was found, for who looks into a failure")]
    {
        println!("{printed}");
    }
    // They met what they should have: all of it is still there, and so is the server.
    api.assert_alive().await;
    assert_eq!(api.get(&sandbox.path).await.text("state"), "running");
    assert_eq!(api.get(&format!("/templates/{TEMPLATE}")).await.status, 200);
    let file = api.get(&format!("{}/files?path={FILE}", sandbox.path)).await;
    assert_eq!(file.status, 200, "{file:?}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test]
async fn answers_are_what_the_description_says() {
    let digest = hex::encode(sha2::Sha256::digest(KEY));
    let config = tempfile::NamedTempFile::new().expect("a configuration file");
    let text = format!("[[auth.keys]]\nname = \"test\"\nsha256 = \"{digest}\"\nscopes = [\"admin\"]\n");
    std::fs::write(config.path(), text).expect("it is written");
    let path = config.path().to_str().expect("UTF-8");
    let store = Store::new();
    let server = store.serve(&[("WISP_CONFIG", path)]);
    fuzz(server, Some(KEY), "examples,coverage,fuzzing", 3).await;
}

#[tokio::test]
async fn answers_are_what_the_description_says_without_authentication() {
    let store = Store::new();
    let server = store.serve(&[]);
    fuzz(server, None, "examples,fuzzing", 2).await;
}
