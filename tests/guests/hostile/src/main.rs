//! Attacks on the kernel's limits, chosen by the first argument.
//!
//! Those that should be stopped from outside never end by themselves; the others panic if a limit does not hold.

mod costly;
mod metered;
mod random_calls;

use std::hint::black_box;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use guests::{
    ANY, CREATE, Errno, NO_HANG, READ, SIGKILL, Start, Status, WRITE, create, dup, fork, kill, mkdir, open, own_path,
    pipe, pwrite, read, scratch, sleep, spawn_request, statfs, unlink, wait, write,
};

fn main() {
    let attack = guests::role().expect("which attack");
    match attack.as_str() {
        "spin" => spin(),
        "sleep" => sleep(u64::from(u32::MAX)),
        "read" => drop(read(pipe().expect("a pipe").0, 1)),
        "say-and-spin" => {
            say("said before");
            spin();
        }
        "say" => say("said"),
        "fork-bomb" => fork_bomb(),
        "spawn-bomb" => spawn_bomb(),
        "sleeping-tree" => sleeping_tree(),
        "memory-bomb" => memory_bomb(),
        "memory-bombs" => memory_bombs(),
        "processes" => processes(),
        "descriptors" => descriptors(),
        "flood" => flood(),
        "fill-disk" => fill_disk(),
        "fill-inodes" => fill_inodes(),
        "recurse" => drop(black_box(recurse(black_box(0)))),
        "many-arguments" => many_arguments(),
        "lying-requests" => lying_requests(),
        "zombies" => zombies(),
        "deep-directories" => deep_directories(),
        "pipes" => pipes(),
        "hold-arguments" => hold_arguments(),
        "hold-listings" => hold_listings(),
        "long-requests" => long_requests(),
        "long-search" => long_search(),
        "fill-memory" => fill_memory(),
        "copy-memory" => copy_memory(),
        "fork-large" => fork_large(),
        "poll-chunks" => poll_chunks(),
        "list-large" => list_large(),
        "ticks" => ticks(),
        "native-stack" => native_stack(),
        "native-stacks" => native_stacks(),
        "random-calls" => random_calls::run(),
        "traces" => traces(),
        "background" => {
            Start::program(own_path())
                .argument("spin")
                .new_group()
                .spawn()
                .expect("spawning");
            say("started");
        }
        "sleepers-leaf" => sleep(u64::from(u32::MAX)),
        other => assert!(costly::run(other) || metered::run(other), "no attack {other}"),
    }
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("writing");
}

fn spin() {
    loop {
        black_box(0);
    }
}

/// Every process forks as fast as it can.
fn fork_bomb() {
    loop {
        // Refused once the sandbox has as many processes as it may; then it goes on trying.
        _ = fork(fork_bomb, &[]);
    }
}

/// Every process starts new ones as fast as it can, each in a group of its own.
fn spawn_bomb() {
    loop {
        _ = Start::program(own_path()).argument("spawn-bomb").new_group().spawn();
    }
}

/// Processes of several generations that sleep.
fn sleeping_tree() {
    fn branch() {
        for _ in 0..5 {
            fork(leaf, &[]).expect("forking");
        }
        leaf();
    }
    fn leaf() {
        sleep(u64::from(u32::MAX));
    }
    for _ in 0..5 {
        fork(branch, &[]).expect("forking");
    }
    say("grown");
    leaf();
}

/// Touches memory until there is none.
fn memory_bomb() {
    let mut held = Vec::new();
    loop {
        held.push(vec![1u8; 1 << 20]);
        black_box(&held);
    }
}

/// Looks for traces of other processes in memory that must be fresh, then leaves traces all over it: in static data, on
/// the stack, and in 4 MiB more. Every second page, so that there are more changed ranges than a host would keep a list of.
fn traces() {
    const GROWTH: usize = 64;
    const PAGE: usize = 4096;
    const TRACE: u8 = 0xa5;
    const UNTOUCHED: u32 = 0x1234_5678;
    /// More than the frames of this function and of what it calls.
    const FRAMES: usize = 64 << 10;
    static INITIALISED: AtomicU32 = AtomicU32::new(UNTOUCHED);
    static ZEROED: [AtomicU32; 65536] = [const { AtomicU32::new(0) }; 65536];

    assert_eq!(INITIALISED.swap(0, Ordering::Relaxed), UNTOUCHED, "initialised data");
    for (index, word) in ZEROED.iter().enumerate() {
        assert_eq!(word.swap(u32::MAX, Ordering::Relaxed), 0, "zeroed data at {index}");
    }
    let local = 0u8;
    let frame = (&raw const local).addr();
    let grown = core::arch::wasm32::memory_grow::<0>(GROWTH) << 16;
    for (what, start, len) in [("stack", PAGE, frame - FRAMES - PAGE), ("growth", grown, GROWTH << 16)] {
        #[expect(unsafe_code, reason = "memory that belongs to no object")]
        // SAFETY: the stack grows downwards from `frame` and is not used that far down; nobody else has the growth.
        let memory = unsafe { std::slice::from_raw_parts_mut(start as *mut u8, len) };
        let found = memory.iter().position(|byte| *byte != 0);
        assert_eq!(found, None, "{what}");
        for page in memory.chunks_mut(PAGE).step_by(2) {
            page.fill(TRACE);
        }
    }
}

/// Many processes that together want more memory than there is.
fn memory_bombs() {
    for _ in 0..8 {
        fork(memory_bomb, &[]).expect("forking");
    }
    let mut killed = 0;
    while let Ok((_, status)) = wait(ANY, 0) {
        assert_eq!(status, Status::Killed(SIGKILL));
        killed += 1;
    }
    assert_eq!(killed, 8);
}

/// One process too many is refused, and after one has ended there is room again.
fn processes() {
    let mut children = Vec::new();
    let refused = loop {
        match Start::program(own_path()).argument("sleep").spawn() {
            Ok(pid) => children.push(pid),
            Err(errno) => break errno,
        }
    };
    assert_eq!(
        (refused, children.len()),
        (Errno::AGAIN, 63),
        "with this one there are 64"
    );
    assert_eq!(fork(spin, &[]), Err(Errno::AGAIN));
    kill(children[0] as i32, SIGKILL).expect("killing");
    wait(children[0] as i32, 0).expect("waiting");
    Start::program(own_path())
        .argument("sleep")
        .spawn()
        .expect("there is room again");
}

/// One descriptor too many is refused.
fn descriptors() {
    let mut last = 0;
    let refused = loop {
        match dup(0, 0) {
            Ok(fd) => last = fd,
            Err(errno) => break errno,
        }
    };
    assert_eq!((refused, last), (Errno::MFILE, 255));
}

/// Output without end.
fn flood() {
    let bytes = vec![b'x'; 1 << 20];
    loop {
        write(1, &bytes).expect("writing");
    }
}

/// Writes until the disk is full, by every way there is; removing makes room again.
fn fill_disk() {
    let dir = scratch();
    let fd = create(dir, "file");
    let bytes = vec![1; 1 << 20];
    let refused = loop {
        if let Err(errno) = write(fd, &bytes) {
            break errno;
        }
    };
    assert_eq!(refused, Errno::NOSPC);
    let [all, used, _, _] = statfs().expect("the usage");
    assert!(used <= all && used > all - (1 << 16), "{used} of {all} bytes are used");
    assert_eq!(
        pwrite(fd, b"x", 1 << 30),
        Err(Errno::NOSPC),
        "a sparse write needs room too"
    );
    let made = (0..100).take_while(|n: &u32| mkdir(dir, n.to_string()).is_ok()).count();
    assert!(made < 100, "names and inodes take no room");
    assert_eq!(mkdir(dir, "one more"), Err(Errno::NOSPC));
    unlink(dir, "file").expect("unlinking");
    guests::close(fd).expect("closing");
    let again = create(dir, "again");
    assert_eq!(write(again, &bytes), Ok(1 << 20));
}

/// Makes files until there is no inode left.
fn fill_inodes() {
    let dir = scratch();
    let mut made = 0u32;
    let refused = loop {
        match open(dir, made.to_string(), CREATE, READ | WRITE, 0).and_then(guests::close) {
            Ok(()) => made += 1,
            Err(errno) => break errno,
        }
    };
    assert_eq!(refused, Errno::NOSPC);
    let [_, _, all, used] = statfs().expect("the usage");
    assert_eq!(used, all);
    assert!(u64::from(made) <= all);
    unlink(dir, "0").expect("unlinking");
    create(dir, "again");
}

/// Recursion without end.
#[expect(unconditional_recursion, reason = "that is the attack")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    frame[0] + recurse(black_box(depth + 1)) + black_box(frame[15])
}

/// Arguments of more bytes, or more in number, than a process may have.
fn many_arguments() {
    let mut start = Start::program(own_path()).argument("say");
    start.argv.extend(std::iter::repeat_n(vec![b'a'; 100], 10_000));
    assert_eq!(start.run(), Ok(Status::Exited(0)), "a megabyte is fine");
    start.argv.extend(std::iter::repeat_n(vec![b'a'; 100], 20_000));
    assert_eq!(start.spawn(), Err(Errno::TOO_BIG), "three are not");
    let mut start = Start::program(own_path()).argument("say");
    start.environment.extend(std::iter::repeat_n(Vec::new(), 100_000));
    assert_eq!(start.spawn(), Err(Errno::TOO_BIG), "nor is a hundred thousand");
    let mut start = Start::program(own_path()).argument("say");
    start.descriptors = vec![(0, 0); 100_000];
    assert_eq!(start.spawn(), Err(Errno::TOO_BIG), "of descriptors neither");
}

/// Requests whose counts and lengths promise more than there is.
fn lying_requests() {
    let good = Start::program(own_path()).argument("say").encode();
    for at in 0..good.len() {
        for wild in [0xff, 0x7f, 0x80, 0x01] {
            let mut request = good.clone();
            request[at] = wild;
            if let Ok(pid) = spawn_request(&request) {
                _ = wait(pid as i32, 0);
            }
        }
    }
    let mut seed = 1u32;
    for _ in 0..2000 {
        let bytes: Vec<u8> = (0..64)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        assert!(spawn_request(&bytes).is_err());
    }
}

/// Programs that are not there, looked up in a million directories below one with a name of a megabyte.
fn long_requests() {
    let mut start = Start::program("nothing");
    start.path.clear();
    start.cwd = [b"/".as_slice(), &b"./".repeat(500_000)].concat();
    start.environment = vec![[b"PATH=".as_slice(), &vec![b':'; 1_000_000]].concat()];
    assert_eq!(start.spawn(), Err(Errno::NAMETOOLONG));
    start.cwd = b"/".to_vec();
    assert_eq!(start.spawn(), Err(Errno::TOO_BIG));
    start.cwd = [b"/".as_slice(), &b"./".repeat(2000)].concat();
    start.environment = vec![[b"PATH=".as_slice(), &vec![b':'; 1000]].concat()];
    assert_eq!(start.spawn(), Err(Errno::NOENT), "that may be searched");
}

/// Programs that are not there, looked up in as many directories as may be searched, each behind as many symbolic links
/// as may be followed.
fn long_search() {
    let dir = scratch();
    let links = 39;
    for link in 0..links {
        let next = format!("{}{}", "./".repeat(2000), link + 1);
        guests::symlink(next, dir, link.to_string()).expect("a link");
    }
    mkdir(dir, links.to_string()).expect("a directory");
    let mut start = Start::program("nothing");
    start.path.clear();
    start.cwd = b"/tmp".to_vec();
    start.environment = vec![format!("PATH={}", ["0"; 1000].join(":")).into_bytes()];
    loop {
        assert_eq!(start.spawn(), Err(Errno::NOENT));
    }
}

/// Bytes of memory that attacks work on in one go.
const LARGE: usize = 600 << 20;

/// Fills all of a large memory by one instruction.
fn fill_memory() {
    let mut memory = vec![1u8; LARGE];
    say("ready");
    loop {
        memory.fill(black_box(2));
        black_box(&mut memory);
    }
}

/// Moves all of a large memory by one instruction.
fn copy_memory() {
    let mut memory = vec![1u8; LARGE];
    say("ready");
    for turn in 0.. {
        // Either way.
        let to = black_box(turn % 2);
        memory.copy_within(1 - to..LARGE - to, to);
        black_box(&mut memory);
    }
}

/// Forks a process with a large memory.
fn fork_large() {
    let mut memory = vec![0u8; LARGE];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    black_box(&mut memory);
    say("ready");
    loop {
        if fork(|| (), &[]).is_ok() {
            _ = wait(ANY, 0);
        }
    }
}

/// Waits for as many subscriptions as there may be, all on one file of very many pieces.
fn poll_chunks() {
    let file = create(scratch(), "file");
    for chunk in 0..100_000u64 {
        pwrite(file, b"x", chunk << 16).expect("writing");
    }
    let subscriptions = vec![guests::Until::Readable(file); 1024];
    say("ready");
    loop {
        guests::poll(&subscriptions).expect("polling");
    }
}

/// Lists a large directory by calls with room for all of it, and from its end.
fn list_large() {
    let dir = scratch();
    mkdir(dir, "d").expect("a directory");
    let inside = guests::open_directory(dir, "d").expect("opening it");
    let file = create(inside, "first");
    guests::close(file).expect("closing");
    for number in 0..120_000 {
        guests::link(inside, 0, "first", format!("{number:0>60}")).expect("a name");
    }
    say("ready");
    loop {
        assert!(guests::readdir(inside, 0, 16 << 20).is_ok());
        assert!(guests::readdir(inside, 120_000, 100).is_ok());
    }
}

/// Sleeps again and again, and says how long it took at most, in milliseconds.
fn ticks() {
    let now = || std::time::Instant::now();
    let (start, mut longest) = (now(), std::time::Duration::ZERO);
    while start.elapsed() < std::time::Duration::from_secs(2) {
        let before = now();
        sleep(5);
        longest = longest.max(before.elapsed());
    }
    say(&longest.as_millis().to_string());
}

/// Uses some MiB of native stack, of which nothing is in linear memory, and sleeps there.
fn native_stack() {
    /// Of its own, or each frame would have room for what it needs in linear memory.
    #[inline(never)]
    fn rest() -> u32 {
        say("deep");
        sleep(u64::from(u32::MAX));
        0
    }
    #[inline(never)]
    fn dig(depth: u32, next: fn(u32) -> u32) -> u32 {
        if depth == 0 {
            return rest();
        }
        next(depth) ^ dig(depth - 1, next).rotate_left(1)
    }
    black_box(dig(black_box(100_000), black_box(|depth| depth.wrapping_mul(3))));
}

/// Many processes that do so.
fn native_stacks() {
    for _ in 0..20 {
        fork(native_stack, &[]).expect("forking");
    }
    sleep(u64::from(u32::MAX));
}

/// Thousands of children nobody waits for.
fn zombies() {
    for _ in 0..4500 {
        loop {
            match fork(|| (), &[]) {
                Ok(_) => break,
                Err(errno) => assert_eq!(errno, Errno::AGAIN),
            }
            sleep(1);
        }
    }
    let mut taken = 0;
    while wait(ANY, NO_HANG).is_ok_and(|(pid, _)| pid != 0) {
        taken += 1;
    }
    assert!(taken >= 4000, "{taken} were left");
}

/// Open pipes take memory.
fn pipes() {
    let mut opened = 0u32;
    let refused = loop {
        match pipe() {
            Ok(_) => opened += 1,
            Err(errno) => break errno,
        }
    };
    assert_eq!(refused, Errno::NOMEM);
    assert!(opened <= 128, "{opened} pipes of 64 KiB in 8 MiB");
}

/// The arguments of children that have ended, held by descriptors of `/proc`.
fn hold_arguments() {
    let argument = vec![b'a'; 1 << 20];
    for _ in 0..60 {
        let start = Start::program(own_path()).argument("sleep").argument(&argument);
        let Ok(child) = start.spawn() else { return };
        let opened = open(guests::ROOT, format!("proc/{child}/cmdline"), 0, READ, 0);
        kill(child as i32, SIGKILL).expect("killing");
        wait(child as i32, 0).expect("waiting");
        match opened {
            Ok(fd) => assert_eq!(read(fd, 4).map(|bytes| bytes.len()), Ok(4)),
            // Too little was left: for the file's contents, or for the child, which is gone then.
            Err(errno) => return assert!([Errno::NOMEM, Errno::NOENT].contains(&errno), "{errno:?}"),
        }
    }
    panic!("60 MiB are held in 32");
}

/// Entries of directories that were removed, held by listings that began before.
fn hold_listings() {
    let dir = scratch();
    for round in 0..200 {
        mkdir(dir, "d").expect("a directory");
        let inside = guests::open_directory(dir, "d").expect("opening it");
        let names: Vec<String> = (0..1000).map(|number| format!("{number:0>255}")).collect();
        for name in &names {
            mkdir(inside, name).expect("a directory");
        }
        let begun = guests::readdir(inside, 0, 64);
        for name in &names {
            guests::rmdir(inside, name).expect("removing");
        }
        guests::rmdir(dir, "d").expect("removing");
        if begun == Err(Errno::NOMEM) {
            assert!(round > 5, "refused too soon");
            return;
        }
    }
    panic!("200 listings of 255 KB are held in 8 MiB");
}

/// Directories nested far deeper than a path can say.
fn deep_directories() {
    let mut dir = scratch();
    for _ in 0..1500 {
        mkdir(dir, "d").expect("a directory");
        let inner = guests::open_directory(dir, "d").expect("opening it");
        guests::close(dir).expect("closing");
        dir = inner;
    }
    say("made");
}
