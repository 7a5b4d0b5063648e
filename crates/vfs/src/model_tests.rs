//! Random operations under a small quota, on an image and its forks, against files as plain byte vectors. The quota is
//! what the comparison with Linux cannot cover: short writes, refusals half way, and the account after all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::tests::contents;
use super::*;

const FILES: usize = 4;

#[derive(Debug, Clone)]
enum Op {
    Write(usize, u32, u32),
    Append(usize, u32),
    SetLen(usize, u32),
    Allocate(usize, u32, u32),
    Unlink(usize),
    Rename(usize, usize),
    Chmod(usize),
    /// Goes on with a fork.
    Fork,
    /// Goes on with a new filesystem on the frozen tree.
    Freeze,
}

fn op() -> impl Strategy<Value = Op> {
    let file = || 0..FILES;
    let offset = || prop_oneof![0..5000u32, 60_000..70_000u32, 100_000..300_000u32];
    let len = || prop_oneof![1..200u32, 1..100_000u32];
    prop_oneof![
        6 => (file(), offset(), len()).prop_map(|(f, o, l)| Op::Write(f, o, l)),
        4 => (file(), len()).prop_map(|(f, l)| Op::Append(f, l)),
        3 => (file(), offset()).prop_map(|(f, l)| Op::SetLen(f, l)),
        1 => (file(), offset(), len()).prop_map(|(f, o, l)| Op::Allocate(f, o, l)),
        1 => file().prop_map(Op::Unlink),
        2 => (file(), file()).prop_map(|(a, b)| Op::Rename(a, b)),
        1 => file().prop_map(Op::Chmod),
        1 => Just(Op::Fork),
        1 => Just(Op::Freeze),
    ]
}

type Model = BTreeMap<usize, Vec<u8>>;

fn name(file: usize) -> Vec<u8> {
    format!("/d/{file}").into_bytes()
}

fn byte(at: usize, salt: usize) -> u8 {
    u8::try_from((at * 7 + salt) % 255).unwrap() + 1
}

fn store(file: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    file.resize(file.len().max(offset + data.len()), 0);
    file[offset..offset + data.len()].copy_from_slice(data);
}

/// Checks the account, and that exactly the files of `model` are there.
fn compare(fs: &Fs, model: &Model) {
    fs.check_account();
    let dir = fs.open(ROOT, b"/d", &OpenOptions::default()).unwrap();
    assert_eq!(dir.read_dir().unwrap().len(), model.len());
    for (&file, data) in model {
        let found = contents(&fs.open(ROOT, &name(file), &OpenOptions::default()).unwrap());
        assert!(&found == data, "file {file} differs");
    }
}

fn apply(fs: &Fs, model: &mut Model, op: &Op, salt: usize) {
    let create = OpenOptions {
        create: true,
        mode: 0o600,
        ..OpenOptions::default()
    };
    let open = |model: &mut Model, file: usize| {
        let handle = fs.open(ROOT, &name(file), &create).ok()?;
        model.entry(file).or_default();
        Some(handle)
    };
    let pattern = |len: u32| (0..len as usize).map(|at| byte(at, salt)).collect::<Vec<u8>>();
    match *op {
        Op::Write(file, offset, len) => {
            let Some(handle) = open(model, file) else { return };
            let data = pattern(len);
            let written = handle.write_at(offset.into(), &data).unwrap_or(0);
            store(model.get_mut(&file).unwrap(), offset as usize, &data[..written]);
        }
        Op::Append(file, len) => {
            let Some(handle) = open(model, file) else { return };
            let data = pattern(len);
            let written = handle.append(&data).map_or(0, |(written, _)| written);
            let end = model[&file].len();
            store(model.get_mut(&file).unwrap(), end, &data[..written]);
        }
        Op::SetLen(file, len) => {
            let Some(handle) = open(model, file) else { return };
            if handle.set_len(len.into()).is_ok() {
                model.get_mut(&file).unwrap().resize(len as usize, 0);
            }
        }
        Op::Allocate(file, offset, len) => {
            let Some(handle) = open(model, file) else { return };
            if handle.allocate(offset.into(), len.into()).is_ok() {
                let data = model.get_mut(&file).unwrap();
                data.resize(data.len().max((offset + len) as usize), 0);
                let usage = fs.usage();
                let rewritten = data[offset as usize..(offset + len) as usize].to_vec();
                assert_eq!(handle.write_at(offset.into(), &rewritten), Ok(len as usize));
                assert_eq!(fs.usage(), usage, "allocated space was charged again");
            }
        }
        Op::Unlink(file) => {
            let removed = model.remove(&file).is_some();
            assert_eq!(fs.unlink(ROOT, &name(file)).is_ok(), removed);
        }
        Op::Rename(old, new) => {
            if fs.rename(ROOT, &name(old), ROOT, &name(new)).is_ok() {
                let data = model.remove(&old).unwrap();
                model.insert(new, data);
            }
        }
        Op::Chmod(file) => {
            if let Ok(ino) = fs.lookup(ROOT, &name(file), true) {
                let _ = fs.chmod(ino, 0o640);
            }
        }
        Op::Fork | Op::Freeze => {}
    }
}

#[test]
fn random_changes_under_a_quota_keep_contents_and_account_right() {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(100);
    run(cases);
}

/// Compares this many random sequences.
pub(super) fn run(cases: u32) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let strategy = (proptest::collection::vec(op(), 1..60), 0..400_000u64, 2..10u64);
    TestRunner::new(config)
        .run(&strategy, |(ops, max_bytes, max_inodes)| {
            let limits = Limits { max_bytes, max_inodes };
            let image = Fs::new(super::tests::ROOMY);
            image.mkdir(ROOT, b"/d", 0o755).unwrap();
            let original: Vec<u8> = (0..150_000).map(|at| byte(at, 99)).collect();
            image
                .import_file(ROOT, &name(0), 0o644, Arc::new(original.clone()), 0..original.len())
                .unwrap();
            let mut fs = Fs::from_tree(&image.freeze(), limits);
            let mut model = Model::from([(0, original.clone())]);
            let mut left_behind = vec![(image, model.clone())];
            for (salt, op) in ops.iter().enumerate() {
                let next = match op {
                    Op::Fork => Some(fs.fork()),
                    Op::Freeze => Some(Fs::from_tree(&fs.freeze(), limits)),
                    _ => None,
                };
                if let Some(next) = next {
                    left_behind.push((std::mem::replace(&mut fs, next), model.clone()));
                }
                apply(&fs, &mut model, op, salt);
                compare(&fs, &model);
            }
            for (fs, model) in &left_behind {
                compare(fs, model);
            }
            Ok(())
        })
        .unwrap();
}
