//! Trees of a sandbox as tar archives.

use std::io::Write as _;

use axum::Json as JsonAnswer;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use futures_util::{StreamExt as _, stream};

use super::error::{ApiError, ErrorBody};
use super::extract::{AsCaller, Id, Query, check_path};
use super::files::download;
use super::router::AppState;
use super::sandboxes::Done;
use super::schemas::FilePath;
use super::upload::Upload;
use crate::provider::{ByteStream, ProviderError};

/// What gzip begins with (RFC 1952, 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Bytes that are decompressed at once. They become a thousand times as many at most.
const COMPRESSED_PIECE: usize = 1024;

/// Reads a directory as a tar.
///
/// Names are relative to the directory; of a file the archive has that file alone. Devices and named pipes are left
/// out.
#[utoipa::path(
    get,
    path = "/sandboxes/{id}/files/archive",
    params(
        ("path" = inline(FilePath), Query, description = "The directory, or one file."),
    ),
    responses(
        (status = 200, description = "The tar.", body = Vec<u8>, content_type = "application/x-tar"),
        (status = 404, description = "There is no such sandbox, or no such file in it.", body = ErrorBody),
    )
)]
pub async fn read(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    query: Query,
) -> Result<Response, ApiError> {
    let path = check_path("path", query.require("path")?)?;
    let tar = state.sandboxes.read_archive(&caller, &id, path).await?;
    Ok(download("application/x-tar", tar))
}

/// Unpacks a tar into a directory, as it comes; it may be compressed with gzip.
///
/// Nothing lands outside the directory: entries with `..`, through symbolic links, and devices are refused. What came
/// before a refused entry stays; a file is there with all its contents or not at all.
#[utoipa::path(
    put,
    path = "/sandboxes/{id}/files/archive",
    params(
        ("path" = inline(FilePath), Query, description = "The directory; it is made if there is none."),
    ),
    request_body(content = Vec<u8>, content_type = "application/x-tar", description = "The tar."),
    responses(
        (status = 200, description = "It is unpacked.", body = Done),
    )
)]
pub async fn write(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    query: Query,
    request: Request,
) -> Result<JsonAnswer<Done>, ApiError> {
    let path = check_path("path", query.require("path")?)?;
    let compressed = says_gzip(request.headers())?;
    let (upload, body) = Upload::begin(
        request,
        state.config.limits.max_upload_bytes,
        state.config.limits.body_timeout.0,
    )?;
    let tar = upload.bounded(decompressed(body, compressed));
    upload.outcome(state.sandboxes.write_archive(&caller, &id, path, tar).await)?;
    Ok(JsonAnswer(Done { status: "unpacked" }))
}

/// Whether the headers say that the body is compressed.
fn says_gzip(headers: &HeaderMap) -> Result<bool, ApiError> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(false);
    };
    match encoding
        .to_str()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        "gzip" | "x-gzip" => Ok(true),
        "identity" => Ok(false),
        _ => Err(ApiError::bad_request("Content-Encoding must be gzip or identity")),
    }
}

/// Decompresses what is, or begins like, gzip; anything else stays as it is.
fn decompressed(source: ByteStream, compressed: bool) -> ByteStream {
    let state = Decompressing {
        source,
        pending: Bytes::new(),
        begun: false,
        decoder: compressed.then(|| MultiGzDecoder::new(Vec::new())),
    };
    stream::try_unfold(state, |mut state| async move {
        Ok(state.piece().await?.map(|piece| (piece, state)))
    })
    .boxed()
}

struct Decompressing {
    source: ByteStream,
    /// What came and was not used yet.
    pending: Bytes,
    /// Whether it was looked at how the bytes begin.
    begun: bool,
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
}

impl Decompressing {
    async fn piece(&mut self) -> Result<Option<Bytes>, ProviderError> {
        if !self.begun {
            self.begin().await?;
        }
        loop {
            if self.pending.is_empty() {
                match self.source.next().await {
                    Some(bytes) => self.pending = bytes?,
                    None => return self.finish(),
                }
                continue;
            }
            let Some(decoder) = &mut self.decoder else {
                return Ok(Some(std::mem::take(&mut self.pending)));
            };
            let compressed = self.pending.split_to(self.pending.len().min(COMPRESSED_PIECE));
            decoder.write_all(&compressed).map_err(|_| broken())?;
            let plain = std::mem::take(decoder.get_mut());
            if !plain.is_empty() {
                return Ok(Some(plain.into()));
            }
        }
    }

    /// Waits for as many bytes as tell gzip from tar.
    async fn begin(&mut self) -> Result<(), ProviderError> {
        self.begun = true;
        let mut head = BytesMut::new();
        while head.len() < GZIP.len() {
            match self.source.next().await {
                Some(bytes) => head.extend_from_slice(&bytes?),
                None => break,
            }
        }
        if self.decoder.is_none() && head.starts_with(&GZIP) {
            self.decoder = Some(MultiGzDecoder::new(Vec::new()));
        }
        self.pending = head.freeze();
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<Bytes>, ProviderError> {
        let Some(mut decoder) = self.decoder.take() else {
            return Ok(None);
        };
        decoder.try_finish().map_err(|_| broken())?;
        let plain = std::mem::take(decoder.get_mut());
        Ok((!plain.is_empty()).then(|| plain.into()))
    }
}

fn broken() -> ProviderError {
    ProviderError::Invalid("the archive is not valid gzip, or ends too early".to_owned())
}
