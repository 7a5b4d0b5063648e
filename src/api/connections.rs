//! Accepts connections and speaks HTTP/1.1 on them, within limits: how many at once, of all clients and of one address,
//! and how long a client may take.
//!
//! axum's own loop has no such limits, so that a few thousand clients who each send one byte a minute would keep
//! everybody else out. When there is no room, the connections that have been without a request for longest are closed:
//! those that wait for their next request, and those whose request has not come whole. Only when all have a request does
//! a new one wait. One that asks whether the server is healthy is served beside them: a load balancer must not take a
//! busy server for a dead one.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tower::Service as _;

use super::auth::ShareOfRequests;
use super::client_stream::ClientStream;
use super::error::ApiError;
use super::request_id::random_id;
use crate::config::Config;

/// Pause after the operating system refused a connection for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of one connection that are held at once in each direction: of a head that has not come whole, and of answers.
/// Also the longest head.
const BUFFER_BYTES: usize = 64 << 10;
/// Of all connections, the part that is closed at once to make room, so that not every new one has to look for it.
const EVICTED_PART: usize = 64;
/// A connection that has been idle for a shorter time, milliseconds, keeps its place: its next request may be on the way.
const GRACE_MILLIS: u64 = 500;
/// The same for a connection on which nothing was sent yet: its client may have many others to open.
const SILENT_MILLIS: u64 = 2000;
/// A client that has read nothing of a complete answer for this long, milliseconds, may lose its place.
const READING_MILLIS: u64 = 5000;
/// How long a connection that is to lose its place is still looked at: a request may have come that nobody has read.
const LAST_LOOK: Duration = Duration::from_millis(20);
/// How long an accepted connection waits for a place while all others have a request.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How often it looks again, should a place have been freed for somebody else.
const WAIT_STEP: Duration = Duration::from_millis(50);
/// Connections that are served beside all others at once, because they ask for one of [`HEALTH_CHECKS`].
const MAX_HEALTH_CHECKS: usize = 64;
/// How requests for the server's health begin.
const HEALTH_CHECKS: [&[u8]; 3] = [b"GET /api/v1/health ", b"GET /api/v1/live ", b"GET /api/v1/ready "];
/// After how long a connection that waits, and has sent a part of such a request, is looked at again: at first, and at most.
/// In between the time doubles, because all of them may wait with a part.
const HEALTH_LOOK: Duration = Duration::from_millis(20);
const MAX_HEALTH_LOOK: Duration = Duration::from_secs(1);
/// Longest head of such a request, bytes. It must have come whole: what has not could keep its place.
const HEALTH_HEAD_BYTES: usize = 4 << 10;

/// Serves until `stop` resolves, and then until every connection has sent the answer it works on.
pub async fn serve(listener: TcpListener, router: Router, config: &Config, stop: impl Future<Output = ()>) {
    let router = router.with_state(());
    raise_descriptor_limit();
    let connections = Arc::new(Connections::new(config));
    let times = Times {
        header: config.limits.header_timeout.0,
        write: config.limits.write_timeout.0,
    };
    // Closing `stopping` tells the connections to end; that all copies of `open` are gone tells that they have.
    let (stopping, stopped) = watch::channel(());
    let (open, closed) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener) => accepted,
        };
        let (connections, router) = (Arc::clone(&connections), router.clone());
        let (stopped, closed) = (stopped.clone(), closed.clone());
        let waiting = match connections.enter(peer.ip()) {
            Ok(place) => Waiting::No(place),
            Err(full) => match connections.wait(full) {
                Some(turn) => Waiting::Yes(turn),
                None => Waiting::Refused(full),
            },
        };
        tokio::spawn(async move {
            let place = match waiting {
                Waiting::No(place) => Ok(place),
                Waiting::Yes(turn) => tokio::select! {
                    place = turn.place(&connections, peer.ip(), stopped.clone()) => place,
                    place = connections.place_for_health_check(&stream, peer.ip()) => Ok(place),
                },
                Waiting::Refused(full) => Err(full),
            };
            match place {
                Ok(place) => connection(stream, peer, place, router, times, stopped).await,
                Err(full) => refuse(stream, full).await,
            }
            drop(closed);
        });
    }
    drop((listener, stopping, closed));
    open.closed().await;
}

/// Lets the process have as many descriptors as it may: the limit it starts with is often too low for its connections.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "cannot raise the limit of descriptors");
    }
}

/// How long a client may take.
#[derive(Clone, Copy)]
struct Times {
    /// For a whole head, or until it begins one.
    header: Duration,
    /// To read something of an answer.
    write: Duration,
}

/// Whether an accepted connection has to wait.
enum Waiting {
    No(Place),
    Yes(Turn),
    Refused(Full),
}

/// Waits for a connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// The connections that are open.
struct Connections {
    max: usize,
    max_per_address: usize,
    /// Addresses that stand for many clients.
    proxies: Vec<IpAddr>,
    began: Instant,
    /// Never locked across an await.
    table: Mutex<Table>,
    /// Tells those who wait that there may be room.
    freed: Notify,
    waiting: AtomicUsize,
    /// Places for health checks while there are no others.
    health_checks: Arc<Semaphore>,
}

#[derive(Default)]
struct Table {
    next_id: u64,
    open: HashMap<u64, Arc<Activity>>,
    /// No zero entries.
    by_address: HashMap<IpAddr, usize>,
}

/// What one connection does.
struct Activity {
    address: IpAddr,
    /// Requests whose answer is not complete; a WebSocket is one that never is.
    requests: AtomicUsize,
    /// The client has sent something.
    received: AtomicBool,
    /// An answer waits for the client to read.
    unread: AtomicBool,
    /// When the last request was answered, the connection accepted, or the client read something of an answer last;
    /// milliseconds since the server began.
    idle_since: AtomicU64,
    /// Its place was given to another connection.
    evicted: Notify,
}

/// Why there is no room for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    Server,
    Address,
}

/// A connection's place among all, free when dropped.
pub struct Place {
    connections: Arc<Connections>,
    activity: Arc<Activity>,
    kind: PlaceKind,
}

/// What a place was given for.
enum PlaceKind {
    /// One of all connections, by its number in the table.
    Counted(u64),
    /// One health check beside them.
    HealthCheck {
        /// Held for its `Drop`.
        _permit: OwnedSemaphorePermit,
    },
}

impl Activity {
    fn new(address: IpAddr, now: u64) -> Arc<Self> {
        Arc::new(Self {
            address,
            requests: AtomicUsize::new(0),
            received: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            idle_since: AtomicU64::new(now),
            evicted: Notify::new(),
        })
    }

    /// Whether its place may be given to another connection, `now` milliseconds after the server began.
    fn is_idle(&self, now: u64) -> bool {
        let idle_for = now.saturating_sub(self.idle_since.load(Ordering::Relaxed));
        let grace = if self.unread.load(Ordering::Relaxed) {
            READING_MILLIS
        } else if self.received.load(Ordering::Relaxed) {
            GRACE_MILLIS
        } else {
            SILENT_MILLIS
        };
        self.requests.load(Ordering::Relaxed) == 0 && idle_for >= grace
    }
}

impl Table {
    fn remove(&mut self, id: u64) -> Option<Arc<Activity>> {
        let activity = self.open.remove(&id)?;
        if let Some(count) = self.by_address.get_mut(&activity.address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&activity.address);
            }
        }
        Some(activity)
    }

    fn of_address(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).copied().unwrap_or_default()
    }

    /// Closes up to `count` of the connections that have been idle for longest: those of `only`, else of the address that
    /// has most of those that are idle. `false` when none is idle.
    fn evict(&mut self, count: usize, only: Option<IpAddr>, now: u64) -> bool {
        let mut idle: Vec<_> = self
            .open
            .iter()
            .filter(|(_, activity)| only.is_none_or(|only| activity.address == only) && activity.is_idle(now))
            .map(|(id, activity)| (activity.idle_since.load(Ordering::Relaxed), *id, activity.address))
            .collect();
        if only.is_none() {
            let mut by_address: HashMap<IpAddr, usize> = HashMap::new();
            for (_, _, address) in &idle {
                *by_address.entry(*address).or_default() += 1;
            }
            let greediest = by_address.into_iter().max_by_key(|(_, count)| *count);
            idle.retain(|(_, _, address)| greediest.is_some_and(|(greediest, _)| greediest == *address));
        }
        if idle.len() > count {
            idle.select_nth_unstable(count);
            idle.truncate(count);
        }
        for (_, id, _) in &idle {
            if let Some(activity) = self.remove(*id) {
                activity.evicted.notify_one();
            }
        }
        !idle.is_empty()
    }
}

impl Connections {
    fn new(config: &Config) -> Self {
        let limits = &config.limits;
        let max = limits.max_connections;
        let max_per_address = match limits.max_connections_per_address {
            0 => max.div_ceil(8).saturating_mul(7).min(max),
            given => given.min(max),
        };
        Self {
            max,
            max_per_address,
            proxies: config.rate_limit.trusted_proxies.clone(),
            began: Instant::now(),
            table: Mutex::default(),
            freed: Notify::new(),
            waiting: AtomicUsize::new(0),
            health_checks: Arc::new(Semaphore::new(MAX_HEALTH_CHECKS)),
        }
    }

    /// A poisoned lock means that a thread panicked while it held it. Nothing that is done under it panics.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// Takes a place for a connection, from one that is idle if need be.
    fn enter(self: &Arc<Self>, peer: IpAddr) -> Result<Place, Full> {
        let (address, now) = (counted_address(peer), self.now());
        let mut table = self.table();
        let own = table.of_address(address);
        if own >= self.max_per_address && !self.proxies.contains(&peer) {
            let evicted = (self.max_per_address / EVICTED_PART).max(1);
            if !table.evict(evicted, Some(address), now) {
                return Err(Full::Address);
            }
        }
        if table.open.len() >= self.max && !table.evict((self.max / EVICTED_PART).max(1), None, now) {
            return Err(Full::Server);
        }
        let id = table.next_id;
        table.next_id += 1;
        let activity = Activity::new(address, now);
        table.open.insert(id, Arc::clone(&activity));
        *table.by_address.entry(address).or_default() += 1;
        Ok(Place {
            connections: Arc::clone(self),
            activity,
            kind: PlaceKind::Counted(id),
        })
    }

    /// A place for a connection that waits, once a whole head has come that asks for the server's health. Waits for ever with
    /// any other.
    async fn place_for_health_check(self: &Arc<Self>, stream: &TcpStream, peer: IpAddr) -> Place {
        let longest = HEALTH_CHECKS.iter().map(|check| check.len()).max().unwrap_or_default();
        let mut start = vec![0; longest];
        let mut pause = HEALTH_LOOK;
        let permit = loop {
            let count = stream.peek(&mut start).await.unwrap_or_default();
            let head = &start[..count];
            let asks = HEALTH_CHECKS.iter().any(|check| head.starts_with(check));
            if asks && start.len() < HEALTH_HEAD_BYTES {
                start.resize(HEALTH_HEAD_BYTES, 0);
                continue;
            }
            let is_whole = head.windows(4).any(|end| end == b"\r\n\r\n");
            if asks
                && is_whole
                && let Ok(permit) = Arc::clone(&self.health_checks).acquire_owned().await
            {
                break permit;
            }
            let may_come = asks && count < HEALTH_HEAD_BYTES;
            if count == 0 || !may_come && !HEALTH_CHECKS.iter().any(|check| check.starts_with(head)) {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_HEALTH_LOOK);
        };
        Place {
            connections: Arc::clone(self),
            activity: Activity::new(counted_address(peer), self.now()),
            kind: PlaceKind::HealthCheck { _permit: permit },
        }
    }

    /// A turn for a connection that is to wait; `None` when as many wait as may be open.
    fn wait(self: &Arc<Self>, full: Full) -> Option<Turn> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let turn = Turn {
            connections: Arc::clone(self),
            full,
        };
        (waiting < self.max).then_some(turn)
    }

    /// Milliseconds since the server began.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The address that a connection counts for: one machine has all of an IPv6 network's 64-bit interface identifiers.
fn counted_address(peer: IpAddr) -> IpAddr {
    const NETWORK: u128 = !0 << 64;
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
        address @ IpAddr::V4(_) => address,
    }
}

/// A connection that waits for a place.
struct Turn {
    connections: Arc<Connections>,
    full: Full,
}

impl Turn {
    async fn place(
        self,
        connections: &Arc<Connections>,
        peer: IpAddr,
        mut stopped: watch::Receiver<()>,
    ) -> Result<Place, Full> {
        let deadline = tokio::time::Instant::now() + MAX_WAIT;
        while tokio::time::Instant::now() < deadline {
            tokio::select! {
                () = connections.freed.notified() => {}
                () = tokio::time::sleep(WAIT_STEP) => {}
                _ = stopped.changed() => break,
            }
            if let Ok(place) = connections.enter(peer) {
                return Ok(place);
            }
        }
        Err(self.full)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.connections.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place {
    /// Notes that the client has sent something.
    pub fn set_received(&self) {
        self.activity.received.store(true, Ordering::Relaxed);
    }

    /// Notes whether an answer waits for the client to read.
    pub fn set_unread(&self, unread: bool) {
        self.activity
            .idle_since
            .store(self.connections.now(), Ordering::Relaxed);
        self.activity.unread.store(unread, Ordering::Relaxed);
    }

    fn begin_request(&self) -> InProgress {
        self.activity.requests.fetch_add(1, Ordering::Relaxed);
        InProgress {
            connections: Arc::clone(&self.connections),
            activity: Arc::clone(&self.activity),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let PlaceKind::Counted(id) = self.kind {
            // Whoever evicted it has removed it already.
            self.connections.table().remove(id);
            self.connections.freed.notify_one();
        }
    }
}

/// A request, until its answer is complete.
struct InProgress {
    connections: Arc<Connections>,
    activity: Arc<Activity>,
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let now = self.connections.now();
        self.activity.idle_since.store(now, Ordering::Relaxed);
        self.activity.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InProgress {
    /// The connection is no longer one of requests and answers.
    fn never_ends(&self) {
        self.activity.requests.fetch_add(1, Ordering::Relaxed);
    }
}

/// The body of an answer. The request is in progress until it is dropped.
struct Answer {
    body: Body,
    /// Held for its `Drop`.
    _request: InProgress,
    /// Held for its `Drop`.
    _share: Option<ShareOfRequests>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves one connection to its end.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    router: Router,
    times: Times,
    mut stopped: watch::Receiver<()>,
) {
    // Small answers must not wait for the acknowledgement of earlier ones (Nagle's algorithm).
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let activity = Arc::clone(&place.activity);
    // A health check's place is good for one request, which has been looked at.
    let keeps_alive = matches!(place.kind, PlaceKind::Counted(_));
    let stream = ClientStream::new(stream, place, times.write);
    let (place, inbox) = (stream.place(), stream.inbox());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let in_progress = place.begin_request();
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(inbox.clone());
        let answering = router.clone().call(request);
        async move {
            let mut response: Response = answering.await.unwrap_or_else(|never| match never {});
            let share = response.extensions_mut().remove::<ShareOfRequests>();
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                in_progress.never_ends();
            }
            Ok::<_, Infallible>(response.map(|body| Answer {
                body,
                _request: in_progress,
                _share: share,
            }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(keeps_alive)
        .header_read_timeout(times.header)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return ended(result),
        () = activity.evicted.notified() => {
            if let Ok(result) = tokio::time::timeout(LAST_LOOK, connection.as_mut()).await {
                return ended(result);
            }
            if activity.requests.load(Ordering::Relaxed) == 0 {
                return;
            }
            // A request came at the last moment.
            connection.as_mut().graceful_shutdown();
        }
        // An error tells that the sender is gone: the server stops.
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    ended(connection.await);
}

/// A connection that breaks is the client's business.
fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Tells a client that there is no room for its connection, as far as it can be told at once.
async fn refuse(mut stream: TcpStream, full: Full) {
    let reason = match full {
        Full::Server => "every connection that this server allows has a request in progress; try again later",
        Full::Address => {
            "every connection that this server allows to your address has a request in progress; close some"
        }
    };
    let id = random_id();
    let id = id.to_str().unwrap_or_default();
    let text = ApiError::unavailable(reason).text(id);
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 1\r\nx-request-id: {id}\r\n\
         connection: close\r\n\r\n",
        StatusCode::SERVICE_UNAVAILABLE,
        text.len()
    );
    // Both fit into what the system buffers. A client that is gone misses nothing.
    let _ = tokio::time::timeout(ACCEPT_PAUSE, stream.write_all((head + &text).as_bytes())).await;
}
