//! The server and provider that cases are run against.

use std::future::Future;
use std::pin::Pin;

use serde_json::{Value, json};

use crate::api::{Answer, Api, Sandbox};
use crate::server::Server;
use crate::server_support::engine;

/// The image of cases that need a shell and the usual tools.
pub const SHELL_IMAGE: &str = "alpine:latest";
/// The image of cases that need Python.
pub const PYTHON_IMAGE: &str = "python:3.12";

/// One thing a provider must do.
pub struct Case {
    pub name: &'static str,
    pub run: for<'a> fn(&'a Target) -> Pin<Box<dyn Future<Output = ()> + 'a>>,
}

/// A provider of a server.
pub struct Target {
    pub api: Api,
    provider: String,
    /// There is nothing to test, and it is no failure: cases are shown as ignored.
    absent: bool,
}

impl Target {
    /// A target that is only listed.
    pub fn named(provider: &str) -> Self {
        Self {
            api: Api::new("", None),
            provider: provider.to_owned(),
            absent: false,
        }
    }

    /// The providers of the server that the environment names, or of one of our own, which is stopped when dropped.
    pub fn all() -> Result<(Option<Server>, Vec<Self>), String> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(url) = variable("WISP_CONFORMANCE_URL") {
            let provider = variable("WISP_CONFORMANCE_PROVIDER").ok_or("WISP_CONFORMANCE_PROVIDER is not set")?;
            let api = Api::new(&url, variable("WISP_CONFORMANCE_KEY").as_deref());
            let target = Self {
                api,
                provider,
                absent: false,
            };
            return Ok((None, vec![target]));
        }
        let has_engine = engine::available();
        let server = Server::start("127.0.0.1:0", &[]);
        let target = |provider: &str, absent| Self {
            api: Api::new(server.url(), None),
            provider: provider.to_owned(),
            absent,
        };
        let targets = vec![target("wasm", false), target("docker", !has_engine)];
        Ok((Some(server), targets))
    }

    /// Name of the provider.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// Whether there is nothing to test.
    pub fn is_absent(&self) -> bool {
        self.absent
    }

    /// Whether the provider is known to differ here; see [`crate::differences`].
    pub async fn differs(&self, difference: &str) -> bool {
        crate::differences::applies(self, difference).await
    }

    /// A fresh sandbox with a shell.
    pub async fn sandbox(&self) -> Sandbox {
        self.create(json!({})).await
    }

    /// A fresh sandbox with a shell, from a request with these fields as well.
    pub async fn create(&self, mut request: Value) -> Sandbox {
        let fields = request.as_object_mut().expect("an object");
        fields.entry("image").or_insert(json!(SHELL_IMAGE));
        fields.insert("provider".to_owned(), json!(self.provider));
        self.api.create(request).await
    }

    /// The answer to a request for a sandbox.
    pub async fn try_create(&self, mut request: Value) -> Answer {
        let fields = request.as_object_mut().expect("an object");
        fields.entry("image").or_insert(json!(SHELL_IMAGE));
        fields.insert("provider".to_owned(), json!(self.provider));
        self.api.post("/sandboxes", request.to_string()).await
    }
}

impl Sandbox {
    /// Its id.
    pub fn id(&self) -> &str {
        self.path.trim_start_matches("/sandboxes/")
    }

    /// Waits until no program of this name runs in the sandbox any more.
    pub async fn assert_ends(&self, program: &str) {
        for _ in 0..100 {
            let names = self.process_names().await;
            if !names.lines().any(|name| name == program) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{program} still runs");
    }

    /// The answer to `GET` of a resource below the sandbox, such as `files?path=/x`.
    pub async fn get(&self, resource: &str) -> Answer {
        self.api.get(&format!("{}/{resource}", self.path)).await
    }

    /// The answer to `POST` to a resource below the sandbox.
    pub async fn post(&self, resource: &str, body: Value) -> Answer {
        self.api
            .post(&format!("{}/{resource}", self.path), body.to_string())
            .await
    }

    /// The answer to `DELETE` of a resource below the sandbox.
    pub async fn delete(&self, resource: &str) -> Answer {
        self.api.delete(&format!("{}/{resource}", self.path)).await
    }

    /// The answer to `PUT` of bytes to a resource below the sandbox.
    pub async fn put(&self, resource: &str, bytes: Vec<u8>) -> Answer {
        let request = self
            .api
            .request(reqwest::Method::PUT, &format!("{}/{resource}", self.path));
        crate::api::answer(request.body(bytes)).await
    }

    /// The bytes that `GET` of a resource below the sandbox answers.
    pub async fn bytes(&self, resource: &str) -> Vec<u8> {
        let request = self
            .api
            .request(reqwest::Method::GET, &format!("{}/{resource}", self.path));
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), 200, "{resource}");
        response.bytes().await.expect("the whole answer").to_vec()
    }
}

impl Answer {
    /// Fails unless this is a success with exactly this JSON.
    #[track_caller]
    pub fn assert_is(&self, expected: &Value) {
        assert_eq!((self.status, &self.json()), (200, expected), "{self:?}");
    }
}
