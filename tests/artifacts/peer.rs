//! The registry that images go through: `docker-registry` of Debian, and what sits between it and a client.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// `secret`, as htpasswd writes it (bcrypt).
const PASSWORD: &str = "test:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
/// How long the registry may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry with a directory of its own; ended when dropped.
pub struct DockerRegistry {
    dir: tempfile::TempDir,
    child: Child,
    port: u16,
}

impl DockerRegistry {
    /// Starts it; `None`, said so, where there is none to start. There must be one in CI.
    #[track_caller]
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// Starts one that wants the user `test` with the password `secret`.
    #[track_caller]
    pub fn start_with_password() -> Option<Self> {
        Self::start_with("auth: { htpasswd: { realm: test, path: DIR/htpasswd } }\n")
    }

    #[track_caller]
    #[expect(clippy::print_stderr, reason = "who runs the tests is to know")]
    fn start_with(auth: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().to_str().expect("UTF-8").to_owned();
        std::fs::write(dir.path().join("htpasswd"), PASSWORD).expect("the password is written");
        let port = TcpListener::bind("127.0.0.1:0")
            .expect("a port")
            .local_addr()
            .expect("its address")
            .port();
        let config = format!(
            "version: 0.1\nlog: {{ level: error, accesslog: {{ disabled: true }} }}\nhttp: {{ addr: \
             \"127.0.0.1:{port}\" }}\nstorage: {{ filesystem: {{ rootdirectory: DIR/data }} }}\n{auth}"
        );
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config.replace("DIR", &path)).expect("the configuration is written");
        let started = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match started {
            Ok(child) => child,
            Err(error) => {
                let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
                assert!(
                    !in_ci,
                    "docker-registry does not start ({error}); scripts/setup --docker installs it"
                );
                eprintln!("there is no docker-registry: what needs one is not tested");
                return None;
            }
        };
        let registry = Self { dir, child, port };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(registry)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The reference of an image in it.
    pub fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// The files that hold its blobs, the largest last.
    pub fn blobs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut pending = vec![self.dir.path().join("data/docker/registry/v2/blobs")];
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found.sort_by_key(|path| size(path));
        found
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn size(path: &Path) -> u64 {
    std::fs::metadata(path).expect("a file").len()
}

/// Passes connections on to a port until so many bytes went one way, and then cuts all of them off: a registry that dies, or
/// a client that does.
pub struct Cutter {
    port: u16,
}

impl Cutter {
    /// Cuts after `bytes` of answers.
    pub fn of_answers(to: u16, bytes: i64) -> Self {
        Self::new(to, i64::MAX, bytes)
    }

    /// Cuts after `bytes` of requests.
    pub fn of_requests(to: u16, bytes: i64) -> Self {
        Self::new(to, bytes, i64::MAX)
    }

    fn new(to: u16, requests: i64, answers: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (requests, answers) = (Arc::new(AtomicI64::new(requests)), Arc::new(AtomicI64::new(answers)));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if requests.load(Ordering::Relaxed) <= 0 || answers.load(Ordering::Relaxed) <= 0 {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                for (from, to, budget) in [(&client, &server, &requests), (&server, &client, &answers)] {
                    let (from, to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
                    let budget = Arc::clone(budget);
                    std::thread::spawn(move || pass(from, to, &budget));
                }
            }
        });
        Self { port }
    }

    pub fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, budget: &AtomicI64) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let left = budget.fetch_sub(i64::try_from(count).expect("a small number"), Ordering::Relaxed);
        let passed = count.min(usize::try_from(left).unwrap_or(0));
        if to.write_all(&buffer[..passed]).is_err() || passed < count {
            break;
        }
    }
    // Either side may be gone already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
