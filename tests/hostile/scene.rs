//! The server under attack, its tenants, and what it uses.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::guest_build;
use crate::guest_component;
use crate::process;
use crate::server_support::api::{Api, Sandbox};
use crate::server_support::images;
use crate::server_support::server::Server;
use crate::server_support::store::Store;

/// Runs what this program does as a client.
pub static TOKIO: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
});

/// How long a raw connection may take to be answered.
const RAW_TIME: Duration = Duration::from_secs(8);
/// How long nothing may come until an answer on a raw connection counts as whole.
const RAW_PAUSE: Duration = Duration::from_millis(150);

/// Settings of the server under attack. Times are short so that attacks that wait for them end soon; memory of the
/// compiler is small so that the bound on the server's memory is.
const SETTINGS: &[(&str, &str)] = &[
    ("WISP_LIMITS_HEADER_TIMEOUT", "3s"),
    ("WISP_LIMITS_BODY_TIMEOUT", "2s"),
    ("WISP_LIMITS_COMPILE_TIMEOUT", "4s"),
    ("WISP_LIMITS_COMPILE_MEMORY_MB", "512"),
    ("WISP_LIMITS_MAX_IMAGE_BYTES", "16000000"),
    ("WISP_LIMITS_MAX_SANDBOXES", "3000"),
];

/// The server, started when it is first needed and again after an attack that was not contained.
#[derive(Default)]
pub struct Stage {
    scene: Mutex<Option<Arc<Scene>>>,
}

impl Stage {
    /// The scene of the next attack.
    pub fn scene(&self) -> Arc<Scene> {
        let mut scene = self.scene.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(scene.get_or_insert_with(|| Arc::new(Scene::set(SETTINGS))))
    }

    /// Ends the server at once.
    pub fn restart(&self) {
        let scene = self.scene.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(scene) = scene {
            scene.kill();
        }
    }
}

/// The images of all servers, the programs of `tests/guests/hostile` and `tests/guests/component` among them. They are added
/// on the command line: there the usual limits of compiling hold, which a busy machine needs.
pub static STORE: LazyLock<Store> = LazyLock::new(|| {
    images::install_python_3_13();
    let store = Store::new();
    let guests = guest_build::build().unwrap_or_else(|error| panic!("the guest programs cannot be built: {error}"));
    add(&store, &guests.join("hostile.wasm"), "hostile", "/usr/bin/hostile");
    let module = std::fs::read(guests.join("component.wasm")).expect("the guest was built");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), guest_component::of_module(&module)).expect("the component is written");
    add(&store, file.path(), "component", "/usr/bin/tool");
    store
});

/// Adds an image of a WebAssembly file.
fn add(store: &Store, file: &Path, name: &str, program: &str) {
    let file = file.to_str().expect("a path in UTF-8");
    let added = store.wisp(&["images", "add", file, "--name", name, "--program", program]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
}

/// A server with two tenants.
pub struct Scene {
    /// `None` once it was killed.
    server: Mutex<Option<Server>>,
    pid: u32,
    url: String,
    pub address: SocketAddr,
    /// Where its database and the files of its sandboxes are.
    pub data: tempfile::TempDir,
    /// The attacker.
    pub a: Api,
    /// The bystander.
    pub b: Api,
    /// Holder of the scope `admin`.
    pub admin: Api,
    /// Somebody without a key.
    pub nobody: Api,
    pub key_a: String,
    pub key_b: String,
    /// Path of the bystander's sandbox.
    pub bystander: String,
    /// Path of a sandbox of the attacker that requests can name.
    pub named: String,
    /// Private memory when nothing had been attacked yet, KiB.
    pub fresh_kib: u64,
}

impl Scene {
    /// Starts a server with these settings.
    pub fn set(settings: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().expect("a data directory");
        let key_a = create_key(data.path(), "attacker", "read,api", "tenant-a");
        let key_b = create_key(data.path(), "bystander", "read,api", "tenant-b");
        let ops = create_key(data.path(), "ops", "admin", "default");
        let place = data.path().to_str().expect("a path in UTF-8");
        let mut all = vec![("WISP_DATA_DIR", place)];
        all.extend_from_slice(settings);
        let server = STORE.serve(&all);
        let url = server.url().to_owned();
        let parsed = Url::parse(&url).expect("a URL");
        let address = parsed.socket_addrs(|| None).expect("an address")[0];
        let api = |key: &str| Api::new(&url, Some(key));
        let (a, b, admin) = (api(&key_a), api(&key_b), api(&ops));
        let (bystander, named) = TOKIO.block_on(async {
            let bystander = b.create(standing()).await;
            assert_eq!(bystander.output("echo ready").await, "ready\n");
            let named = a.create(standing()).await;
            assert_eq!(named.output("echo ready").await, "ready\n");
            (bystander.path, named.path)
        });
        let mut scene = Self {
            pid: server.pid(),
            server: Mutex::new(Some(server)),
            address,
            data,
            nobody: Api::new(&url, None),
            url,
            a,
            b,
            admin,
            key_a,
            key_b,
            bystander,
            named,
            fresh_kib: 0,
        };
        scene.fresh_kib = scene.private_kib();
        scene
    }

    /// The URL of the API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A sandbox of the attacker.
    pub async fn sandbox(&self, body: Value) -> Sandbox {
        self.a.create(body).await
    }

    /// The number of the named sandbox in URLs.
    pub fn named_id(&self) -> &str {
        self.named.rsplit('/').next().unwrap_or_default()
    }

    /// Puts the server's address, a key and a sandbox into a request.
    pub fn fill_in(&self, request: &str) -> String {
        request
            .replace("{host}", &self.address.to_string())
            .replace("{key}", &self.key_a)
            .replace("{id}", self.named_id())
            .replace("{their}", self.bystander.rsplit('/').next().unwrap_or_default())
    }

    /// A connection of the attacker.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// Sends bytes on a connection of their own, and returns what comes until it is closed or nothing more comes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut connection = self.connect().await;
        // The server may refuse before it has read all, and close.
        let _ = connection.write_all(bytes).await;
        let mut answer = Vec::new();
        loop {
            let patience = if answer.is_empty() { RAW_TIME } else { RAW_PAUSE };
            match tokio::time::timeout(patience, connection.read_buf(&mut answer)).await {
                Ok(Ok(1..)) => {}
                _ => return String::from_utf8_lossy(&answer).into_owned(),
            }
        }
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(Server::log).unwrap_or_default()
    }

    /// Private memory of the server and its children, KiB.
    pub fn private_kib(&self) -> u64 {
        process::private_kib(self.pid)
    }

    /// Private memory of the server, and of each of its children by process, KiB.
    pub fn private_kib_of_each(&self) -> Vec<(u32, u64)> {
        process::private_kib_of_each(self.pid)
    }

    /// Whether a thread of the server or its children works, or waits for nothing but a processor.
    pub fn is_busy(&self) -> bool {
        process::is_busy(self.pid)
    }

    /// Ends the server at once.
    pub fn kill(&self) {
        if let Some(server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            server.kill();
        }
    }

    /// Starts a server again on the same data.
    pub fn serve_again(&self) -> Server {
        STORE.serve(&[("WISP_DATA_DIR", self.data.path().to_str().expect("a path in UTF-8"))])
    }
}

/// A sandbox that is there as long as the attacks go on.
fn standing() -> Value {
    json!({"image": "base", "memory_mb": 64, "disk_mb": 16, "ttl": "24h"})
}

/// A key made on the command line, as a deployer makes it before the first start.
pub fn create_key(data: &Path, name: &str, scopes: &str, tenant: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_wisp"))
        .args(["keys", "create", name, "--scope", scopes, "--tenant", tenant])
        .current_dir("/")
        .env_remove("WISP_API_KEYS")
        .env("WISP_DATA_DIR", data)
        .output()
        .expect("wisp starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
