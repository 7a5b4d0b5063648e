//! Other people's clients against the running server: the seed page's snippets and the published Python client.

mod server_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use server_support::api::Api;
use server_support::network::{self, Port};
use server_support::python::run;
use server_support::server::Server;
use server_support::{engine, images};

/// Where the snippets and scripts are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
/// The port the snippets use.
const SEED_PORT: u16 = 7423;
/// The address the snippets use.
const SEED_ADDRESS: &str = "127.0.0.1:7423";
/// The key in the snippets; a test puts its own in its place.
const KEY_PLACEHOLDER: &str = "sk_test_YOUR_API_KEY";
/// The sandbox in the snippets; a test puts its own in its place.
const ID_PLACEHOLDER: &str = "sb_a1b2c3d4";
/// The provider in the snippets; a test may put another in its place.
const SEED_PROVIDER: &str = "docker";
/// The key of servers with authentication.
const KEY: &str = "sk_test_27b7fcf0a9";

/// Makes the snippets' port free for this test. What may be downloaded is fetched first: the test's own network reaches
/// no other machine.
fn reserve_seed_port() -> Port {
    images::install();
    python();
    network::reserve(SEED_PORT)
}

/// The Python with the packages of `requirements.txt`.
fn python() -> PathBuf {
    let requirements = Path::new(SOURCES).join("requirements.txt");
    server_support::python::bin("clients", &requirements).join("python")
}

/// A snippet of the seed page, as the page has it.
fn snippet(name: &str) -> String {
    fs::read_to_string(Path::new(SOURCES).join("seed").join(name)).expect("the snippet")
}

/// The page's snippet that creates a sandbox, for a provider; without one, the line that names it is left out.
fn create_snippet(language: &str, provider: Option<&str>) -> String {
    let text = snippet(&format!("create.{language}"));
    let quoted = format!("\"{SEED_PROVIDER}\"");
    assert!(text.contains(&quoted), "{text}");
    match provider {
        Some(provider) => text.replace(&quoted, &format!("\"{provider}\"")),
        None => text
            .lines()
            .filter(|line| !line.contains(&quoted))
            .map(|line| format!("{line}\n"))
            .collect(),
    }
}

/// Runs the text of a snippet, in the language its file's name ends in, with a key and a sandbox of our own.
#[track_caller]
fn run_snippet(language: &str, text: &str, key: &str, id: &str) -> String {
    let text = text.replace(KEY_PLACEHOLDER, key).replace(ID_PLACEHOLDER, id);
    match language {
        "sh" => run(Command::new("bash").args(["-c", &text])),
        // The page's JavaScript awaits at its top level, which only modules may. Node before version 20 tries only the
        // first of localhost's addresses, which may be that of IPv6.
        "js" => {
            run(Command::new("node").args(["--dns-result-order=ipv4first", "--input-type=module", "--eval", &text]))
        }
        "py" => run(Command::new(python()).args(["-c", &text])),
        other => panic!("no language {other}"),
    }
}

/// Creates a sandbox with the page's snippet of a language, and returns its id.
#[track_caller]
fn create(language: &str, text: &str, key: &str) -> String {
    let printed = run_snippet(language, text, key, ID_PLACEHOLDER);
    if language == "sh" {
        let object: Value = serde_json::from_str(&printed).expect("curl prints the answer");
        object["id"].as_str().expect("an id").to_owned()
    } else {
        printed.trim().to_owned()
    }
}

/// Fails unless a sandbox is what the page's "Success Response" shows for the request it was created with.
fn assert_is_the_pages_sandbox(object: &Value, provider: &str) {
    assert!(object["id"].as_str().expect("an id").starts_with("sb_"), "{object}");
    for (field, expected) in [
        ("state", json!("running")),
        ("provider", json!(provider)),
        ("image", json!("python:3.12")),
        ("memory_mb", json!(512)),
        ("vcpus", json!(1)),
        ("metadata", json!({"purpose": "quickstart"})),
    ] {
        assert_eq!(object[field], expected, "{field} of {object}");
    }
    let time = |field: &str| {
        let text = object[field].as_str().expect("a timestamp");
        assert!(text.ends_with('Z'), "{text}");
        humantime::parse_rfc3339(text).expect("RFC 3339")
    };
    let lifetime = time("expires_at")
        .duration_since(time("created_at"))
        .expect("it expires after it was created");
    assert_eq!(lifetime.as_secs(), 600, "{object}");
}

/// The JSON that curl printed.
#[track_caller]
fn parsed(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// Creates, runs and destroys with the page's snippets of one language (the page destroys with curl only).
async fn walk_through_the_page(language: &str, key: &str, api: &Api, provider: &str) {
    let id = create(language, &create_snippet(language, Some(provider)), key);
    let object = api.get(&format!("/sandboxes/{id}")).await;
    assert_eq!(object.status, 200, "{object:?}");
    assert_is_the_pages_sandbox(&object.json(), provider);

    let exec = snippet(&format!("exec.{language}"));
    let printed = run_snippet(language, &exec, key, &id);
    match language {
        "sh" => {
            let answer = parsed(&printed);
            assert_eq!(answer["exit_code"], 0, "{printed}");
            assert_eq!(answer["stdout"], "42\n", "{printed}");
            assert_eq!(answer["stderr"], "", "{printed}");
            assert!(answer["duration"].is_string(), "{printed}");
        }
        "js" => assert!(
            printed.contains("exit_code: 0") && printed.contains(r"stdout: '42\n'"),
            "{printed}"
        ),
        _ => assert_eq!(printed, "42\n\n"),
    }

    let destroy = snippet("destroy.sh");
    for _ in 0..2 {
        let printed = run_snippet("sh", &destroy, key, &id);
        assert_eq!(parsed(&printed), json!({"status": "destroyed"}));
    }
    let error = parsed(&run_snippet("sh", &snippet("exec.sh"), key, &id));
    assert_eq!(error["code"], "not_found", "{error}");
    assert_eq!(error["message"], format!("sandbox {id} not found"), "{error}");
}

#[tokio::test]
async fn the_seed_pages_snippets_run_as_they_stand() {
    if !engine::available() {
        return;
    }
    let _port = reserve_seed_port();
    let server = Server::start(SEED_ADDRESS, &[("WISP_API_KEYS", KEY)]);
    let api = Api::new(server.url(), Some(KEY));
    for language in ["sh", "js", "py"] {
        walk_through_the_page(language, KEY, &api, SEED_PROVIDER).await;
    }
    // Curl shows the answer to the create request itself.
    let created = parsed(&run_snippet("sh", &snippet("create.sh"), KEY, ""));
    assert_is_the_pages_sandbox(&created, SEED_PROVIDER);
    let id = created["id"].as_str().expect("an id");
    run_snippet("sh", &snippet("destroy.sh"), KEY, id);
}

#[tokio::test]
async fn the_seed_pages_snippets_run_on_wasm() {
    let _port = reserve_seed_port();
    let server = Server::start(SEED_ADDRESS, &[("WISP_API_KEYS", KEY)]);
    let api = Api::new(server.url(), Some(KEY));
    for language in ["sh", "js", "py"] {
        walk_through_the_page(language, KEY, &api, "wasm").await;
    }
}

#[tokio::test]
async fn the_seed_pages_snippets_need_no_provider_and_no_authentication() {
    let _port = reserve_seed_port();
    let server = Server::start(SEED_ADDRESS, &[]);
    let api = Api::new(server.url(), None);
    for language in ["sh", "js", "py"] {
        let id = create(language, &create_snippet(language, None), KEY_PLACEHOLDER);
        assert_is_the_pages_sandbox(&api.get(&format!("/sandboxes/{id}")).await.json(), "wasm");
        walk_through_the_page(language, KEY_PLACEHOLDER, &api, "wasm").await;
    }
}

#[tokio::test]
async fn a_snippet_whose_key_was_not_filled_in_is_refused() {
    let _port = reserve_seed_port();
    let server = Server::start(SEED_ADDRESS, &[("WISP_API_KEYS", KEY)]);
    let error = parsed(&run_snippet("sh", &snippet("create.sh"), KEY_PLACEHOLDER, ""));
    assert_eq!(error["code"], "unauthorized", "{error}");
    let sandboxes = Api::new(server.url(), Some(KEY)).get("/sandboxes").await;
    assert_eq!(sandboxes.json(), json!([]));
}

/// Every public method of the published client, synchronous and asynchronous, on one provider.
async fn use_the_published_client(provider: &'static str) {
    let config = tempfile::NamedTempFile::new().expect("a configuration file");
    let digest = sha256_hex(KEY);
    let text = format!("[[auth.keys]]\nname = \"test\"\nsha256 = \"{digest}\"\nscopes = [\"admin\"]\n");
    fs::write(config.path(), text).expect("it is written");
    let path = config.path().to_str().expect("UTF-8").to_owned();
    let server = Server::start("127.0.0.1:0", &[("WISP_CONFIG", &path)]);
    let root = server
        .url()
        .strip_suffix("/api/v1")
        .expect("the API's prefix")
        .to_owned();
    let script = Path::new(SOURCES).join("stacyvm_client.py");
    let client =
        tokio::task::spawn_blocking(move || run(Command::new(python()).arg(script).args([&root, KEY, provider])));
    let printed = tokio::time::timeout(Duration::from_secs(240), client)
        .await
        .expect("the client ends")
        .expect("the client succeeds");
    assert!(printed.ends_with(" calls work\n"), "{printed}");
    let sandboxes = Api::new(server.url(), Some(KEY)).get("/sandboxes").await;
    assert_eq!(sandboxes.json(), json!([]), "the client destroyed what it created");
}

fn sha256_hex(text: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(text.as_bytes()))
}

#[tokio::test]
async fn the_published_python_client_works_on_wasm() {
    use_the_published_client("wasm").await;
}

#[tokio::test]
async fn the_published_python_client_works_on_docker() {
    if engine::available() {
        use_the_published_client("docker").await;
    }
}
