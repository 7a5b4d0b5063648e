//! Mutated journals whose checksums are right: what a compromised writer could leave.

use std::fs;
use std::path::PathBuf;

use wisp_fuzzing::{fuzz, kind_of, outcome};

use super::*;
use crate::{OpenOptions, ROOT};

/// As in `journal.rs`.
const FRAME_HEADER: usize = 17;
const HEADER: usize = 44;

const ROOMY: Limits = Limits {
    max_bytes: 1 << 40,
    max_inodes: 1 << 20,
};

fn image() -> Tree {
    let fs = Fs::new(ROOMY);
    fs.mkdir(ROOT, b"/dir", 0o755).unwrap();
    fs.import_file(ROOT, b"/dir/large", 0o644, Arc::new(vec![7; 200_000]), 0..200_000)
        .unwrap();
    fs.symlink(b"dir", ROOT, b"/link").unwrap();
    fs.freeze()
}

/// The journal of a filesystem to which everything was done that a record can tell.
fn journal(image: &Tree) -> (Vec<u8>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let place = Place {
        directory: directory.path().join("fs"),
        identity: [7; 32],
        fsync: false,
    };
    let durable = Durable::new(image, ROOMY, place);
    let files = durable.fs();
    let create = OpenOptions {
        create: true,
        mode: 0o644,
        ..OpenOptions::default()
    };
    files.mkdir(ROOT, b"/new", 0o755).unwrap();
    files
        .open(ROOT, b"/new/small", &create)
        .unwrap()
        .write_at(0, b"small")
        .unwrap();
    files.symlink(b"small", ROOT, b"/new/link").unwrap();
    durable.sync().unwrap();
    files
        .open(ROOT, b"/dir/large", &create)
        .unwrap()
        .write_at(70_000, b"x")
        .unwrap();
    files.rename(ROOT, b"/new/small", ROOT, b"/moved").unwrap();
    files.unlink(ROOT, b"/link").unwrap();
    files.open(ROOT, b"/moved", &create).unwrap().set_len(3).unwrap();
    durable.sync().unwrap();
    (fs::read(directory.path().join("fs").join(JOURNAL)).unwrap(), directory)
}

/// The bodies of a journal's frames.
fn bodies(journal: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &journal[HEADER..];
    let mut bodies = Vec::new();
    while rest.len() >= FRAME_HEADER {
        let len = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        bodies.push(rest[FRAME_HEADER..FRAME_HEADER + len].to_vec());
        rest = &rest[FRAME_HEADER + len..];
    }
    bodies
}

/// Items of records in any order are applied or refused, without a panic.
#[test]
fn fuzz_journal_items() {
    let image = image();
    let seeds = bodies(&journal(&image).0);
    let words: &[&[u8]] = &[
        &[0],
        &[1],
        &[2],
        &[3],
        &[4],
        &[5],
        &[6],
        &[7],
        &[8],
        &[0xff; 8],
        b"\x01\0\0\0\0\0\0\0",
    ];
    let layer = next_layer();
    fuzz(crate::FUZZ, "journal_items", &seeds, words, |input| {
        // No slot is read, so there need be no file.
        let slots = ChunkFile::recovering(PathBuf::new());
        let mut replay = Replay::new(&image, layer, &slots);
        let half = input.len() / 2;
        let first = replay.apply(&input[..half], false).map_err(|error| kind_of(&error));
        let second = replay.apply(&input[half..], true).map_err(|error| kind_of(&error));
        let whole = {
            let mut replay = Replay::new(&image, layer, &slots);
            let applied = replay.apply(input, true).is_ok();
            (applied, replay.finish().nodes.len().min(12))
        };
        outcome(&(first, second, whole))
    });
}

/// A whole journal file, its checksums made right again, is recovered or refused, without a panic.
#[test]
fn fuzz_journal_file() {
    let image = image();
    let (seed, directory) = journal(&image);
    let place = Place {
        directory: directory.path().join("fs"),
        identity: [7; 32],
        fsync: false,
    };
    let path = place.directory.join(JOURNAL);
    fuzz(
        crate::FUZZ,
        "journal_file",
        &[seed],
        &[&[0; 4], &[1], &[0xff; 4]],
        |input| {
            fs::write(&path, with_checksums(input)).unwrap();
            match Durable::recover(&image, ROOMY, place.clone()) {
                Ok(files) => outcome(&(true, files.fs().usage().inodes.min(12))),
                Err(error) => outcome(&kind_of(&error)),
            }
        },
    );
}

/// The bytes as a journal whose checksums are right as far as its lengths make sense.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < HEADER {
        return bytes;
    }
    let crc = crc32fast::hash(&bytes[..HEADER - 4]);
    bytes[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
    let mut at = HEADER;
    while bytes.len() - at >= FRAME_HEADER {
        let len = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let Some(body) = bytes.get(at + FRAME_HEADER..).and_then(|rest| rest.get(..len)) else {
            return bytes;
        };
        let crc = crc32fast::hash(body);
        bytes[at + 9..at + 13].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[at..at + 13]);
        bytes[at + 13..at + 17].copy_from_slice(&crc.to_le_bytes());
        at += FRAME_HEADER + len;
    }
    bytes
}
