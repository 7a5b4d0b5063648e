//! Archives of GNU tar, archives that lie, and the way there and back.

use std::process::Command;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use proptest::prelude::*;
use tar::{EntryType, Header};

use super::*;
use crate::provider::ByteStream;

/// An archive's entries with their contents.
type Read = Vec<(Entry, Vec<u8>)>;

fn pieces(bytes: &[u8], size: usize) -> ByteStream {
    let pieces: Vec<_> = bytes
        .chunks(size.max(1))
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    stream::iter(pieces).boxed()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

async fn read_all(source: ByteStream) -> Result<Read, ArchiveError> {
    let mut reader = Reader::new(source);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next().await? {
        let mut contents = Vec::new();
        while let Some(piece) = reader.contents().await? {
            contents.extend_from_slice(&piece);
        }
        entries.push((entry, contents));
    }
    Ok(entries)
}

fn read(bytes: &[u8]) -> Result<Read, ArchiveError> {
    block_on(read_all(pieces(bytes, 4000)))
}

fn packed(entries: &Read) -> Vec<u8> {
    let mut out = BytesMut::new();
    for (entry, contents) in entries {
        encode(entry, &mut out);
        out.extend_from_slice(contents);
        out.extend_from_slice(padding(contents.len() as u64));
    }
    out.extend_from_slice(&END);
    out.to_vec()
}

/// A header with a right checksum.
fn header(name: &[u8], kind: u8, size: u64, link: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(1_000_000);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// Headers, blocks and the end as one archive.
fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), END.to_vec()].concat()
}

fn block(contents: &[u8]) -> Vec<u8> {
    [contents, padding(contents.len() as u64)].concat()
}

#[track_caller]
fn assert_refused(archive: &[u8], reason: &str) {
    match read(archive) {
        Err(error) => assert!(error.to_string().contains(reason), "{error}"),
        Ok(entries) => panic!("not refused: {entries:?}"),
    }
}

#[test]
fn names_that_lead_outside_are_refused_and_absolute_ones_are_taken_as_relative() {
    for name in [&b"../a"[..], b"a/../../b", b"..", b"a/.."] {
        assert_refused(&joined(&[header(name, b'0', 0, b"")]), "..");
    }
    assert_refused(&joined(&[header(b"a", b'1', 0, b"../../etc/passwd")]), "..");
    let read = read(&joined(&[header(b"//etc/./passwd", b'0', 0, b"")])).unwrap();
    assert_eq!(read[0].0.path, b"etc/passwd");
    // A NUL ends a name in a header; only extended headers can carry one.
    let record = b"12 path=a\0b\n";
    assert_refused(
        &joined(&[header(b"x", b'x', 12, b""), block(record), header(b"f", b'0', 0, b"")]),
        "NUL",
    );
}

#[test]
fn nothing_is_named_through_a_link_of_the_archive() {
    let link = header(b"d/link", b'2', 0, b"/etc");
    assert_refused(
        &joined(&[link.clone(), header(b"d/link/passwd", b'0', 0, b"")]),
        "symbolic link",
    );
    assert_refused(
        &joined(&[link.clone(), header(b"x", b'1', 0, b"./d//link/passwd")]),
        "symbolic link",
    );
    // The link itself may have other names, and be replaced.
    assert!(read(&joined(&[link.clone(), header(b"x", b'1', 0, b"d/link")])).is_ok());
    let replaced = [
        link,
        header(b"d/link/", b'5', 0, b""),
        header(b"d/link/passwd", b'0', 0, b""),
    ];
    assert!(read(&joined(&replaced)).is_ok());
}

#[test]
fn archives_hold_files_directories_and_links_only() {
    for kind in [b'3', b'4', b'6', b'S', b'M', b'D', b'\n'] {
        assert_refused(&joined(&[header(b"a", kind, 0, b"")]), "the archive's entry \"a\"");
    }
    let record = b"22 GNU.sparse.major=1\n";
    assert_refused(
        &joined(&[header(b"x", b'x', 22, b""), block(record), header(b"f", b'0', 0, b"")]),
        "sparse",
    );
    assert_refused(&joined(&[header(b".", b'0', 0, b"")]), "no name");
    assert_refused(&joined(&[header(b"a", b'2', 0, b"")]), "bad target");
}

#[test]
fn lies_about_sizes_are_seen_and_cost_nothing() {
    for size in [2000, 1 << 20, 8 << 30, u64::MAX] {
        assert_refused(
            &joined(&[header(b"a", b'0', size, b""), vec![0; 200]]),
            "ends too early",
        );
    }
    for kind in [b'x', b'g', b'L', b'K'] {
        assert_refused(&joined(&[header(b"a", kind, u64::MAX, b"")]), "extended header");
        assert_refused(&joined(&[header(b"a", kind, 2 << 20, b"")]), "extended header");
    }
    for record in [
        &b"9999999 path=a\n"[..],
        b"3 a\n",
        b"path=a\n",
        b"99 path=a\n",
        b"7 path\n",
        b"-1 a=b\n",
    ] {
        let header_of = header(b"x", b'x', record.len() as u64, b"");
        assert_refused(
            &joined(&[header_of, block(record), header(b"f", b'0', 0, b"")]),
            "broken",
        );
    }
}

#[test]
fn an_archive_that_breaks_off_is_refused_wherever_that_is() {
    let whole = packed(&vec![
        (
            Entry {
                path: vec![b'l'; 300],
                kind: EntryKind::File { size: 700 },
                mode: 0o644,
                mtime: 1,
            },
            vec![1; 700],
        ),
        (
            Entry {
                path: b"d".to_vec(),
                kind: EntryKind::Directory,
                mode: 0o755,
                mtime: 1,
            },
            Vec::new(),
        ),
    ]);
    assert_eq!(read(&whole).unwrap().len(), 2);
    for length in 0..whole.len() - END.len() + BLOCK {
        assert_refused(&whole[..length], "ends too early");
    }
}

#[test]
fn a_damaged_header_is_refused() {
    let whole = joined(&[header(b"a", b'0', 0, b"")]);
    // A changed digit of the checksum may still be the same number.
    for position in (0..148).chain(156..BLOCK) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x10;
        assert!(read(&damaged).is_err(), "byte {position}");
    }
    assert_refused(b"#!/bin/sh\necho this is no archive\n", "ends too early");
    assert_refused(&[b'x'; 2000], "not a valid tar archive");
}

#[test]
fn privileges_are_dropped_and_times_before_1970_are_1970() {
    let mut old = Header::new_gnu();
    old.set_entry_type(EntryType::Regular);
    old.set_size(0);
    old.set_mode(0o7755);
    old.as_old_mut().name[0] = b'a';
    // GNU's binary form of -1.
    old.as_old_mut().mtime = [0xff; 12];
    old.set_cksum();
    let (entry, _) = read(&joined(&[old.as_bytes().to_vec()])).unwrap().remove(0);
    assert_eq!((entry.mode, entry.mtime), (0o1755, 0));
}

#[test]
fn an_archive_of_gnu_tar_is_read_whatever_its_format() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(150));
    std::fs::create_dir_all(root.join("d".repeat(120))).unwrap();
    std::fs::create_dir(root.join("empty")).unwrap();
    std::fs::write(root.join(&long), vec![7; 1000]).unwrap();
    std::fs::write(root.join("héllo"), b"hi").unwrap();
    std::fs::hard_link(root.join("héllo"), root.join("second")).unwrap();
    std::os::unix::fs::symlink("/etc/".repeat(40), root.join("link")).unwrap();
    for format in ["gnu", "pax", "oldgnu", "ustar", "v7"] {
        let short = ["ustar", "v7"].contains(&format);
        let files: &[&str] = if short { &["empty", "héllo", "second"] } else { &["."] };
        let archive = root
            .parent()
            .unwrap()
            .join(format!("{}.tar", root.file_name().unwrap().display()));
        let status = Command::new("tar")
            .args([
                "--mtime=@1234567.5",
                "--sort=name",
                &format!("--format={format}"),
                "-cf",
            ])
            .arg(&archive)
            .arg("-C")
            .arg(root)
            .args(files)
            .status()
            .expect("the system's tar");
        assert!(status.success());
        let entries = read(&std::fs::read(&archive).unwrap()).unwrap();
        std::fs::remove_file(&archive).unwrap();
        let find = |path: &str| {
            let found = entries.iter().find(|(entry, _)| entry.path == path.as_bytes());
            found.unwrap_or_else(|| panic!("{format}: no {path} in {entries:?}"))
        };
        assert_eq!(find("empty").0.kind, EntryKind::Directory);
        assert_eq!(find("héllo").1, b"hi");
        assert_eq!(find("héllo").0.mtime, 1_234_567);
        let target = b"h\xc3\xa9llo".to_vec();
        assert_eq!(find("second").0.kind, EntryKind::HardLink { target });
        if !short {
            assert_eq!(find(&long).1, vec![7; 1000]);
            let target = "/etc/".repeat(40).into_bytes();
            assert_eq!(find("link").0.kind, EntryKind::Symlink { target });
            assert_eq!(find("").0.kind, EntryKind::Directory);
        }
    }
}

#[test]
fn gnu_tar_reads_what_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let entry = |path: &[u8], kind| Entry {
        path: path.to_vec(),
        kind,
        mode: 0o640,
        mtime: 1_234_567,
    };
    let target = vec![b't'; 180];
    let entries = vec![
        (entry(b"d", EntryKind::Directory), vec![]),
        (
            entry(&[b"d/", &[b'n'; 200][..]].concat(), EntryKind::File { size: 3 }),
            b"abc".to_vec(),
        ),
        (entry(b"d/link", EntryKind::Symlink { target: target.clone() }), vec![]),
        (entry(&[b'e'; 100], EntryKind::File { size: 512 }), vec![b'e'; 512]),
        (
            entry(
                b"hard",
                EntryKind::HardLink {
                    target: vec![b'e'; 100],
                },
            ),
            vec![],
        ),
    ];
    let archive = directory.path().join("a.tar");
    std::fs::write(&archive, packed(&entries)).unwrap();
    let status = Command::new("tar")
        .arg("-xpf")
        .arg(&archive)
        .arg("-C")
        .arg(directory.path())
        .status();
    assert!(status.unwrap().success());
    let long = directory.path().join("d").join("n".repeat(200));
    assert_eq!(std::fs::read(&long).unwrap(), b"abc");
    let modified = std::fs::metadata(&long).unwrap().modified().unwrap();
    assert_eq!(
        modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
        1_234_567
    );
    let link = std::fs::read_link(directory.path().join("d/link")).unwrap();
    assert_eq!(link.as_os_str().as_encoded_bytes(), target);
    assert_eq!(std::fs::read(directory.path().join("hard")).unwrap(), vec![b'e'; 512]);
}

#[test]
fn a_rewritten_archive_has_other_names_and_the_same_contents() {
    let file = |path: &str, size| Entry {
        path: path.into(),
        kind: EntryKind::File { size },
        mode: 0o600,
        mtime: 5,
    };
    let before = vec![(file("top/a", 600), vec![1; 600]), (file("top/no", 600), vec![2; 600])];
    let change = |mut entry: Entry| {
        entry.path.drain(..4);
        Ok(Vec::from_iter((entry.path != b"no").then_some(entry)))
    };
    let after = block_on(read_all(rewritten(
        Reader::new(pieces(&packed(&before), 100)),
        (0, 0),
        change,
    )))
    .unwrap();
    assert_eq!(after, [(file("a", 600), vec![1; 600])]);
}

fn entries() -> impl Strategy<Value = Read> {
    let name = prop_oneof![
        "[a-c]{1,3}",
        "[a-z]{90,130}",
        "\\PC{1,20}".prop_filter("a name", |name| !name.contains(['/', '\0'])
            && name != "."
            && name != "..")
    ];
    let path = proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/").into_bytes());
    let target = proptest::collection::vec(1..=255_u8, 1..300);
    let kind = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..2000).prop_map(|contents| {
            let size = contents.len() as u64;
            (EntryKind::File { size }, contents)
        }),
        Just((EntryKind::Directory, Vec::new())),
        target.prop_map(|target| (EntryKind::Symlink { target }, Vec::new())),
    ];
    let entry = (path, kind, 0..0o2000_u32, 0..1_u64 << 33).prop_map(|(path, (kind, contents), mode, mtime)| {
        let entry = Entry {
            path,
            kind,
            mode,
            mtime,
        };
        (entry, contents)
    });
    proptest::collection::vec(entry, 0..8)
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(entries in entries(), size in 1..3000_usize) {
        let bytes = packed(&entries);
        match block_on(read_all(pieces(&bytes, size))) {
            Ok(read) => prop_assert_eq!(read, entries),
            Err(error) => prop_assert!(error.to_string().contains("symbolic link"), "{}", error),
        }
    }

    #[test]
    fn damaged_archives_are_read_without_a_panic(
        entries in entries(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = packed(&entries);
        for (position, byte) in damage {
            let position = position.index(bytes.len());
            bytes[position] = byte;
        }
        let _ = block_on(read_all(pieces(&bytes, 700)));
    }
}
