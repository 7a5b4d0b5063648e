//! A server that is killed again and again, under load, with its containers left to themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::sync::mpsc;

use crate::data_dir::DataDir;
use crate::server_support::api::Api;
use crate::server_support::engine;
use crate::{SHELL, serve};

const ROUNDS: usize = 20;
/// Clients that make, use and destroy sandboxes at the same time.
const CLIENTS: usize = 3;
/// How long an engine may take to finish what it was told by a server that is dead by now, until the next server has
/// noticed it.
const SETTLING_TIME: Duration = Duration::from_secs(30);

/// What a client knows of its sandboxes, by path of the sandbox.
#[derive(Default)]
struct Ledger {
    /// Files that were acknowledged, by sandbox.
    kept: BTreeMap<String, BTreeMap<String, String>>,
    /// Sandboxes whose destruction was acknowledged.
    destroyed: BTreeSet<String>,
}

enum Told {
    Created(String),
    Written(String, String, String),
    /// A request to destroy it was sent: from here on it may be gone.
    Destroying(String),
    Destroyed(String),
}

impl Ledger {
    fn note(&mut self, told: Told) {
        match told {
            Told::Created(sandbox) => {
                self.kept.insert(sandbox, BTreeMap::new());
            }
            Told::Written(sandbox, file, content) => {
                self.kept
                    .get_mut(&sandbox)
                    .expect("it was created")
                    .insert(file, content);
            }
            Told::Destroying(sandbox) => {
                self.kept.remove(&sandbox);
            }
            Told::Destroyed(sandbox) => {
                self.destroyed.insert(sandbox);
            }
        }
    }
}

/// Makes sandboxes, writes files, runs commands and destroys every second sandbox, until the server is gone.
async fn work(api: Api, client: usize, told: mpsc::UnboundedSender<Told>) {
    let tell = |event| told.send(event).expect("the test listens");
    // `None`: the server is gone, and whether it did as asked is not known.
    let send = async |method: Method, path: &str, body: String, status: u16| {
        let response = api.request(method, path).body(body).send().await.ok()?;
        let (answered, body) = (response.status(), response.text().await.ok()?);
        assert_eq!(answered, status, "{path}: {body}");
        Some(body)
    };
    for number in 0.. {
        let request = json!({"provider": "docker", "image": SHELL}).to_string();
        let Some(created) = send(Method::POST, "/sandboxes", request, 201).await else {
            return;
        };
        let created: serde_json::Value = serde_json::from_str(&created).expect("a sandbox");
        let sandbox = format!("/sandboxes/{}", created["id"].as_str().expect("an id"));
        tell(Told::Created(sandbox.clone()));

        let content = format!("{client}-{number} ").repeat(1 + 4000 * (number % 3));
        let path = format!("{sandbox}/files?path=/root/put");
        if send(Method::PUT, &path, content.clone(), 200).await.is_none() {
            return;
        }
        tell(Told::Written(sandbox.clone(), "/root/put".to_owned(), content));
        let command = json!({"command": format!("echo {number} >/root/run")}).to_string();
        if send(Method::POST, &format!("{sandbox}/exec"), command, 200)
            .await
            .is_none()
        {
            return;
        }
        tell(Told::Written(
            sandbox.clone(),
            "/root/run".to_owned(),
            format!("{number}\n"),
        ));
        if number % 2 == client % 2 {
            tell(Told::Destroying(sandbox.clone()));
            if send(Method::DELETE, &sandbox, String::new(), 200).await.is_none() {
                return;
            }
            tell(Told::Destroyed(sandbox));
        }
    }
}

/// Names of the containers that the server says it has.
async fn known(api: &Api) -> BTreeSet<String> {
    let listed = api.get("/sandboxes").await;
    assert_eq!(listed.status, 200, "{listed:?}");
    let sandboxes = listed.json();
    let sandboxes = sandboxes.as_array().expect("a list").iter();
    sandboxes
        .map(|sandbox| {
            assert_eq!(sandbox["state"], "running", "{sandbox}");
            format!("wisp-{}", sandbox["id"].as_str().expect("an id"))
        })
        .collect()
}

/// Waits until the engine has exactly the containers that the server knows.
async fn assert_no_orphans(api: &Api, data: &DataDir, round: usize) {
    let known = known(api).await;
    let deadline = Instant::now() + SETTLING_TIME;
    loop {
        let there = data.containers();
        if there == known {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "round {round}: the engine has {there:?}, the server knows {known:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Everything that was acknowledged is there, and nothing that was acknowledged to be gone.
async fn assert_kept(api: &Api, ledger: &Ledger, round: usize) {
    for (sandbox, files) in &ledger.kept {
        let shown = api.get(sandbox).await;
        assert_eq!(shown.status, 200, "round {round}: {sandbox} is lost: {shown:?}");
        for (file, content) in files {
            let read = api.get(&format!("{sandbox}/files?path={file}")).await;
            assert!(
                read.status == 200 && read.body == *content,
                "round {round}: {file} of {sandbox}: {read:?}"
            );
        }
    }
    for sandbox in &ledger.destroyed {
        let shown = api.get(sandbox).await;
        assert_eq!(shown.status, 404, "round {round}: {sandbox} is back: {shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_loses_no_container_and_leaves_none() {
    if !engine::available() {
        return;
    }
    let data = DataDir::new();
    let mut server = serve(data.path());
    for round in 0..ROUNDS {
        let api = Api::new(server.url(), None);
        let (told, mut acknowledged) = mpsc::unbounded_channel();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| tokio::spawn(work(api.clone(), client, told.clone())))
            .collect();
        drop(told);
        let mut ledger = Ledger::default();
        // Another instant in every round: while containers are made, written to, started in or removed.
        for _ in 0..=round {
            ledger.note(acknowledged.recv().await.expect("more work"));
        }
        server.kill();
        while let Some(event) = acknowledged.recv().await {
            ledger.note(event);
        }
        for client in clients {
            client.await.expect("a client that saw only what it expected");
        }

        server = serve(data.path());
        let api = Api::new(server.url(), None);
        assert_kept(&api, &ledger, round).await;
        assert_no_orphans(&api, &data, round).await;
        // Room for the next round. One stays, to be taken over again.
        for container in known(&api).await.into_iter().skip(1) {
            let path = format!("/sandboxes/{}", container.trim_start_matches("wisp-"));
            assert_eq!(api.delete(&path).await.status, 200);
        }
    }
    let api = Api::new(server.url(), None);
    assert_no_orphans(&api, &data, ROUNDS).await;
    for container in known(&api).await {
        let path = format!("/sandboxes/{}", container.trim_start_matches("wisp-"));
        assert_eq!(api.delete(&path).await.status, 200);
    }
    assert_eq!(data.containers(), BTreeSet::new());
    let left = fs::read_dir(data.path().join("sandboxes")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "directories of sandboxes that are gone");
    server.stop();
}
