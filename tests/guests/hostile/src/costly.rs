//! Calls whose cost the guest chooses, and attacks that hold host memory. Run by `tests/hostile` on a server.
//!
//! The second argument of the program is a size: MiB, a count or a depth, as the attack needs it. Attacks without an
//! end of their own run until the deadline.

use std::hint::black_box;

use guests::{
    CATCH, CREATE, Errno, FOLLOW, MONOTONIC, READ, ROOT, SIGUSR1, Start, Until, Vector, WRITE, address, call, close,
    create, dup, fork, fstat, getpid, kill, link, mkdir, mkfifo, open, open_directory, own_path, pipe, poll, pwrite,
    read, readdir, rename, scratch, setitimer, sigaction, sleep, symlink, unlink, wait, write,
};

/// Bytes of a page of linear memory.
const PAGE: usize = 64 << 10;
/// Most subscriptions of one `poll_oneoff`.
const SUBSCRIPTIONS: usize = 1024;

/// Runs the attack of this name; false if there is none.
pub fn run(attack: &str) -> bool {
    match attack {
        "grow-loop" => grow_loop(),
        "grow-huge" => grow_huge(),
        "fill" => fill(size(256) << 20),
        "copy" => copy(size(256) << 20),
        "path-bomb" => path_bomb(size(400_000)),
        "exec-path-bomb" => exec_path_bomb(size(400_000)),
        "poll-stat" => poll_stat(size(50_000)),
        "fstat-loop" => fstat_loop(size(50_000)),
        "allocate" => allocate(size(256) as u64),
        "allocate-huge" => allocate_huge(),
        "fork-big" => fork_big(size(200) << 20),
        "native-stacks" => native_stacks(),
        "blocked-writers" => many(blocked_writer),
        "cwd-holders" => cwd_holders(),
        "poll-holders" => many(poll_holder),
        "spinners" => many(spinner),
        "yield-loop" => loop {
            _ = call!(preview1::sched_yield());
        },
        "empty-writes" => loop {
            _ = write(1, b"");
        },
        "byte-writes" => byte_writes(),
        "random-loop" => random_loop(),
        "kill-loop" => loop {
            _ = kill(0, 0);
            _ = getpid();
        },
        "pid-sweep" => pid_sweep(),
        "proc-spam" => proc_spam(),
        "exec-self" => exec_self(),
        "timers" => timers(),
        "signals-to-self" => signals_to_self(),
        "poll-storm" => many(poll_storm),
        "wait-storm" => loop {
            _ = wait(-1, 1);
        },
        "opens" => opens(),
        "fifos" => fifos(),
        "orphans" => orphans(),
        "one-byte-chunks" => one_byte_chunks(),
        "links" => links(),
        "symlinks" => symlinks(),
        "symlink-chain" => symlink_chain(),
        "sparse" => sparse(),
        "many-files" => many_files(),
        "rename-storm" => rename_storm(),
        "readdir-huge" => readdir_huge(),
        "big-vectors" => big_vectors(),
        "huge-lengths" => huge_lengths(),
        "pipe-deadlock" => pipe_deadlock(),
        "resize-storm" => resize_storm(),
        "deep-tree" => deep_tree(size(1000)),
        "sleepers" => many(|| sleep(u64::from(u32::MAX))),
        _ => return false,
    }
    true
}

pub fn size(default: usize) -> usize {
    std::env::args()
        .nth(2)
        .map_or(default, |text| text.parse().expect("a size"))
}

/// Starts as many copies as there is room for, and waits for ever.
fn many(part: fn()) {
    while fork(part, &[1]).is_ok() {}
    sleep(u64::from(u32::MAX));
}

fn spinner() {
    loop {
        black_box(0);
    }
}

/// Grows by one page at a time until it is refused.
fn grow_loop() {
    while core::arch::wasm32::memory_grow::<0>(1) != usize::MAX {}
    println!("refused");
}

/// Grows to all there can be.
fn grow_huge() {
    for pages in [65_535, 65_536, 1 << 20, usize::MAX] {
        assert_eq!(core::arch::wasm32::memory_grow::<0>(pages), usize::MAX);
    }
    println!("refused");
}

/// Memory of this many bytes that belongs to no object.
fn grown(bytes: usize) -> &'static mut [u8] {
    let page = core::arch::wasm32::memory_grow::<0>(bytes.div_ceil(PAGE));
    assert_ne!(page, usize::MAX, "there is no room");
    #[expect(unsafe_code, reason = "memory that belongs to no object")]
    // SAFETY: the memory was just grown by these bytes, and nobody else has them.
    unsafe {
        std::slice::from_raw_parts_mut((page * PAGE) as *mut u8, bytes)
    }
}

/// `memory.fill` of a large memory, again and again.
fn fill(bytes: usize) {
    let memory = grown(bytes);
    let mut byte = 0u8;
    loop {
        byte = byte.wrapping_add(1);
        memory.fill(byte);
        black_box(&mut *memory);
    }
}

/// `memory.copy` within a large memory, again and again.
fn copy(bytes: usize) {
    let memory = grown(bytes);
    memory.fill(1);
    loop {
        memory.copy_within(1.., 0);
        black_box(&mut *memory);
    }
}

/// A request whose cost is the product of two of its lengths.
fn path_request(length: usize) -> Vec<u8> {
    let mut start = Start::program("");
    start.argv = vec![b"there-is-no-such-program".to_vec()];
    start.cwd = [b"/".as_slice(), &vec![b'a'; length]].concat();
    start.environment = vec![[b"PATH=".as_slice(), &vec![b':'; length]].concat()];
    start.encode()
}

/// `spawn` with a long `PATH` of relative entries below a long working directory.
fn path_bomb(length: usize) {
    let request = path_request(length);
    loop {
        _ = guests::spawn_request(&request);
    }
}

/// The same by `exec`.
fn exec_path_bomb(length: usize) {
    let request = path_request(length);
    loop {
        _ = call!(wisp::exec(address(request.as_ptr()), request.len() as u32));
    }
}

/// A file of this many chunks with one byte each.
fn chunks(count: usize) -> u32 {
    let file = create(scratch(), "chunks");
    for chunk in 0..count {
        if pwrite(file, b"x", (chunk * PAGE) as u64).is_err() {
            break;
        }
    }
    file
}

/// `poll_oneoff` with as many subscriptions as it takes, all of one file of many chunks.
fn poll_stat(count: usize) {
    let file = chunks(count);
    println!("ready");
    loop {
        _ = poll(&vec![Until::Readable(file); SUBSCRIPTIONS]);
    }
}

/// `fstat` of a file of many chunks.
fn fstat_loop(count: usize) {
    let file = chunks(count);
    println!("ready");
    loop {
        _ = fstat(file);
    }
}

/// `fd_allocate` of all the disk at once, again and again.
fn allocate(mib: u64) {
    let file = create(scratch(), "allocated");
    loop {
        _ = call!(preview1::fd_allocate(file, 0, mib << 20));
        _ = call!(preview1::fd_filestat_set_size(file, 0));
    }
}

/// `fd_allocate` of more than there is, at offsets beyond everything.
fn allocate_huge() {
    let file = create(scratch(), "allocated");
    for (offset, len) in [(0, u64::MAX), (u64::MAX, 1), (1 << 62, 1 << 62), (0, 1 << 40)] {
        let refused = call!(preview1::fd_allocate(file, offset, len));
        assert!(refused.is_err(), "{offset} {len}");
    }
    println!("refused");
}

/// Copies a large memory, again and again.
fn fork_big(bytes: usize) {
    grown(bytes).fill(1);
    loop {
        match fork(|| (), &[]) {
            Ok(pid) => drop(wait(pid as i32, 0)),
            Err(_) => sleep(1),
        }
    }
}

/// Processes that each keep some MiB of the host's own stack in use.
fn native_stacks() {
    /// A frame of the host's stack and none of linear memory: the values live across the call.
    #[inline(never)]
    fn deep(depth: u32, a: [u64; 6]) -> u64 {
        if depth == 0 {
            sleep(u64::from(u32::MAX));
            return 0;
        }
        let [b, c, d, e, f, g] = a.map(|value| value.wrapping_mul(u64::from(depth) | 1));
        let inner = deep(depth - 1, [b, c, d, e, f, g]);
        // Nothing that a compiler could make a loop of.
        inner.rotate_left(7).wrapping_mul(b | 1) ^ c.rotate_left(1) ^ d.rotate_left(2) ^ e ^ f ^ g
    }
    many(|| {
        black_box(deep(size(5000) as u32, black_box([1, 2, 3, 4, 5, 6])));
    });
}

/// Waits in a write of 1 MiB to a pipe that is full.
fn blocked_writer() {
    let (_reader, writer) = pipe().expect("a pipe");
    _ = write(writer, &vec![0; 1 << 20]);
}

/// Children that each have a long working directory.
fn cwd_holders() {
    let mut start = Start::program(own_path()).argument("sleepers-leaf");
    start.cwd = [b"/".as_slice(), &b"./".repeat(500_000)].concat();
    while start.spawn().is_ok() {}
    sleep(u64::from(u32::MAX));
}

/// Waits in a poll of as many subscriptions as it takes.
fn poll_holder() {
    _ = poll(&vec![Until::Passed(MONOTONIC, u64::MAX / 2); SUBSCRIPTIONS]);
}

/// Polls as many pipes as it may, at once, again and again.
fn poll_storm() {
    let (reader, _writer) = pipe().expect("a pipe");
    let mut list = vec![Until::Readable(reader); SUBSCRIPTIONS - 1];
    list.push(Until::Passed(MONOTONIC, 1));
    loop {
        _ = poll(&list);
    }
}

/// Writes single bytes to a file that never gets longer.
fn byte_writes() {
    let file = create(scratch(), "byte");
    loop {
        _ = pwrite(file, b"x", 0);
    }
}

/// Random bytes, many at once.
fn random_loop() {
    let mut bytes = vec![0u8; 10 << 20];
    loop {
        _ = call!(preview1::random_get(address(bytes.as_mut_ptr()), bytes.len() as u32));
    }
}

/// A signal to every number there is.
fn pid_sweep() {
    for pid in 1..200_000 {
        if pid != getpid().expect("numbers")[0] as i32 {
            _ = kill(pid, 9);
        }
    }
    println!("swept");
}

/// Reads everything of `/proc`, again and again.
fn proc_spam() {
    loop {
        for path in [
            "proc/self/stat",
            "proc/meminfo",
            "proc/self/cmdline",
            "proc/mounts",
            "proc/loadavg",
        ] {
            if let Ok(fd) = open(ROOT, path, 0, READ, 0) {
                _ = read(fd, 4096);
                _ = close(fd);
            }
        }
    }
}

/// A program that replaces itself by itself for ever.
fn exec_self() {
    let errno = Start::program(own_path()).argument("exec-self").exec();
    panic!("exec failed: {errno:?}");
}

/// Timers as short as they can be, each set anew before it fires.
fn timers() {
    sigaction(14, CATCH).expect("catching");
    loop {
        _ = setitimer(1, 1);
    }
}

/// Signals to itself that it catches and never takes.
fn signals_to_self() {
    sigaction(SIGUSR1, CATCH).expect("catching");
    let own = getpid().expect("numbers")[0] as i32;
    loop {
        _ = kill(own, SIGUSR1);
    }
}

/// Opens without closing: refused, and refused again.
fn opens() {
    let dir = scratch();
    let mut opened = 0;
    for number in 0..100_000 {
        if open(dir, format!("file-{}", number % 300), CREATE, READ | WRITE, 0).is_ok() {
            opened += 1;
        }
    }
    assert!(opened <= 256, "{opened} are open");
    println!("refused");
}

/// Named pipes until there is no room.
fn fifos() {
    let made = (0..100_000)
        .take_while(|number| mkfifo(format!("/tmp/fifo-{number}"), 0o600).is_ok())
        .count();
    assert!(made < 100_000, "no limit");
    println!("refused");
}

/// Files without a name that stay open, full of bytes.
fn orphans() {
    let dir = scratch();
    let mut held = 0;
    while let Ok(file) = open(dir, "orphan", CREATE, READ | WRITE, 0) {
        let written = write(file, &vec![1; 1 << 20]);
        _ = unlink(dir, "orphan");
        if written != Ok(1 << 20) {
            break;
        }
        held += 1;
    }
    println!("{}", if held <= 16 { "refused" } else { "kept all" });
}

/// The smallest pieces a file can have, until there is no room.
fn one_byte_chunks() {
    let file = create(scratch(), "chunks");
    let written = (0..10_000_000u64)
        .take_while(|chunk| pwrite(file, b"x", chunk * PAGE as u64) == Ok(1))
        .count();
    assert!(written < 10_000_000, "no limit");
    println!("refused");
}

/// Names of one file, until there is no room.
fn links() {
    let dir = scratch();
    create(dir, "first");
    let made = (0..10_000_000u32)
        .take_while(|number| link(dir, 0, "first", format!("link-{number}")).is_ok())
        .count();
    assert!(made < 10_000_000, "no limit");
    println!("refused");
}

/// Symbolic links with the longest targets, until there is no room.
fn symlinks() {
    let dir = scratch();
    let target = "t".repeat(4095);
    let made = (0..10_000_000u32)
        .take_while(|number| symlink(&target, dir, format!("link-{number}")).is_ok())
        .count();
    assert!(made < 10_000_000, "no limit");
    println!("refused");
}

/// A path through as many links as may be followed, each with a target as long as it may be.
fn symlink_chain() {
    let dir = scratch();
    mkdir(dir, "d").expect("a directory");
    for number in 0..39 {
        let next = format!("{}l{}", "./".repeat(1900), number + 1);
        symlink(next, dir, format!("l{number}")).expect("a link");
    }
    symlink("d", dir, "l39").expect("a link");
    loop {
        _ = open(dir, "l0/x", 0, READ, 0);
    }
}

/// Writes far behind the end.
fn sparse() {
    let file = create(scratch(), "sparse");
    for offset in [1 << 30, 1 << 40, 1 << 50, 1 << 62, u64::MAX - 1, u64::MAX] {
        _ = pwrite(file, b"x", offset);
        _ = call!(preview1::fd_filestat_set_size(file, offset));
    }
    println!("done");
}

/// Empty files until there is no room.
fn many_files() {
    let dir = scratch();
    let made = (0..10_000_000u32)
        .take_while(|number| {
            open(dir, format!("file-{number}"), CREATE, READ | WRITE, 0)
                .and_then(close)
                .is_ok()
        })
        .count();
    assert!(made < 10_000_000, "no limit");
    println!("refused");
}

/// Renames two directories into each other's place at the end of a deep tree.
fn rename_storm() {
    let mut dir = scratch();
    for _ in 0..200 {
        mkdir(dir, "d").expect("a directory");
        dir = open_directory(dir, "d").expect("opening it");
    }
    mkdir(dir, "a").expect("a directory");
    loop {
        _ = rename(dir, "a", "b");
        _ = rename(dir, "b", "a");
    }
}

/// Lists a directory of many names into one large buffer.
fn readdir_huge() {
    let dir = scratch();
    for number in 0..20_000 {
        if mkdir(dir, format!("{number:0>200}")).is_err() {
            break;
        }
    }
    println!("ready");
    loop {
        _ = readdir(dir, 0, 8 << 20);
    }
}

/// As many buffers as a call takes, and more.
fn big_vectors() {
    let byte = [1u8];
    let file = create(scratch(), "vectors");
    for count in [1024, 1025, 1 << 16, 1 << 20, u32::MAX] {
        let vectors = vec![Vector::of(&byte); count.min(1 << 16) as usize];
        let mut written = 0u32;
        _ = call!(preview1::fd_write(
            file,
            address(vectors.as_ptr()),
            count,
            address(&raw mut written)
        ));
    }
    // All of memory, many times over.
    let whole = Vector {
        address: 0,
        len: u32::try_from(core::arch::wasm32::memory_size::<0>() * PAGE).expect("32 bits"),
    };
    let vectors = vec![whole; 1024];
    loop {
        let mut written = 0u32;
        _ = call!(preview1::fd_pwrite(
            file,
            address(vectors.as_ptr()),
            1024,
            0,
            address(&raw mut written)
        ));
    }
}

/// Lengths and counts that no memory has.
fn huge_lengths() {
    let out = [0u8; 64];
    let at = address(&raw const out);
    for len in [1u32 << 31, u32::MAX, u32::MAX - 7] {
        for answer in [
            call!(preview1::random_get(at, len)),
            call!(preview1::poll_oneoff(at, at, len, at)),
            call!(preview1::fd_readdir(ROOT, at, len, 0, at)),
            call!(preview1::path_readlink(ROOT, at, len, at, len, at)),
            call!(preview1::path_symlink(at, len, ROOT, at, len)),
            call!(preview1::path_open(
                ROOT,
                FOLLOW,
                at,
                len,
                u32::MAX,
                u64::MAX,
                u64::MAX,
                u32::MAX,
                at
            )),
            call!(wisp::spawn(at, len, at)),
            call!(wisp::exec(at, len)),
            call!(wisp::fork(0, at, len, at)),
            call!(wisp::stat(at, len, 1, at)),
            call!(wisp::mkfifo(at, len, 0)),
        ] {
            assert!(answer.is_err(), "{len}");
        }
        _ = call!(wisp::inherited(at, len, at));
    }
    assert!([Err(Errno::BADF), Err(Errno::INVAL)].contains(&call!(preview1::fd_seek(1 << 30, i64::MAX, 77, at))));
    println!("refused");
}

/// Fills a pipe that nobody but itself could empty.
fn pipe_deadlock() {
    let (_reader, writer) = pipe().expect("a pipe");
    loop {
        _ = write(writer, &[0; 4096]);
    }
}

/// A file that gets long and short again.
fn resize_storm() {
    let file = create(scratch(), "resized");
    let bytes = vec![1; 1 << 20];
    loop {
        for at in 0..8u64 {
            _ = pwrite(file, &bytes, at << 20);
        }
        _ = call!(preview1::fd_filestat_set_size(file, 0));
        let copy = dup(file, 10);
        if let Ok(copy) = copy {
            _ = close(copy);
        }
    }
}

/// Directories in each other whose names are as long as they can be.
fn deep_tree(depth: usize) {
    let name = "d".repeat(255);
    let mut dir = scratch();
    for _ in 0..depth {
        mkdir(dir, &name).expect("a directory");
        let inner = open_directory(dir, &name).expect("opening it");
        close(dir).expect("closing");
        dir = inner;
    }
    println!("made");
}
