//! The answer of a command that is not streamed, made while it is sent.
//!
//! A byte of output may become six of JSON, so that the text of a whole answer would be many times as much memory as the
//! output, which is all that is accounted for. So the output stays as it is, charged, until the client has read it, and
//! becomes JSON in pieces of bounded size.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use utoipa::ToSchema;

use super::text::incomplete_tail;
use crate::duration::GoDuration;
use crate::sandbox::{CollectedExec, HeldOutput};

/// Most bytes of JSON that are made at once.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes of output that become JSON in one step: at most six times as many.
const STEP_BYTES: usize = 1 << 10;
/// Output of at most so many bytes is one piece, with a `Content-Length`.
const SMALL_BYTES: usize = 8 << 10;

/// How a command ended and what it wrote. Bytes that are no UTF-8 are U+FFFD in the texts.
#[derive(Debug, ToSchema)]
#[schema(as = ExecResult, example = json!({"exit_code": 0, "stdout": "42\n", "stderr": "", "duration": "1.9ms"}))]
pub struct ExecAnswer {
    /// 0 for success; 126 and 127 as a shell has them; 124 when it passed its timeout; 137 when it was killed.
    exit_code: i32,
    /// What it wrote on standard output.
    #[schema(value_type = String)]
    stdout: Vec<u8>,
    /// What it wrote on standard error; the last line tells the reason when it was killed for a limit.
    #[schema(value_type = String)]
    stderr: Vec<u8>,
    /// How long it ran.
    pub duration: GoDuration,
    /// Processor time that it and everything it started used until its end; absent when it is not measured.
    pub cpu_time: Option<GoDuration>,
    /// Units of fuel that it and everything it started used until its end; absent when they are not counted.
    pub fuel_used: Option<u64>,
    /// Whether output beyond the server's limit was dropped; absent when not.
    #[schema(required = false)]
    truncated: bool,
    /// Held for its `Drop`.
    #[schema(ignore)]
    _held: HeldOutput,
}

impl From<CollectedExec> for ExecAnswer {
    fn from(collected: CollectedExec) -> Self {
        let (mut stdout, mut stderr) = (collected.stdout, collected.stderr);
        if collected.truncated {
            // Half a character at the end goes with what was thrown away.
            for stream in [&mut stdout, &mut stderr] {
                stream.truncate(stream.len() - incomplete_tail(stream));
            }
        }
        if let Some(reason) = &collected.exit.killed_because {
            stderr.extend_from_slice(format!("wisp: killed: {reason}\n").as_bytes());
        }
        Self {
            exit_code: collected.exit.outcome.exit_code,
            stdout,
            stderr,
            duration: collected.exit.outcome.duration.into(),
            cpu_time: collected.exit.outcome.cpu_time.map(GoDuration::from),
            fuel_used: collected.exit.outcome.fuel_used,
            truncated: collected.truncated,
            _held: collected.held,
        }
    }
}

impl ExecAnswer {
    /// As the body of an answer: a JSON object that begins with `fields`, which is empty or ends with a comma.
    pub fn into_body(self: Arc<Self>, fields: &str) -> Body {
        let small = self.stdout.len() + self.stderr.len() <= SMALL_BYTES;
        let mut encoder = Encoder::new(self, fields);
        if small {
            let mut whole = Vec::new();
            while encoder.step(&mut whole) {}
            return Body::from(whole);
        }
        let pieces = futures_util::stream::unfold(encoder, |mut encoder| async move {
            // A client that reads fast must not keep the thread from other requests.
            tokio::task::yield_now().await;
            let piece = encoder.piece()?;
            Some((Ok::<_, Infallible>(piece), encoder))
        });
        Body::from_stream(pieces)
    }
}

impl IntoResponse for ExecAnswer {
    fn into_response(self) -> Response {
        let content_type = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, content_type)], Arc::new(self).into_body("")).into_response()
    }
}

/// Makes JSON of an answer, step by step.
struct Encoder {
    answer: Arc<ExecAnswer>,
    next: Part,
}

/// What is encoded next.
enum Part {
    Head(String),
    /// Standard output from this byte on.
    Stdout(usize),
    /// Standard error from this byte on.
    Stderr(usize),
    Tail,
    End,
}

impl Encoder {
    fn new(answer: Arc<ExecAnswer>, fields: &str) -> Self {
        let head = format!("{{{fields}\"exit_code\":{},\"stdout\":\"", answer.exit_code);
        Self {
            answer,
            next: Part::Head(head),
        }
    }

    /// The next piece; `None` after the last one.
    fn piece(&mut self) -> Option<Bytes> {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        // The longest step is one of output that is all control characters.
        while piece.len() + 6 * STEP_BYTES <= PIECE_BYTES && self.step(&mut piece) {}
        (!piece.is_empty()).then(|| piece.into())
    }

    /// Adds a bounded number of bytes. `false` after the last ones.
    fn step(&mut self, json: &mut Vec<u8>) -> bool {
        let answer = &self.answer;
        self.next = match &self.next {
            Part::Head(head) => {
                json.extend_from_slice(head.as_bytes());
                Part::Stdout(0)
            }
            Part::Stdout(at) if *at < answer.stdout.len() => Part::Stdout(encode_step(json, &answer.stdout, *at)),
            Part::Stdout(_) => {
                json.extend_from_slice(b"\",\"stderr\":\"");
                Part::Stderr(0)
            }
            Part::Stderr(at) if *at < answer.stderr.len() => Part::Stderr(encode_step(json, &answer.stderr, *at)),
            Part::Stderr(_) => Part::Tail,
            Part::Tail => {
                json.extend_from_slice(format!("\",\"duration\":\"{}\"", answer.duration).as_bytes());
                if let Some(cpu_time) = answer.cpu_time {
                    json.extend_from_slice(format!(",\"cpu_time\":\"{cpu_time}\"").as_bytes());
                }
                if let Some(fuel_used) = answer.fuel_used {
                    json.extend_from_slice(format!(",\"fuel_used\":{fuel_used}").as_bytes());
                }
                if answer.truncated {
                    json.extend_from_slice(b",\"truncated\":true");
                }
                json.push(b'}');
                Part::End
            }
            Part::End => return false,
        };
        true
    }
}

/// Encodes some bytes of a text from `at` on, and says where the next step begins.
fn encode_step(json: &mut Vec<u8>, text: &[u8], at: usize) -> usize {
    let mut end = text.len().min(at + STEP_BYTES);
    if end < text.len() {
        // A character is not cut in two.
        end -= incomplete_tail(&text[at..end]);
    }
    for chunk in text[at..end].utf8_chunks() {
        escape(json, chunk.valid());
        if !chunk.invalid().is_empty() {
            json.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    end
}

/// Adds a text as it stands between the quotes of a JSON string (RFC 8259, section 7).
fn escape(json: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        json.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        match byte {
            b'"' | b'\\' => json.extend_from_slice(&[b'\\', *byte]),
            b'\n' => json.extend_from_slice(b"\\n"),
            b'\r' => json.extend_from_slice(b"\\r"),
            b'\t' => json.extend_from_slice(b"\\t"),
            0x08 => json.extend_from_slice(b"\\b"),
            0x0c => json.extend_from_slice(b"\\f"),
            control => {
                let digits = [HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]];
                json.extend_from_slice(b"\\u00");
                json.extend_from_slice(&digits);
            }
        }
    }
    json.extend_from_slice(&bytes[plain..]);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    use super::*;

    fn answer(stdout: &[u8], stderr: &[u8], truncated: bool) -> ExecAnswer {
        ExecAnswer {
            exit_code: 3,
            stdout: stdout.to_vec(),
            stderr: stderr.to_vec(),
            duration: Duration::from_micros(1900).into(),
            cpu_time: None,
            fuel_used: None,
            truncated,
            _held: HeldOutput::nothing(),
        }
    }

    async fn encoded(answer: ExecAnswer, fields: &str) -> Value {
        let body = Arc::new(answer).into_body(fields).collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn pieces_make_the_same_json_as_the_whole() {
        let characters: String = (0..=0x10_ffff_u32).step_by(37).filter_map(char::from_u32).collect();
        let every_control: String = (0..0x80_u8).map(char::from).collect();
        for text in [String::new(), every_control.repeat(3), characters, "€".repeat(50_000)] {
            let value = encoded(answer(text.as_bytes(), b"e", false), "\"code\":\"x\",").await;
            let expected = json!({"code":"x","exit_code":3,"stdout":text,"stderr":"e","duration":"1.9ms"});
            assert!(value == expected, "a text of {} bytes", text.len());
        }
    }

    #[tokio::test]
    async fn bytes_that_are_no_utf8_are_replaced_as_in_one_text() {
        let mut bytes: Vec<u8> = (0..100_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        bytes.extend_from_slice(b"\xe2\x82");
        let value = encoded(answer(b"", &bytes, true), "").await;
        assert!(value["stderr"] == json!(String::from_utf8_lossy(&bytes)));
        assert_eq!(value["truncated"], true);
    }

    #[test]
    fn pieces_are_bounded_whatever_the_output() {
        for byte in [b'a', 0x01, 0xff, b'"'] {
            let mut encoder = Encoder::new(Arc::new(answer(&vec![byte; 1 << 20], &[], false)), "");
            let mut total = 0;
            while let Some(piece) = encoder.piece() {
                assert!(piece.len() <= PIECE_BYTES, "{byte}: {}", piece.len());
                total += piece.len();
            }
            assert!(total > 1 << 20);
        }
    }

    #[test]
    fn small_answers_are_one_piece_of_known_length() {
        let body = |bytes| Arc::new(answer(&vec![1; bytes], &[], false)).into_body("");
        assert!(axum::body::HttpBody::size_hint(&body(SMALL_BYTES)).exact().is_some());
        assert!(
            axum::body::HttpBody::size_hint(&body(SMALL_BYTES + 1))
                .exact()
                .is_none()
        );
    }
}
