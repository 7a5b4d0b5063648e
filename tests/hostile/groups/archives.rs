//! Archives that write where they must not, or are more than they look.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::json;

use crate::attack::{Attack, Verdict, steps};
use crate::check;
use crate::scene::Scene;
use crate::server_support::api::{Answer, answer};

macro_rules! archives {
    ($($name:literal: $entries:expr => $statuses:expr),* $(,)?) => {
        vec![$({
            fn all(scene: Arc<Scene>) -> impl Future<Output = Verdict> + Send {
                unpack(scene, $entries, $statuses)
            }
            steps($name, all)
        }),*]
    };
}

/// Not taken.
const REFUSED: &[u16] = &[400, 413, 429];
/// Taken or not, but without harm.
const HARMLESS: &[u16] = &[200, 400, 413, 429];

pub fn attacks() -> Vec<Attack> {
    let mut all = archives![
        "a name that climbs": file("../../tmp/escaped", b"x") => REFUSED,
        "an absolute name": file("/etc/escaped", b"x") => HARMLESS,
        "a link out, then a file through it":
            [link("d", "/etc", b'2'), file("d/escaped", b"x")].concat() => REFUSED,
        "a link up, then a file through it":
            [link("d", "../../etc", b'2'), file("d/escaped", b"x")].concat() => REFUSED,
        "a directory that becomes a link":
            [directory("d"), link("d", "/etc", b'2'), file("d/escaped", b"x")].concat() => REFUSED,
        "a hard link out": [link("d", "/etc/passwd", b'1')].concat() => HARMLESS,
        "a hard link to what is not there": link("d", "nothing", b'1') => REFUSED,
        "a hard link to a link": [link("l", "/etc/passwd", b'2'), link("d", "l", b'1')].concat() => HARMLESS,
        "a character device": entry("d", 0, b'3', "") => REFUSED,
        "a block device": entry("d", 0, b'4', "") => REFUSED,
        "a named pipe": entry("d", 0, b'6', "") => REFUSED,
        "an unknown kind": entry("d", 0, b'Z', "") => HARMLESS,
        "a set-uid file": set_uid() => HARMLESS,
        "a path of an extended header": [extended("path=../../etc/escaped"), file("x", b"x")].concat() => REFUSED,
        "a size of an extended header": [extended("size=99999999999"), file("x", b"x")].concat() => REFUSED,
        "a negative time of an extended header": [extended("mtime=-1e30"), file("x", b"x")].concat() => HARMLESS,
        "an extended header that lies about its length":
            [raw_extended(b"99999999 path=x\n"), file("x", b"x")].concat() => REFUSED,
        "an extended header for all": [entry("g", 20, b'g', ""), block(b"20 path=/etc/passwd\n")].concat() => HARMLESS,
        "a long name of 1 MiB": long_name(1 << 20) => REFUSED,
        "a name with a NUL in an extended header": [extended("path=a\0b"), file("x", b"x")].concat() => HARMLESS,
        "a wrong check sum": wrong_sum() => REFUSED,
        "a file cut off": file("x", &[1; 5000])[..2000].to_vec() => REFUSED,
        "noise": noise() => REFUSED,
        "a size of eight EiB": entry("x", 0o777_777_777_777, b'0', "") => REFUSED,
        "20,000 directories": (0..20_000).flat_map(|n| directory(&format!("d{n}"))).collect() => HARMLESS,
        "directories 3,000 deep": (1..40).flat_map(|n| directory(&"d/".repeat(n * 2))).collect() => HARMLESS,
        "zeros of 40 MB in 40 KB": gzip(&file("x", &vec![0; 40_000_000])) => REFUSED,
        "zeros of zeros": gzip(&gzip(&file("x", &vec![0; 40_000_000]))) => HARMLESS,
    ];
    all.push(steps("an archive that stops in the middle", stalled_archive));
    all.push(steps("an upload that stops in the middle", stalled_upload));
    all
}

/// Sends an archive to `/tmp/in` of a fresh sandbox; nothing may be anywhere else afterwards.
async fn unpack(scene: Arc<Scene>, archive: Vec<u8>, statuses: &[u16]) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
    sandbox.run("mkdir /tmp/in").await;
    let look = "find / -name escaped | grep -v '^/tmp/in/'; md5sum /etc/passwd; ls -ld /etc; ls / | md5sum";
    let before = sandbox.run(look).await;
    let answer = put(&scene, &sandbox.path, archive).await;
    let after = sandbox.run(look).await;
    scene.a.delete(&sandbox.path).await;
    check!(statuses.contains(&answer.status), "{answer:?}");
    check!(before.stdout == after.stdout, "changed: {} to {}", before.stdout, after.stdout);
    Ok(answer.status.to_string())
}

async fn put(scene: &Scene, sandbox: &str, archive: Vec<u8>) -> Answer {
    let path = format!("{sandbox}/files/archive?path=/tmp/in");
    let request = scene.a.request(Method::PUT, &path).header("Expect", "");
    answer(request.body(archive)).await
}

/// Begins a body and never goes on: the client is given up on after the server's `body_timeout`.
async fn stalled(scene: Arc<Scene>, head: String, begun: Vec<u8>) -> Verdict {
    let mut request = format!("{head}Host: {}\r\nContent-Length: 100000\r\n\r\n", scene.address).into_bytes();
    request.extend(begun);
    let text = scene.raw(&request).await;
    check!(text.starts_with("HTTP/1.1 4"), "not given up on: {text:.200}");
    Ok("given up on".to_owned())
}

async fn stalled_archive(scene: Arc<Scene>) -> Verdict {
    let path = format!("/api/v1{}/files/archive?path=/tmp/in", scene.named);
    let head = format!("PUT {path} HTTP/1.1\r\nX-API-Key: {}\r\n", scene.key_a);
    stalled(scene, head, file("x", &[1; 600])).await
}

async fn stalled_upload(scene: Arc<Scene>) -> Verdict {
    let path = format!("/api/v1{}/files?path=/tmp/stalled", scene.named);
    let head = format!("PUT {path} HTTP/1.1\r\nX-API-Key: {}\r\n", scene.key_a);
    stalled(scene, head, vec![1; 600]).await
}

/// A header of the ustar format.
fn entry(name: &str, size: u64, kind: u8, target: &str) -> Vec<u8> {
    header(name, size, kind, target, 0o644)
}

fn header(name: &str, size: u64, kind: u8, target: &str, mode: u32) -> Vec<u8> {
    let mut header = vec![0u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, &name[..name.len().min(100)]);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}")[..11]);
    put(136, "00000000000");
    put(148, "        ");
    put(157, target);
    put(257, "ustar");
    put(263, "00");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

/// Bytes with zeros up to the end of the block.
fn block(bytes: &[u8]) -> Vec<u8> {
    let mut block = bytes.to_vec();
    block.resize(bytes.len().next_multiple_of(512), 0);
    block
}

fn file(name: &str, contents: &[u8]) -> Vec<u8> {
    [entry(name, contents.len() as u64, b'0', ""), block(contents)].concat()
}

fn directory(name: &str) -> Vec<u8> {
    entry(name, 0, b'5', "")
}

fn link(name: &str, target: &str, kind: u8) -> Vec<u8> {
    entry(name, 0, kind, target)
}

fn set_uid() -> Vec<u8> {
    [header("x", 1, b'0', "", 0o6755), block(b"x")].concat()
}

/// An extended header with one record.
fn extended(record: &str) -> Vec<u8> {
    let mut len = record.len() + 3;
    while format!("{len} {record}\n").len() != len {
        len += 1;
    }
    raw_extended(format!("{len} {record}\n").as_bytes())
}

fn raw_extended(records: &[u8]) -> Vec<u8> {
    [entry("x", records.len() as u64, b'x', ""), block(records)].concat()
}

fn long_name(bytes: usize) -> Vec<u8> {
    let name = vec![b'n'; bytes];
    [entry("x", bytes as u64, b'L', ""), block(&name), file("x", b"x")].concat()
}

fn wrong_sum() -> Vec<u8> {
    let mut archive = file("x", b"x");
    archive[150] ^= 1;
    archive
}

fn noise() -> Vec<u8> {
    let mut state = 7u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(50_000).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}
