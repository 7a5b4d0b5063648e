//! Processes and signals.

use wisp_abi::SpawnRequest;

pub use wisp_abi::{CATCH, DEFAULT, IGNORE, NO_HANG};

use crate::{Answer, Errno, address, call};

/// Every child.
pub const ANY: i32 = -1;
/// Interrupt.
pub const SIGINT: u32 = 2;
/// Kill.
pub const SIGKILL: u32 = 9;
/// User-defined.
pub const SIGUSR1: u32 = 10;
/// Write without reader.
pub const SIGPIPE: u32 = 13;
/// A timer.
pub const SIGALRM: u32 = 14;
/// Terminate.
pub const SIGTERM: u32 = 15;
/// A child ended.
pub const SIGCHLD: u32 = 17;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// With this code.
    Exited(u32),
    /// By this signal.
    Killed(u32),
}

/// Which part of the program a process plays: the first argument. The test itself has none.
pub fn role() -> Option<String> {
    std::env::args().nth(1)
}

/// The program's own file.
pub fn own_path() -> String {
    std::env::args().next().expect("a program has a name")
}

/// Makes this process ready to play `role`, or returns if it plays the test itself.
pub fn play(role: &str, part: impl FnOnce()) {
    if self::role().as_deref() == Some(role) {
        part();
        std::process::exit(0);
    }
}

/// A request to start a program, as `docs/abi.md` describes it.
#[derive(Debug, Clone)]
pub struct Start {
    /// Program file; empty to search `PATH`.
    pub path: Vec<u8>,
    /// Directory to start in.
    pub cwd: Vec<u8>,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// `KEY=value`.
    pub environment: Vec<Vec<u8>>,
    /// Child's number, own descriptor.
    pub descriptors: Vec<(u32, u32)>,
    /// 1 for a process group of its own.
    pub flags: u32,
}

impl Start {
    /// The program at `path`, with the standard descriptors and no other arguments than its name.
    pub fn program(path: impl AsRef<[u8]>) -> Self {
        Self {
            path: path.as_ref().to_vec(),
            cwd: b"/tmp".to_vec(),
            argv: vec![path.as_ref().to_vec()],
            environment: vec![b"PATH=/usr/bin".to_vec()],
            descriptors: vec![(0, 0), (1, 1), (2, 2)],
            flags: 0,
        }
    }

    /// This program again, in another role ([`play`]).
    pub fn role(role: &str) -> Self {
        Self::program(own_path()).argument(role)
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.argv.push(argument.as_ref().to_vec());
        self
    }

    /// Passes the own descriptor `own` on as `child`.
    #[must_use]
    pub fn descriptor(mut self, child: u32, own: u32) -> Self {
        self.descriptors.retain(|(number, _)| *number != child);
        self.descriptors.push((child, own));
        self
    }

    /// Gives the child a process group of its own.
    #[must_use]
    pub fn new_group(mut self) -> Self {
        self.flags |= SpawnRequest::NEW_GROUP;
        self
    }

    /// The request's wire form.
    pub fn encode(&self) -> Vec<u8> {
        let request = SpawnRequest {
            path: self.path.clone(),
            cwd: self.cwd.clone(),
            argv: self.argv.clone(),
            environment: self.environment.clone(),
            descriptors: self.descriptors.clone(),
            flags: self.flags,
        };
        request.encode()
    }

    /// `wisp.spawn`.
    pub fn spawn(&self) -> Answer<u32> {
        spawn_request(&self.encode())
    }

    /// `wisp.exec`: why it failed.
    pub fn exec(&self) -> Errno {
        let request = self.encode();
        match call!(wisp::exec(address(request.as_ptr()), request.len() as u32)) {
            Ok(()) => unreachable!("exec returned success"),
            Err(errno) => errno,
        }
    }

    /// Starts the program and waits for its end.
    pub fn run(&self) -> Answer<Status> {
        let pid = self.spawn()?;
        wait(pid as i32, 0).map(|(_, status)| status)
    }
}

/// `wisp.spawn` of a request's wire form.
pub fn spawn_request(request: &[u8]) -> Answer<u32> {
    let mut pid = 0u32;
    call!(wisp::spawn(
        address(request.as_ptr()),
        request.len() as u32,
        address(&raw mut pid)
    ))?;
    Ok(pid)
}

/// Where a forked child starts: `argument` is the address of the function it runs.
#[unsafe(no_mangle)]
#[allow(unsafe_code, reason = "the kernel enters a forked child here")]
extern "C" fn wisp_fork_entry(argument: u32) {
    // SAFETY: the argument is the address that `fork` below took of a `fn()`, and a fork keeps the function table.
    let part: fn() = unsafe { std::mem::transmute(argument as usize) };
    part();
}

/// `wisp.fork`: the child runs `part`, keeping the descriptors `keep`.
pub fn fork(part: fn(), keep: &[u32]) -> Answer<u32> {
    // Keeps the entry in the program even if nothing else refers to it.
    std::hint::black_box(wisp_fork_entry as extern "C" fn(u32));
    let mut pid = 0u32;
    call!(wisp::fork(
        part as usize as u32,
        address(keep.as_ptr()),
        keep.len() as u32,
        address(&raw mut pid)
    ))?;
    Ok(pid)
}

/// `wisp.wait`; with [`NO_HANG`] the number is 0 when no child has ended.
pub fn wait(pid: i32, flags: u32) -> Answer<(u32, Status)> {
    let mut out = [0u32; 2];
    call!(wisp::wait(pid, flags, address(&raw mut out)))?;
    let signal = out[1] >> 8;
    Ok((
        out[0],
        if signal == 0 {
            Status::Exited(out[1])
        } else {
            Status::Killed(signal)
        },
    ))
}

/// `wisp.getpid`: own number, parent's, group.
pub fn getpid() -> Answer<[u32; 3]> {
    let mut numbers = [0u32; 3];
    call!(wisp::getpid(address(&raw mut numbers)))?;
    Ok(numbers)
}

/// `wisp.kill`.
pub fn kill(target: i32, signal: u32) -> Answer {
    call!(wisp::kill(target, signal))
}

/// `wisp.sigaction`.
pub fn sigaction(signal: u32, disposition: u32) -> Answer {
    call!(wisp::sigaction(signal, disposition))
}

/// `wisp.sigpending`.
pub fn sigpending() -> Answer<u32> {
    let mut signals = 0u32;
    call!(wisp::sigpending(address(&raw mut signals)))?;
    Ok(signals)
}

/// `wisp.setitimer`: what was left before, value and interval, all in microseconds.
pub fn setitimer(value: u64, interval: u64) -> Answer<[u64; 2]> {
    let mut before = [0u64; 2];
    call!(wisp::setitimer(value, interval, address(&raw mut before)))?;
    Ok(before)
}

/// `wisp.inherited` with room for `capacity` pairs: the pairs written, and how many there are.
pub fn inherited(capacity: usize) -> Answer<(Vec<(u32, u32)>, u32)> {
    let mut pairs = vec![[0u32; 2]; capacity];
    let mut count = 0u32;
    call!(wisp::inherited(
        address(pairs.as_mut_ptr()),
        capacity as u32,
        address(&raw mut count)
    ))?;
    pairs.truncate(count as usize);
    Ok((pairs.into_iter().map(|[theirs, own]| (theirs, own)).collect(), count))
}
