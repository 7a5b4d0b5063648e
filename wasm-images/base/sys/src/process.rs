//! Starting, copying and awaiting processes.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::path::PathBuf;

use wisp_abi::{NO_HANG, SpawnRequest};

use crate::{Signal, absolute, bytes, check, imports};

/// A process number; negative and zero where a call gives them a meaning.
pub type Pid = i32;

/// Who this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its own number.
    pub pid: Pid,
    /// Its parent's number.
    pub parent: Pid,
    /// Its process group.
    pub group: Pid,
}

/// The numbers of this process, its parent and its group.
#[allow(unsafe_code)]
pub fn getpid() -> io::Result<Identity> {
    let mut numbers = [0; 3];
    // SAFETY: `numbers` outlives the call.
    check(unsafe { imports::getpid(&raw mut numbers) })?;
    let [pid, parent, group] = numbers.map(|number| number as Pid);
    Ok(Identity { pid, parent, group })
}

/// Moves process `pid` (0: this one) to group `group` (0: one of its own).
#[allow(unsafe_code)]
pub fn setpgid(pid: Pid, group: Pid) -> io::Result<()> {
    // SAFETY: takes numbers only, which the kernel checks.
    check(unsafe { imports::setpgid(pid as u32, group as u32) })
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It ended by itself with this code.
    Exited(u8),
    /// This signal ended it.
    Killed(Signal),
}

impl ExitStatus {
    /// The status as a shell tells it: the exit code, or 128 and the signal's number.
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal.number() as u8,
        }
    }

    /// Whether the program ended by itself with 0.
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// Reads the layout of `docs/abi.md`: bits 0–7 exit code, bits 8–15 signal.
    fn decode(status: u32) -> Self {
        match Signal::from_number(status >> 8 & 0xff) {
            Some(signal) => Self::Killed(signal),
            None => Self::Exited(status as u8),
        }
    }
}

/// Waits for a child (-1: any) to end. Fails with [`io::ErrorKind::Interrupted`] when a caught signal arrives first.
pub fn wait(pid: Pid) -> io::Result<(Pid, ExitStatus)> {
    wait_flags(pid, 0)
}

/// As [`wait`], but `None` at once when no such child has ended yet.
pub fn try_wait(pid: Pid) -> io::Result<Option<(Pid, ExitStatus)>> {
    let ended = wait_flags(pid, NO_HANG)?;
    Ok((ended.0 != 0).then_some(ended))
}

#[allow(unsafe_code)]
fn wait_flags(pid: Pid, flags: u32) -> io::Result<(Pid, ExitStatus)> {
    let mut out = [0; 2];
    // SAFETY: `out` outlives the call.
    check(unsafe { imports::wait(pid, flags, &raw mut out) })?;
    Ok((out[0] as Pid, ExitStatus::decode(out[1])))
}

/// A program to start. Unless told otherwise it gets this process's environment, working directory and standard
/// streams, and no other descriptor.
#[derive(Debug, Clone)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Option<Vec<(OsString, OsString)>>,
    directory: Option<PathBuf>,
    descriptors: Vec<(u32, RawFd)>,
    new_group: bool,
}

impl Command {
    /// The program `program`: a path when it contains a slash, else a name that is looked up in the `PATH` of the
    /// child's environment.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        Self {
            program: PathBuf::from(program),
            arguments: vec![program.to_owned()],
            environment: None,
            directory: None,
            descriptors: vec![(0, 0), (1, 1), (2, 2)],
            new_group: false,
        }
    }

    /// Sets `argv[0]`, which is the program as given otherwise. A program looked up in `PATH` is looked up by it.
    #[must_use]
    pub fn name(mut self, name: impl AsRef<OsStr>) -> Self {
        name.as_ref().clone_into(&mut self.arguments[0]);
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Replaces the whole environment.
    #[must_use]
    pub fn environment<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| (key.as_ref().to_owned(), value.as_ref().to_owned()));
        self.environment = Some(pairs.collect());
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Replaces the descriptors the child gets: pairs of its number and the number here. Those of 0–2 not listed are
    /// closed in the child.
    #[must_use]
    pub fn descriptors(mut self, pairs: impl IntoIterator<Item = (u32, RawFd)>) -> Self {
        self.descriptors = pairs.into_iter().collect();
        self
    }

    /// Puts the child into a new process group, of which it is the leader.
    #[must_use]
    pub fn new_group(mut self) -> Self {
        self.new_group = true;
        self
    }

    /// Starts the program as a child.
    #[allow(unsafe_code)]
    pub fn spawn(&self) -> io::Result<Pid> {
        io::stdout().flush()?;
        let request = self.encode()?;
        let mut pid = 0;
        // SAFETY: request and `pid` outlive the call.
        check(unsafe { imports::spawn(request.as_ptr(), request.len(), &raw mut pid) })?;
        Ok(pid as Pid)
    }

    /// Starts the program and waits for its end, also when signals arrive.
    pub fn status(&self) -> io::Result<ExitStatus> {
        let pid = self.spawn()?;
        loop {
            match wait(pid) {
                Ok((_, status)) => return Ok(status),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Replaces this program; returns only the reason why that failed.
    #[allow(unsafe_code)]
    pub fn exec(&self) -> io::Error {
        // What cannot be written now is lost in any case: this program's buffers end with it.
        let _ = io::stdout().flush();
        let request = match self.encode() {
            Ok(request) => request,
            Err(error) => return error,
        };
        // SAFETY: the request outlives the call.
        match check(unsafe { imports::exec(request.as_ptr(), request.len()) }) {
            Err(error) => error,
            Ok(()) => io::ErrorKind::Other.into(),
        }
    }

    /// The request of `docs/abi.md`.
    fn encode(&self) -> io::Result<Vec<u8>> {
        let path = if bytes(&self.program).contains(&b'/') {
            bytes(&absolute(&self.program)?).to_vec()
        } else {
            Vec::new()
        };
        let directory = match &self.directory {
            Some(directory) => absolute(directory)?,
            None => std::env::current_dir()?,
        };
        let arguments = self.arguments.iter();
        let environment = match &self.environment {
            Some(pairs) => pairs.iter().map(|(key, value)| variable(key, value)).collect(),
            None => std::env::vars_os().map(|(key, value)| variable(&key, &value)).collect(),
        };
        let request = SpawnRequest {
            path,
            cwd: bytes(&directory).to_vec(),
            argv: arguments.map(|argument| argument.as_encoded_bytes().to_vec()).collect(),
            environment,
            descriptors: self
                .descriptors
                .iter()
                .map(|(child, own)| (*child, *own as u32))
                .collect(),
            flags: if self.new_group { SpawnRequest::NEW_GROUP } else { 0 },
        };
        Ok(request.encode())
    }
}

/// `KEY=value`.
fn variable(key: &OsStr, value: &OsStr) -> Vec<u8> {
    [key.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat()
}

/// What a forked process runs; its result is the exit code.
type Child<'a> = Box<dyn FnOnce() -> u8 + 'a>;

/// Starts a copy of this process that runs `child` and ends with the exit code it returns.
///
/// The copy has the standard streams and the descriptors of `keep`, under the same numbers. Values here that own
/// another descriptor must not be dropped in the copy: it may have given the number to a file of its own.
///
/// The program must be linked with `--export=__stack_pointer --export=wisp_fork_entry`.
#[allow(unsafe_code)]
pub fn fork<'a>(keep: &[RawFd], child: impl FnOnce() -> u8 + 'a) -> io::Result<Pid> {
    // Else both processes would write what is buffered here.
    io::stdout().flush()?;
    let keep: Vec<u32> = keep.iter().map(|fd| *fd as u32).collect();
    let mut child: Child<'a> = Box::new(child);
    let mut pid = 0;
    // SAFETY: `keep` and `pid` outlive the call. `child` lives on this stack frame, of which the copy has its own, and
    // the copy ends before it could return into a frame above.
    check(unsafe { imports::fork((&raw mut child).cast(), keep.as_ptr(), keep.len(), &raw mut pid) })?;
    Ok(pid as Pid)
}

/// Where a forked process begins; the kernel calls it with the argument of `fork`.
#[allow(unsafe_code)]
#[allow(clippy::cast_ptr_alignment, reason = "the address is that of a `Child`")]
#[unsafe(no_mangle)]
extern "C" fn wisp_fork_entry(arg: *mut u8) {
    // SAFETY: `fork` passed the address of a `Child` in a frame that this copy of the memory holds; this is the only
    // read of it here, and the process ends below without a second one.
    let child: Child<'static> = unsafe { arg.cast::<Child<'static>>().read() };
    std::process::exit(i32::from(child()));
}

#[cfg(test)]
mod tests {
    use super::{Command, ExitStatus};
    use crate::Signal;

    fn request(command: &Command) -> Vec<u8> {
        command.encode().expect("a working directory")
    }

    #[test]
    fn request_has_the_layout_of_the_abi() {
        let command = Command::new("/bin/a")
            .args(["b"])
            .environment([("K", "v")])
            .directory("/d");
        let expected: &[u8] =
            b"\x06\0\0\0/bin/a\x02\0\0\0/d\x02\0\0\0\x06\0\0\0/bin/a\x01\0\0\0b\x01\0\0\0\x03\0\0\0K=v\
            \x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x02\0\0\0\x02\0\0\0\0\0\0\0";
        assert_eq!(request(&command), expected);
    }

    #[test]
    fn name_without_a_slash_leaves_the_lookup_to_the_kernel() {
        assert_eq!(&request(&Command::new("ls"))[..4], [0; 4]);
    }

    #[test]
    fn status_of_a_killed_process_is_128_and_the_signal() {
        assert_eq!(ExitStatus::decode(0x0f00), ExitStatus::Killed(Signal::TERM));
        assert_eq!(ExitStatus::decode(0x0f00).shell_code(), 143);
        assert_eq!(ExitStatus::decode(7), ExitStatus::Exited(7));
    }
}
