//! One test per behaviour.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::node::Content;
use super::*;

pub(super) const ROOMY: Limits = Limits {
    max_bytes: 1 << 40,
    max_inodes: 1 << 20,
};

impl Fs {
    /// Counts the charge anew from the tree and compares it with the running account.
    pub(super) fn check_account(&self) {
        let state = self.state();
        let (mut bytes, mut inodes) = (0, 0);
        for node in state.tree.nodes.values().chain(state.tree.unnamed.values()) {
            if let Content::Directory(directory) = &node.content {
                let entries: u64 = directory.entries.keys().map(|name| super::charge::entry(name)).sum();
                assert_eq!(entries, directory.entries_charge);
            }
            if let Content::File(data) = &node.content {
                assert_eq!(data.recount_stored(), data.stored());
            }
            if node.layer == state.layer {
                inodes += 1;
                bytes += node.fixed_charge();
                if let Content::File(data) = &node.content {
                    assert_eq!(data.recount(state.layer), data.charged(state.layer));
                    bytes += data.charged(state.layer);
                }
            }
        }
        assert_eq!((state.account.bytes, state.account.inodes), (bytes, inodes));
    }
}

fn fs() -> Fs {
    Fs::new(ROOMY)
}

fn put(fs: &Fs, path: &str, data: &[u8]) {
    let options = OpenOptions {
        create: true,
        truncate: true,
        mode: 0o644,
        ..OpenOptions::default()
    };
    let file = fs.open(ROOT, path.as_bytes(), &options).unwrap();
    assert_eq!(file.write_at(0, data).unwrap_or(0), data.len());
}

fn open(fs: &Fs, path: &str) -> Handle {
    fs.open(ROOT, path.as_bytes(), &OpenOptions::default()).unwrap()
}

fn get(fs: &Fs, path: &str) -> Vec<u8> {
    contents(&open(fs, path))
}

pub(super) fn contents(file: &Handle) -> Vec<u8> {
    let mut data = vec![0xff; usize::try_from(file.stat().unwrap().size).unwrap()];
    let count = file.read_at(0, &mut data).unwrap();
    assert_eq!(count, data.len());
    data
}

fn mkdir(fs: &Fs, path: &str) -> Ino {
    fs.mkdir(ROOT, path.as_bytes(), 0o755).unwrap()
}

fn failure<T>(result: PathResult<T>) -> Error {
    result.err().expect("should fail").or(Error::NotSupported)
}

fn blob(data: Vec<u8>) -> Blob {
    Arc::new(data)
}

#[test]
fn a_written_file_reads_back_across_chunks() {
    let fs = fs();
    let data: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    put(&fs, "/a", &data);
    assert_eq!(get(&fs, "/a"), data);
    fs.check_account();
}

#[test]
fn holes_and_regrown_ends_read_as_zeros_also_over_image_data() {
    let fs = fs();
    fs.import_file(ROOT, b"/image", 0o644, blob(vec![7; 200_000]), 0..200_000)
        .unwrap();
    let image = Fs::from_tree(&fs.freeze(), ROOMY);
    let file = open(&image, "/image");
    file.set_len(70_000).unwrap();
    file.set_len(150_000).unwrap();
    let mut expected = vec![7; 70_000];
    expected.resize(150_000, 0);
    assert_eq!(contents(&file), expected);
    file.write_at(140_000, b"x").unwrap();
    expected[140_000] = b'x';
    assert_eq!(contents(&file), expected);
    file.write_at(69_999, b"yy").unwrap();
    expected[69_999] = b'y';
    expected[70_000] = b'y';
    assert_eq!(contents(&file), expected);
    image.check_account();
    assert_eq!(get(&fs, "/image"), vec![7; 200_000]);
}

#[test]
fn an_image_is_not_charged_and_writing_charges_one_chunk() {
    let fs = fs();
    fs.import_file(ROOT, b"/image", 0o644, blob(vec![7; 1 << 20]), 0..1 << 20)
        .unwrap();
    let fs = Fs::from_tree(&fs.freeze(), ROOMY);
    assert_eq!((fs.usage().bytes, fs.usage().inodes), (0, 0));
    assert_eq!(get(&fs, "/image").len(), 1 << 20);
    assert_eq!(fs.usage().bytes, 0);
    open(&fs, "/image").write_at(100, b"x").unwrap();
    assert_eq!((fs.usage().bytes, fs.usage().inodes), (64 * 1024 + 1024, 1));
    fs.unlink(ROOT, b"/image").unwrap();
    fs.check_account();
}

#[test]
fn forks_and_frozen_trees_do_not_see_later_changes() {
    let fs = fs();
    put(&fs, "/a", b"before");
    let (fork, tree) = (fs.fork(), fs.freeze());
    put(&fs, "/a", b"after");
    put(&fork, "/b", b"fork");
    assert_eq!(get(&fork, "/a"), b"before");
    assert_eq!(get(&Fs::from_tree(&tree, ROOMY), "/a"), b"before");
    assert_eq!(failure(fs.lookup(ROOT, b"/b", true)), Error::NotFound);
    fs.check_account();
    fork.check_account();
}

#[test]
fn a_full_disk_writes_short_then_refuses_and_can_be_cleared() {
    let fs = Fs::new(Limits {
        max_bytes: 40_000,
        max_inodes: 10,
    });
    let options = OpenOptions {
        create: true,
        ..OpenOptions::default()
    };
    let file = fs.open(ROOT, b"/a", &options).unwrap();
    let written = file.write_at(0, &[1; 100_000]).unwrap();
    assert!(
        written > 20_000 && written < 40_000 && written.is_multiple_of(4096),
        "{written}"
    );
    assert_eq!(file.write_at(written as u64, b"x"), Err(Error::NoSpace));
    assert_eq!(file.allocate(0, 1 << 40), Err(Error::NoSpace));
    assert!(fs.usage().bytes <= 40_000);
    fs.check_account();
    drop(file);
    let root_charge = fs.usage().bytes;
    fs.unlink(ROOT, b"/a").unwrap();
    assert!(fs.usage().bytes < root_charge - 20_000);
    fs.check_account();
}

#[test]
fn inodes_are_limited() {
    let fs = Fs::new(Limits {
        max_bytes: 1 << 30,
        max_inodes: 3,
    });
    mkdir(&fs, "/a");
    mkdir(&fs, "/b");
    assert_eq!(failure(fs.mkdir(ROOT, b"/c", 0)), Error::NoSpace);
    fs.check_account();
}

#[test]
fn the_size_of_a_file_is_capped() {
    let fs = fs();
    put(&fs, "/a", b"");
    let file = open(&fs, "/a");
    assert_eq!(file.write_at(u64::MAX, b"x"), Err(Error::TooBig));
    assert_eq!(file.set_len(MAX_FILE_SIZE + 1), Err(Error::TooBig));
    assert_eq!(file.allocate(u64::MAX, 2), Err(Error::TooBig));
    assert_eq!(file.write_at(MAX_FILE_SIZE - 1, b"xy"), Ok(1));
    assert_eq!(file.append(b"x"), Err(Error::TooBig));
    assert_eq!(file.read_at(u64::MAX, &mut [0; 4]), Ok(0));
    file.set_len(0).unwrap();
    fs.check_account();
}

#[test]
fn allocated_space_is_charged_at_once() {
    let fs = fs();
    put(&fs, "/a", b"abc");
    let file = open(&fs, "/a");
    file.allocate(0, 100_000).unwrap();
    let usage = fs.usage();
    assert_eq!(file.write_at(0, &[1; 100_000]), Ok(100_000));
    assert_eq!(fs.usage(), usage);
    fs.check_account();
}

#[test]
fn an_unlinked_open_file_lives_until_it_is_closed() {
    let fs = fs();
    mkdir(&fs, "/d");
    let empty = fs.usage();
    put(&fs, "/d/a", b"data");
    let file = open(&fs, "/d/a");
    fs.unlink(ROOT, b"/d/a").unwrap();
    assert_eq!(contents(&file), b"data");
    assert_eq!(file.stat().unwrap().nlink, 0);
    assert!(fs.usage().bytes > empty.bytes);
    assert_eq!(fs.fork().usage(), empty);
    fs.fork().check_account();
    drop(file);
    assert_eq!(fs.usage(), empty);
}

#[test]
fn a_removed_open_directory_is_empty_and_refuses_creation() {
    let fs = fs();
    mkdir(&fs, "/d");
    put(&fs, "/d/a", b"");
    let dir = open(&fs, "/d");
    fs.remove_all(ROOT, b"/d").unwrap();
    assert!(dir.read_dir().unwrap().is_empty());
    assert_eq!(failure(fs.mkdir(dir.ino(), b"x", 0)), Error::NotFound);
    assert_eq!(fs.path_of(dir.ino()), Err(Error::NotFound));
    fs.check_account();
    drop(dir);
    fs.check_account();
}

#[test]
fn remove_all_clears_a_deep_tree_without_recursion_and_refunds_it() {
    let fs = fs();
    mkdir(&fs, "/keep");
    put(&fs, "/keep/linked", b"1");
    let before = fs.usage();
    let mut dir = mkdir(&fs, "/deep");
    fs.link(ROOT, b"/keep/linked", false, dir, b"other").unwrap();
    for _ in 0..20_000 {
        dir = fs.mkdir(dir, b"d", 0o755).unwrap();
    }
    assert_eq!(fs.path_of(dir), Err(Error::NameTooLong));
    let mut seen = 0;
    let _ = fs
        .walk::<()>(ROOT, b"/deep", |_| {
            seen += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, 20_002);
    fs.remove_all(ROOT, b"/deep").unwrap();
    assert_eq!(fs.usage(), before);
    assert_eq!(fs.stat_at(ROOT, b"/keep/linked", true).unwrap().nlink, 1);
}

#[test]
fn dot_dot_clamps_at_the_root() {
    let fs = fs();
    let dir = mkdir(&fs, "/d");
    assert_eq!(fs.lookup(dir, b"../../../d/./..//d", true), Ok(dir));
    assert_eq!(fs.lookup(dir, b"/..", true), Ok(ROOT));
}

#[test]
fn symlinks_are_followed_but_bounded() {
    let fs = fs();
    let dir = mkdir(&fs, "/d");
    fs.symlink(b"/d", ROOT, b"/to-d").unwrap();
    fs.symlink(b"loop", ROOT, b"/loop").unwrap();
    fs.symlink(
        [b"bomb/".repeat(800), b"x".to_vec()].concat().as_slice(),
        ROOT,
        b"/bomb",
    )
    .unwrap();
    assert_eq!(fs.lookup(ROOT, b"to-d", true), Ok(dir));
    assert_ne!(fs.lookup(ROOT, b"to-d", false), Ok(dir));
    assert_eq!(fs.lookup(ROOT, b"to-d/", false), Ok(dir));
    assert_eq!(failure(fs.lookup(ROOT, b"loop", true)), Error::Loop);
    assert!(matches!(
        failure(fs.lookup(ROOT, b"bomb", true)),
        Error::Loop | Error::NameTooLong
    ));
    assert_eq!(fs.read_link(ROOT, b"to-d").unwrap(), b"/d");
    assert_eq!(failure(fs.read_link(ROOT, b"d")), Error::Invalid);
}

#[test]
fn bad_names_and_paths_are_refused() {
    let fs = fs();
    assert_eq!(failure(fs.lookup(ROOT, b"", true)), Error::NotFound);
    assert_eq!(failure(fs.mkdir(ROOT, b"a\0b", 0)), Error::Invalid);
    assert_eq!(failure(fs.mkdir(ROOT, &[b'a'; 256], 0)), Error::NameTooLong);
    assert!(fs.mkdir(ROOT, &[b'a'; 255], 0).is_ok());
    assert_eq!(failure(fs.lookup(ROOT, &b"/".repeat(4096), true)), Error::NameTooLong);
    assert_eq!(failure(fs.create_dir_all(ROOT, b"", 0)), Error::NotFound);
}

#[test]
fn a_trailing_slash_demands_a_directory() {
    let fs = fs();
    put(&fs, "/f", b"");
    mkdir(&fs, "/d/");
    let options = OpenOptions::default();
    assert_eq!(failure(fs.open(ROOT, b"/f/", &options)), Error::NotDir);
    assert_eq!(failure(fs.unlink(ROOT, b"/f/")), Error::NotDir);
    assert_eq!(failure(fs.unlink(ROOT, b"/d/")), Error::IsDir);
    assert_eq!(failure(fs.rename(ROOT, b"/f", ROOT, b"/g/")), Error::NotDir);
    assert_eq!(failure(fs.rmdir(ROOT, b"/d/.")), Error::Invalid);
    fs.rename(ROOT, b"/d/", ROOT, b"/e/").unwrap();
    fs.rmdir(ROOT, b"/e/").unwrap();
}

#[test]
fn rename_moves_directories_with_their_parent_pointers() {
    let fs = fs();
    mkdir(&fs, "/a");
    let inner = mkdir(&fs, "/a/b");
    mkdir(&fs, "/c");
    assert_eq!(failure(fs.rename(ROOT, b"/a", ROOT, b"/a/b/x")), Error::Invalid);
    assert_eq!(failure(fs.rename(ROOT, b"/a/b", ROOT, b"/a")), Error::NotEmpty);
    fs.rename(ROOT, b"/a/b", ROOT, b"/c/d").unwrap();
    assert_eq!(fs.path_of(inner).unwrap(), b"/c/d");
    assert_eq!(fs.lookup(inner, b"..", true), fs.lookup(ROOT, b"/c", true));
    assert_eq!(fs.stat_at(ROOT, b"/a", true).unwrap().nlink, 2);
    assert_eq!(fs.stat_at(ROOT, b"/c", true).unwrap().nlink, 3);
    fs.check_account();
}

#[test]
fn a_path_into_a_mount_is_handed_over() {
    let fs = fs();
    fs.mount(ROOT, b"/proc", MountId(7)).unwrap();
    fs.symlink(b"/proc/self", ROOT, b"/me").unwrap();
    let inside = |rest: &[u8]| {
        Err(PathError::Mounted {
            mount: MountId(7),
            rest: rest.to_vec(),
        })
    };
    assert_eq!(fs.lookup(ROOT, b"/proc/1//fd/", true), inside(b"1//fd/"));
    assert_eq!(fs.lookup(ROOT, b"/me/exe", true), inside(b"self/exe"));
    assert_eq!(fs.lookup(ROOT, b"/proc", true), inside(b""));
    assert_eq!(fs.mkdir(ROOT, b"/proc/x", 0), inside(b"x"));
    assert_eq!(failure(fs.mkdir(ROOT, b"/proc", 0)), Error::Exists);
    assert_eq!(failure(fs.rmdir(ROOT, b"/proc")), Error::Busy);
    assert_eq!(failure(fs.rename(ROOT, b"/proc", ROOT, b"/x")), Error::Busy);
    assert_eq!(failure(fs.remove_all(ROOT, b"/proc")), Error::Busy);
}

#[test]
fn times_follow_the_clock() {
    let fs = fs();
    fs.set_clock(|| 42);
    put(&fs, "/a", b"");
    let ino = fs.lookup(ROOT, b"/a", true).unwrap();
    fs.set_times(ino, TimeChange::Keep, TimeChange::At(u64::MAX)).unwrap();
    let stat = fs.stat(ino).unwrap();
    assert_eq!((stat.atime, stat.mtime, stat.ctime), (42, u64::MAX, 42));
}

#[test]
fn a_directory_listing_is_ordered_and_stable() {
    let fs = fs();
    for name in ["/c", "/a", "/b"] {
        put(&fs, name, b"");
    }
    let snapshot = open(&fs, "/").read_dir().unwrap();
    fs.unlink(ROOT, b"/b").unwrap();
    let names: Vec<_> = snapshot.iter().map(|entry| entry.name.to_vec()).collect();
    assert_eq!(names, [b"a", b"b", b"c"]);
    assert_eq!(snapshot.after(b"a").next().unwrap().name, b"b");
}

/// A file of `count` chunks of one byte.
fn scattered(fs: &Fs, path: &str, count: u64) -> Handle {
    put(fs, path, b"");
    let file = open(fs, path);
    for number in 0..count {
        file.write_at(number << 16, b"x").unwrap();
    }
    file
}

#[test]
fn stat_of_many_chunks_takes_no_longer_than_of_few() {
    let fs = fs();
    let (few, many) = (scattered(&fs, "/few", 10), scattered(&fs, "/many", 50_000));
    let time = |file: &Handle| {
        let start = std::time::Instant::now();
        for _ in 0..2000 {
            file.stat().unwrap();
        }
        start.elapsed()
    };
    let best = |file: &Handle| (0..5).map(|_| time(file)).min().unwrap();
    let (few, many) = (best(&few), best(&many));
    // It was 5000 times as long.
    assert!(many < few * 20, "{few:?} {many:?}");
}

#[test]
fn a_large_file_is_cut_short_without_visiting_its_chunks() {
    let fs = fs();
    let file = scattered(&fs, "/a", 50_000);
    let start = std::time::Instant::now();
    for size in (2_000u64..2_050).rev() {
        file.set_len(size << 20).unwrap();
    }
    // Each took 20 ms in an optimised build, some 100 here.
    assert!(start.elapsed().as_millis() < 500, "{:?}", start.elapsed());
    fs.check_account();
}

#[test]
fn allocated_space_takes_no_memory_and_is_done_in_slices() {
    let fs = fs();
    put(&fs, "/a", b"");
    let file = open(&fs, "/a");
    let start = std::time::Instant::now();
    file.allocate(0, 1 << 38).unwrap();
    // A quarter of a TiB would not fit.
    assert!(fs.usage().bytes > 1 << 38);
    assert!(start.elapsed().as_secs() < 5);
    let mut bytes = [1; 8];
    assert_eq!(file.read_at((1 << 38) - 8, &mut bytes), Ok(8));
    assert_eq!(bytes, [0; 8]);
    fs.unlink(ROOT, b"/a").unwrap();
    drop(file);

    let file = scattered(&fs, "/b", 5000);
    let mut slices = file.allocate_slices(0, 5000 << 16).unwrap();
    let usage = fs.usage();
    let mut steps = 0;
    while !slices.step().unwrap() {
        steps += 1;
    }
    drop(slices);
    // The most that one step may look at.
    assert!(steps >= 5000 / 512, "{steps}");
    assert_eq!(fs.usage(), usage);
    let data: Vec<u8> = vec![7; 5000 << 16];
    assert_eq!(file.write_at(0, &data), Ok(data.len()));
    assert_eq!(fs.usage(), usage);
    fs.check_account();
}

#[test]
fn an_allocation_that_does_not_fit_changes_nothing() {
    let fs = Fs::new(Limits {
        max_bytes: 1 << 20,
        max_inodes: 10,
    });
    put(&fs, "/a", b"abc");
    let (file, usage) = (open(&fs, "/a"), fs.usage());
    assert_eq!(file.allocate(0, 1 << 20), Err(Error::NoSpace));
    assert_eq!((fs.usage(), file.size()), (usage, Ok(3)));
    let slices = file.allocate_slices(0, 500_000).unwrap();
    assert!(fs.usage().bytes > 500_000);
    // Given up: the charge goes with it.
    drop(slices);
    assert_eq!(fs.usage(), usage);
    fs.check_account();
}

#[test]
fn a_file_that_is_cut_while_it_is_allocated_keeps_no_charge() {
    let fs = fs();
    let file = scattered(&fs, "/a", 5000);
    let mut slices = file.allocate_slices(0, 5000 << 16).unwrap();
    assert_eq!(slices.step(), Ok(false));
    file.set_len(0).unwrap();
    let mut rest = file.allocate_slices(0, 5000 << 16).unwrap();
    while !slices.step().unwrap() {}
    drop(slices);
    while !rest.step().unwrap() {}
    drop(rest);
    fs.check_account();
    file.set_len(0).unwrap();
    drop(file);
    fs.check_account();
}

/// Counts the inodes that a path leads to.
fn reachable(fs: &Fs) -> usize {
    let mut seen = std::collections::BTreeSet::new();
    let _ = fs.walk::<()>(ROOT, b"/", |entry| {
        seen.insert(entry.stat.ino);
        ControlFlow::Continue(())
    });
    seen.len()
}

/// A directory of files and directories, one of which somebody has open.
fn bushy(fs: &Fs) -> Handle {
    mkdir(fs, "/keep");
    for directory in 0..20 {
        mkdir(fs, &format!("/keep/{directory}"));
    }
    mkdir(fs, "/bush");
    for directory in 0..20 {
        mkdir(fs, &format!("/bush/{directory}"));
        for file in 0..100 {
            put(fs, &format!("/bush/{directory}/{file}"), b"data");
        }
    }
    fs.link(ROOT, b"/bush/3/3", false, ROOT, b"/keep/linked").unwrap();
    open(fs, "/bush/7")
}

#[test]
fn a_removed_tree_is_gone_at_once_and_freed_in_slices() {
    let fs = fs();
    let inner = bushy(&fs);
    let image = fs.freeze();
    for fs in [&fs, &Fs::from_tree(&image, ROOMY)] {
        fs.state().remove_all(ROOT, b"/bush").unwrap();
        assert_eq!(failure(fs.lookup(ROOT, b"/bush", true)), Error::NotFound);
        let mut slices = 0;
        while fs.state().reap() {
            slices += 1;
            assert_eq!(fs.stat_at(ROOT, b"/keep/linked", false).unwrap().size, 4);
        }
        // 2020 entries, and the last slice says that nothing is left.
        assert_eq!(slices, 3);
        assert_eq!(fs.stat_at(ROOT, b"/keep/linked", false).unwrap().nlink, 1);
        fs.check_account();
        assert_eq!(fs.freeze().inodes(), reachable(fs));
    }
    assert!(inner.read_dir().unwrap().is_empty());
    assert_eq!(failure(fs.mkdir(inner.ino(), b"x", 0o755)), Error::NotFound);
    assert_eq!(fs.path_of(inner.ino()), Err(Error::NotFound));
    drop(inner);
    fs.check_account();
}

#[test]
fn a_frozen_tree_holds_nothing_of_a_tree_that_is_being_removed() {
    let fs = fs();
    let _inner = bushy(&fs);
    fs.state().remove_all(ROOT, b"/bush").unwrap();
    let _ = fs.state().reap();
    let frozen = Fs::from_tree(&fs.freeze(), ROOMY);
    assert_eq!(fs.freeze().inodes(), reachable(&frozen));
    fs.check_account();
}

#[test]
fn freezing_does_not_visit_open_files_without_a_name() {
    let fs = fs();
    let handles: Vec<_> = (0..20_000).map(|_| fs.open_unnamed(0o600).unwrap()).collect();
    let start = std::time::Instant::now();
    for _ in 0..1000 {
        assert_eq!(fs.freeze().inodes(), 1);
    }
    // Each took 20,000 removals from a map.
    assert!(start.elapsed().as_millis() < 1000, "{:?}", start.elapsed());
    let fork = fs.fork();
    assert_eq!(fork.usage().bytes, 0);
    fork.check_account();
    drop(handles);
    assert_eq!(fs.usage().bytes, 0);
    fs.check_account();
}

#[test]
fn large_data_stays_charged_until_it_is_freed_and_makes_room_for_more() {
    const FULL: usize = 40 << 20;
    let fs = Fs::new(Limits {
        max_bytes: (FULL as u64) + (1 << 20),
        max_inodes: 100,
    });
    put(&fs, "/a", b"");
    fs.unlink(ROOT, b"/a").unwrap();
    let empty = fs.usage();
    let data = vec![1; FULL];
    for round in 0..4 {
        put(&fs, "/a", &data);
        assert_eq!(
            open(&fs, "/a").allocate(0, FULL as u64 + (2 << 20)),
            Err(Error::NoSpace)
        );
        match round {
            0 => fs.unlink(ROOT, b"/a").unwrap(),
            1 => open(&fs, "/a").set_len(1).unwrap(),
            2 => {
                put(&fs, "/b", b"");
                fs.rename(ROOT, b"/b", ROOT, b"/a").unwrap();
            }
            _ => {
                let file = open(&fs, "/a");
                fs.unlink(ROOT, b"/a").unwrap();
                drop(file);
            }
        }
        // Whatever of it is not free yet is charged, and the next write waits for it.
        fs.check_account();
    }
    put(&fs, "/a", &data);
    fs.unlink(ROOT, b"/a").unwrap();
    while fs.usage() != empty {
        std::thread::yield_now();
    }
}

#[test]
fn renaming_in_a_deep_tree_walks_no_further_than_a_bound() {
    let fs = fs();
    mkdir(&fs, "/top");
    let mut dir = fs.lookup(ROOT, b"/top", true).unwrap();
    for _ in 0..9000 {
        dir = fs.mkdir(dir, b"d", 0o755).unwrap();
    }
    mkdir(&fs, "/moved");
    assert_eq!(failure(fs.rename(ROOT, b"/moved", dir, b"moved")), Error::NameTooLong);
    // A file, and a directory that stays where it is, can have a new name however deep.
    fs.mkdir(dir, b"old", 0o755).unwrap();
    fs.rename(dir, b"old", dir, b"new").unwrap();
    put(&fs, "/file", b"");
    fs.rename(ROOT, b"/file", dir, b"file").unwrap();
    fs.rename(dir, b"new", ROOT, b"new").unwrap();
}

#[test]
fn directories_are_made_below_links_and_beside_dots() {
    let fs = fs();
    mkdir(&fs, "/d");
    fs.symlink(b"/d", ROOT, b"/to-d").unwrap();
    fs.symlink(b"nowhere", ROOT, b"/dangling").unwrap();
    put(&fs, "/file", b"");
    let made = fs.create_dir_all(ROOT, b"//to-d/a/./b//../c/", 0o755).unwrap();
    assert_eq!(fs.path_of(made).unwrap(), b"/d/a/c");
    assert!(fs.lookup(ROOT, b"/d/a/b", true).is_ok());
    assert_eq!(fs.create_dir_all(ROOT, b"/to-d/a/c", 0o755), Ok(made));
    assert_eq!(failure(fs.create_dir_all(ROOT, b"/dangling/x", 0o755)), Error::NotFound);
    assert_eq!(failure(fs.create_dir_all(ROOT, b"/file/x", 0o755)), Error::NotDir);
    assert_eq!(failure(fs.create_dir_all(ROOT, b"/file", 0o755)), Error::NotDir);
    assert_eq!(fs.create_dir_all(ROOT, b"/", 0o755), Ok(ROOT));
}

/// Bytes that tell the name of the thread that frees them.
struct Freed(std::sync::mpsc::Sender<Option<String>>);

impl AsRef<[u8]> for Freed {
    fn as_ref(&self) -> &[u8] {
        &[]
    }
}

impl Drop for Freed {
    fn drop(&mut self) {
        let _ = self.0.send(std::thread::current().name().map(str::to_owned));
    }
}

#[test]
fn a_large_filesystem_is_freed_by_another_thread_than_that_which_drops_it() {
    let (sender, freed) = std::sync::mpsc::channel();
    let fs = fs();
    fs.import_file(ROOT, b"/blob", 0o644, Arc::new(Freed(sender)), 0..0)
        .unwrap();
    put(&fs, "/a", &vec![1; 2 << 20]);
    drop(fs);
    assert_eq!(freed.recv().unwrap().as_deref(), Some("wisp-free"));
}
