//! The server that most tests share, and whose turn it is to use it.

use std::sync::LazyLock;

use serde_json::json;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::api::{Api, Sandbox};
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
