//! Serves the API on a socket until told to stop.

use std::future::Future;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::connections;
use super::router::{AppState, router};
use crate::sandbox::Reaper;

/// How long answers may take to leave after all commands were killed.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// Serves until `shutdown` resolves. Then: no new connections, sandboxes or commands; running commands get
/// `limits.shutdown_grace` to finish and are killed after it; their answers are still sent.
pub async fn run(listener: TcpListener, shutdown: impl Future<Output = ()> + Send + 'static, state: AppState) {
    let _reaper = Reaper::start(state.sandboxes.clone());
    let _key_watch = state.keys.watch();
    let (keys, config) = (state.keys.clone(), state.config.clone());
    let sandboxes = state.sandboxes.clone();
    let grace = state.config.limits.shutdown_grace.0;
    let (closing, closed) = oneshot::channel();
    let stop = {
        let sandboxes = sandboxes.clone();
        async move {
            shutdown.await;
            sandboxes.close();
            // The receiver is gone only when the server already ended.
            let _ = closing.send(());
        }
    };
    let sessions = state.sandboxes.clone();
    let connections = connections::serve(listener, router(state), &config, stop);
    let serving = async move {
        connections.await;
        // A connection that became a WebSocket is no connection to hyper any more.
        sessions.sessions_ended().await;
    };
    let deadline = async move {
        if closed.await.is_err() {
            // The server ended by itself.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(grace).await;
        sandboxes.stop_commands();
        tokio::time::sleep(FLUSH_TIME).await;
    };
    tokio::select! {
        () = serving => {}
        () = deadline => tracing::warn!("closing connections that are still open"),
    }
    keys.flush().await;
}
