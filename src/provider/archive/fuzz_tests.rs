//! Mutated archives whose header checksums are right.

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use wisp_fuzzing::{fuzz, kind_of, outcome};

use super::*;

/// An archive with a file, a directory and links.
fn seed() -> Vec<u8> {
    let entry = |path: &str, kind| Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode: 0o644,
        mtime: 1_000_000,
    };
    let mut out = BytesMut::new();
    encode(&entry("d", EntryKind::Directory), &mut out);
    encode(&entry("d/file", EntryKind::File { size: 700 }), &mut out);
    out.extend_from_slice(&[7; 700]);
    out.extend_from_slice(padding(700));
    let target = b"../file".to_vec();
    encode(&entry("d/link", EntryKind::Symlink { target }), &mut out);
    encode(&entry(&"long/".repeat(60), EntryKind::Directory), &mut out);
    out.extend_from_slice(&END);
    out.to_vec()
}

/// Makes the checksum of every block right that looks like a header.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(BLOCK) {
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

/// What the reader hands out stays inside, whatever the archive says, and is no more than there was.
#[test]
fn fuzz_tar_reader() {
    let words: &[&[u8]] = &[
        b"../",
        b"/",
        b"\0",
        b"ustar\0",
        b"x",
        b"g",
        b"L",
        b"K",
        b"2",
        b"1",
        b"5",
        b"0",
        b"20 path=/etc/passwd\n",
        b"12 size=99\n",
        b"77777777777",
    ];
    fuzz(crate::FUZZ, "tar_reader", &[seed()], words, |input| {
        let bytes = with_checksums(input);
        let pieces: Vec<_> = bytes
            .chunks(900)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let mut reader = Reader::new(stream::iter(pieces).boxed());
        let reading = async {
            let (mut entries, mut contents) = (0u32, 0);
            while let Some(entry) = reader.next().await? {
                entries += 1;
                assert!(entry.path.len() <= MAX_PATH && !entry.path.contains(&0), "{entry:?}");
                assert!(!entry.path.starts_with(b"/"), "{entry:?}");
                assert!(
                    !entry.path.split(|byte| *byte == b'/').any(|part| part == b".."),
                    "{entry:?}"
                );
                assert!(entry.mode & !0o1777 == 0, "{entry:?}");
                while let Some(piece) = reader.contents().await? {
                    contents += piece.len();
                }
            }
            Ok::<_, ArchiveError>((entries, contents))
        };
        // Nothing is waited for: all pieces are there.
        match reading.now_or_never().expect("the reader does not wait") {
            Ok((entries, contents)) => {
                assert!(contents <= bytes.len(), "{contents} bytes of {}", bytes.len());
                outcome(&(entries.min(20), contents > 0))
            }
            Err(error) => outcome(&kind_of(&error)),
        }
    });
}
