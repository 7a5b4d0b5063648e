//! Serves the API on a socket until told to stop.

use std::future::Future;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::router::{AppState, router};
use crate::sandbox::Reaper;

/// How long answers may take to leave after all commands were killed.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// Serves until `shutdown` resolves. Then: no new connections, sandboxes or commands; running commands get
/// `limits.shutdown_grace` to finish and are killed after it; their answers are still sent.
///
/// # Errors
/// When the socket fails.
pub async fn run(
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
    state: AppState,
) -> std::io::Result<()> {
    let _reaper = Reaper::start(state.sandboxes.clone());
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
    // Small answers must not wait for the acknowledgement of earlier ones (Nagle's algorithm).
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let serving = axum::serve(listener, router(state))
        .with_graceful_shutdown(stop)
        .into_future();
    let deadline = async move {
        if closed.await.is_err() {
            // The server ended by itself: its own result counts.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(grace).await;
        sandboxes.stop_commands();
        tokio::time::sleep(FLUSH_TIME).await;
    };
    tokio::select! {
        result = serving => result,
        () = deadline => {
            tracing::warn!("closing connections that are still open");
            Ok(())
        }
    }
}
