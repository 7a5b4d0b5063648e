//! Those who must not notice an attack: a bystander of another tenant, and a prober of `/health`.
//!
//! Each has a thread and a blocking connection of its own, so that what is measured is the server and not this program.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longer than anything a contained attack can cause.
const PATIENCE: Duration = Duration::from_secs(35);
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(4);

/// What one of them met with.
#[derive(Debug, Default, Clone)]
pub struct Latencies {
    sorted: Vec<Duration>,
    /// The first answer that was wrong.
    pub wrong: Option<String>,
}

impl Latencies {
    /// The time within which this share of the answers came.
    pub fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a small number that is not negative"
        )]
        let index = (share * self.sorted.len() as f64).ceil() as usize;
        let index = index.clamp(1, self.sorted.len().max(1)) - 1;
        self.sorted.get(index).copied().unwrap_or_default()
    }

    /// The latest.
    pub fn max(&self) -> Duration {
        self.quantile(1.0)
    }
}

/// A connection that stays open.
struct Connection {
    stream: BufReader<TcpStream>,
    key: String,
}

impl Connection {
    fn open(address: SocketAddr, key: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
            key: key.to_owned(),
        })
    }

    /// Sends a request and reads the answer.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let request = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.key,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or(0);
            }
            if let Some(rest) = line.strip_prefix("content-length:") {
                length = rest.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// A thread that asks again and again until it is stopped.
pub struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Latencies>,
}

impl Probe {
    /// Asks for `/health`.
    pub fn of_health(address: SocketAddr) -> Self {
        Self::start(address, "", |connection, _| {
            let (status, body) = connection.ask("GET", "/health", "")?;
            Ok((status == 200 && body.contains("\"ok\""))
                .then_some(())
                .ok_or(format!("{status} {body}")))
        })
    }

    /// Runs small commands in a sandbox whose path is given, and looks at their answers.
    pub fn of_bystander(address: SocketAddr, key: &str, sandbox: String) -> Self {
        Self::start(address, key, move |connection, number| {
            let command = json!({"command": format!("echo by{number} > /f; cat /f"), "timeout": "90s"});
            let (status, body) = connection.ask("POST", &format!("{sandbox}/exec"), &command.to_string())?;
            let answer: Value = serde_json::from_str(&body).unwrap_or_default();
            let right = status == 200 && answer["stdout"] == json!(format!("by{number}\n")) && answer["exit_code"] == 0;
            Ok(right.then_some(()).ok_or(format!("exec {number}: {status} {body}")))
        })
    }

    fn start(
        address: SocketAddr,
        key: &str,
        ask: impl Fn(&mut Connection, usize) -> std::io::Result<Result<(), String>> + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        // Open before the attack begins.
        let connection = Connection::open(address, key);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut latencies = Latencies::default();
            let mut connection = match connection {
                Ok(connection) => connection,
                Err(error) => {
                    latencies.wrong = Some(format!("no connection: {error}"));
                    return latencies;
                }
            };
            for number in 0.. {
                let started = Instant::now();
                let answer = ask(&mut connection, number);
                latencies.sorted.push(started.elapsed());
                let wrong = match answer {
                    Ok(Ok(())) => None,
                    Ok(Err(wrong)) => Some(wrong),
                    Err(error) => Some(format!("request {number}: {error}")),
                };
                if let Some(wrong) = wrong {
                    latencies.wrong = Some(wrong.chars().take(300).collect());
                    break;
                }
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
            latencies.sorted.sort_unstable();
            latencies
        });
        Self { stop, thread }
    }

    /// Lets the request that is under way end, and tells what was met with.
    pub fn stop(self) -> Latencies {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a probe does not panic")
    }
}
