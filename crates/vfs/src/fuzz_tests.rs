//! Mutated paths and mutated sequences of calls.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use wisp_fuzzing::{Draw, fuzz, outcome};

use super::*;

fn kind(error: &PathError) -> String {
    format!("{error:?}")
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .collect()
}

/// A tree with every kind of thing, and links that lead up, down, round in circles and nowhere.
fn tree() -> Fs {
    let fs = Fs::new(super::tests::ROOMY);
    fs.create_dir_all(ROOT, b"/a/b/c", 0o755).unwrap();
    fs.create_dir_all(ROOT, b"/tmp", 0o777).unwrap();
    for (target, path) in [
        (b"b".as_slice(), b"/a/down".as_slice()),
        (b"..", b"/a/up"),
        (b"/", b"/a/root"),
        (b"loop", b"/a/loop"),
        (b"/a/two", b"/a/one"),
        (b"/a/one", b"/a/two"),
        (b"nowhere", b"/a/dangling"),
        (b"file/", b"/a/slash"),
        (b"./././b/../b/c", b"/a/long"),
        (b"../a/up/a/down/", b"/a/far"),
    ] {
        fs.symlink(target, ROOT, path).unwrap();
    }
    let chain = [&b"./".repeat(1900), b"l1".as_slice()].concat();
    fs.symlink(&chain, ROOT, b"/a/l0").unwrap();
    fs.symlink(&b"l0/".repeat(1300), ROOT, b"/a/l1").unwrap();
    fs.mknod(ROOT, b"/a/fifo", NodeKind::Fifo, 0o600).unwrap();
    let options = OpenOptions {
        create: true,
        mode: 0o600,
        ..OpenOptions::default()
    };
    fs.open(ROOT, b"/a/file", &options).unwrap();
    fs
}

/// A lookup ends soon, says the same twice, and what it finds is there.
#[test]
fn fuzz_path_resolution() {
    const LONGEST: Duration = Duration::from_secs(20);
    let fs = tree();
    let dir = fs.lookup(ROOT, b"/a", true).unwrap();
    let seeds = [
        b"/a/b/c/../../file".to_vec(),
        b"root/a/down/c".to_vec(),
        b"far/up/up/up/long".to_vec(),
        b"/a/l0/x".to_vec(),
        b"slash".to_vec(),
    ];
    let words: &[&[u8]] = &[
        b"/",
        b"..",
        b".",
        b"a",
        b"b",
        b"up",
        b"down",
        b"root",
        b"loop",
        b"one",
        b"long",
        b"far",
        b"l0",
        b"file",
        b"fifo",
        b"slash",
        b"dangling",
        b"\0",
    ];
    fuzz(crate::FUZZ, "path_resolution", &seeds, words, |input| {
        let started = Instant::now();
        let found = fs.lookup(dir, input, true);
        assert!(started.elapsed() < LONGEST, "{:?}", started.elapsed());
        assert_eq!(found, fs.lookup(dir, input, true));
        let itself = fs.lookup(dir, input, false);
        if let Ok(ino) = found {
            let stat = fs.stat(ino).expect("what was found is there");
            assert_ne!(stat.kind, FileKind::Symlink, "a link was not followed");
            assert!(itself.is_ok(), "a link leads somewhere and is not there");
            if stat.kind == FileKind::Directory {
                let path = fs.path_of(ino).expect("a directory has a path");
                assert_eq!(fs.lookup(ROOT, &path, true), Ok(ino), "its path leads elsewhere");
            }
        }
        let opened = fs.open(dir, input, &OpenOptions::default());
        let both = (found.is_ok(), opened.is_ok(), fs.read_link(dir, input).is_ok());
        match found {
            Ok(ino) => outcome(&(both, format!("{ino:?}"))),
            Err(error) => outcome(&(both, kind(&error), itself.is_ok())),
        }
    });
}

/// Reads a sequence of calls off bytes.
struct Calls<'a>(&'a [u8]);

impl Calls<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number that is small, or at a border of what a file can have.
    fn offset(&mut self) -> Option<u64> {
        let (small, shape) = (u64::from(self.byte()?), self.byte()?);
        Some(match shape % 8 {
            0..=3 => small,
            4 => small << 10,
            5 => 65_536 - (small & 1),
            6 => small << 32,
            _ => u64::MAX - small,
        })
    }

    fn path(&mut self) -> Option<&'static [u8]> {
        const PATHS: [&[u8]; 14] = [
            b"/a",
            b"/b",
            b"/d",
            b"/d/a",
            b"/d/e",
            b"/d/e/f",
            b"/l",
            b"/l/a",
            b"/d/..",
            b"/.",
            b"/d/e/../a",
            b"/a/",
            b"/m",
            b"/m/x",
        ];
        Some(PATHS[usize::from(self.byte()?) % PATHS.len()])
    }
}

/// The call that goes on with a new filesystem on the frozen tree.
const FREEZE: u8 = 17;

/// Carries one call out; what it answers as a number.
fn carry_out(fs: &mut Fs, open: &mut Vec<Handle>, calls: &mut Calls<'_>) -> Option<u64> {
    const LIMITS: Limits = Limits {
        max_bytes: 300_000,
        max_inodes: 12,
    };
    let create = OpenOptions {
        create: true,
        mode: 0o600,
        ..OpenOptions::default()
    };
    let call = calls.byte()? % 22;
    let held = |calls: &mut Calls<'_>| {
        let index = usize::from(calls.byte()?);
        Some((!open.is_empty()).then(|| index % open.len()))
    };
    let ended = match call {
        0 => fs.mkdir(ROOT, calls.path()?, 0o755).is_ok(),
        1 => fs.symlink(calls.path()?, ROOT, calls.path()?).is_ok(),
        2 => fs
            .link(ROOT, calls.path()?, calls.byte()? & 1 == 1, ROOT, calls.path()?)
            .is_ok(),
        3 => fs.unlink(ROOT, calls.path()?).is_ok(),
        4 => fs.rmdir(ROOT, calls.path()?).is_ok(),
        5 => fs.rename(ROOT, calls.path()?, ROOT, calls.path()?).is_ok(),
        6 => fs.remove_all(ROOT, calls.path()?).is_ok(),
        7 | 8 => match fs.open(ROOT, calls.path()?, &create) {
            Ok(handle) => {
                open.push(handle);
                true
            }
            Err(_) => false,
        },
        9 if !open.is_empty() => {
            let index = usize::from(calls.byte()?) % open.len();
            open.swap_remove(index);
            true
        }
        10 | 11 => {
            let (Some(file), offset, len) = (held(calls)?, calls.offset()?, calls.byte()?) else {
                return Some(outcome(&call));
            };
            open[file]
                .write_at(offset, &vec![len | 1; usize::from(len) * 300])
                .is_ok()
        }
        12 => {
            let (Some(file), offset) = (held(calls)?, calls.offset()?) else {
                return Some(outcome(&call));
            };
            open[file].set_len(offset).is_ok()
        }
        13 => {
            let (Some(file), offset, len) = (held(calls)?, calls.offset()?, calls.offset()?) else {
                return Some(outcome(&call));
            };
            open[file].allocate(offset, len).is_ok()
        }
        14 => {
            let (Some(file), offset) = (held(calls)?, calls.offset()?) else {
                return Some(outcome(&call));
            };
            let mut bytes = vec![0xaa; 5000];
            open[file].read_at(offset, &mut bytes).is_ok()
        }
        15 => match held(calls)? {
            Some(file) => open[file].read_dir().is_ok(),
            None => false,
        },
        16 => {
            *fs = fs.fork();
            open.clear();
            true
        }
        FREEZE => {
            *fs = Fs::from_tree(&fs.freeze(), LIMITS);
            open.clear();
            true
        }
        18 => match fs.open_unnamed(0o600) {
            Ok(handle) => {
                open.push(handle);
                true
            }
            Err(_) => false,
        },
        19 => match held(calls)? {
            Some(file) => fs.give_name(&open[file], ROOT, calls.path()?).is_ok(),
            None => false,
        },
        20 => fs.create_dir_all(ROOT, calls.path()?, 0o755).is_ok(),
        _ => fs.mknod(ROOT, calls.path()?, NodeKind::Fifo, 0o600).is_ok(),
    };
    Some(outcome(&(call, ended)))
}

/// After any calls the account is what the tree holds and within its limits, and the tree is one: walking it ends, and
/// every directory is where its parent says.
#[test]
fn fuzz_vfs_calls() {
    let mut draw = Draw::new(11);
    let seeds: Vec<Vec<u8>> = (0..20)
        .map(|_| (0..120).map(|_| (draw.next_number() >> 40) as u8).collect())
        .collect();
    fuzz(crate::FUZZ, "vfs_calls", &seeds, &[], |input| {
        let mut fs = Fs::new(Limits {
            max_bytes: 300_000,
            max_inodes: 12,
        });
        let mut open = Vec::new();
        let mut calls = Calls(&input[..input.len().min(400)]);
        // The last answers are what makes an end a new one.
        let mut recent = [0; 2];
        let mut images = 0;
        while let Some(answer) = carry_out(&mut fs, &mut open, &mut calls) {
            images += u64::from(answer == outcome(&(FREEZE, true)));
            recent = [recent[1], answer];
        }
        fs.check_account();
        let usage = fs.usage();
        // Removing what an image brought must work on a full disk: it may cost as much as the image had (`Quota::Exempt`),
        // and each image may have as much as the quota more than the one before.
        let room = 1 + images;
        assert!(
            usage.bytes <= room * usage.max_bytes && usage.inodes <= room * usage.max_inodes,
            "{usage:?}"
        );
        let mut entries = 0;
        let walked = fs.walk::<()>(ROOT, b"/", |_| {
            entries += 1;
            assert!(entries < 1000, "the tree has a circle");
            ControlFlow::Continue(())
        });
        assert!(walked.is_ok());
        drop(open);
        fs.check_account();
        outcome(&(recent, entries, usage.inodes))
    });
}

/// The long form of the comparison with plain byte vectors (`model_tests`).
#[test]
fn fuzz_vfs_against_the_model() {
    let Ok(seconds) = std::env::var("FUZZ_SECONDS") else {
        // The short form runs as a test of its own.
        return;
    };
    let time = Duration::from_secs_f64(seconds.parse().expect("FUZZ_SECONDS is a number"));
    let (started, mut cases) = (Instant::now(), 0u64);
    while started.elapsed() < time {
        super::model_tests::run(50);
        cases += 50;
    }
    #[allow(clippy::print_stdout, reason = "the number of executions is the result")]
    {
        println!(
            "fuzz vfs_model: {cases} sequences of up to 60 calls in {:.1} s",
            started.elapsed().as_secs_f64()
        );
    }
}
