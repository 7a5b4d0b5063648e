//! The server that most tests share, and whose turn it is to use it.

use std::sync::LazyLock;

use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::api::{Answer, Api, Sandbox};
use crate::images::PYTHON;
use crate::server::Server;

static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start("127.0.0.1:0", &[]));
static TURNS: RwLock<()> = RwLock::const_new(());

/// The shared server, for as long as a test needs it.
pub struct Setting {
    pub api: Api,
    pub server: &'static Server,
    /// Held for its `Drop`.
    _turn: Turn,
}

#[expect(dead_code, reason = "the guards are held for their `Drop`")]
enum Turn {
    Together(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// How a command ended and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub exit_code: i64,
    pub stdout: String,
    pub stderr: String,
}

impl Setting {
    /// The server, used by other tests at the same time.
    pub async fn shared() -> Self {
        let turn = Turn::Together(TURNS.read().await);
        Self::with(turn)
    }

    /// The server, with no other test using it: for tests that measure time, or take all there is.
    pub async fn alone() -> Self {
        let turn = Turn::Alone(TURNS.write().await);
        Self::with(turn)
    }

    fn with(turn: Turn) -> Self {
        let server = &*SERVER;
        Self {
            api: Api::new(server.url(), None),
            server,
            _turn: turn,
        }
    }

    /// A fresh sandbox with Python.
    pub async fn sandbox(&self) -> Sandbox {
        self.api.create(json!({"image": PYTHON, "vcpus": 2})).await
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        // A panic that the server survived is a defect all the same.
        let log = self.server.log();
        assert!(std::thread::panicking() || !log.contains("panicked"), "{log}");
    }
}

impl Sandbox {
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
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

impl Answer {
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
