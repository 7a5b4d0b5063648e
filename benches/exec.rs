//! What a caller waits for: creating a sandbox and running small commands, in process and over HTTP.
//!
//! `cargo bench --bench exec` watches our own changes; `wisp-bench` compares with others. The images must be installed
//! (`cargo run --release -p wisp-image-build -- python:3.13 python:3.12`); the first run does it.

#[path = "../crates/bench/src/in_process.rs"]
mod in_process;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use tokio::runtime::Runtime as Tokio;
use wisp::api::{self, ApiKeys, AppState};
use wisp::config::Config;
use wisp::image::ImageStore;
use wisp::provider::{Command, Provider};
use wisp::sandbox::{Providers, SandboxManager};
use wisp::store::Store;

use in_process::InProcess;

/// The everyday image, and that of the seed page.
const IMAGE: &str = "python:3.13";
const OLDER_IMAGE: &str = "python:3.12";
const SANDBOX: &str = "bench";
const OLDER_SANDBOX: &str = "bench-older";

/// What the shell and its tools run in [`IMAGE`], and Python in both images: name of the benchmark, command.
const COMMANDS: [(&str, &str); 7] = [
    ("sh true", "true"),
    ("sh echo", "echo hi"),
    ("simple command", "/bin/true"),
    ("sh external command", ":; /bin/true"),
    ("sh fork", "{ :; } & wait"),
    ("three-stage pipeline", "seq 1 1000 | sort -rn | head -1"),
    ("python:3.13 print", PRINT),
];
const OLDER_NAME: &str = "python:3.12 print";
const PRINT: &str = "python3 -c 'print(1)'";

async fn run(sandboxes: &InProcess, sandbox: &str, script: &str) -> i32 {
    let command = Command::Shell(script.to_owned());
    let (exit_code, _) = sandboxes.run(sandbox, command).await.expect("the command runs");
    exit_code
}

fn in_process(criterion: &mut Criterion) {
    let tokio = Tokio::new().expect("tokio starts");
    let sandboxes = InProcess::open().expect("the engine starts");
    for (sandbox, image) in [(SANDBOX, IMAGE), (OLDER_SANDBOX, OLDER_IMAGE)] {
        tokio
            .block_on(sandboxes.create(sandbox, image))
            .expect("a sandbox is created");
    }
    let mut group = criterion.benchmark_group("in process");
    group.bench_function("create", |bencher| {
        bencher.to_async(&tokio).iter_custom(|rounds| {
            let sandboxes = sandboxes.clone();
            async move {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let started = Instant::now();
                    sandboxes
                        .create("fresh", black_box(IMAGE))
                        .await
                        .expect("a sandbox is created");
                    spent += started.elapsed();
                    sandboxes.destroy("fresh").await.expect("it is destroyed");
                }
                spent
            }
        });
    });
    let commands = COMMANDS.map(|(name, script)| (name, SANDBOX, script));
    for (name, sandbox, script) in commands.into_iter().chain([(OLDER_NAME, OLDER_SANDBOX, PRINT)]) {
        assert_eq!(tokio.block_on(run(&sandboxes, sandbox, script)), 0, "{script}");
        group.bench_function(name, |bencher| {
            bencher.to_async(&tokio).iter(|| run(&sandboxes, sandbox, script));
        });
    }
    group.finish();
}

fn over_http(criterion: &mut Criterion) {
    let tokio = Tokio::new().expect("tokio starts");
    let provider = InProcess::open().expect("the engine starts").provider;
    let config = Arc::new(Config::default());
    let providers = Providers::new(vec![provider as Arc<dyn Provider>], "wasm").expect("wasm is the default");
    let store = Store::in_memory().expect("a database in memory");
    let keys = tokio
        .block_on(ApiKeys::load(&config.auth, store.clone()))
        .expect("no keys");
    let state = AppState {
        config: Arc::clone(&config),
        sandboxes: SandboxManager::new(config, providers, store.clone()),
        store,
        images: Arc::new(Arc::new(ImageStore::open_default().expect("the image store opens"))),
        keys,
        image_import: None,
        started: Instant::now(),
    };
    let base = tokio.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(api::run(listener, std::future::pending(), state));
        format!("http://{address}/api/v1")
    });
    wisp::registry::set_up_tls();
    let client = reqwest::Client::new();
    let post = async |path: String, body: Value| -> Value {
        let answer = client
            .post(format!("{base}{path}"))
            .json(&body)
            .send()
            .await
            .expect("an answer");
        answer.json().await.expect("JSON")
    };
    let create = json!({"image": IMAGE, "vcpus": 2});
    let id_of = |sandbox: Value| sandbox["id"].as_str().expect("an id").to_owned();
    let id = id_of(tokio.block_on(post("/sandboxes".to_owned(), create.clone())));
    let older = json!({"image": OLDER_IMAGE, "vcpus": 2});
    let older_id = id_of(tokio.block_on(post("/sandboxes".to_owned(), older)));
    let mut group = criterion.benchmark_group("HTTP");
    group.bench_function("create and destroy", |bencher| {
        bencher.to_async(&tokio).iter(|| async {
            let sandbox = post("/sandboxes".to_owned(), create.clone()).await;
            let id = sandbox["id"].as_str().expect("an id");
            client
                .delete(format!("{base}/sandboxes/{id}"))
                .send()
                .await
                .expect("an answer")
        });
    });
    let commands = COMMANDS.map(|(name, script)| (name, &id, script));
    for (name, id, script) in commands.into_iter().chain([(OLDER_NAME, &older_id, PRINT)]) {
        group.bench_function(name, |bencher| {
            bencher
                .to_async(&tokio)
                .iter(|| post(format!("/sandboxes/{id}/exec"), json!({"command": script})));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50).measurement_time(Duration::from_secs(5));
    targets = in_process, over_http
}
criterion_main!(benches);
