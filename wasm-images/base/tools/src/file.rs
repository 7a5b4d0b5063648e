//! `file`: a few kinds of files by their first bytes.

use std::fs;
use std::io::Read;
use std::path::Path;

use wisp_sys::Stat;

use crate::cli::{Spec, Takes, fail};

const SPEC: Spec = Spec {
    short: "biLh",
    long: &[
        ("brief", "b", Takes::Nothing),
        ("mime-type", "i", Takes::Nothing),
        ("mime", "i", Takes::Nothing),
    ],
    permute: true,
};

/// First bytes, description, media type.
const MAGIC: [(&[u8], &str, &str); 14] = [
    (b"\x7fELF", "ELF executable", "application/x-executable"),
    (b"\0asm", "WebAssembly (wasm) binary module", "application/wasm"),
    (b"\x1f\x8b", "gzip compressed data", "application/gzip"),
    (b"BZh", "bzip2 compressed data", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "XZ compressed data", "application/x-xz"),
    (b"PK\x03\x04", "Zip archive data", "application/zip"),
    (b"\x89PNG\r\n\x1a\n", "PNG image data", "image/png"),
    (b"\xff\xd8\xff", "JPEG image data", "image/jpeg"),
    (b"GIF8", "GIF image data", "image/gif"),
    (b"%PDF-", "PDF document", "application/pdf"),
    (b"SQLite format 3\0", "SQLite 3.x database", "application/vnd.sqlite3"),
    (b"<?xml", "XML document, ASCII text", "text/xml"),
    (b"<!DOCTYPE html", "HTML document, ASCII text", "text/html"),
    (b"{", "JSON text data", "application/json"),
];

fn describe(path: &Path) -> (String, &'static str) {
    let stat = match wisp_sys::stat(path, false) {
        Ok(stat) => stat,
        Err(error) => {
            return (
                format!("cannot open ({})", crate::cli::reason(&error)),
                "inode/x-unknown",
            );
        }
    };
    match stat.file_type() {
        Stat::DIRECTORY => return ("directory".into(), "inode/directory"),
        Stat::SYMLINK => {
            let target = fs::read_link(path).unwrap_or_default();
            return (format!("symbolic link to {}", target.display()), "inode/symlink");
        }
        Stat::FIFO => return ("fifo (named pipe)".into(), "inode/fifo"),
        Stat::CHARACTER_DEVICE => return ("character special".into(), "inode/chardevice"),
        _ => {}
    }
    let mut head = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(64 * 1024).read_to_end(&mut head));
    if let Err(error) = read {
        return (
            format!("cannot open ({})", crate::cli::reason(&error)),
            "inode/x-unknown",
        );
    }
    if head.is_empty() {
        return ("empty".into(), "inode/x-empty");
    }
    let ustar = head.get(257..262) == Some(b"ustar");
    if ustar {
        return ("POSIX tar archive".into(), "application/x-tar");
    }
    if head.starts_with(b"#!") {
        let line = String::from_utf8_lossy(&head[2..])
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        let program = line
            .split_whitespace()
            .find(|word| !word.ends_with("/env"))
            .unwrap_or_default();
        let kind = match program.rsplit('/').next().unwrap_or_default() {
            "sh" | "dash" => "POSIX shell script".to_owned(),
            "bash" => "Bourne-Again shell script".to_owned(),
            name if name.starts_with("python") => "Python script".to_owned(),
            _ => format!("{line} script"),
        };
        return (format!("{kind}, ASCII text executable"), "text/x-shellscript");
    }
    if let Some((_, text, media)) = MAGIC.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return ((*text).into(), media);
    }
    let text = match std::str::from_utf8(&head) {
        Ok(text) => Some(text),
        // The last character may be cut.
        Err(error) if error.valid_up_to() + 4 > head.len() => std::str::from_utf8(&head[..error.valid_up_to()]).ok(),
        Err(_) => None,
    };
    match text {
        Some(text) if !text.contains('\0') => {
            let kind = if text.is_ascii() {
                "ASCII text"
            } else {
                "Unicode text, UTF-8 text"
            };
            let ends = if text.contains("\r\n") {
                ", with CRLF line terminators"
            } else {
                ""
            };
            (format!("{kind}{ends}"), "text/plain")
        }
        _ => ("data".into(), "application/octet-stream"),
    }
}

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) if parsed.operands.is_empty() => return fail("file", "usage: file [-b] [-i] FILE...", 1),
        Ok(parsed) => parsed,
        Err(message) => return fail("file", message, 1),
    };
    for name in &parsed.operands {
        let (text, media) = describe(Path::new(name));
        let shown = if parsed.has("i") { media } else { &text };
        if parsed.has("b") {
            println!("{shown}");
        } else {
            println!("{name}: {shown}");
        }
    }
    0
}
