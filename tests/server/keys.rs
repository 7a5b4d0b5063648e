//! `wisp keys` on the data directory of a server.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::api::{Answer, Api};
use crate::server::Server;
use crate::wisp_command::{assert_ended, command, finish, stderr, stdout};

/// In this time a running server takes what the command line changes.
const NOTICED: Duration = Duration::from_secs(2);

/// Runs `wisp keys …` on a data directory.
async fn keys(data: &Path, arguments: &[&str]) -> std::process::Output {
    let all = [&["keys"], arguments].concat();
    let mut command = command(&all);
    // A place where no wisp.toml of anybody's is read.
    command.current_dir("/").env("WISP_DATA_DIR", data);
    finish(&mut command, "").await
}

/// As [`keys`]; must succeed. What it printed.
async fn keys_printed(data: &Path, arguments: &[&str]) -> String {
    let output = keys(data, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

fn serve(address: &str, data: &Path) -> Server {
    let data = data.to_str().expect("a path in UTF-8");
    Server::start(address, &[("WISP_DATA_DIR", data)])
}

/// Asks until the answer has this status, for two seconds at most.
async fn becomes(api: &Api, path: &str, status: u16) -> Answer {
    let deadline = Instant::now() + NOTICED;
    loop {
        let answer = api.get(path).await;
        if answer.status == status {
            return answer;
        }
        assert!(Instant::now() < deadline, "{path} does not become {status}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_running_server_takes_keys_made_and_revoked_on_the_command_line() {
    let data = tempfile::tempdir().expect("a data directory");
    let data = data.path();
    let server = serve("127.0.0.1:0", data);
    let nobody = Api::new(server.url(), None);
    assert_eq!(nobody.get("/sandboxes").await.status, 200);

    let made = keys(data, &["create", "ops", "--scope", "admin"]).await;
    let key = stdout(&made).trim().to_owned();
    assert!(
        key.starts_with("wisp_") && stdout(&made).lines().count() == 1,
        "{made:?}"
    );
    assert!(stderr(&made).contains("first key"), "{}", stderr(&made));
    assert!(!stderr(&made).contains(&key), "the key is on standard output only");
    let ops = Api::new(server.url(), Some(&key));
    becomes(&ops, "/keys", 200).await;
    becomes(&nobody, "/sandboxes", 401).await;

    let arguments = [
        "create", "ci", "--scope", "read,api", "--tenant", "acme", "--user", "ann", "--json",
    ];
    let made: Value = serde_json::from_str(&keys_printed(data, &arguments).await).expect("JSON");
    let (id, secret) = (
        made["id"].as_str().expect("an id"),
        made["key"].as_str().expect("a key"),
    );
    let ci = Api::new(server.url(), Some(secret));
    becomes(&ci, "/sandboxes", 200).await;
    ci.get("/keys").await.assert_error(403, "forbidden");

    // The command line and the API say the same.
    let listed: Value = serde_json::from_str(&keys_printed(data, &["list", "--json"]).await).expect("JSON");
    let mut expected = made.clone();
    expected.as_object_mut().expect("an object").remove("key");
    for list in [&listed, &ops.get("/keys").await.json()] {
        let mut found = list
            .as_array()
            .expect("an array")
            .iter()
            .find(|key| key["id"] == id)
            .cloned();
        let found = found.as_mut().and_then(Value::as_object_mut).expect("the key");
        found.remove("last_used_at");
        assert_eq!(Value::Object(found.clone()), expected);
    }
    let table = keys_printed(data, &["list"]).await;
    let line = table.lines().find(|line| line.starts_with(id)).expect("its line");
    for field in ["ci", "read,api", "acme", "ann"] {
        assert!(line.contains(field), "{field}: {line}");
    }
    assert!(!table.contains(secret) && !listed.to_string().contains(secret));

    assert_ended(&keys(data, &["revoke", id]).await, 0, &format!("revoked {id}\n"));
    becomes(&ci, "/sandboxes", 401).await;
    let trail = ops.get("/audit").await.json();
    let actions: Vec<_> = trail
        .as_array()
        .expect("an array")
        .iter()
        .map(|entry| &entry["action"])
        .collect();
    assert_eq!(actions, ["key.revoke", "key.create", "key.create"]);
    assert!(trail[0].get("key").is_none() && trail[0]["target"] == id, "{trail}");
    server.stop();
}

#[tokio::test]
async fn a_key_made_before_the_first_start_opens_a_server_that_others_can_reach() {
    let data = tempfile::tempdir().expect("a place");
    let data = data.path().join("not/yet/there");
    let key = keys_printed(&data, &["create", "ops"]).await;
    let server = serve("0.0.0.0:0", &data);
    let url = server.url().replace("0.0.0.0", "127.0.0.1");
    assert_eq!(Api::new(&url, Some(key.trim())).get("/sandboxes").await.status, 200);
    Api::new(&url, None)
        .get("/sandboxes")
        .await
        .assert_error(401, "unauthorized");
    server.stop();
}

#[tokio::test]
async fn what_makes_no_key_or_finds_none_says_why() {
    let data = tempfile::tempdir().expect("a data directory");
    let data = data.path();
    for (arguments, words) in [
        (&["list"][..], "no database"),
        (&["revoke", "key_0"], "no database"),
        (&["create", " "], "name"),
        (&["create", "a", "--tenant", "a/b"], "tenant"),
        (&["create", "a", "--user", "ann", "--scope", "admin"], "admin"),
    ] {
        let output = keys(data, arguments).await;
        assert_ended(&output, 1, "");
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
    }
    assert!(
        std::fs::read_dir(data).expect("a directory").next().is_none(),
        "what fails makes nothing"
    );
    keys_printed(data, &["create", "a"]).await;
    let output = keys(data, &["revoke", "key_0"]).await;
    assert_ended(&output, 1, "");
    assert!(stderr(&output).contains("no API key key_0"), "{}", stderr(&output));
}
