//! Accepts connections and speaks HTTP/1.1 on them, within limits: how many at once, and how long a client may take.
//!
//! axum's own loop has neither limit, so that a few thousand clients who each send one byte a minute would keep
//! everybody else out.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::Service as _;

use crate::config::Limits;

/// Pause after the operating system refused a connection for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves until `stop` resolves, and then until every connection has sent the answer it works on.
pub async fn serve(listener: TcpListener, router: Router, limits: &Limits, stop: impl Future<Output = ()>) {
    let router = router.with_state(());
    let header_timeout = limits.header_timeout.0;
    let places = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
    // Closing `stopping` tells the connections to end; that all copies of `open` are gone tells that they have.
    let (stopping, stopped) = watch::channel(());
    let (open, closed) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let (stream, peer, place) = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let connection = connection(stream, peer, router.clone(), header_timeout, stopped.clone());
        let closed = closed.clone();
        tokio::spawn(async move {
            connection.await;
            drop((place, closed));
        });
    }
    drop((listener, stopping, closed));
    open.closed().await;
}

/// Waits for a place and then for a connection to take it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // Fails only when the semaphore is closed, which nobody does.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
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

/// Serves one connection to its end.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    header_timeout: Duration,
    mut stopped: watch::Receiver<()>,
) {
    // Small answers must not wait for the acknowledgement of earlier ones (Nagle's algorithm).
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let answering = router.clone().call(request);
        async move { Ok::<_, Infallible>(answering.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return ended(result),
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
