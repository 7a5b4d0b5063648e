//! Reads requests strictly: whatever is wrong with one becomes a 400 or 413 that says so, in our error shape.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRef, FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::error::ApiError;
use super::router::AppState;
use crate::provider::GuestPath;
use crate::sandbox::{Caller, Exhausted, Permit, SandboxId, TenantId};

/// Deepest nesting of a JSON body. No request of ours nests more than three levels.
const MAX_JSON_DEPTH: usize = 64;
/// Most values of a JSON body that is not small. A program has at most so many arguments on Linux with short ones.
const MAX_JSON_VALUES: usize = 1 << 18;
/// What a value may cost beyond its text, bytes: a string's header, its share of a map's node, and the allocator's.
const VALUE_BYTES: u64 = 64;
/// Bytes of a body that are not charged: each connection may have so many.
const FREE_BYTES: usize = 4 << 10;
/// A text this long is not worked on by a thread that answers requests.
const LONG_BYTES: u64 = 256 << 10;
/// A JSON body may take this many times the longest pause, however steadily it drips.
const MAX_PAUSES: u32 = 10;
/// Most parameters of a query string. No route of ours takes more than ten.
const MAX_QUERY_PARAMETERS: usize = 64;

/// A JSON body, and what its memory is charged to: to be held for as long as the value. The `Content-Type` does not
/// matter.
pub struct Json<T>(pub T, pub Option<Permit>);

impl<S, T> FromRequest<S> for Json<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send + 'static,
    AppState: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = body_in_time(request, &AppState::from_ref(state)).await?;
        let (value, held) = body.parse().await?;
        Ok(Self(value, held))
    }
}

/// A JSON body that may be left out.
pub struct OptionalJson<T>(pub T, pub Option<Permit>);

impl<S, T> FromRequest<S> for OptionalJson<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Default + Send + 'static,
    AppState: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = body_in_time(request, &AppState::from_ref(state)).await?;
        if body.bytes.is_empty() {
            return Ok(Self(T::default(), None));
        }
        let (value, held) = body.parse().await?;
        Ok(Self(value, held))
    }
}

/// Bytes of a request in memory, and what they are charged to; small ones are not, as each connection may have so many.
pub struct HeldBytes {
    bytes: Bytes,
    permit: Option<Permit>,
}

impl HeldBytes {
    /// Bytes that are charged to `permit`.
    pub fn new(bytes: Bytes, permit: Option<Permit>) -> Self {
        Self { bytes, permit }
    }

    /// The value of the bytes as JSON text, and what it is charged to from now on.
    ///
    /// # Errors
    /// 400 for what is no such JSON; 429 and 503 when there is no memory for the value.
    pub async fn parse<T: DeserializeOwned + Send + 'static>(self) -> Result<(T, Option<Permit>), ApiError> {
        let Self { bytes, permit } = self;
        let Some(mut permit) = permit else {
            return Ok((parse_json(&bytes)?, None));
        };
        let length = bytes.len() as u64;
        let parse = move || {
            let values = count_values(&bytes)?;
            // While it is parsed there are both the text and its values.
            let of_values = length + values as u64 * VALUE_BYTES;
            permit.grow(of_values).map_err(no_memory)?;
            let value = parse_json(&bytes)?;
            drop(bytes);
            permit.shrink_to(of_values);
            Ok((value, Some(permit)))
        };
        work_on(length, parse).await
    }
}

/// Long texts that are worked on at the same time.
static LONG_TEXTS: Semaphore = Semaphore::const_new(2);

/// Does something with a text of `length` bytes: at once when it is short, else in turn and on a thread that answers no
/// requests.
///
/// # Errors
/// What `work` reports.
pub async fn work_on<T: Send + 'static>(
    length: u64,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if length < LONG_BYTES {
        return work();
    }
    // Fails only when the semaphore is closed, which nobody does.
    let turn = LONG_TEXTS.acquire().await.ok();
    let in_turn = move || {
        // Held to the end of the work, whether somebody still waits for it or not.
        let _turn = turn;
        work()
    };
    tokio::task::spawn_blocking(in_turn)
        .await
        .unwrap_or_else(|_| Err(ApiError::internal()))
}

/// The refusal of a request for whose body there is no memory.
pub fn no_memory(exhausted: Exhausted) -> ApiError {
    ApiError::exhausted(exhausted, "memory for requests and answers that are on their way")
}

/// How many values a JSON text has, at most: one more than its commas and colons outside strings.
///
/// # Errors
/// 400 for more than [`MAX_JSON_VALUES`]: a value costs memory however short it is.
fn count_values(bytes: &[u8]) -> Result<usize, ApiError> {
    let mut values = 1;
    outside_strings(bytes, |byte| {
        values += usize::from(matches!(byte, b',' | b':' | b'[' | b'{'));
        values <= MAX_JSON_VALUES
    });
    if values > MAX_JSON_VALUES {
        return Err(ApiError::bad_request(format!(
            "the request has more than {MAX_JSON_VALUES} JSON values"
        )));
    }
    Ok(values)
}

/// The value of a JSON text.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::bad_request("the request has no body; send a JSON object"));
    }
    if nests_too_deep(bytes) {
        return Err(ApiError::bad_request(format!(
            "malformed JSON: nested deeper than {MAX_JSON_DEPTH} levels"
        )));
    }
    // serde_json does not look into texts of fields that nobody reads.
    let text = std::str::from_utf8(bytes).map_err(|_| ApiError::bad_request("malformed JSON: it is not UTF-8"))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.inner();
        let kind = if cause.is_data() {
            "invalid request"
        } else {
            "malformed JSON"
        };
        ApiError::bad_request(if path == "." {
            format!("{kind}: {cause}")
        } else {
            format!("{kind}: {path}: {cause}")
        })
    })?;
    deserializer
        .end()
        .map_err(|error| ApiError::bad_request(format!("malformed JSON: {error}")))?;
    Ok(value)
}

/// Whether brackets outside strings nest too deep.
fn nests_too_deep(bytes: &[u8]) -> bool {
    let mut depth = 0_usize;
    outside_strings(bytes, |byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth <= MAX_JSON_DEPTH
    });
    depth > MAX_JSON_DEPTH
}

/// Shows the bytes of a JSON text that are in no string, one by one, until it is told to stop. Looks at nothing else of
/// the syntax.
fn outside_strings(bytes: &[u8], mut go_on: impl FnMut(u8) -> bool) {
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        if *byte != b'"' {
            if !go_on(*byte) {
                return;
            }
            continue;
        }
        while let Some(byte) = rest.next() {
            match byte {
                b'"' => break,
                b'\\' => drop(rest.next()),
                _ => {}
            }
        }
    }
}

/// A whole body, as [`read_body`] reads it, that is there after a bounded number of pauses.
async fn body_in_time(request: Request, state: &AppState) -> Result<HeldBytes, ApiError> {
    let (parts, body) = request.into_parts();
    let limits = &state.config.limits;
    let permit = match parts.extensions.get::<Caller>() {
        Some(caller) => match sandbox_of(parts.uri.path()) {
            Some(id) => state.sandboxes.transfer_permit(caller, &id),
            None => state.sandboxes.budgets().other_bodies.empty(&caller.tenant),
        },
        None => state.sandboxes.budgets().other_bodies.empty(&TenantId::default()),
    };
    let reading = read_body(
        &parts.headers,
        body,
        limits.max_json_bytes,
        limits.body_timeout.0,
        permit,
    );
    tokio::time::timeout(limits.body_timeout.0 * MAX_PAUSES, reading)
        .await
        .unwrap_or_else(|_| Err(ApiError::body_timeout()))
}

/// The sandbox that a route is about.
fn sandbox_of(path: &str) -> Option<SandboxId> {
    let (_, rest) = path.split_once("/sandboxes/")?;
    SandboxId::parse(rest.split('/').next()?)
}

/// A whole body of at most `limit` bytes, sent without a pause longer than `pause` and charged as it comes.
async fn read_body(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    pause: Duration,
    mut permit: Permit,
) -> Result<HeldBytes, ApiError> {
    let declared = declared_length(headers);
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit as u64));
    }
    let mut stream = body.into_data_stream();
    let mut first = Bytes::new();
    let mut gathered = BytesMut::new();
    loop {
        let chunk = match tokio::time::timeout(pause, stream.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(ApiError::bad_request("the request body ended early")),
            Err(_) => return Err(ApiError::body_timeout()),
        };
        let length = first.len() + gathered.len() + chunk.len();
        if length > limit {
            return Err(too_large(limit as u64));
        }
        if length > FREE_BYTES {
            permit.grow(length as u64 - permit.amount()).map_err(no_memory)?;
        }
        // Most bodies are one chunk, which is used as it came.
        if first.is_empty() && gathered.is_empty() {
            first = chunk;
        } else {
            if gathered.is_empty() {
                // All of it at once, where the length is known: pages that nothing was written to cost nothing, while
                // buffers that grow leave holes.
                let whole = declared.map_or(0, |length| length as usize);
                gathered.reserve(whole.max(length));
            }
            gathered.extend_from_slice(&std::mem::take(&mut first));
            gathered.extend_from_slice(&chunk);
        }
    }
    let bytes = if gathered.is_empty() { first } else { gathered.freeze() };
    let permit = (permit.amount() > 0).then_some(permit);
    Ok(HeldBytes { bytes, permit })
}

/// The 413 of a body over `limit` bytes.
pub fn too_large(limit: u64) -> ApiError {
    ApiError::payload_too_large(format!("the request body is larger than {limit} bytes"))
}

/// What `Content-Length` says.
pub fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The `{id}` of a route.
pub struct Id(pub SandboxId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::bad_request("the sandbox id in the URL is not valid UTF-8"))?;
        SandboxId::parse(&text).map(Self).ok_or_else(|| {
            let shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
            ApiError::not_found(format!("sandbox {shown} not found"))
        })
    }
}

/// The most characters of a client's text that an error message repeats.
const MAX_SHOWN_CHARS: usize = 80;

/// The `{name}` of a route.
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let rejected = |_| ApiError::bad_request("the name in the URL is not valid UTF-8");
        Path::<String>::from_request_parts(parts, state)
            .await
            .map(|Path(name)| Self(name))
            .map_err(rejected)
    }
}

/// Who asks, as [`authenticate`](super::auth::authenticate) found.
pub struct AsCaller(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for AsCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        // Absent only when a route was added outside the authenticated router.
        parts
            .extensions
            .get::<Caller>()
            .cloned()
            .map(Self)
            .ok_or_else(ApiError::internal)
    }
}

/// The parameters of the query string, each at most once.
pub struct Query(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// The parameters of a query string.
fn parse_query(query: &str) -> Result<BTreeMap<String, String>, ApiError> {
    let mut parameters = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if parameters.len() == MAX_QUERY_PARAMETERS {
            return Err(ApiError::bad_request(format!(
                "the query string has more than {MAX_QUERY_PARAMETERS} parameters"
            )));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (percent_decoded(name), percent_decoded(value)) else {
            return Err(ApiError::bad_request(
                "the query string is not valid percent-encoded UTF-8",
            ));
        };
        match parameters.entry(name) {
            Entry::Vacant(entry) => drop(entry.insert(value)),
            Entry::Occupied(entry) => {
                let shown: String = entry.key().chars().take(MAX_SHOWN_CHARS).collect();
                return Err(ApiError::bad_request(format!("query parameter {shown} is given twice")));
            }
        }
    }
    Ok(parameters)
}

impl Query {
    /// A parameter that may be absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A parameter that must be there.
    pub fn require(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name)
            .ok_or_else(|| ApiError::bad_request(format!("query parameter {name} is required")))
    }

    /// A number from 1 to `max`; the default when absent.
    pub fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        // `parse` would take a sign.
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if plain { text.parse().ok() } else { None };
        number.filter(|number| (1..=max).contains(number)).ok_or_else(|| {
            ApiError::bad_request(format!("query parameter {name} must be a whole number from 1 to {max}"))
        })
    }

    /// `true` or `false`; false when absent.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(ApiError::bad_request(format!(
                "query parameter {name} must be true or false"
            ))),
        }
    }
}

/// Decodes `application/x-www-form-urlencoded` text; `None` when it is malformed or not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Checks an absolute path of a sandbox: no NUL, no `..` component, at most 4096 bytes.
pub fn check_path<'a>(name: &str, path: &'a str) -> Result<&'a str, ApiError> {
    match GuestPath::fault(path) {
        None => Ok(path),
        Some(reason) => Err(ApiError::bad_request(format!("{name} {reason}"))),
    }
}

/// Reads permission bits as `chmod` writes them: `"644"`, `"0644"`.
pub fn parse_mode(text: &str) -> Result<u32, ApiError> {
    let octal = (1..=5).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = if octal { u32::from_str_radix(text, 8).ok() } else { None };
    mode.filter(|mode| *mode <= 0o7777).ok_or_else(|| {
        ApiError::bad_request(
            "mode must be an octal string of permission bits, from \"0\" to \"7777\", such as \"0644\"",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::TenantId;

    #[test]
    fn modes_are_octal_strings() {
        for (text, mode) in [
            ("644", 0o644),
            ("0755", 0o755),
            ("7777", 0o7777),
            ("0", 0),
            ("01777", 0o1777),
        ] {
            assert_eq!(parse_mode(text).unwrap(), mode);
        }
        for text in ["", "8", "0o644", "-1", "+644", "u+x", "10000", "000644", "rw"] {
            assert!(parse_mode(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths_are_absolute_and_stay_inside() {
        for path in ["/", "/a/b", "/a/..b/c..", "/a//b/.", "/é"] {
            assert!(check_path("path", path).is_ok(), "{path:?}");
        }
        let long = format!("/{}", "a".repeat(4096));
        for path in ["", "a", "./a", "/..", "/a/../b", "/a/..", "../a", "/a\0b", &long] {
            assert!(check_path("path", path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn query_text_is_decoded_strictly() {
        assert_eq!(percent_decoded("a%20b+c%2F").as_deref(), Some("a b c/"));
        for text in ["%", "%2", "%zz", "%ff", "%C3"] {
            assert_eq!(percent_decoded(text), None, "{text:?}");
        }
    }

    #[test]
    fn query_parameters_are_few_and_each_given_once() {
        let parameters = parse_query("a=1&&b=%20&c").unwrap();
        assert_eq!(parameters.get("b").map(String::as_str), Some(" "));
        assert_eq!(parameters.get("c").map(String::as_str), Some(""));
        for twice in ["a=1&a=2", "a=1&%61=2"] {
            assert!(parse_query(twice).unwrap_err().message().contains("given twice"));
        }
        let many = |count: usize| (0..count).map(|n| format!("p{n}&")).collect::<String>();
        assert_eq!(
            parse_query(&many(MAX_QUERY_PARAMETERS)).unwrap().len(),
            MAX_QUERY_PARAMETERS
        );
        for count in [MAX_QUERY_PARAMETERS + 1, 16_000] {
            assert!(
                parse_query(&many(count))
                    .unwrap_err()
                    .message()
                    .contains("more than 64")
            );
        }
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        assert!(!nests_too_deep(
            format!("{{\"a\":\"{}\"}}", "[".repeat(1000)).as_bytes()
        ));
        assert!(!nests_too_deep(
            format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(1000)).as_bytes()
        ));
        assert!(nests_too_deep("[".repeat(1000).as_bytes()));
        assert!(!nests_too_deep("[],".repeat(1000).as_bytes()));
    }

    #[test]
    fn values_outside_strings_are_counted_and_few() {
        assert!(count_values(br#"{"a":[1,2,3],"b":",,,\"[[:"}"#).unwrap() >= 6);
        assert!(count_values(format!("\"{}\"", ",".repeat(MAX_JSON_VALUES)).as_bytes()).unwrap() == 1);
        assert!(count_values(",".repeat(MAX_JSON_VALUES).as_bytes()).is_err());
    }

    #[tokio::test]
    async fn long_text_is_parsed_and_its_memory_given_back() {
        let budget = crate::sandbox::Budget::new(10 << 20, 100);
        let text = serde_json::to_vec(&"x".repeat(1 << 20)).unwrap();
        let permit = budget.take(&TenantId::default(), text.len() as u64).unwrap();
        let held = HeldBytes::new(text.into(), Some(permit));
        let (value, permit) = held.parse::<String>().await.unwrap();
        assert_eq!(value.len(), 1 << 20);
        assert!(
            (1 << 20..(1 << 20) + 1000).contains(&budget.used()),
            "{}",
            budget.used()
        );
        drop(permit);
        assert_eq!(budget.used(), 0);
    }
}
