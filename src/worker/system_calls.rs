//! The system calls a worker needs. All others fail with `EPERM`.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The filter is not well-formed, or the system refuses it.
    #[error(transparent)]
    Filter(#[from] seccompiler::Error),
    /// The filter cannot be compiled.
    #[error(transparent)]
    Backend(#[from] seccompiler::BackendError),
    /// Another processor than those the list was made for.
    #[error("there is no list of system calls for {0}")]
    Architecture(&'static str),
}

/// System calls that are allowed with any arguments.
const ALLOWED: &[libc::c_long] = &[
    // Reading and writing what is open.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_flock,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    // Files, of which Landlock leaves those of the sandboxes.
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_getcwd,
    // Memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // Threads, and what wakes them.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    // Signals of its own: wasmtime's traps.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // glibc answers ENOSYS with `clone`, whose flags can be looked at; see `allow_only_listed`.
    libc::SYS_clone3,
];

/// The same on x86-64 alone, which has older names for some.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_gettimeofday,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// Asks which pages of a mapping were written to: what wasmtime resets a warm slot by. `PAGEMAP_SCAN` of `linux/fs.h`.
const PAGEMAP_SCAN: u64 = 0xc060_6610;

fn architecture() -> Result<TargetArch, FilterError> {
    std::env::consts::ARCH
        .try_into()
        .map_err(|_| FilterError::Architecture(std::env::consts::ARCH))
}

/// Whether there is a filter for this system.
pub fn is_available() -> bool {
    architecture().is_ok()
}

/// Allows this process the listed system calls only, for good. Returns how many there are.
///
/// # Errors
/// When the system refuses.
pub fn allow_only_listed() -> Result<usize, FilterError> {
    let architecture = architecture()?;
    let mut rules: BTreeMap<libc::c_long, Vec<SeccompRule>> = ALLOWED
        .iter()
        .chain(ALLOWED_HERE)
        .map(|number| (*number, Vec::new()))
        .collect();
    let own = u64::from(std::process::id());
    let dword = |argument, operator, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value);
    let with = |conditions: Vec<SeccompCondition>| SeccompRule::new(conditions);
    let thread = libc::CLONE_THREAD as u64;
    // Threads, not processes.
    rules.insert(
        libc::SYS_clone,
        vec![with(vec![dword(0, SeccompCmpOp::MaskedEq(thread), thread)?])?],
    );
    // Memory, but no code: that of the images is mapped by now.
    let no_code = || dword(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0);
    rules.insert(libc::SYS_mmap, vec![with(vec![no_code()?])?]);
    rules.insert(libc::SYS_mprotect, vec![with(vec![no_code()?])?]);
    // `abort` and `raise`.
    rules.insert(libc::SYS_tgkill, vec![with(vec![dword(0, SeccompCmpOp::Eq, own)?])?]);
    // On the connection, to nobody else.
    rules.insert(
        libc::SYS_sendto,
        vec![with(vec![SeccompCondition::new(
            4,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::Eq,
            0,
        )?])?],
    );
    rules.insert(
        libc::SYS_ioctl,
        vec![
            with(vec![dword(1, SeccompCmpOp::Eq, libc::FIONBIO)?])?,
            with(vec![dword(1, SeccompCmpOp::Eq, PAGEMAP_SCAN)?])?,
        ],
    );
    // Names of threads and mappings.
    rules.insert(
        libc::SYS_prctl,
        vec![
            with(vec![dword(0, SeccompCmpOp::Eq, libc::PR_SET_NAME as u64)?])?,
            with(vec![dword(0, SeccompCmpOp::Eq, libc::PR_SET_VMA as u64)?])?,
        ],
    );
    // Its own limits, to read.
    rules.insert(
        libc::SYS_prlimit64,
        vec![with(vec![
            dword(0, SeccompCmpOp::Eq, 0)?,
            SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?,
        ])?],
    );
    let count = rules.len();
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let listed: BpfProgram = SeccompFilter::new(rules, denied, SeccompAction::Allow, architecture)?.try_into()?;
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    let without_clone3: BpfProgram =
        SeccompFilter::new(clone3, SeccompAction::Allow, unknown, architecture)?.try_into()?;
    // Of two filters that disagree the stricter one counts.
    apply_filter_all_threads(&without_clone3)?;
    apply_filter_all_threads(&listed)?;
    Ok(count)
}
