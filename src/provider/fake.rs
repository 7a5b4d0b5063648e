//! A provider for tests of the layers above: files in a map, and a handful of commands.
//!
//! | command (either mode) | does |
//! |---|---|
//! | `echo WORDS` | prints the words and a line feed |
//! | `cat` | prints standard input, as it comes |
//! | `exit N` | exits with N |
//! | `sleep` | never ends by itself; dies of signals |
//! | `deaf` | never reads its input, nor ends by itself; dies of signals |
//! | `flood BYTES` | prints that many bytes |
//! | `bytes` | prints `€` split over two chunks, then a byte that is not UTF-8 |
//! | `env` | prints the environment of the exec |
//! | `argv …` | prints each argument on its own line |
//! | `panic` | panics in the provider |
//! | `vanish` | closes the channel without an exit |

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::archive::{self, Entry, EntryKind, Reader};
use super::{
    ByteStream, Capabilities, Command, DirPage, ExecControl, ExecEvent, ExecOutcome, ExecSpec, Execution, FileInfo,
    Network, NoControl, OutputStream, Page, Provider, ProviderError, PullProgress, SandboxSpec, SandboxUsage, Signal,
    Stdin,
};

/// Images it knows. `slow` takes half a second to create, `broken` fails, `panic` panics.
const IMAGES: [&str; 5] = ["alpine:latest", "python:3.12", "slow", "broken", "panic"];

/// The provider; its counters are for tests to look at.
#[derive(Default)]
pub struct FakeProvider {
    sandboxes: Mutex<HashMap<String, Files>>,
    /// Commands that run now.
    pub running: Arc<AtomicUsize>,
    /// The next this many calls of `destroy` fail.
    pub failing_destroys: AtomicUsize,
    /// Its name, when it is not `wasm`.
    other_name: Option<&'static str>,
    /// Whether it cannot be reached.
    pub away: AtomicBool,
    /// Whether its health checks never end.
    pub hangs: AtomicBool,
    /// Whether its health checks panic.
    pub panics: AtomicBool,
    /// Sandboxes it cannot bring back.
    pub damaged: Mutex<BTreeSet<String>>,
    /// Sandboxes that an engine finished after the process that had asked for them was dead.
    pub late: Mutex<BTreeSet<String>>,
    /// Images it was told to remove.
    pub removed_images: Mutex<BTreeSet<String>>,
    /// When it says no, the process is dead: nothing has an effect any more, and no call returns.
    is_alive: Option<Box<dyn Fn() -> bool + Send + Sync>>,
}

type Files = BTreeMap<String, File>;

#[derive(Clone)]
struct File {
    content: Bytes,
    mode: u32,
}

impl FakeProvider {
    /// How many sandboxes it holds.
    pub fn count(&self) -> usize {
        self.sandboxes.lock().len()
    }

    /// One of another name.
    pub fn named(name: &'static str) -> Self {
        Self {
            other_name: Some(name),
            ..Self::default()
        }
    }

    /// One whose process can be made to die.
    pub fn mortal(is_alive: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            is_alive: Some(Box::new(is_alive)),
            ..Self::default()
        }
    }

    /// The ids it holds.
    pub fn ids(&self) -> BTreeSet<String> {
        self.sandboxes.lock().keys().cloned().collect()
    }

    /// Loses a sandbox.
    pub fn lose(&self, id: &str) {
        self.sandboxes.lock().remove(id);
    }

    /// A provider of a new process that holds what this one does.
    #[must_use]
    pub fn reopened(&self) -> Self {
        Self {
            sandboxes: Mutex::new(self.sandboxes.lock().clone()),
            ..Self::default()
        }
    }

    fn reachable(&self) -> Result<(), ProviderError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(ProviderError::Unavailable("the provider is away".to_owned()));
        }
        Ok(())
    }

    /// A moment at which the process may die.
    async fn step(&self) {
        if self.is_alive.as_ref().is_some_and(|is_alive| !is_alive()) {
            std::future::pending::<()>().await;
        }
    }

    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Files) -> Result<T, ProviderError>) -> Result<T, ProviderError> {
        act(self
            .sandboxes
            .lock()
            .get_mut(id)
            .ok_or(ProviderError::SandboxNotFound)?)
    }
}

fn missing(path: &str) -> ProviderError {
    ProviderError::FileNotFound(path.to_owned())
}

/// Whether `path` lies in the directory `dir`, at any depth.
fn is_within(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir.trim_end_matches('/'))
        .is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

fn info(files: &Files, path: &str) -> Option<FileInfo> {
    let file = files.get(path);
    let is_dir = file.is_none() && (path == "/" || files.keys().any(|known| is_within(known, path)));
    (file.is_some() || is_dir).then(|| FileInfo {
        name: if path == "/" {
            "/".to_owned()
        } else {
            path.rsplit('/').next().unwrap_or_default().to_owned()
        },
        path: path.to_owned(),
        size: file.map_or(0, |file| file.content.len() as u64),
        is_dir,
        mtime_ns: 1_700_000_000_000_000_000,
        mode: file.map_or(0o755, |file| file.mode),
    })
}

/// Counts a command as running until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(counter))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A finished command's events without a task.
fn finished(events: Vec<ExecEvent>, counted: Counted) -> Execution {
    let (sender, receiver) = mpsc::channel(events.len().max(1));
    for event in events {
        sender.try_send(event).unwrap();
    }
    Execution {
        events: receiver.into(),
        control: Arc::new(NoControl),
        cancel: Box::new(counted),
    }
}

fn ended(exit_code: i32) -> ExecEvent {
    ExecEvent::Exit(ExecOutcome {
        exit_code,
        timed_out: false,
        duration: Duration::from_micros(1900),
        cpu_time: None,
        fuel_used: None,
        limit: None,
    })
}

fn stdout(bytes: impl Into<Bytes>) -> ExecEvent {
    ExecEvent::Output(OutputStream::Stdout, bytes.into())
}

#[async_trait]
impl Provider for FakeProvider {
    fn name(&self) -> &'static str {
        self.other_name.unwrap_or("wasm")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            names: vec!["exec", "exec_stream", "files"],
            differences: vec!["Nothing is real."],
        }
    }

    async fn health(&self) -> Result<(), ProviderError> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        assert!(!self.panics.load(Ordering::SeqCst), "the fake provider panics");
        self.reachable()
    }

    async fn create(&self, _tenant: &str, id: &str, spec: &SandboxSpec) -> Result<(), ProviderError> {
        if spec.network != Network::None {
            return Err(ProviderError::Unsupported(
                "the fake provider has no network".to_owned(),
            ));
        }
        self.reachable()?;
        match spec.image.as_str() {
            "slow" => tokio::time::sleep(Duration::from_millis(500)).await,
            "broken" => return Err(ProviderError::Internal("secret detail".to_owned())),
            "panic" => panic!("the fake provider panics"),
            image if IMAGES.contains(&image) => {}
            image => return Err(unknown_image(image)),
        }
        self.step().await;
        self.sandboxes.lock().insert(id.to_owned(), Files::new());
        self.step().await;
        Ok(())
    }

    async fn destroy(&self, id: &str) -> Result<(), ProviderError> {
        let failing = self
            .failing_destroys
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if failing.is_ok() {
            return Err(ProviderError::Unavailable("the provider is away".to_owned()));
        }
        self.reachable()?;
        self.step().await;
        self.sandboxes.lock().remove(id);
        self.step().await;
        Ok(())
    }

    async fn recover(&self, _tenant: &str, id: &str, _spec: &SandboxSpec) -> Result<(), ProviderError> {
        self.reachable()?;
        if self.damaged.lock().contains(id) {
            return Err(ProviderError::Internal("secret detail".to_owned()));
        }
        self.with(id, |_| Ok(()))
    }

    async fn remove_orphans(&self, known: &BTreeSet<String>) -> Result<usize, ProviderError> {
        self.reachable()?;
        self.step().await;
        let mut sandboxes = self.sandboxes.lock();
        let before = sandboxes.len();
        sandboxes.retain(|id, _| known.contains(id));
        Ok(before - sandboxes.len())
    }

    async fn remove_late_orphans(&self, known: &BTreeSet<String>) -> Result<usize, ProviderError> {
        self.reachable()?;
        let mut late = self.late.lock();
        let before = late.len();
        late.retain(|id| known.contains(id));
        Ok(before - late.len())
    }

    async fn exec(&self, id: &str, exec: ExecSpec) -> Result<Execution, ProviderError> {
        self.with(id, |_| Ok(()))?;
        let words: Vec<String> = match &exec.command {
            Command::Shell(script) => script.split_whitespace().map(str::to_owned).collect(),
            Command::Argv(argv) => argv.clone(),
        };
        let counted = Counted::new(&self.running);
        let rest = words.get(1..).unwrap_or_default();
        let events = match words.first().map_or("", String::as_str) {
            "echo" => vec![stdout(format!("{}\n", rest.join(" "))), ended(0)],
            "cat" => match exec.stdin {
                Stdin::Bytes(bytes) => vec![stdout(bytes), ended(0)],
                Stdin::Stream(pieces) => return Ok(echoing(pieces, counted)),
            },
            "exit" => vec![ended(rest[0].parse().unwrap())],
            "flood" => {
                let bytes: usize = rest[0].parse().unwrap();
                let chunks = bytes.div_ceil(65_536);
                let mut events = vec![stdout(vec![b'x'; 65_536]); chunks];
                events.push(ended(0));
                events
            }
            "bytes" => vec![stdout(&b"\xe2\x82"[..]), stdout(&b"\xac\xff"[..]), ended(3)],
            "env" => {
                let lines: String = exec
                    .env
                    .iter()
                    .map(|(name, value)| format!("{name}={value}\n"))
                    .collect();
                vec![stdout(lines), ended(0)]
            }
            "argv" => vec![
                stdout(rest.iter().map(|word| format!("{word}\n")).collect::<String>()),
                ended(0),
            ],
            "panic" => panic!("the fake provider panics"),
            "vanish" => vec![stdout("half")],
            "sleep" | "deaf" => return Ok(sleeping(exec, counted)),
            other => {
                let message = format!("sh: {other}: not found\n");
                vec![ExecEvent::Output(OutputStream::Stderr, message.into()), ended(127)]
            }
        };
        Ok(finished(events, counted))
    }

    async fn read_file(&self, id: &str, path: &str) -> Result<ByteStream, ProviderError> {
        let content = self.with(id, |files| match (files.get(path), info(files, path)) {
            (Some(file), _) => Ok(file.content.clone()),
            (None, Some(_)) => Err(ProviderError::BadPath {
                path: path.to_owned(),
                reason: "is a directory".to_owned(),
            }),
            (None, None) => Err(missing(path)),
        })?;
        Ok(futures_util::stream::once(async { Ok(content) }).boxed())
    }

    async fn write_file(
        &self,
        id: &str,
        path: &str,
        mode: Option<u32>,
        mut body: ByteStream,
    ) -> Result<u64, ProviderError> {
        let mut content = Vec::new();
        while let Some(chunk) = body.next().await {
            content.extend_from_slice(&chunk?);
        }
        self.with(id, |files| {
            let mode = mode.or(files.get(path).map(|file| file.mode)).unwrap_or(0o644);
            let written = content.len() as u64;
            files.insert(
                path.to_owned(),
                File {
                    content: content.into(),
                    mode,
                },
            );
            Ok(written)
        })
    }

    async fn list_dir(&self, id: &str, path: &str, page: Page) -> Result<DirPage, ProviderError> {
        self.with(id, |files| {
            info(files, path).ok_or_else(|| missing(path))?;
            let base = path.trim_end_matches('/');
            let mut names: Vec<&str> = files
                .keys()
                .filter(|known| is_within(known, path))
                .filter_map(|known| known[base.len() + 1..].split('/').next())
                .collect();
            names.dedup();
            let entries = names.iter().filter_map(|name| {
                let info = info(files, &format!("{base}/{name}"))?;
                Some((name.as_bytes().to_vec(), info))
            });
            page.of(entries.collect())
        })
    }

    async fn stat(&self, id: &str, path: &str) -> Result<FileInfo, ProviderError> {
        self.with(id, |files| info(files, path).ok_or_else(|| missing(path)))
    }

    async fn delete(&self, id: &str, path: &str, recursive: bool) -> Result<(), ProviderError> {
        self.with(id, |files| {
            let is_dir = info(files, path).ok_or_else(|| missing(path))?.is_dir;
            if is_dir && !recursive {
                let reason = "directory not empty".to_owned();
                return Err(ProviderError::BadPath {
                    path: path.to_owned(),
                    reason,
                });
            }
            files.retain(|known, _| known != path && !is_within(known, path));
            Ok(())
        })
    }

    async fn rename(&self, id: &str, from: &str, to: &str) -> Result<(), ProviderError> {
        self.with(id, |files| {
            let file = files.remove(from).ok_or_else(|| missing(from))?;
            files.insert(to.to_owned(), file);
            Ok(())
        })
    }

    async fn chmod(&self, id: &str, path: &str, mode: u32) -> Result<(), ProviderError> {
        self.with(id, |files| {
            files
                .get_mut(path)
                .map(|file| file.mode = mode)
                .ok_or_else(|| missing(path))
        })
    }

    async fn glob(&self, id: &str, pattern: &str) -> Result<Vec<String>, ProviderError> {
        let glob = globset::Glob::new(pattern).map_err(|error| ProviderError::Invalid(error.to_string()))?;
        let matcher = glob.compile_matcher();
        self.with(id, |files| {
            Ok(files.keys().filter(|path| matcher.is_match(path)).cloned().collect())
        })
    }

    async fn usage(&self, id: &str) -> Result<SandboxUsage, ProviderError> {
        self.with(id, |_| Ok(SandboxUsage::default()))
    }

    async fn read_archive(&self, id: &str, path: &str) -> Result<ByteStream, ProviderError> {
        let mut out = BytesMut::new();
        self.with(id, |files| {
            info(files, path).ok_or_else(|| missing(path))?;
            for (known, file) in files.iter().filter(|(known, _)| is_within(known, path)) {
                let size = file.content.len() as u64;
                let entry = Entry {
                    path: known.as_bytes()[path.trim_end_matches('/').len() + 1..].to_vec(),
                    kind: EntryKind::File { size },
                    mode: file.mode,
                    mtime: 1_700_000_000,
                };
                archive::encode(&entry, &mut out);
                out.extend_from_slice(&file.content);
                out.extend_from_slice(archive::padding(size));
            }
            Ok(())
        })?;
        out.extend_from_slice(&archive::END);
        Ok(futures_util::stream::once(async { Ok(out.freeze()) }).boxed())
    }

    async fn write_archive(&self, id: &str, path: &str, tar: ByteStream) -> Result<(), ProviderError> {
        let mut reader = Reader::new(tar);
        while let Some(entry) = reader.next().await.map_err(ProviderError::from)? {
            let mut content = Vec::new();
            while let Some(piece) = reader.contents().await.map_err(ProviderError::from)? {
                content.extend_from_slice(&piece);
            }
            let path = format!(
                "{}/{}",
                path.trim_end_matches('/'),
                String::from_utf8_lossy(&entry.path)
            );
            let (content, mode) = (content.into(), entry.mode);
            self.with(id, |files| {
                files.insert(path, File { content, mode });
                Ok(())
            })?;
        }
        self.with(id, |_| Ok(()))
    }

    /// `alpine:latest` is there already; `slow` is never done, `broken` fails and `panic` panics after a step.
    async fn pull_image(&self, image: &str, progress: mpsc::Sender<PullProgress>) -> Result<(), ProviderError> {
        self.reachable()?;
        if !IMAGES.contains(&image) {
            return Err(unknown_image(image));
        }
        if image == "alpine:latest" {
            return Ok(());
        }
        let step = PullProgress {
            status: format!("pulling {image}"),
            part: Some("layer".to_owned()),
            current: Some(1),
            total: Some(2),
        };
        let _ = progress.send(step).await;
        match image {
            "slow" => std::future::pending().await,
            "broken" => Err(ProviderError::Unavailable("the registry is away".to_owned())),
            "panic" => panic!("the fake provider panics"),
            _ => Ok(()),
        }
    }

    async fn remove_image(&self, image: &str) -> Result<(), ProviderError> {
        self.removed_images.lock().insert(image.to_owned());
        Ok(())
    }
}

fn unknown_image(image: &str) -> ProviderError {
    ProviderError::ImageNotFound {
        image: image.to_owned(),
        available: IMAGES.map(str::to_owned).to_vec(),
    }
}

/// Ends a command by a signal.
struct SignalTo(mpsc::Sender<Signal>);

#[async_trait]
impl ExecControl for SignalTo {
    async fn signal(&self, signal: Signal) -> Result<(), ProviderError> {
        // The command may have ended.
        let _ = self.0.try_send(signal);
        Ok(())
    }
}

/// A command that prints each piece of its input.
fn echoing(mut pieces: mpsc::Receiver<Bytes>, counted: Counted) -> Execution {
    let (sender, events) = mpsc::channel(2);
    let cancelled = CancellationToken::new();
    let guard: DropGuard = cancelled.clone().drop_guard();
    tokio::spawn(cancelled.run_until_cancelled_owned(async move {
        let _counted = counted;
        while let Some(piece) = pieces.recv().await {
            let _ = sender.send(stdout(piece)).await;
        }
        let _ = sender.send(ended(0)).await;
    }));
    Execution {
        events: events.into(),
        control: Arc::new(NoControl),
        cancel: Box::new(guard),
    }
}

/// A command that says one word and then only waits for its timeout or a signal.
fn sleeping(exec: ExecSpec, counted: Counted) -> Execution {
    let (sender, receiver) = mpsc::channel(2);
    let (control, mut signals) = mpsc::channel::<Signal>(1);
    let cancelled = CancellationToken::new();
    let guard: DropGuard = cancelled.clone().drop_guard();
    let started = Instant::now();
    sender.try_send(stdout("started\n")).unwrap();
    tokio::spawn(cancelled.run_until_cancelled_owned(async move {
        let _held = (counted, exec.stdin);
        let signal = tokio::time::timeout(exec.timeout, signals.recv()).await;
        let outcome = ExecOutcome {
            exit_code: match &signal {
                Ok(Some(signal)) => 128 + signal.number().cast_signed(),
                _ => 124,
            },
            timed_out: signal.is_err(),
            duration: started.elapsed(),
            cpu_time: None,
            fuel_used: None,
            limit: None,
        };
        let _ = sender.send(ExecEvent::Exit(outcome)).await;
    }));
    Execution {
        events: receiver.into(),
        control: Arc::new(SignalTo(control)),
        cancel: Box::new(guard),
    }
}
