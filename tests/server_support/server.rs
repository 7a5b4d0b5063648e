//! `wisp serve` as a child process.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::images;

/// How long a server may take until it listens.
const START_TIME: Duration = Duration::from_secs(60);
/// Runs the server, tells its process number, and ends it (SIGTERM) at the end of standard input: that comes when the
/// test wants it, and also when the test program itself is killed.
const GUARD: &str = r#""$0" "$@" & server=$!; echo $server; cat; kill $server 2>/dev/null; wait $server"#;
/// What the server's log line says before its URL.
const ANNOUNCEMENT: &str = "serves ";

/// A server of its own process, stopped when dropped.
pub struct Server {
    url: String,
    log: File,
    pid: u32,
    guard: Child,
    /// Closing it stops the server.
    lifeline: Option<ChildStdin>,
    /// Its data directory, unless the settings name one; removed after the server has ended.
    data: tempfile::TempDir,
}

impl Server {
    /// Starts a server that listens on `address` and is configured by these environment variables.
    pub fn start(address: &str, settings: &[(&str, &str)]) -> Self {
        images::install();
        let log = tempfile::tempfile().expect("a file for the log");
        let data = tempfile::tempdir().expect("a data directory");
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARD, env!("CARGO_BIN_EXE_wisp"), "serve", "--listen", address])
            // A place where no wisp.toml of anybody's is read.
            .current_dir("/")
            .env_remove("WISP_API_KEYS")
            .env("NO_COLOR", "1")
            .env("WISP_DATA_DIR", data.path())
            .env("WISP_LIMITS_SHUTDOWN_GRACE", "1s")
            // Those that `images::install` has seen to.
            .env("WISP_IMAGES", images::PYTHON)
            .envs(settings.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone().expect("a second handle"));
        let mut guard = command.spawn().expect("sh starts");
        let mut pid = String::new();
        BufReader::new(guard.stdout.take().expect("standard output is a pipe"))
            .read_line(&mut pid)
            .expect("the guard tells the server's process number");
        let mut server = Self {
            url: String::new(),
            log,
            pid: pid.trim().parse().expect("a process number"),
            lifeline: guard.stdin.take(),
            guard,
            data,
        };
        server.url = server.announced_url();
        server
    }

    /// Base URL of the API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        let length = self.log.metadata().expect("the log's length").len();
        let mut bytes = vec![0; usize::try_from(length).expect("a log that fits into memory")];
        // Not `read`: the server's handle shares this one's position.
        self.log.read_exact_at(&mut bytes, 0).expect("the log is read");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Asks it to stop (SIGTERM), waits until it has, and tells how it ended.
    pub fn stop(mut self) -> ExitStatus {
        self.lifeline = None;
        self.guard.wait().expect("the guard ends")
    }

    /// Ends it at once (SIGKILL), as a crash does, and waits until it is gone.
    pub fn kill(self) {
        let pid = self.pid.to_string();
        let killed = Command::new("kill").args(["-9", &pid]).status().expect("kill starts");
        assert!(killed.success(), "{killed}");
    }

    /// Waits for the line of the log that says where it listens.
    fn announced_url(&self) -> String {
        let deadline = Instant::now() + START_TIME;
        loop {
            let log = self.log();
            let announced = log.lines().find_map(|line| line.split_once(ANNOUNCEMENT));
            // A line is whole when another character follows it.
            if let Some((_, url)) = announced.filter(|_| log.ends_with('\n')) {
                return url.split_whitespace().next().unwrap_or_default().to_owned();
            }
            assert!(
                Instant::now() < deadline && self.is_running(),
                "the server does not start:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_running(&self) -> bool {
        // A zombie is one that ended.
        fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| !stat.contains(") Z "))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.lifeline = None;
        // It has ended, or the guard sees to it.
        let _ = self.guard.wait();
        // Sandboxes outlive their server, but not the directory that says that they are its.
        if let Ok(id) = fs::read_to_string(self.data.path().join("server-id")) {
            remove_containers(&id);
        }
    }
}

/// Removes the containers of a server that will never be started again. Where there is no engine there are none.
fn remove_containers(server_id: &str) {
    let label = format!("label=wisp.server={server_id}");
    let listed = Command::new("docker")
        .args(["ps", "--all", "--quiet", "--filter", &label])
        .output();
    let listed = listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned());
    let containers: Vec<_> = listed.iter().flat_map(|text| text.split_whitespace()).collect();
    if !containers.is_empty() {
        let _ = Command::new("docker").args(["rm", "--force"]).args(containers).output();
    }
}
