//! The API against the fake provider, over a real socket.

mod archive;
mod auth;
mod bad_requests;
mod clients;
mod connections;
mod diagnostics;
mod events;
mod exec;
mod exec_ws;
mod files;
mod images;
mod isolation;
mod keys;
mod lifecycle;
mod lists;
mod logs;
mod metrics;
mod quotas;
mod server;
mod shares;
mod slow_clients;
mod stats;
mod templates;

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::router::{RouteRule, rules};
use super::{ApiKeys, AppState, run};
use crate::config::{Config, Limits};
use crate::provider::fake::FakeProvider;
use crate::sandbox::{ImageCatalog, NoImages, Providers, SandboxManager};
use crate::store::Store;

/// A server of its own for each test.
pub(super) struct TestServer {
    pub(super) base: String,
    pub(super) http: Client,
    provider: Arc<FakeProvider>,
    sandboxes: SandboxManager,
    /// Its routes and who may use each.
    rules: Vec<RouteRule>,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<()>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    request_id: String,
    pub(super) text: String,
}

impl TestServer {
    pub(super) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        Self::with_images(config, |_| Arc::new(NoImages)).await
    }

    async fn with_limits(limits: Limits) -> Self {
        Self::with(Config {
            limits,
            ..Config::default()
        })
        .await
    }

    async fn with_images(config: Config, images: impl FnOnce(Arc<FakeProvider>) -> Arc<dyn ImageCatalog>) -> Self {
        let provider = Arc::new(FakeProvider::default());
        let providers = Providers::new(vec![provider.clone()], "wasm").unwrap();
        let config = Arc::new(config);
        let store = Store::in_memory().unwrap();
        let state = AppState {
            sandboxes: SandboxManager::new(Arc::clone(&config), providers, store.clone()),
            keys: ApiKeys::load(&config.auth, store.clone()).await.unwrap(),
            store,
            images: images(Arc::clone(&provider)),
            image_import: None,
            started: Instant::now(),
            config,
        };
        let rules = rules(state.clone());
        let sandboxes = state.sandboxes.clone();
        crate::registry::set_up_tls();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let ended = tokio::spawn(run(listener, shutdown, state));
        Self {
            base,
            http: Client::new(),
            provider,
            sandboxes,
            rules,
            stop: Some(stop),
            ended,
        }
    }

    /// `127.0.0.1:PORT`.
    fn address(&self) -> &str {
        self.base.strip_prefix("http://").unwrap()
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.http.request(
            Method::from_bytes(method.as_bytes()).unwrap(),
            format!("{}/api/v1{path}", self.base),
        )
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        answer(self.request("GET", path)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        answer(self.request("DELETE", path)).await
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        answer(self.request("POST", path).body(body)).await
    }

    /// Creates a sandbox and returns its path.
    async fn sandbox(&self) -> String {
        self.sandbox_with("{}").await
    }

    async fn sandbox_with(&self, body: &'static str) -> String {
        let created = self.post("/sandboxes", body).await;
        assert_eq!(created.status, 201, "{created:?}");
        format!("/sandboxes/{}", created.json()["id"].as_str().unwrap())
    }
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the whole shape of an error.
    #[track_caller]
    fn assert_error(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        assert_eq!(body["code"], code, "{self:?}");
        assert!(
            body["message"].as_str().is_some_and(|message| !message.is_empty()),
            "{self:?}"
        );
        assert_eq!(body["request_id"], self.request_id.as_str(), "{self:?}");
        assert!(!self.request_id.is_empty(), "{self:?}");
    }
}

async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let header = response
        .headers()
        .get("x-request-id")
        .map(|id| id.to_str().unwrap().to_owned());
    Answer {
        status: response.status().as_u16(),
        request_id: header.unwrap_or_default(),
        text: response.text().await.unwrap(),
    }
}

/// Waits until something becomes true, for two seconds at most.
async fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while !holds() {
        assert!(Instant::now() < deadline, "it never became true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
