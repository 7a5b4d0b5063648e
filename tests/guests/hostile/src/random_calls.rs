//! Calls every import that cannot end or block the caller, with arguments drawn from right, borderline and wild ones.
//!
//! What they answer does not matter; the kernel must come through, and so must this program.

use guests::{Answer, BAD_ADDRESS, Errno, Vector, address, call};

const ROUNDS: u32 = 300_000;
const ARENA_BYTES: usize = 64 << 10;
/// Descriptors below this one are left open.
const FIRST_OWN: u32 = 4;

const PATHS: [&str; 26] = [
    "tmp/a",
    "tmp/b",
    "tmp/d",
    "tmp/d/e",
    "tmp/d/../a",
    "tmp/link",
    "tmp/link/a",
    "tmp",
    "/",
    ".",
    "..",
    "",
    "a/b/c",
    "a//.//..///",
    "dev/null",
    "dev/wisp",
    "dev/fd",
    "dev/fd/5",
    "dev/fd/1/../../null",
    "proc",
    "proc/self",
    "proc/self/fd/4",
    "proc/self/cwd/../../x",
    "proc/self/root/proc/self/root/proc",
    "proc/self/../../../..",
    "proc/2/stat",
];

/// Draws arguments (a linear congruential generator: the same every time).
struct Draw {
    state: u64,
    arena: Vec<u8>,
    vectors: [Vector; 3],
}

impl Draw {
    fn next(&mut self) -> u32 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as u32
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.next() as usize % values.len()]
    }

    fn number(&mut self) -> u32 {
        let random = self.next();
        self.one_of(&[
            0,
            1,
            2,
            3,
            4,
            5,
            8,
            15,
            16,
            255,
            256,
            1 << 31,
            u32::MAX,
            random & 0xff,
            random,
        ])
    }

    fn long(&mut self) -> u64 {
        let random = u64::from(self.next());
        self.one_of(&[
            0,
            1,
            5,
            4096,
            1 << 20,
            1 << 40,
            i64::MAX as u64,
            1 << 63,
            u64::MAX,
            random,
        ])
    }

    fn fd(&mut self) -> u32 {
        let random = self.next() % 40;
        self.one_of(&[0, 1, 3, random, random, random, random, 300, u32::MAX])
    }

    fn own_fd(&mut self) -> u32 {
        let fd = self.fd();
        if fd < FIRST_OWN { fd + FIRST_OWN } else { fd }
    }

    /// Somewhere in the arena, or nowhere.
    fn place(&mut self) -> u32 {
        let inside = address(self.arena.as_mut_ptr()) + self.next() % (ARENA_BYTES as u32 - 128);
        self.one_of(&[inside, inside, inside, inside, inside, inside, BAD_ADDRESS, u32::MAX])
    }

    /// A length that fits behind a place in the arena, or is wild.
    fn len(&mut self) -> u32 {
        self.one_of(&[0, 1, 3, 24, 64, 128, 128, 1 << 31, u32::MAX])
    }

    fn path(&mut self) -> (u32, u32) {
        if self.next().is_multiple_of(8) {
            return (self.place(), self.len());
        }
        let path = self.one_of(&PATHS);
        (address(path), path.len() as u32)
    }

    /// A table of buffers that lie in the arena, or anything.
    fn vectors(&mut self) -> (u32, u32) {
        if self.next().is_multiple_of(8) {
            return (self.place(), self.number());
        }
        for at in 0..self.vectors.len() {
            self.vectors[at] = Vector {
                address: self.place(),
                len: self.len(),
            };
        }
        (address(self.vectors.as_ptr()), self.one_of(&[0, 1, 2, 3]))
    }
}

/// Makes very many calls; a second argument of the program is the seed of other ones.
pub fn run() {
    let given = std::env::args().nth(2).map(|seed| seed.parse::<u64>().expect("a seed"));
    let seeds = given.map_or(1..=3, |seed| seed..=seed);
    for seed in seeds {
        let vectors = [Vector { address: 0, len: 0 }; 3];
        let mut draw = Draw {
            state: seed,
            arena: vec![0; ARENA_BYTES],
            vectors,
        };
        let mut succeeded = 0u32;
        for _ in 0..ROUNDS {
            succeeded += u32::from(one_call(&mut draw).is_ok());
        }
        assert!(succeeded > ROUNDS / 20, "only {succeeded} calls made sense");
    }
}

fn one_call(draw: &mut Draw) -> Answer {
    if draw.next().is_multiple_of(3) {
        wisp_call(draw)
    } else {
        preview1_call(draw)
    }
}

fn preview1_call(d: &mut Draw) -> Answer {
    let zeros = [0u8; 48 * 4];
    match d.next() % 42 {
        0 => call!(preview1::args_get(d.place(), d.place())),
        1 => call!(preview1::args_sizes_get(d.place(), d.place())),
        2 => call!(preview1::environ_get(d.place(), d.place())),
        3 => call!(preview1::environ_sizes_get(d.place(), d.place())),
        4 => call!(preview1::clock_res_get(d.number(), d.place())),
        5 => call!(preview1::clock_time_get(d.number(), d.long(), d.place())),
        6 => call!(preview1::fd_advise(d.fd(), d.long(), d.long(), d.number())),
        7 => call!(preview1::fd_allocate(d.fd(), d.long(), d.long())),
        8 => call!(preview1::fd_close(d.own_fd())),
        9 => call!(preview1::fd_datasync(d.fd())),
        10 => call!(preview1::fd_fdstat_get(d.fd(), d.place())),
        11 => call!(preview1::fd_fdstat_set_flags(d.fd(), d.number())),
        12 => call!(preview1::fd_fdstat_set_rights(d.fd(), d.long(), d.long())),
        13 => call!(preview1::fd_filestat_get(d.fd(), d.place())),
        14 => call!(preview1::fd_filestat_set_size(d.fd(), d.long())),
        15 => call!(preview1::fd_filestat_set_times(d.fd(), d.long(), d.long(), d.number())),
        16 => {
            let (table, count) = d.vectors();
            call!(preview1::fd_pread(d.fd(), table, count, d.long(), d.place()))
        }
        17 => call!(preview1::fd_prestat_get(d.fd(), d.place())),
        18 => call!(preview1::fd_prestat_dir_name(d.fd(), d.place(), d.len())),
        19 => {
            let (table, count) = d.vectors();
            call!(preview1::fd_pwrite(d.fd(), table, count, d.long(), d.place()))
        }
        20 => {
            let (table, count) = d.vectors();
            call!(preview1::fd_read(d.fd(), table, count, d.place()))
        }
        21 | 22 => call!(preview1::fd_readdir(d.fd(), d.place(), d.len(), d.long(), d.place())),
        23 => call!(preview1::fd_renumber(d.own_fd(), d.own_fd())),
        24 => call!(preview1::fd_seek(d.fd(), d.long() as i64, d.number(), d.place())),
        25 => call!(preview1::fd_tell(d.fd(), d.place())),
        26 => {
            let (table, count) = d.vectors();
            call!(preview1::fd_write(d.fd(), table, count, d.place()))
        }
        27 => {
            let (path, len) = d.path();
            call!(preview1::path_create_directory(d.fd(), path, len))
        }
        28 => {
            let (path, len) = d.path();
            call!(preview1::path_filestat_get(d.fd(), d.number(), path, len, d.place()))
        }
        29 => {
            let (path, len) = d.path();
            let (atime, mtime) = (d.long(), d.long());
            call!(preview1::path_filestat_set_times(
                d.fd(),
                d.number(),
                path,
                len,
                atime,
                mtime,
                d.number()
            ))
        }
        30 => {
            let ((old, old_len), (new, new_len)) = (d.path(), d.path());
            call!(preview1::path_link(
                d.fd(),
                d.number(),
                old,
                old_len,
                d.fd(),
                new,
                new_len
            ))
        }
        31..=34 => {
            let (path, len) = d.path();
            let (rights, flags) = (d.one_of(&[0, 2, 64, 66, u64::MAX]), d.number());
            call!(preview1::path_open(
                3,
                d.number(),
                path,
                len,
                d.number(),
                rights,
                0,
                flags,
                d.place()
            ))
        }
        35 => {
            let (path, len) = d.path();
            call!(preview1::path_readlink(
                d.fd(),
                path,
                len,
                d.place(),
                d.len(),
                d.place()
            ))
        }
        36 => {
            let (path, len) = d.path();
            call!(preview1::path_remove_directory(d.fd(), path, len))
        }
        37 => {
            let ((old, old_len), (new, new_len)) = (d.path(), d.path());
            call!(preview1::path_rename(d.fd(), old, old_len, d.fd(), new, new_len))
        }
        38 => {
            let ((target, target_len), (path, len)) = (d.path(), d.path());
            call!(preview1::path_symlink(target, target_len, d.fd(), path, len))
        }
        39 => {
            let (path, len) = d.path();
            call!(preview1::path_unlink_file(d.fd(), path, len))
        }
        // Zeros are a clock that has run out, so that no call waits.
        40 => {
            let count = d.one_of(&[0, 1, 4, u32::MAX, 1 << 30]);
            call!(preview1::poll_oneoff(
                address(zeros.as_ptr()),
                d.place(),
                count,
                d.place()
            ))
        }
        _ => call!(preview1::random_get(d.place(), d.len())),
    }
}

fn wisp_call(d: &mut Draw) -> Answer {
    match d.next() % 19 {
        0 => call!(wisp::getpid(d.place())),
        1 => call!(wisp::dup(d.fd(), d.number().max(FIRST_OWN), d.place())),
        2 => call!(wisp::dup2(d.fd(), d.own_fd())),
        3 => call!(wisp::inherited(d.place(), d.number(), d.place())),
        4 => call!(wisp::spawn(d.place(), d.len(), d.place())),
        5 => call!(wisp::exec(d.place(), d.len())),
        6 => call!(wisp::wait(d.number() as i32, d.number() | 1, d.place())),
        7 => call!(wisp::kill(d.number() as i32, 0)),
        8 => call!(wisp::setpgid(d.number(), d.number())),
        9 => call!(wisp::sigaction(d.number(), d.number())),
        10 => call!(wisp::sigpending(d.place())),
        11 => call!(wisp::umask(d.number(), d.place())),
        12 => {
            let (path, len) = d.path();
            call!(wisp::chmod(path, len, d.number(), d.number()))
        }
        13 => call!(wisp::fchmod(d.fd(), d.number())),
        14 => {
            let (path, len) = d.path();
            call!(wisp::chown(path, len, d.number(), d.number(), d.number()))
        }
        15 => {
            let (path, len) = d.path();
            call!(wisp::stat(path, len, d.number(), d.place()))
        }
        16 => call!(wisp::fstat(d.fd(), d.place())),
        17 => call!(wisp::statfs(d.place())),
        // Not so soon that it ends this program.
        18 => call!(wisp::setitimer(
            u64::MAX - u64::from(d.number()),
            u64::from(d.number()),
            d.place()
        )),
        _ => Err(Errno::NOSYS),
    }
}
