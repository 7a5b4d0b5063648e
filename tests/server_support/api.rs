//! A client of the API that keeps whatever the server answers.

use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

/// A connection to a server.
#[derive(Clone)]
pub struct Api {
    http: Client,
    url: String,
    key: Option<String>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    /// From the request's first byte to the answer's last.
    pub elapsed: Duration,
}

/// How a command ended and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub exit_code: i64,
    pub stdout: String,
    pub stderr: String,
}

/// A sandbox of a server.
pub struct Sandbox {
    pub api: Api,
    /// Path of the sandbox below the API's URL.
    pub path: String,
}

impl Api {
    /// `url` ends in `/api/v1`.
    pub fn new(url: &str, key: Option<&str>) -> Self {
        wisp::registry::set_up_tls();
        Self {
            http: Client::new(),
            url: url.to_owned(),
            key: key.map(str::to_owned),
        }
    }

    /// The URL of a path below `/api/v1`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A request to a path below `/api/v1`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, self.url(path));
        match &self.key {
            Some(key) => request.header("X-API-Key", key),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        answer(self.request(Method::POST, path).body(body)).await
    }

    /// Creates a sandbox.
    #[track_caller]
    pub fn create(&self, body: Value) -> impl Future<Output = Sandbox> {
        let api = self.clone();
        async move {
            let created = api.post("/sandboxes", body.to_string()).await;
            assert_eq!(created.status, 201, "{created:?}");
            let id = created.json()["id"].as_str().expect("an id").to_owned();
            Sandbox {
                api,
                path: format!("/sandboxes/{id}"),
            }
        }
    }

    /// Fails unless the server lives.
    pub async fn assert_alive(&self) {
        let health = self.get("/health").await;
        assert_eq!(
            (health.status, &health.json()["status"]),
            (200, &json!("ok")),
            "{health:?}"
        );
    }
}

impl Sandbox {
    /// Runs a command; `request` is the body of the request.
    pub async fn exec(&self, request: Value) -> Answer {
        self.api.post(&format!("{}/exec", self.path), request.to_string()).await
    }

    /// Runs a shell command that must not time out.
    pub async fn run(&self, command: &str) -> Ran {
        self.run_with(json!({"command": command})).await
    }

    /// Runs a command that must not time out; `request` is the body of the request.
    pub async fn run_with(&self, request: Value) -> Ran {
        let answer = self.exec(request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.ran()
    }

    /// Runs a command that must succeed and write nothing to standard error, and returns what it prints.
    pub async fn output(&self, command: &str) -> String {
        let ran = self.run(command).await;
        assert_eq!((ran.exit_code, ran.stderr.as_str()), (0, ""), "{command}: {ran:?}");
        ran.stdout
    }

    /// The names of the programs that run in the sandbox, one a line.
    pub async fn process_names(&self) -> String {
        // A process may end between the shell's reading of the directory and cat's of the file.
        self.run("cat /proc/[0-9]*/comm 2>/dev/null").await.stdout
    }

    /// Puts a file into the sandbox.
    pub async fn write(&self, path: &str, content: &str) {
        let body = json!({"path": path, "content": content});
        let answer = self.api.post(&format!("{}/files", self.path), body.to_string()).await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"status": "written"})),
            "{path}"
        );
    }
}

impl Answer {
    /// The body.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A field of the body that is a text.
    #[track_caller]
    pub fn text(&self, field: &str) -> String {
        self.json()[field]
            .as_str()
            .unwrap_or_else(|| panic!("no text {field}: {self:?}"))
            .to_owned()
    }

    /// The exec this is the answer of.
    #[track_caller]
    pub fn ran(&self) -> Ran {
        let exit_code = self.json()["exit_code"].as_i64();
        Ran {
            exit_code: exit_code.unwrap_or_else(|| panic!("no exit code: {self:?}")),
            stdout: self.text("stdout"),
            stderr: self.text("stderr"),
        }
    }

    /// Fails unless this is an error of this status and code that says what happened.
    #[track_caller]
    pub fn assert_error(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.text("code"), code, "{self:?}");
        assert!(!self.text("message").is_empty(), "{self:?}");
    }
}

/// Sends a request and reads the answer.
pub async fn answer(request: RequestBuilder) -> Answer {
    let started = Instant::now();
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.text().await.expect("the whole answer");
    Answer {
        status,
        body,
        elapsed: started.elapsed(),
    }
}
