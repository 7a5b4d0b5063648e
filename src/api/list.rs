//! Answers that are lists: in pieces of bounded size when they may be of any length, charged when they are not small.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};
use http_body::{Frame, SizeHint};
use serde::Serialize;

use super::error::ApiError;
use super::extract::no_memory;
use super::router::AppState;
use crate::sandbox::{Caller, Permit};

/// A piece of a list ends with the item that makes it this long, bytes.
const PIECE_BYTES: usize = 48 << 10;
/// An answer of so many bytes is not charged: each connection may have so many.
const FREE_BYTES: usize = 16 << 10;

/// A list of any length, of which no more than a piece is in memory: the next one is made when the client has read the
/// last. An error after the first piece breaks the answer off, so that nobody takes it for whole.
///
/// # Errors
/// The first error, when it comes before the first piece is full.
pub async fn streamed<T: Serialize + Send + 'static>(
    items: impl Stream<Item = Result<T, ApiError>> + Send + 'static,
) -> Result<Response, ApiError> {
    let mut items = items.boxed();
    let (first, last) = piece(&mut items, b'[').await?;
    if last {
        return Ok(json(Body::from(first)));
    }
    let rest = stream::unfold(Some(items), |items| async {
        let mut items = items?;
        match piece(&mut items, b',').await {
            Ok((piece, last)) => Some((Ok(piece), (!last).then_some(items))),
            Err(error) => {
                tracing::warn!(error = error.message(), "a list breaks off");
                Some((Err(io::Error::other("the list breaks off")), None))
            }
        }
    });
    let first = stream::once(async { Ok(first) });
    Ok(json(Body::from_stream(first.chain(rest))))
}

/// The next items, after `begin`, and whether they are the last. A piece without items is the end of the list.
async fn piece<T: Serialize>(
    items: &mut BoxStream<'static, Result<T, ApiError>>,
    begin: u8,
) -> Result<(Bytes, bool), ApiError> {
    let mut piece = Vec::new();
    let mut next = begin;
    while piece.len() < PIECE_BYTES {
        let Some(item) = items.next().await else {
            if next == b'[' {
                piece.push(b'[');
            }
            piece.push(b']');
            return Ok((piece.into(), true));
        };
        piece.push(next);
        // Writing our structures to memory cannot fail.
        serde_json::to_writer(&mut piece, &item?).map_err(|_| ApiError::internal())?;
        next = b',';
    }
    Ok((piece.into(), false))
}

/// An answer that is made at once and whose length something else bounds. When it is not small, it is charged until the
/// client has read it.
///
/// # Errors
/// 429 and 503 when there is no memory for it.
pub fn charged(state: &AppState, caller: &Caller, value: &impl Serialize) -> Result<Response, ApiError> {
    let text = serde_json::to_vec(value).map_err(|_| ApiError::internal())?;
    if text.len() <= FREE_BYTES {
        return Ok(json(Body::from(text)));
    }
    let permit = state
        .sandboxes
        .budgets()
        .transfer
        .take(&caller.tenant, text.len() as u64);
    Ok(json(Body::new(Charged {
        text: text.into(),
        _permit: permit.map_err(no_memory)?,
    })))
}

fn json(body: Body) -> Response {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        body,
    )
        .into_response()
}

/// A body that stays charged until it is dropped.
struct Charged {
    text: Bytes,
    /// Held for its `Drop`.
    _permit: Permit,
}

impl HttpBody for Charged {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.text.len().min(PIECE_BYTES);
        let piece = self.text.split_to(length);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.len() as u64)
    }
}

/// Adds the header that leads to the next page (RFC 8288): `path` with these parameters.
pub fn with_next(mut response: Response, path: &str, parameters: &[(&str, &str)]) -> Response {
    let query: Vec<_> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", percent_encoded(value)))
        .collect();
    let link = format!("</api/v1{path}?{}>; rel=\"next\"", query.join("&"));
    // It is all visible ASCII.
    if let Ok(link) = HeaderValue::from_str(&link) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// A text as part of a URL's query: all but unreserved characters in percent signs (RFC 3986, section 2).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn text(response: Response) -> String {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn pieces_of_any_number_make_one_list() {
        for count in [0, 1, 2, 10_000, 50_000] {
            let items: Vec<String> = (0..count).map(|n: u32| n.to_string()).collect();
            let expected = serde_json::to_string(&items).unwrap();
            let response = streamed(stream::iter(items.into_iter().map(Ok))).await.unwrap();
            assert!(text(response).await == expected, "{count}");
        }
    }

    #[tokio::test]
    async fn list_that_ends_with_its_piece_is_closed() {
        let item = "x".repeat(PIECE_BYTES);
        let response = streamed(stream::iter([Ok(item.clone())])).await.unwrap();
        assert!(text(response).await == format!("[\"{item}\"]"));
    }

    #[tokio::test]
    async fn only_a_piece_is_made_before_it_is_read() {
        let made = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = std::sync::Arc::clone(&made);
        let items = stream::iter(0..1_000_000_u32).map(move |n| {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(n)
        });
        let mut body = streamed(items).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        assert!(made.load(std::sync::atomic::Ordering::Relaxed) <= PIECE_BYTES);
    }

    #[tokio::test]
    async fn error_in_the_middle_breaks_the_list_off() {
        let items = (0..100_000_u32).map(Ok).chain([Err(ApiError::internal())]);
        let response = streamed(stream::iter(items)).await.unwrap();
        assert!(response.into_body().collect().await.is_err());
        let items = [Ok(1), Err(ApiError::not_found("gone"))];
        assert_eq!(streamed(stream::iter(items)).await.unwrap_err().code(), "not_found");
    }

    #[test]
    fn the_next_page_is_named_in_ascii() {
        let response = with_next(json(Body::empty()), "/x", &[("path", "/a b&é"), ("limit", "2")]);
        let link = response.headers()["link"].to_str().unwrap();
        assert_eq!(link, "</api/v1/x?path=%2Fa%20b%26%C3%A9&limit=2>; rel=\"next\"");
    }
}
