//! `GET /events`: what happens to sandboxes, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::error::ApiError;
use super::extract::AsCaller;
use super::router::AppState;
use super::sandboxes::timestamp;
use crate::duration::GoDuration;
use crate::sandbox::{self, EventKind, EventStream, Exhausted, Heard, Permit, SandboxManager};

/// A comment is sent after so much silence, so that proxies keep the connection and dead ones are noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A connection ends after this time; the client connects again and its key is checked again.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// One event.
#[derive(Serialize, ToSchema)]
pub struct Event {
    /// Grows with every event; `Last-Event-ID` continues after it.
    id: String,
    /// What happened.
    r#type: EventType,
    /// To which sandbox; absent in `lagged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox_id: Option<String>,
    /// Who the sandbox is attributed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_id: Option<String>,
    /// When.
    timestamp: String,
    /// More about it.
    data: EventData,
}

/// What an event tells.
#[derive(Serialize, ToSchema)]
pub enum EventType {
    /// A sandbox can be used.
    #[serde(rename = "sandbox.created")]
    Created,
    /// A client destroyed a sandbox.
    #[serde(rename = "sandbox.destroyed")]
    Destroyed,
    /// The time of a sandbox was over.
    #[serde(rename = "sandbox.expired")]
    Expired,
    /// A sandbox could not be made, or cannot be used any more.
    #[serde(rename = "sandbox.error")]
    Error,
    /// A command ended.
    #[serde(rename = "exec.completed")]
    ExecCompleted,
    /// A command passed its timeout.
    #[serde(rename = "exec.timeout")]
    ExecTimeout,
    /// The runtime lost a command, or its client went away.
    #[serde(rename = "exec.failed")]
    ExecFailed,
    /// This connection was too slow and missed events here.
    #[serde(rename = "lagged")]
    Lagged,
}

/// More about an event; which fields there are depends on its type.
#[derive(Default, Serialize, ToSchema)]
pub struct EventData {
    /// Provider of the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'static str>,
    /// Image of a new sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// Exit status of a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    /// How long a command ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    duration: Option<GoDuration>,
    /// Why a command failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Streams events about the caller's sandboxes.
///
/// Server-sent events, from now on. With the header `Last-Event-ID` first
/// those since then which the server still has.
#[utoipa::path(
    get,
    path = "/events",
    tag = "system",
    params((
        "Last-Event-ID" = Option<String>,
        Header,
        description = "Id of the last event the client has. The server keeps the last 1024 of all tenants together",
    )),
    responses(
        (
            status = 200,
            description = "A stream without end; the `data` of each message is one event as JSON",
            body = Event,
            content_type = "text/event-stream",
        ),
        (status = 429, description = "There are as many of these connections as the server allows"),
        (status = 503, description = "The server is shutting down"),
    )
)]
pub async fn events(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if state.sandboxes.is_closing() {
        return Err(ApiError::unavailable("the server is shutting down; try again later"));
    }
    // An id that is none of ours is as good as none.
    let last = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok())
        .and_then(|id| id.parse().ok());
    let share = state.sandboxes.budgets().event_streams.take(&caller.tenant, 1);
    let share = match share {
        Ok(share) => share,
        // Whoever asks then is told below.
        Err(Exhausted::Server) => state.sandboxes.budgets().event_streams.empty(&caller.tenant),
        Err(Exhausted::Tenant | Exhausted::Sandbox) => {
            return Err(ApiError::exhausted(
                Exhausted::Tenant,
                "connections that listen to events",
            ));
        }
    };
    let max = state.config.limits.max_event_streams;
    let events = state.sandboxes.events().subscribe(caller, last, max).ok_or_else(|| {
        ApiError::resource_limit(format!(
            "{max} connections listen to events already, which is all this server allows"
        ))
    })?;
    let listener = Listener {
        events,
        _share: share,
        sandboxes: state.sandboxes,
        ends: Instant::now() + MAX_AGE,
    };
    let messages = stream::unfold(listener, |mut listener| async {
        let message = listener.next().await?;
        Some((Ok::<_, Infallible>(message), listener))
    });
    let answer = Sse::new(messages).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    // Without this, nginx would gather events before it passes them on.
    Ok(([("x-accel-buffering", "no")], answer).into_response())
}

struct Listener {
    events: EventStream,
    sandboxes: SandboxManager,
    ends: Instant,
    /// Held for its `Drop`.
    _share: Permit,
}

impl Listener {
    /// The next message; `None` when the connection is to end.
    async fn next(&mut self) -> Option<sse::Event> {
        let heard = tokio::select! {
            biased;
            () = self.sandboxes.closed() => return None,
            heard = self.events.next() => heard?,
            () = tokio::time::sleep_until(self.ends) => return None,
        };
        match heard {
            Heard::Event(event) => {
                let id = event.id.to_string();
                message(&to_view(&event)).map(|message| message.id(id))
            }
            // No id: a client that comes back asks for what it missed.
            Heard::Lagged => message(&Event {
                id: String::new(),
                r#type: EventType::Lagged,
                sandbox_id: None,
                owner_id: None,
                timestamp: timestamp(std::time::SystemTime::now()),
                data: EventData::default(),
            }),
        }
    }
}

fn message(event: &Event) -> Option<sse::Event> {
    // Writing this structure cannot fail.
    serde_json::to_string(event)
        .ok()
        .map(|json| sse::Event::default().data(json))
}

fn to_view(event: &sandbox::Event) -> Event {
    let mut data = EventData {
        provider: Some(event.provider),
        ..EventData::default()
    };
    let r#type = match &event.kind {
        EventKind::Created { image } => {
            data.image = Some(image.clone());
            EventType::Created
        }
        EventKind::ExecCompleted { exit_code, duration } => {
            data.exit_code = Some(*exit_code);
            data.duration = Some((*duration).into());
            EventType::ExecCompleted
        }
        EventKind::ExecTimeout { duration } => {
            data.duration = Some((*duration).into());
            EventType::ExecTimeout
        }
        EventKind::ExecFailed { reason } => {
            data.reason = Some(reason);
            EventType::ExecFailed
        }
        EventKind::Destroyed => EventType::Destroyed,
        EventKind::Expired => EventType::Expired,
        EventKind::Error => EventType::Error,
    };
    Event {
        id: event.id.to_string(),
        r#type,
        sandbox_id: Some(event.sandbox.to_string()),
        owner_id: event.owner.as_ref().map(ToString::to_string),
        timestamp: timestamp(event.at),
        data,
    }
}
