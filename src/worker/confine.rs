//! Drops a worker's rights before it runs anything: the second wall, behind wasmtime.
//!
//! Whoever breaks out of WebAssembly into a worker's native code is still a process that
//! - is a user of its own, where the server is root, and can gain no privileges;
//! - reaches no file but those of its own sandboxes (Landlock);
//! - has no network, starts no program, and touches no other process (seccomp: all but the listed system calls fail);
//! - has no open descriptors but its connection and its log, and no environment;
//! - is the first to go when the machine runs out of memory.

use std::fs;
use std::io;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::process::{Gid, Resource, Rlimit, Signal, Uid};
use rustix::thread::CapabilitySet;

use super::cgroup::Delegated;
use super::protocol::Assignment;
use super::system_calls;

/// Open files a worker may have: its connection, its log, two for each sandbox that keeps files, and what is read.
const MAX_OPEN_FILES: u64 = 65_536;
/// Threads of a user that is the worker's own.
const MAX_THREADS: u64 = 4096;
/// How much sooner than others a worker is killed when the machine runs out of memory, of 1000.
const OOM_SCORE: &str = "500";

/// A worker that cannot be confined does not run.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The operating system refuses a step.
    #[error("cannot {step}")]
    Refused {
        /// The step that failed, in words for a message.
        step: &'static str,
        /// The error of the system call.
        source: io::Error,
    },
    /// There are other threads already, which would not be confined.
    #[error("a worker has {0} threads before it is confined")]
    HasThreads(usize),
    /// The server is not this process's parent any more.
    #[error("the server is gone")]
    Orphan,
    /// The kernel refused Landlock's rules.
    #[error("cannot restrict access to files")]
    Landlock(#[from] landlock::RulesetError),
    /// A directory that Landlock should allow cannot be opened.
    #[error("cannot restrict access to files")]
    LandlockPath(#[from] landlock::PathFdError),
    /// The filter of system calls.
    #[error("cannot filter system calls")]
    SystemCalls(#[from] system_calls::FilterError),
}

fn refused<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> ConfineError {
    move |source| ConfineError::Refused {
        step,
        source: source.into(),
    }
}

/// Tells the system which process to kill first when it runs out of memory. Where it cannot be told, limits have to do.
pub fn prefer_to_be_killed() {
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
}

/// Confines this process to what `assignment` says, for good. Its working directory is that of its sandboxes afterwards.
/// Tells in words what confines it.
///
/// # Errors
/// When a step that this system knows is refused. What the system does not know is left out, and missing in the words.
pub fn confine(assignment: &Assignment, parent: u32) -> Result<Vec<String>, ConfineError> {
    // What confines a thread does not reach those that are there already.
    let threads = fs::read_dir("/proc/self/task")
        .map_err(refused("count threads"))?
        .count();
    if threads != 1 {
        return Err(ConfineError::HasThreads(threads));
    }
    let mut words = Vec::new();
    std::env::set_current_dir(&assignment.directory).map_err(refused("enter the directory of the sandboxes"))?;
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, MAX_OPEN_FILES)?;
    if let Some(uid) = assignment.uid {
        limit(Resource::Nproc, MAX_THREADS)?;
        become_user(uid)?;
        words.push(format!("user {uid}"));
    }
    rustix::thread::set_no_new_privs(true).map_err(refused("give up new privileges"))?;
    words.push("no new privileges".to_owned());
    // After the change of user, which resets it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(refused("follow the server"))?;
    if rustix::process::getppid()
        .map(rustix::process::Pid::as_raw_nonzero)
        .map(|pid| pid.get().unsigned_abs())
        != Some(parent)
    {
        return Err(ConfineError::Orphan);
    }
    if let Some(landlock) = restrict_files()? {
        words.push(landlock);
    }
    let count = system_calls::allow_only_listed()?;
    words.push(format!("{count} system calls"));
    Ok(words)
}

fn limit(resource: Resource, most: u64) -> Result<(), ConfineError> {
    let hard = rustix::process::getrlimit(resource).maximum;
    let most = hard.map_or(most, |hard| hard.min(most));
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    rustix::process::setrlimit(resource, limit).map_err(refused("limit resources"))
}

/// Becomes a user without rights. The thread is the only one, so that what holds for it holds for the process.
fn become_user(id: u32) -> Result<(), ConfineError> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    rustix::thread::set_thread_groups(&[]).map_err(refused("leave groups"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(refused("change the group"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(refused("change the user"))
}

/// Leaves of all files those below the working directory, to read and write but not to run. `None` where the system does
/// not know Landlock.
fn restrict_files() -> Result<Option<String>, ConfineError> {
    let abi = ABI::V6;
    let own = AccessFs::from_all(abi)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock | AccessFs::IoctlDev);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new(".")?, own))?
        // Its own memory map and threads, which the kernel of the guests looks at.
        .add_rule(PathBeneath::new(
            PathFd::new("/proc/self")?,
            AccessFs::ReadFile | AccessFs::ReadDir,
        ))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::NotEnforced => None,
        RulesetStatus::PartiallyEnforced => Some("Landlock, in part".to_owned()),
        RulesetStatus::FullyEnforced => Some("Landlock".to_owned()),
    })
}

/// Whether this process can have workers become other users, and look after their files then.
#[must_use]
pub fn can_change_users() -> bool {
    let needed = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID;
    rustix::process::geteuid().is_root()
        && rustix::thread::capabilities(None).is_ok_and(|own| own.effective.contains(needed))
}

/// A part of the wall around workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wall {
    /// Its name.
    pub name: &'static str,
    /// What it buys, in a few words.
    pub buys: &'static str,
    /// Whether this system has it.
    pub is_there: bool,
    /// How to get it.
    pub fix: &'static str,
}

/// The parts of the wall, and which of them there are here.
#[must_use]
pub fn available() -> Vec<Wall> {
    let landlock = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create)
        .is_ok();
    vec![
        Wall {
            name: "workers: user of their own",
            buys: "a worker owns nothing but the directory of its tenant's sandboxes",
            is_there: can_change_users(),
            fix: "start the server as root, with the capabilities to change users; workers give that up before they run \
                  anything",
        },
        Wall {
            name: "workers: Landlock",
            buys: "a worker opens no file but those of its tenant's sandboxes",
            is_there: landlock,
            fix: "use Linux 5.13 or later, with landlock among the security modules (lsm=…)",
        },
        Wall {
            name: "workers: seccomp",
            buys: "a worker has no network, starts no program and touches no other process",
            is_there: system_calls::is_available(),
            fix: "use a processor the list of system calls was made for: x86-64 or ARM64",
        },
        Wall {
            name: "workers: cgroup",
            buys: "a worker has no more memory and threads than its sandboxes may use, to the byte",
            is_there: Delegated::is_possible(),
            fix: "boot with cgroup v2, and start the server alone in a cgroup that is delegated to it (systemd: \
                  Delegate=yes); without it the memory of workers is looked at twice a second",
        },
    ]
}
