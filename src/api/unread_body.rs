//! Reads the rest of a request's body after an early answer, so that the client gets to see the answer.
//!
//! A handler may refuse an upload before it has read all of it. A connection that is closed then, with bytes still on
//! their way, is reset, and a client that writes all before it reads never sees the answer. So the rest is read and
//! thrown away, beside the answer and for a bounded time.

use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

/// A client that is still sending after this time is cut off.
const MAX_TIME: Duration = Duration::from_secs(30);

/// Where a body goes when its reader drops it.
type Rest = Arc<Mutex<Option<Body>>>;

/// A body that outlives its reader.
struct Returning {
    body: Option<Body>,
    started: bool,
    rest: Rest,
}

impl HttpBody for Returning {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.started = true;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        // A body that nobody began to read may be one that the client sends only when asked to (`Expect`): reading it
        // would ask.
        if self.started && !self.is_end_stream() {
            *self.rest.lock() = self.body.take();
        }
    }
}

/// The layer.
pub async fn drain_unread_body(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let rest = Rest::default();
    let expects = request.headers().contains_key(axum::http::header::EXPECT);
    let request = request.map(|body| {
        Body::new(Returning {
            body: Some(body),
            started: !expects,
            rest: Arc::clone(&rest),
        })
    });
    let response = next.run(request).await;
    let rest = rest.lock().take();
    if let Some(mut rest) = rest {
        tokio::spawn(tokio::time::timeout(MAX_TIME, async move {
            while let Some(Ok(_)) = rest.frame().await {}
        }));
    }
    response
}
