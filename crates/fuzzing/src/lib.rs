//! A loop that feeds mutated inputs to one parser or one state machine.
//!
//! Coverage-guided fuzzers need a nightly compiler, which this project does not (`docs/decisions/0170`). This one keeps
//! every input that makes its target end in a way not seen before, and mutates those further: the target tells by a
//! number what came of an input ([`outcome`]). The seeds are files of `corpus/TARGET/` in a directory of the caller; an
//! input that once failed is one of them, so every run repeats it first.
//!
//! `cargo test fuzz_` runs each target for `QUICK`. `FUZZ_SECONDS=3600` runs each for an hour and prints how many
//! inputs it had; `FUZZ_EXECUTIONS=10000000` ends it sooner, after so many; `FUZZ_SEED` changes the way. An input that
//! fails is written to `finds/` beside the corpus, where git ignores it: move it to `corpus/TARGET/` with the fix.

#![allow(clippy::print_stdout, reason = "the number of executions is the result")]

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

/// How long a target runs in an ordinary test run.
const QUICK: Duration = Duration::from_millis(700);
/// Most inputs kept for further mutation.
const MAX_KEPT: usize = 4096;
/// Longest input made by mutation, bytes.
const MAX_INPUT: usize = 16 << 10;
/// How many inputs run between two looks at the clock.
const BATCH: u64 = 64;

/// What came of an input, as a number that is the same for the same kind of end.
pub fn outcome(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// The kind of an error: its text without what differs from input to input.
pub fn kind_of(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let plain = text.chars().filter(|c| c.is_ascii_alphabetic() || *c == ' ');
    plain.take(40).collect()
}

/// Numbers that seem random and are the same every time (xorshift64*).
pub struct Draw(u64);

impl Draw {
    /// Begins at a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next_number() >> 16).map_or(0, |number| number % end.max(1))
    }

    /// One of some values.
    pub fn one_of<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.below(values.len())]
    }
}

/// Feeds mutated inputs to `target`, which panics when something is wrong and otherwise tells what came of the input.
///
/// `directory` holds `corpus/NAME/` and gets `finds/`; `seeds` are tried beside those of the corpus; `words` are pieces of the input's language that a mutation puts in.
pub fn fuzz(
    directory: impl AsRef<Path>,
    name: &str,
    seeds: &[Vec<u8>],
    words: &[&[u8]],
    mut target: impl FnMut(&[u8]) -> u64,
) {
    let directory = directory.as_ref();
    let time = match env::var("FUZZ_SECONDS") {
        Ok(seconds) => Duration::from_secs_f64(seconds.parse().expect("FUZZ_SECONDS is a number")),
        Err(_) => QUICK,
    };
    let enough =
        env::var("FUZZ_EXECUTIONS").map_or(u64::MAX, |count| count.parse().expect("FUZZ_EXECUTIONS is a number"));
    let seed = env::var("FUZZ_SEED").map_or(1, |seed| seed.parse().expect("FUZZ_SEED is a number"));
    let mut kept: Vec<Vec<u8>> = corpus(directory, name)
        .into_iter()
        .chain(seeds.iter().cloned())
        .collect();
    kept.push(Vec::new());
    let mut seen = HashSet::new();
    let mut executions = 0u64;
    let mut try_one = |input: &[u8]| {
        let ended = catch_unwind(AssertUnwindSafe(|| target(input)));
        executions += 1;
        match ended {
            Ok(outcome) => seen.insert(outcome),
            Err(panic) => {
                println!(
                    "fuzz {name}: an input of {} bytes fails: {}",
                    input.len(),
                    keep_find(directory, name, input)
                );
                resume_unwind(panic)
            }
        }
    };
    for input in &kept {
        try_one(input);
    }
    let started = Instant::now();
    let mut draw = Draw::new(seed);
    let mut made = 0;
    while started.elapsed() < time && made < enough {
        made += BATCH;
        for _ in 0..BATCH {
            let input = mutated(&mut draw, &kept, words);
            if try_one(&input) && kept.len() < MAX_KEPT {
                kept.push(input);
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "fuzz {name}: {executions} executions in {seconds:.1} s, {} kinds of end, seed {seed}",
        seen.len()
    );
}

/// The files of a target's corpus, in the order of their names.
fn corpus(directory: &Path, name: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(directory.join("corpus").join(name))
        .into_iter()
        .flatten()
        .flatten();
    let mut paths: Vec<PathBuf> = files.map(|file| file.path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| fs::read(path).expect("a file of the corpus"))
        .collect()
}

/// Writes an input that fails, and tells where.
fn keep_find(directory: &Path, name: &str, input: &[u8]) -> String {
    let finds = directory.join("finds");
    let path = finds.join(format!("{name}-{:016x}", outcome(&input)));
    match fs::create_dir_all(&finds).and_then(|()| fs::write(&path, input)) {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("{error}: {}", input.escape_ascii()),
    }
}

/// One of the kept inputs, changed in up to eight places.
fn mutated(draw: &mut Draw, kept: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    const NUMBERS: [u64; 12] = [
        0,
        1,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0xffff,
        0x7fff_ffff,
        0xffff_ffff,
        0x8000_0000,
        i64::MAX as u64,
        u64::MAX,
    ];
    let mut input = draw.one_of(kept).clone();
    let rounds = 1 + draw.below(8);
    for _ in 0..rounds {
        let at = draw.below(input.len() + 1);
        match draw.below(11) {
            0 if at < input.len() => input[at] ^= 1 << draw.below(8),
            1 if at < input.len() => input[at] = (draw.next_number() >> 32) as u8,
            2 => input.insert(at, (draw.next_number() >> 32) as u8),
            3 if at < input.len() => drop(input.remove(at)),
            4 => {
                // A part twice.
                let end = (at + draw.below(64)).min(input.len());
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            5 => {
                let end = (at + draw.below(64)).min(input.len());
                input.drain(at..end);
            }
            6 => {
                // A number that is often a border.
                let number = draw.one_of(&NUMBERS).to_le_bytes();
                let width = *draw.one_of(&[1, 2, 4, 8]);
                let end = (at + width).min(input.len());
                input.splice(at..end, number[..width].iter().copied());
            }
            7 => {
                // The end of another.
                let other = draw.one_of(kept);
                let from = draw.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            8 if !words.is_empty() => {
                let word = draw.one_of(words).to_vec();
                input.splice(at..at, word);
            }
            9 if !words.is_empty() => {
                let word = draw.one_of(words).to_vec();
                let end = (at + word.len()).min(input.len());
                input.splice(at..end, word);
            }
            10 => {
                // One byte many times.
                let byte = input.get(at).copied().unwrap_or(b'a');
                let count = 1 << draw.below(9);
                input.splice(at..at, std::iter::repeat_n(byte, count));
            }
            _ => {}
        }
    }
    input.truncate(MAX_INPUT);
    input
}

#[test]
fn a_failure_that_needs_three_steps_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let found = catch_unwind(|| {
        let words: &[&[u8]] = &[b"magic"];
        let time = Instant::now();
        // Without a limit of its own the loop ends after `QUICK`; a failure is found long before.
        fuzz(directory.path(), "self_test", &[b"seed".to_vec()], words, |input| {
            let steps = [input.starts_with(b"m"), input.contains(&0xff), input.len() > 20];
            let reached = steps.iter().take_while(|step| **step).count();
            assert!(reached < 3 || time.elapsed() > Duration::from_secs(3600), "found");
            outcome(&reached)
        });
    });
    assert!(found.is_err(), "the loop does not find what it should");
    let finds = fs::read_dir(directory.path().join("finds")).unwrap();
    assert_eq!(finds.count(), 1, "the input that fails is kept");
}
