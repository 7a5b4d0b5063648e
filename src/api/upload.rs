//! Streams request bodies of any length to a provider.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::Request;
use futures_util::{StreamExt as _, stream};

use super::error::ApiError;
use super::extract::{declared_length, too_large};
use crate::provider::{ByteStream, ProviderError};
use crate::sandbox::SandboxError;

/// An upload of at most `limit` bytes. Whoever reads more of it gets an error, and the request a 413.
pub struct Upload {
    limit: u64,
    exceeded: Arc<AtomicBool>,
    /// The client paused for longer than it may.
    stalled: Arc<AtomicBool>,
}

impl Upload {
    /// The body of a request, which may not be read beyond `limit` bytes and may not pause for longer than `pause`.
    ///
    /// # Errors
    /// 413 for a body that says that it is longer.
    pub fn begin(request: Request, limit: u64, pause: Duration) -> Result<(Self, ByteStream), ApiError> {
        if declared_length(request.headers()).is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        let upload = Self {
            limit,
            exceeded: Arc::default(),
            stalled: Arc::default(),
        };
        let stalled = Arc::clone(&upload.stalled);
        let pieces = stream::unfold(request.into_body().into_data_stream(), move |mut pieces| {
            let stalled = Arc::clone(&stalled);
            async move {
                let invalid = |why: &str| ProviderError::Invalid(why.to_owned());
                let piece = match tokio::time::timeout(pause, pieces.next()).await {
                    Ok(piece) => piece?.map_err(|_| invalid("the request body ended early")),
                    Err(_) => {
                        stalled.store(true, Ordering::Relaxed);
                        Err(invalid("the request body did not arrive in time"))
                    }
                };
                Some((piece, pieces))
            }
        });
        // A reader may ask again after the end.
        let body = upload.bounded(pieces.fuse().boxed());
        Ok((upload, body))
    }

    /// Bytes made of the body, which are not to be more than the limit either.
    pub fn bounded(&self, source: ByteStream) -> ByteStream {
        let (limit, exceeded) = (self.limit, Arc::clone(&self.exceeded));
        let mut total = 0_u64;
        source
            .map(move |chunk| {
                let chunk = chunk?;
                total = total.saturating_add(chunk.len() as u64);
                if total > limit {
                    exceeded.store(true, Ordering::Relaxed);
                    return Err(ProviderError::Invalid("the request body is too large".to_owned()));
                }
                Ok(chunk)
            })
            .boxed()
    }

    /// What came of it.
    ///
    /// # Errors
    /// 413 when there were too many bytes and 408 when they did not come in time, whatever their reader made of that; else
    /// the reader's.
    pub fn outcome<T>(self, read: Result<T, SandboxError>) -> Result<T, ApiError> {
        if self.exceeded.load(Ordering::Relaxed) {
            return Err(too_large(self.limit));
        }
        if self.stalled.load(Ordering::Relaxed) {
            return Err(ApiError::body_timeout());
        }
        Ok(read?)
    }
}
