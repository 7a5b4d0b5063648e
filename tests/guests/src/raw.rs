//! The imports as the kernel sees them: numbers. Addresses and lengths are `u32`, so that wrong ones can be passed.

#![expect(
    missing_docs,
    reason = "names and parameters are those of the standard and of docs/abi.md"
)]

/// WASI preview1, in the order of `wasi_snapshot_preview1.witx`.
#[allow(unsafe_code, reason = "declares imports")]
pub mod preview1 {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub fn args_get(table: u32, bytes: u32) -> i32;
        pub fn args_sizes_get(count: u32, size: u32) -> i32;
        pub fn environ_get(table: u32, bytes: u32) -> i32;
        pub fn environ_sizes_get(count: u32, size: u32) -> i32;
        pub fn clock_res_get(clock: u32, out: u32) -> i32;
        pub fn clock_time_get(clock: u32, precision: u64, out: u32) -> i32;
        pub fn fd_advise(fd: u32, offset: u64, len: u64, advice: u32) -> i32;
        pub fn fd_allocate(fd: u32, offset: u64, len: u64) -> i32;
        pub fn fd_close(fd: u32) -> i32;
        pub fn fd_datasync(fd: u32) -> i32;
        pub fn fd_fdstat_get(fd: u32, out: u32) -> i32;
        pub fn fd_fdstat_set_flags(fd: u32, flags: u32) -> i32;
        pub fn fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64) -> i32;
        pub fn fd_filestat_get(fd: u32, out: u32) -> i32;
        pub fn fd_filestat_set_size(fd: u32, size: u64) -> i32;
        pub fn fd_filestat_set_times(fd: u32, atime: u64, mtime: u64, flags: u32) -> i32;
        pub fn fd_pread(fd: u32, vectors: u32, count: u32, offset: u64, out: u32) -> i32;
        pub fn fd_prestat_get(fd: u32, out: u32) -> i32;
        pub fn fd_prestat_dir_name(fd: u32, path: u32, len: u32) -> i32;
        pub fn fd_pwrite(fd: u32, vectors: u32, count: u32, offset: u64, out: u32) -> i32;
        pub fn fd_read(fd: u32, vectors: u32, count: u32, out: u32) -> i32;
        pub fn fd_readdir(fd: u32, buffer: u32, capacity: u32, cookie: u64, out: u32) -> i32;
        pub fn fd_renumber(from: u32, to: u32) -> i32;
        pub fn fd_seek(fd: u32, offset: i64, whence: u32, out: u32) -> i32;
        pub fn fd_sync(fd: u32) -> i32;
        pub fn fd_tell(fd: u32, out: u32) -> i32;
        pub fn fd_write(fd: u32, vectors: u32, count: u32, out: u32) -> i32;
        pub fn path_create_directory(dir: u32, path: u32, len: u32) -> i32;
        pub fn path_filestat_get(dir: u32, lookup: u32, path: u32, len: u32, out: u32) -> i32;
        pub fn path_filestat_set_times(
            dir: u32,
            lookup: u32,
            path: u32,
            len: u32,
            atime: u64,
            mtime: u64,
            flags: u32,
        ) -> i32;
        pub fn path_link(
            old_dir: u32,
            lookup: u32,
            old: u32,
            old_len: u32,
            new_dir: u32,
            new: u32,
            new_len: u32,
        ) -> i32;
        pub fn path_open(
            dir: u32,
            lookup: u32,
            path: u32,
            len: u32,
            oflags: u32,
            base: u64,
            inheriting: u64,
            fdflags: u32,
            out: u32,
        ) -> i32;
        pub fn path_readlink(dir: u32, path: u32, len: u32, buffer: u32, capacity: u32, out: u32) -> i32;
        pub fn path_remove_directory(dir: u32, path: u32, len: u32) -> i32;
        pub fn path_rename(old_dir: u32, old: u32, old_len: u32, new_dir: u32, new: u32, new_len: u32) -> i32;
        pub fn path_symlink(target: u32, target_len: u32, dir: u32, path: u32, len: u32) -> i32;
        pub fn path_unlink_file(dir: u32, path: u32, len: u32) -> i32;
        pub fn poll_oneoff(subscriptions: u32, events: u32, count: u32, out: u32) -> i32;
        pub fn proc_raise(signal: u32) -> i32;
        pub fn sched_yield() -> i32;
        pub fn random_get(buffer: u32, len: u32) -> i32;
        pub fn sock_accept(fd: u32, flags: u32, out: u32) -> i32;
        pub fn sock_recv(fd: u32, vectors: u32, count: u32, flags: u32, out: u32, out_flags: u32) -> i32;
        pub fn sock_send(fd: u32, vectors: u32, count: u32, flags: u32, out: u32) -> i32;
        pub fn sock_shutdown(fd: u32, how: u32) -> i32;
    }
}

/// The kernel's own module, in the order of `docs/abi.md`.
#[allow(unsafe_code, reason = "declares imports")]
pub mod wisp {
    #[link(wasm_import_module = "wisp")]
    unsafe extern "C" {
        pub fn getpid(out: u32) -> i32;
        pub fn pipe(out: u32) -> i32;
        pub fn dup(fd: u32, min: u32, out: u32) -> i32;
        pub fn dup2(from: u32, to: u32) -> i32;
        pub fn inherited(out: u32, capacity: u32, count: u32) -> i32;
        pub fn spawn(request: u32, len: u32, pid: u32) -> i32;
        pub fn exec(request: u32, len: u32) -> i32;
        pub fn fork(argument: u32, keep: u32, keep_count: u32, pid: u32) -> i32;
        pub fn wait(pid: i32, flags: u32, out: u32) -> i32;
        pub fn kill(pid: i32, signal: u32) -> i32;
        pub fn setpgid(pid: u32, pgid: u32) -> i32;
        pub fn sigaction(signal: u32, disposition: u32) -> i32;
        pub fn sigpending(out: u32) -> i32;
        pub fn setitimer(value: u64, interval: u64, out: u32) -> i32;
        pub fn umask(mask: u32, out: u32) -> i32;
        pub fn chmod(path: u32, len: u32, follow: u32, mode: u32) -> i32;
        pub fn fchmod(fd: u32, mode: u32) -> i32;
        pub fn chown(path: u32, len: u32, follow: u32, uid: u32, gid: u32) -> i32;
        pub fn stat(path: u32, len: u32, follow: u32, out: u32) -> i32;
        pub fn fstat(fd: u32, out: u32) -> i32;
        pub fn statfs(out: u32) -> i32;
        pub fn mkfifo(path: u32, len: u32, mode: u32) -> i32;
    }
}
