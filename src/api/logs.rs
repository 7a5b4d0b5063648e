//! `GET /sandboxes/{id}/logs`: the last console lines of a sandbox's commands.

use axum::extract::State;
use axum::response::Response;

use super::error::ApiError;
use super::extract::{AsCaller, Id, Query};
use super::list::charged;
use super::router::AppState;

/// Lines shown when the request does not say.
const DEFAULT_LINES: usize = 100;
/// Most lines a request may ask for.
const MAX_LINES: usize = 10_000;

/// Shows the last console lines of commands, oldest first.
///
/// The sandbox keeps at most 64 KiB.
#[utoipa::path(
    get,
    path = "/sandboxes/{id}/logs",
    tag = "sandboxes",
    params(
        ("id" = String, Path, description = "Sandbox id", pattern = "^sb[_-][a-z0-9]{1,64}$"),
        ("lines" = Option<u32>, Query, description = "How many lines", minimum = 1, maximum = 10_000),
    ),
    responses(
        (status = 200, description = "The lines, without line feeds", body = Vec<String>),
        (status = 400, description = "`lines` is no number from 1 to 10000"),
        (status = 404, description = "There is no such sandbox"),
    )
)]
pub async fn logs(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    query: Query,
) -> Result<Response, ApiError> {
    let lines = query.number("lines", DEFAULT_LINES, MAX_LINES)?;
    charged(&state, &caller, &state.sandboxes.console_lines(&caller, &id, lines)?)
}
