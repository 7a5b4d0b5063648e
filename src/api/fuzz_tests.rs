//! Mutated requests, through the parsers that read them, and output of commands, through what frames it.

use axum::extract::FromRequestParts as _;
use axum::http::{Request, Uri};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use wisp_fuzzing::{fuzz, kind_of, outcome};

use super::exec::{ExecBody, into_request};
use super::exec_ws::Input;
use super::extract::{Query, check_path, parse_json, parse_mode};
use super::text::{Decoder, lossy};
use crate::duration::GoDuration;

/// The request of a command, as `POST /exec` and the first message of a WebSocket have it.
#[test]
fn fuzz_json() {
    let seeds = [
        json!({"command": "echo", "args": ["a", "b"], "mode": "argv", "env": {"A": "b"}, "timeout": "1m5.5s"}),
        json!({"command": "x", "workdir": "/tmp", "fuel": 7, "stream": true, "stdin": "\u{1F600}\u{0}"}),
    ];
    let seeds = seeds.map(|seed| seed.to_string().into_bytes());
    let words: &[&[u8]] = &[
        b"{", b"}", b"[", b"]", b"\"", b"\\", b"\\ud800", b"\\u0000", b":", b",", b"null", b"true", b"1e999", b"-0",
        b"command", b"args", b"mode", b"env", b"timeout", b"stdin", b"workdir", b"fuel",
    ];
    fuzz(crate::FUZZ, "json", &seeds, words, |input| {
        match parse_json::<ExecBody>(input) {
            Ok(body) => match into_request(body, None) {
                Ok(request) => {
                    let workdir = request.workdir.as_deref();
                    assert!(workdir.is_none_or(|path| path.starts_with('/') && !path.contains('\0')));
                    outcome(&(
                        0,
                        request.env.len().min(5),
                        request.timeout.is_some(),
                        workdir.is_some(),
                    ))
                }
                Err(error) => {
                    assert!(error.status().is_client_error(), "{:?}", error.message());
                    outcome(&(1, kind_of(&error.message())))
                }
            },
            Err(error) => {
                assert_eq!(error.status(), 400, "{:?}", error.message());
                outcome(&(2, kind_of(&error.message())))
            }
        }
    });
}

/// A message of a WebSocket after the first.
#[test]
fn fuzz_ws_input() {
    let seeds = [
        json!({"stdin": "text\u{0}"}),
        json!({"stdin_base64": "AAECAw=="}),
        json!({"eof": true}),
        json!({"signal": "INT"}),
    ];
    let seeds = seeds.map(|seed| seed.to_string().into_bytes());
    let words: &[&[u8]] = &[
        b"stdin",
        b"stdin_base64",
        b"eof",
        b"signal",
        b"KILL",
        b"TERM",
        b"true",
        b"null",
        b"\"",
        b"=",
        b"/",
        b"\\u0000",
        b",",
        b":",
        b"{",
        b"}",
    ];
    fuzz(crate::FUZZ, "ws_input", &seeds, words, |text| {
        match Input::parse(text) {
            Ok((_, bytes)) => {
                assert!(bytes.as_ref().is_none_or(|bytes| bytes.len() <= text.len()));
                outcome(&(0, bytes.map(|bytes| bytes.len().min(9))))
            }
            Err(error) => {
                assert_eq!(error.status(), 400, "{:?}", error.message());
                outcome(&(1, kind_of(&error.message())))
            }
        }
    });
}

/// Any JSON at all: what is parsed was nested no deeper than allowed.
#[test]
fn fuzz_json_values() {
    let words: &[&[u8]] = &[b"[", b"]", b"{\"a\":", b"}", b"\"", b"\\\"", b"1e308", b"null"];
    fuzz(
        crate::FUZZ,
        "json_values",
        &[b"[{\"a\":[1,2.5,\"x\"]}]".to_vec()],
        words,
        |input| match parse_json::<Value>(input) {
            Ok(value) => {
                // Counted without recursion.
                let (mut level, mut depth) = (vec![&value], 0);
                while !level.is_empty() {
                    depth += 1;
                    level = level
                        .into_iter()
                        .flat_map(|value| match value {
                            Value::Array(items) => items.iter().collect::<Vec<_>>(),
                            Value::Object(fields) => fields.values().collect(),
                            _ => Vec::new(),
                        })
                        .collect();
                }
                assert!(depth <= 66, "{depth} levels");
                outcome(&depth)
            }
            Err(error) => outcome(&kind_of(&error.message())),
        },
    );
}

/// A duration that is read is written in a form that is read as the same.
#[test]
fn fuzz_duration() {
    let seeds = [
        "1h30m",
        "1.5s",
        "250ms",
        "+1h15m30.918273645s",
        ".5h",
        "1\u{b5}s",
        "0",
        "9223372036854775807ns",
    ];
    let seeds = seeds.map(|seed| seed.as_bytes().to_vec());
    let words: &[&[u8]] = &[b"h", b"m", b"s", b"ms", b"us", b"ns", b".", b"-", b"+", b"9", b"0"];
    fuzz(crate::FUZZ, "duration", &seeds, words, |input| {
        let Ok(text) = std::str::from_utf8(input) else { return 0 };
        match GoDuration::parse(text) {
            Ok(duration) => {
                let written = duration.to_string();
                let again = GoDuration::parse(&written).expect("what was written is read");
                assert_eq!(duration.0, again.0, "{text} is written {written}");
                outcome(&(written.len(), written.contains('.')))
            }
            Err(error) => outcome(&kind_of(&error)),
        }
    });
}

/// Query strings, paths and modes.
#[test]
fn fuzz_query() {
    let seeds = [
        b"path=/tmp/a%20b&recursive=true".to_vec(),
        b"pattern=/**/x&&a=&=b".to_vec(),
    ];
    let words: &[&[u8]] = &[b"%", b"%2F", b"%00", b"%ff", b"&", b"=", b"path", b"..", b"/", b"+"];
    fuzz(crate::FUZZ, "query", &seeds, words, |input| {
        let Ok(text) = std::str::from_utf8(input) else { return 0 };
        let Ok(uri) = format!("/x?{text}").parse::<Uri>() else {
            return 1;
        };
        let mut parts = Request::get(uri).body(()).expect("a request").into_parts().0;
        let query = Query::from_request_parts(&mut parts, &()).now_or_never();
        match query.expect("nothing is waited for") {
            Ok(query) => {
                let path = query.get("path").map(|path| check_path("path", path));
                if let Some(Ok(path)) = &path {
                    assert!(path.starts_with('/') && !path.contains('\0'));
                    assert!(!path.split('/').any(|part| part == ".."));
                }
                let mode = query.get("mode").map(parse_mode);
                assert!(!matches!(&mode, Some(Ok(mode)) if *mode > 0o7777));
                outcome(&(
                    path.map(|path| path.is_ok()),
                    mode.map(|mode| mode.is_ok()),
                    query.flag("recursive").is_ok(),
                ))
            }
            Err(error) => {
                assert_eq!(error.status(), 400);
                outcome(&kind_of(&error.message()))
            }
        }
    });
}

/// Output cut into chunks anywhere is the text of the whole, and each line of the stream is one line of JSON.
#[test]
fn fuzz_ndjson() {
    let seeds = [
        "plain\n".as_bytes().to_vec(),
        "aé€😀z\r\n\u{2028}".as_bytes().to_vec(),
        vec![0xf0, 0x9f, 0x98, b'\n'],
    ];
    let words: &[&[u8]] = &[
        "€".as_bytes(),
        "😀".as_bytes(),
        b"\xe2\x82",
        b"\xf0",
        b"\xff",
        b"\n",
        b"\"",
        b"\\",
        b"\x1b[2J",
    ];
    fuzz(crate::FUZZ, "ndjson", &seeds, words, |input| {
        let (sizes, bytes) = input.split_at(input.len().min(4));
        let mut decoder = Decoder::default();
        let mut text = String::new();
        let mut rest = bytes;
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at((usize::from(*size) + 1).min(rest.len()));
            rest = after;
            let data = decoder.push(chunk);
            let line = json!({"stream": "stdout", "data": data}).to_string();
            assert!(!line.contains('\n'), "{line}");
            let read: Value = serde_json::from_str(&line).expect("a line is JSON");
            assert_eq!(read["data"], json!(data));
            text.push_str(&data);
        }
        text.push_str(&decoder.finish());
        assert_eq!(text, lossy(bytes.to_vec()));
        outcome(&(text.contains('\u{fffd}'), text.chars().count().min(30)))
    });
}
