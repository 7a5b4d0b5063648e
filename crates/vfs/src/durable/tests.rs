//! One test per behaviour, and random histories.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::{FileKind, NodeKind, OpenOptions, PathError, ROOT, TimeChange};

const ROOMY: Limits = Limits {
    max_bytes: 1 << 40,
    max_inodes: 1 << 20,
};
const CREATE: OpenOptions = OpenOptions {
    create: true,
    exclusive: false,
    truncate: false,
    directory: false,
    no_follow: false,
    mode: 0o644,
};
const MIB: usize = 1 << 20;

/// An image: a directory, a large file that shows a blob, a small one with a chunk, and a link.
fn image() -> Tree {
    let fs = Fs::new(ROOMY);
    fs.mkdir(ROOT, b"/dir", 0o755).unwrap();
    fs.import_file(ROOT, b"/dir/large", 0o644, Arc::new(bytes(200_000, 1)), 0..200_000)
        .unwrap();
    fs.symlink(b"dir", ROOT, b"/link").unwrap();
    put(&fs, "/small", b"from the image");
    fs.freeze()
}

/// Bytes that are the same in no two chunks.
fn bytes(len: usize, salt: usize) -> Vec<u8> {
    let row: Vec<u8> = (0..251).map(|at| (at * 7 + salt) as u8).collect();
    let mut bytes = row.repeat(len / row.len() + 1);
    bytes.truncate(len);
    bytes
}

fn put(fs: &Fs, path: &str, data: &[u8]) {
    let options = OpenOptions {
        truncate: true,
        ..CREATE
    };
    let file = fs.open(ROOT, path.as_bytes(), &options).unwrap();
    assert_eq!(file.write_at(0, data).unwrap_or(0), data.len());
}

fn get(fs: &Fs, path: &str) -> Vec<u8> {
    let file = fs.open(ROOT, path.as_bytes(), &OpenOptions::default()).unwrap();
    super::super::tests::contents(&file)
}

/// All that is to be kept of a filesystem, readable in a failed comparison.
fn portrait(fs: &Fs) -> Vec<String> {
    let mut lines = Vec::new();
    let walked = fs.walk::<()>(ROOT, b"/", |entry| {
        let stat = entry.stat;
        let mut line = format!(
            "{} {:?} {:?} {:o} {} {}:{} {} {} {} {}",
            String::from_utf8_lossy(entry.path),
            stat.ino,
            stat.kind,
            stat.mode,
            stat.nlink,
            stat.uid,
            stat.gid,
            stat.size,
            stat.mtime,
            stat.ctime,
            stat.rdev
        );
        if let Some(target) = entry.target {
            line += &format!(" -> {}", String::from_utf8_lossy(target));
        }
        if stat.kind == FileKind::Regular {
            let data = super::super::tests::contents(&fs.open_ino(stat.ino).unwrap());
            line += &format!(" {:08x} {}", crc32fast::hash(&data), stat.blocks);
        }
        lines.push(line);
        std::ops::ControlFlow::Continue(())
    });
    assert!(walked.is_ok());
    lines.push(format!("{:?}", fs.usage()));
    lines
}

/// A place for one filesystem, made from one image.
struct Setting {
    image: Tree,
    place: Place,
    limits: Limits,
    directory: tempfile::TempDir,
}

impl Setting {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            image: image(),
            place: Place {
                directory: directory.path().join("fs"),
                identity: [7; 32],
                fsync: false,
            },
            limits: ROOMY,
            directory,
        }
    }

    fn create(&self) -> Durable {
        Durable::new(&self.image, self.limits, self.place.clone())
    }

    fn recover(&self) -> Result<Durable, RecoverError> {
        Durable::recover(&self.image, self.limits, self.place.clone())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.directory.join(name)
    }

    /// A copy of what is on the disk now, with this journal.
    fn copy(&self, journal: &[u8]) -> Self {
        let copy = Self {
            image: self.image.clone(),
            ..Self::new()
        };
        fs::create_dir_all(&copy.place.directory).unwrap();
        if self.file(CHUNKS).exists() {
            fs::copy(self.file(CHUNKS), copy.file(CHUNKS)).unwrap();
        }
        fs::write(copy.file(JOURNAL), journal).unwrap();
        copy
    }

    /// A copy of what is on the disk now.
    fn now(&self) -> Self {
        self.copy(&fs::read(self.file(JOURNAL)).unwrap())
    }

    /// Bytes its files occupy on the disk.
    fn occupied(&self) -> u64 {
        [JOURNAL, CHUNKS]
            .iter()
            .filter_map(|name| fs::metadata(self.file(name)).ok())
            .map(|metadata| metadata.blocks() * 512)
            .sum()
    }
}

/// Waits until no removed data is charged any more.
fn wait_until_freed(files: &Durable) {
    while files.fs().state().account.leaving.bytes() > 0 {
        std::thread::yield_now();
    }
}

/// Brings back what was synced last, elsewhere, and compares it.
#[track_caller]
fn assert_kept(setting: &Setting, files: &Durable) {
    let back = setting.now().recover().unwrap();
    assert_eq!(portrait(back.fs()), portrait(files.fs()));
    back.fs().check_account();
}

#[test]
fn every_kind_of_node_comes_back_with_all_its_attributes() {
    let setting = Setting::new();
    let files = setting.create();
    let fs = files.fs();
    put(fs, "/small", b"changed");
    put(fs, "/dir/inline", b"a few bytes");
    put(fs, "/dir/stored", &bytes(300_000, 3));
    fs.mkdir(ROOT, b"/dir/new", 0o1777).unwrap();
    fs.symlink(b"/dir/\xff\xfe", ROOT, b"/dir/new/link").unwrap();
    fs.mknod(ROOT, b"/fifo", NodeKind::Fifo, 0o600).unwrap();
    fs.mknod(ROOT, b"/device", NodeKind::Device(0x0103), 0o666).unwrap();
    put(fs, "/not-utf8", b"");
    fs.rename(ROOT, b"/not-utf8", ROOT, b"/dir/\x80\xff").unwrap();
    fs.link(ROOT, b"/dir/stored", true, ROOT, b"/second-name").unwrap();
    let ino = fs.lookup(ROOT, b"/second-name", true).unwrap();
    fs.chown(ino, Some(1000), Some(100)).unwrap();
    fs.chmod(ino, 0o4755).unwrap();
    fs.set_times(ino, TimeChange::At(1), TimeChange::At(2)).unwrap();
    fs.unlink(ROOT, b"/link").unwrap();
    let sparse = fs.open(ROOT, b"/sparse", &CREATE).unwrap();
    sparse.set_len(1 << 39).unwrap();
    sparse.write_at(1 << 38, b"x").unwrap();
    drop(sparse);
    // Its contents are too large for the portrait.
    let sparse = fs.stat_at(ROOT, b"/sparse", true).unwrap();
    files.sync().unwrap();
    let back = setting.now().recover().unwrap();
    let kept = back.fs().stat_at(ROOT, b"/sparse", true).unwrap();
    assert_eq!((kept.size, kept.blocks), (sparse.size, sparse.blocks));
    assert_eq!(back.fs().stat_at(ROOT, b"/second-name", true).unwrap().atime, 1);
    fs.unlink(ROOT, b"/sparse").unwrap();
    files.sync().unwrap();
    assert_kept(&setting, &files);
}

#[test]
fn files_of_the_image_are_kept_as_far_as_they_were_changed() {
    let setting = Setting::new();
    let files = setting.create();
    let large = files.fs().open(ROOT, b"/dir/large", &CREATE).unwrap();
    large.write_at(70_000, b"changed").unwrap();
    large.set_len(150_000).unwrap();
    large.set_len(160_000).unwrap();
    drop(large);
    files.sync().unwrap();
    assert_kept(&setting, &files);
    assert!(setting.occupied() < 100_000, "{}", setting.occupied());
}

#[test]
fn nothing_is_on_the_disk_before_something_has_to_be_kept() {
    let setting = Setting::new();
    let files = setting.create();
    get(files.fs(), "/small");
    assert!(files.is_synced());
    files.sync().unwrap();
    assert!(!setting.place.directory.exists());
    // Nothing is there to be removed, and nothing comes later.
    assert!(files.forget());
    put(files.fs(), "/a", b"late");
    assert!(matches!(files.sync(), Err(DurableError::Removed)));
    assert!(!setting.place.directory.exists());
}

#[test]
fn a_filesystem_that_never_changed_comes_back_as_its_image() {
    let setting = Setting::new();
    let back = setting.recover().unwrap();
    assert_eq!(get(back.fs(), "/small"), b"from the image");
    assert!(!setting.place.directory.exists());
}

#[test]
fn reading_writes_nothing() {
    let setting = Setting::new();
    let files = setting.create();
    put(files.fs(), "/a", b"1");
    files.sync().unwrap();
    let len = fs::metadata(setting.file(JOURNAL)).unwrap().len();
    get(files.fs(), "/a");
    files.sync().unwrap();
    assert!(files.is_synced());
    assert_eq!(fs::metadata(setting.file(JOURNAL)).unwrap().len(), len);
}

#[test]
fn a_small_change_of_a_large_filesystem_is_a_small_record() {
    let setting = Setting::new();
    let files = setting.create();
    for number in 0..2000 {
        put(files.fs(), &format!("/dir/{number}"), &bytes(2000, number));
    }
    put(files.fs(), "/large", &bytes(10 * MIB, 5));
    files.sync().unwrap();
    let len = fs::metadata(setting.file(JOURNAL)).unwrap().len();
    put(files.fs(), "/dir/17", b"x");
    files.sync().unwrap();
    let grown = fs::metadata(setting.file(JOURNAL)).unwrap().len() - len;
    assert!(grown < 200, "{grown}");
    assert_kept(&setting, &files);
}

#[test]
fn an_open_file_without_a_name_is_not_kept() {
    let setting = Setting::new();
    let files = setting.create();
    put(files.fs(), "/a", b"1");
    let unlinked = files.fs().open(ROOT, b"/unlinked", &CREATE).unwrap();
    files.sync().unwrap();
    files.fs().unlink(ROOT, b"/unlinked").unwrap();
    let unnamed = files.fs().open_unnamed(0o600).unwrap();
    unnamed.write_at(0, &bytes(2 * MIB, 1)).unwrap();
    files.spill(&unnamed, 0).unwrap();
    files.sync().unwrap();
    let back = setting.now().recover().unwrap();
    back.fs().check_account();
    assert_eq!(
        back.fs().lookup(ROOT, b"/unlinked", true),
        Err(crate::Error::NotFound.into())
    );
    assert_eq!(super::super::tests::contents(&unnamed), bytes(2 * MIB, 1));
    files.fs().give_name(&unnamed, ROOT, b"/a").unwrap();
    drop((unlinked, unnamed));
    files.sync().unwrap();
    assert_kept(&setting, &files);
    files.fs().check_account();
}

#[test]
fn a_file_takes_the_place_of_another_when_it_is_named() {
    let fs = Fs::new(ROOMY);
    put(&fs, "/old", b"old");
    fs.mkdir(ROOT, b"/dir", 0o2755).unwrap();
    fs.chown(fs.lookup(ROOT, b"/dir", true).unwrap(), None, Some(50))
        .unwrap();
    let open = fs.open(ROOT, b"/old", &CREATE).unwrap();
    let new = fs.open_unnamed(0o640).unwrap();
    new.write_at(0, b"new").unwrap();
    assert_eq!(fs.give_name(&new, ROOT, b"/dir"), Err(crate::Error::IsDir.into()));
    fs.give_name(&new, ROOT, b"/old").unwrap();
    assert_eq!(fs.give_name(&new, ROOT, b"/other"), Err(crate::Error::Exists.into()));
    assert_eq!((get(&fs, "/old"), new.stat().unwrap().nlink), (b"new".to_vec(), 1));
    assert_eq!(super::super::tests::contents(&open), b"old");
    drop((open, new));
    let in_group = fs.open_unnamed(0o640).unwrap();
    fs.give_name(&in_group, ROOT, b"/dir/new").unwrap();
    assert_eq!(in_group.stat().unwrap().gid, 50);
    drop(in_group);
    drop(fs.open_unnamed(0o640).unwrap());
    fs.check_account();
}

#[test]
fn stored_data_reads_and_changes_as_before() {
    let setting = Setting::new();
    let files = setting.create();
    let mut expected = bytes(300_000, 9);
    put(files.fs(), "/a", &expected);
    files.sync().unwrap();
    let usage = files.fs().usage();
    let file = files.fs().open(ROOT, b"/a", &CREATE).unwrap();
    assert_eq!(super::super::tests::contents(&file), expected);
    // Inside a chunk, over a whole one, across two, and a cut inside a chunk.
    for (offset, len) in [(10, 5), (65_536, 65_536), (130_000, 3_000)] {
        file.write_at(offset as u64, &bytes(len, 77)).unwrap();
        expected[offset..offset + len].copy_from_slice(&bytes(len, 77));
    }
    assert_eq!(files.fs().usage(), usage);
    file.set_len(200_000).unwrap();
    file.set_len(210_000).unwrap();
    expected.truncate(200_000);
    expected.resize(210_000, 0);
    assert_eq!(super::super::tests::contents(&file), expected);
    drop(file);
    files.fs().check_account();
    files.sync().unwrap();
    assert_eq!(get(files.fs(), "/a"), expected);
    assert_kept(&setting, &files);
}

#[test]
fn rewriting_the_same_bytes_forever_takes_no_more_space() {
    let setting = Setting::new();
    let files = setting.create();
    for round in 0..50 {
        put(files.fs(), "/a", &bytes(MIB, round));
        put(files.fs(), "/b", &bytes(900, round));
        files.sync().unwrap();
    }
    // The old and the new version, free slots that are not given back at once, and a journal below its slack.
    assert!(setting.occupied() < 4 * MIB as u64, "{}", setting.occupied());
    for _ in 0..1000 {
        put(files.fs(), "/b", &bytes(1000, 5));
        files.sync().unwrap();
    }
    assert!(setting.occupied() < 4 * MIB as u64, "{}", setting.occupied());
    assert_kept(&setting, &files);
}

#[test]
fn space_is_given_back_when_files_shrink_or_go() {
    let setting = Setting::new();
    let files = setting.create();
    for number in 0..64 {
        put(files.fs(), &format!("/{number}"), &bytes(64 << 10, number));
    }
    put(files.fs(), "/large", &bytes(20 * MIB, 5));
    files.sync().unwrap();
    assert!(setting.occupied() > 24 * MIB as u64);
    for number in 0..64 {
        let file = files.fs().open(ROOT, format!("/{number}").as_bytes(), &CREATE).unwrap();
        file.set_len(2000).unwrap();
    }
    files.fs().unlink(ROOT, b"/large").unwrap();
    files.sync().unwrap();
    // What is charged, and free slots that are not given back at once.
    let most = files.fs().usage().bytes + 2 * MIB as u64;
    assert!(setting.occupied() < most, "{} of {most}", setting.occupied());
    assert_kept(&setting, &files);
}

#[test]
fn a_file_from_another_image_is_refused() {
    let setting = Setting::new();
    let files = setting.create();
    put(files.fs(), "/a", b"1");
    files.sync().unwrap();
    let mut place = setting.place.clone();
    place.identity = [8; 32];
    let result = Durable::recover(&setting.image, ROOMY, place);
    assert!(matches!(result.err(), Some(RecoverError::OtherImage)));
}

#[test]
fn lost_and_damaged_files_are_found() {
    let setting = Setting::new();
    let files = setting.create();
    put(files.fs(), "/a", &bytes(100_000, 1));
    files.sync().unwrap();
    let chunks = fs::File::options().write(true).open(setting.file(CHUNKS)).unwrap();
    chunks.write_all_at(b"!", 70_000).unwrap();
    assert!(matches!(setting.recover().err(), Some(RecoverError::Damaged(_))));
    chunks.set_len(70_000).unwrap();
    assert!(matches!(setting.recover().err(), Some(RecoverError::Damaged(_))));
    fs::remove_file(setting.file(JOURNAL)).unwrap();
    assert!(matches!(setting.recover().err(), Some(RecoverError::Damaged(_))));
}

#[test]
fn an_append_that_fails_is_made_good_by_the_next() {
    let setting = Setting::new();
    let files = setting.create();
    put(files.fs(), "/a", b"1");
    files.sync().unwrap();
    let journal = setting.file(JOURNAL);
    let aside = setting.directory.path().join("aside");
    fs::rename(&journal, &aside).unwrap();
    put(files.fs(), "/b", &bytes(100_000, 1));
    assert!(matches!(files.sync(), Err(DurableError::Io(_))));
    assert!(!files.is_synced());
    assert_eq!(get(files.fs(), "/b"), bytes(100_000, 1));
    fs::rename(&aside, &journal).unwrap();
    put(files.fs(), "/c", b"3");
    files.sync().unwrap();
    assert_kept(&setting, &files);
}

#[test]
fn removing_leaves_nothing_and_open_files_stay_readable() {
    let setting = Setting::new();
    let files = setting.create();
    put(files.fs(), "/a", &bytes(MIB, 1));
    files.sync().unwrap();
    assert!(!files.forget());
    let open = files.fs().open(ROOT, b"/a", &OpenOptions::default()).unwrap();
    files.remove().unwrap();
    assert!(!setting.place.directory.exists());
    assert!(matches!(files.sync(), Err(DurableError::Removed)));
    assert!(matches!(files.spill(&open, 0), Err(DurableError::Removed)));
    assert_eq!(super::super::tests::contents(&open), bytes(MIB, 1));
    remove(&setting.place.directory).unwrap();
}

#[test]
fn power_safe_files_are_kept_as_well() {
    let mut setting = Setting::new();
    setting.place.fsync = true;
    let files = setting.create();
    put(files.fs(), "/a", &bytes(100_000, 1));
    files.sync().unwrap();
    put(files.fs(), "/a", b"2");
    files.sync().unwrap();
    assert_kept(&setting, &files);
}

#[test]
fn calls_at_once_keep_everything() {
    let setting = Setting::new();
    let files = setting.create();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let files = &files;
            scope.spawn(move || {
                for round in 0..50 {
                    let path = format!("/{thread}-{}", round % 5);
                    put(files.fs(), &path, &bytes(round * 2000, thread));
                    files.sync().unwrap();
                }
            });
        }
    });
    files.fs().check_account();
    assert_kept(&setting, &files);
}

#[derive(Debug, Clone)]
enum Op {
    Write(usize, u32, u32),
    SetLen(usize, u32),
    Allocate(usize, u32),
    Mkdir(usize),
    Link(usize, usize),
    Symlink(usize),
    Rename(usize, usize),
    Remove(usize),
    Chmod(usize, u32),
    Spill(usize),
    Sync,
    /// Goes on with what comes back.
    Restart,
}

/// Names in the root, in the image's directory, and one level deeper.
const NAMES: [&str; 8] = ["/small", "/dir/large", "/dir", "/a", "/b", "/dir/c", "/a/d", "/dir/c/e"];

fn op() -> impl Strategy<Value = Op> {
    let name = || 0..NAMES.len();
    let offset = || prop_oneof![0..3000u32, 60_000..70_000u32, 100_000..300_000u32];
    let len = || prop_oneof![1..200u32, 500..3000u32, 1..140_000u32];
    prop_oneof![
        6 => (name(), offset(), len()).prop_map(|(f, o, l)| Op::Write(f, o, l)),
        2 => (name(), offset()).prop_map(|(f, l)| Op::SetLen(f, l)),
        1 => (name(), offset()).prop_map(|(f, l)| Op::Allocate(f, l)),
        2 => name().prop_map(Op::Mkdir),
        2 => (name(), name()).prop_map(|(a, b)| Op::Link(a, b)),
        1 => name().prop_map(Op::Symlink),
        2 => (name(), name()).prop_map(|(a, b)| Op::Rename(a, b)),
        2 => name().prop_map(Op::Remove),
        1 => (name(), 0..0o7777u32).prop_map(|(f, m)| Op::Chmod(f, m)),
        1 => name().prop_map(Op::Spill),
        5 => Just(Op::Sync),
        3 => Just(Op::Restart),
    ]
}

fn apply(files: &Durable, op: &Op, salt: usize) -> Result<(), PathError> {
    let fs = files.fs();
    let name = |number: usize| NAMES[number].as_bytes();
    let open = |number: usize| fs.open(ROOT, name(number), &CREATE);
    match *op {
        Op::Write(file, offset, len) => {
            open(file)?.write_at(offset.into(), &bytes(len as usize, salt))?;
        }
        Op::SetLen(file, len) => open(file)?.set_len(len.into())?,
        Op::Allocate(file, len) => open(file)?.allocate(0, u64::from(len).max(1))?,
        Op::Mkdir(file) => {
            fs.mkdir(ROOT, name(file), 0o755)?;
        }
        Op::Link(old, new) => fs.link(ROOT, name(old), false, ROOT, name(new))?,
        Op::Symlink(file) => {
            fs.symlink(b"/dir/large", ROOT, name(file))?;
        }
        Op::Rename(old, new) => fs.rename(ROOT, name(old), ROOT, name(new))?,
        Op::Remove(file) => fs.remove_all(ROOT, name(file))?,
        Op::Chmod(file, mode) => fs.chmod(fs.lookup(ROOT, name(file), true)?, mode)?,
        Op::Spill(file) => files.spill(&open(file)?, 0).unwrap(),
        Op::Sync | Op::Restart => {}
    }
    Ok(())
}

fn cases(default: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    Config {
        cases: cases.unwrap_or(default),
        failure_persistence: None,
        ..Config::default()
    }
}

#[test]
fn a_random_history_cut_anywhere_comes_back_as_of_its_last_whole_record() {
    let history = proptest::collection::vec(op(), 1..50);
    let cuts = proptest::collection::vec(any::<prop::sample::Index>(), 4);
    TestRunner::new(cases(40))
        .run(&(history, cuts, 100_000..2_000_000u64), |(history, cuts, max_bytes)| {
            let mut setting = Setting::new();
            setting.limits = Limits {
                max_bytes,
                max_inodes: 30,
            };
            let mut files = setting.create();
            let mut kept = portrait(files.fs());
            for (salt, op) in history.iter().enumerate() {
                let _ = apply(&files, op, salt);
                if !matches!(op, Op::Sync | Op::Restart) {
                    continue;
                }
                let before = fs::read(setting.file(JOURNAL)).unwrap_or_default();
                let earlier = setting.copy(&before);
                files.sync().unwrap();
                files.fs().check_account();
                let now = portrait(files.fs());
                let after = fs::read(setting.file(JOURNAL)).unwrap_or_default();
                // The end of a process in the middle of the append: all that was acknowledged is there.
                if after.starts_with(&before) && !before.is_empty() && after.len() > before.len() {
                    for cut in &cuts {
                        let end = before.len() + cut.index(after.len() - before.len());
                        let mut torn = after[..end].to_vec();
                        for zeros in [0, 100] {
                            torn.resize(end + zeros, 0);
                            // Zeros in place of a part that was not zeros are damage, not a torn tail.
                            if zeros > 0 && end > before.len() {
                                continue;
                            }
                            fs::write(earlier.file(JOURNAL), &torn).unwrap();
                            let back = Durable::recover(&setting.image, setting.limits, earlier.place.clone()).unwrap();
                            assert_eq!(portrait(back.fs()), kept);
                            assert_eq!(fs::metadata(earlier.file(JOURNAL)).unwrap().len(), before.len() as u64);
                        }
                    }
                }
                kept = now;
                if matches!(op, Op::Restart) {
                    drop(files);
                    files = setting.recover().unwrap();
                    assert_eq!(portrait(files.fs()), kept);
                    files.fs().check_account();
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_changed_byte_is_found() {
    let setting = Setting::new();
    let files = setting.create();
    put(files.fs(), "/a", b"inline");
    put(files.fs(), "/b", &bytes(3000, 1));
    files.sync().unwrap();
    files.fs().rename(ROOT, b"/a", ROOT, b"/dir/a").unwrap();
    files.sync().unwrap();
    files.fs().unlink(ROOT, b"/link").unwrap();
    files.sync().unwrap();
    let journal = fs::read(setting.file(JOURNAL)).unwrap();
    let damaged = setting.copy(&journal);
    for at in 0..journal.len() {
        let mut changed = journal.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(damaged.file(JOURNAL), &changed).unwrap();
        let result = Durable::recover(&setting.image, ROOMY, damaged.place.clone());
        assert!(result.is_err(), "byte {at} changed unnoticed");
    }
}

#[test]
fn a_record_that_is_missing_in_the_middle_is_found() {
    let setting = Setting::new();
    let files = setting.create();
    let mut ends = Vec::new();
    for name in ["/a", "/b", "/c"] {
        put(files.fs(), name, b"1");
        files.sync().unwrap();
        ends.push(fs::metadata(setting.file(JOURNAL)).unwrap().len() as usize);
    }
    let journal = fs::read(setting.file(JOURNAL)).unwrap();
    let without = [&journal[..ends[0]], &journal[ends[1]..]].concat();
    assert!(setting.copy(&without).recover().is_err());
    // Torn, but something follows.
    let torn = [&journal[..ends[1] - 3], &journal[ends[1]..]].concat();
    assert!(setting.copy(&torn).recover().is_err());
}

#[test]
fn nonsense_in_a_record_is_refused_without_a_panic() {
    let image = image();
    let strategy = proptest::collection::vec(prop_oneof![0..10u8, any::<u8>(), Just(0xff)], 0..300);
    TestRunner::new(cases(2000))
        .run(&strategy, |items| {
            // No slot is read, so there need be no file.
            let slots = ChunkFile::recovering(PathBuf::new());
            let mut replay = Replay::new(&image, next_layer(), &slots);
            let _ = replay.apply(&items, true);
            Ok(())
        })
        .unwrap();
}

#[test]
fn allocated_space_is_kept_without_its_zeros() {
    let setting = Setting::new();
    let files = setting.create();
    put(files.fs(), "/a", b"abc");
    let open = |path: &[u8]| files.fs().open(ROOT, path, &CREATE).unwrap();
    open(b"/a").allocate(0, 100 << 20).unwrap();
    open(b"/dir/large").allocate(0, 1 << 20).unwrap();
    files.sync().unwrap();
    // Only what the image showed is copied.
    assert!(setting.occupied() < MIB as u64, "{}", setting.occupied());
    let usage = files.fs().usage();
    let back = setting.now().recover().unwrap();
    assert_eq!(back.fs().usage(), usage);
    back.fs().check_account();
    let file = back.fs().open(ROOT, b"/a", &CREATE).unwrap();
    assert_eq!(file.write_at(0, &bytes(3 * MIB, 1)), Ok(3 * MIB));
    assert_eq!(back.fs().usage(), usage);
    drop(file);
    drop(back);
    // Written to, cut, allocated again.
    let file = open(b"/a");
    file.write_at(0, &bytes(3 * MIB, 1)).unwrap();
    file.write_at(50 << 20, b"x").unwrap();
    files.sync().unwrap();
    file.set_len(100_000).unwrap();
    file.allocate(0, 1 << 20).unwrap();
    drop(file);
    files.sync().unwrap();
    wait_until_freed(&files);
    assert_kept(&setting, &files);
}

/// Bytes of file data of trees that are in memory, each counted once.
fn resident(trees: &[&Tree]) -> u64 {
    let mut seen = std::collections::BTreeMap::new();
    for node in trees.iter().flat_map(|tree| tree.nodes.values()) {
        let Content::File(data) = &node.content else { continue };
        for (_, chunk) in data.chunks().iter() {
            if let ChunkData::Memory(bytes) = &chunk.data {
                seen.insert(Arc::as_ptr(bytes), bytes.capacity() as u64);
            }
        }
    }
    seen.values().sum()
}

#[test]
fn a_full_disk_is_in_memory_only_up_to_a_bound_even_when_written_over_during_a_sync() {
    const SIZE: usize = 80 * MIB;
    const LIMIT: u64 = 40 << 20;
    let mut setting = Setting::new();
    setting.limits.max_bytes = 80 << 20 | 1 << 16;
    let files = Arc::new(setting.create());
    files.spill_while_writing();
    let file = files.fs().open(ROOT, b"/a", &CREATE).unwrap();
    let fill = |salt| {
        let data = bytes(SIZE, salt);
        for (at, piece) in data.chunks(100_000).enumerate() {
            assert_eq!(file.write_at(at as u64 * 100_000, piece), Ok(piece.len()));
            let most = LIMIT + MIB as u64;
            if at % 100 == 0 {
                let held = resident(&[&files.fs().freeze()]);
                assert!(held <= most, "{held}");
            }
        }
    };
    fill(1);
    // What a sync holds and writes; meanwhile all is written over.
    let frozen = files.fs().freeze();
    fill(2);
    let held = resident(&[&frozen, &files.fs().freeze()]);
    assert!(held <= 2 * (LIMIT + MIB as u64), "{held}");
    drop(frozen);
    // Nothing was acknowledged, so a crash here gives it all back.
    let back = setting.now().recover().unwrap();
    assert_eq!(back.fs().lookup(ROOT, b"/a", true), Err(crate::Error::NotFound.into()));
    drop(back);
    files.sync().unwrap();
    // What is so small that it stays.
    assert!(resident(&[&files.fs().freeze(), &files.disk().tree]) <= INLINE as u64);
    assert!(files.is_synced());
    assert_eq!(super::super::tests::contents(&file), bytes(SIZE, 2));
    let copy = setting.now();
    let back = Durable::recover(&setting.image, setting.limits, copy.place.clone()).unwrap();
    assert_eq!(portrait(back.fs()), portrait(files.fs()));
    back.fs().check_account();
    // Slots that were written over are used again.
    let most = 3 * SIZE as u64;
    assert!(setting.occupied() <= most, "{}", setting.occupied());
}

#[test]
fn data_that_cannot_go_to_the_disk_stays_in_memory_up_to_a_bound() {
    let mut setting = Setting::new();
    setting.limits.max_bytes = 1 << 30;
    let files = Arc::new(setting.create());
    files.spill_while_writing();
    put(files.fs(), "/a", b"1");
    files.sync().unwrap();
    // Where the chunks should go is a directory.
    fs::create_dir(setting.file(CHUNKS)).unwrap();
    let file = files.fs().open(ROOT, b"/b", &CREATE).unwrap();
    let data = bytes(MIB, 1);
    let written = (0..1024)
        .take_while(|at| file.write_at(at << 20, &data) == Ok(MIB))
        .count();
    assert!((64..=260).contains(&written), "{written}");
    assert!(files.sync().is_err());
    fs::remove_dir(setting.file(CHUNKS)).unwrap();
    files.sync().unwrap();
    assert_eq!(file.write_at(0, b"again"), Ok(5));
    assert_eq!(&get(files.fs(), "/b")[..5], b"again");
}
