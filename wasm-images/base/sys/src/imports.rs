//! The functions of the import module `wisp`, exactly as `docs/abi.md` declares them.

/// Declares each import for WebAssembly and, for every other target, a function of the same shape that fails.
macro_rules! imports {
    ($(fn $name:ident($($parameter:ident: $kind:ty),*);)*) => {
        #[cfg(target_family = "wasm")]
        #[link(wasm_import_module = "wisp")]
        #[allow(unsafe_code, reason = "declares host functions; each call states why it is sound")]
        unsafe extern "C" {
            $(pub(crate) fn $name($($parameter: $kind),*) -> i32;)*
        }

        $(
            #[cfg(not(target_family = "wasm"))]
            #[allow(unsafe_code, reason = "has the shape of the import, touches no memory")]
            pub(crate) unsafe fn $name($(_: $kind),*) -> i32 {
                NOT_SUPPORTED
            }
        )*
    };
}

/// `ENOSYS` of the build machine's system.
#[cfg(not(target_family = "wasm"))]
const NOT_SUPPORTED: i32 = 38;

imports! {
    fn getpid(out: *mut [u32; 3]);
    fn pipe(out: *mut [u32; 2]);
    fn dup(fd: u32, min: u32, out: *mut u32);
    fn dup2(from: u32, to: u32);
    fn inherited(out: *mut [u32; 2], capacity: usize, count: *mut u32);
    fn spawn(request: *const u8, len: usize, pid: *mut u32);
    fn exec(request: *const u8, len: usize);
    fn fork(arg: *mut u8, keep: *const u32, keep_count: usize, pid: *mut u32);
    fn wait(pid: i32, flags: u32, out: *mut [u32; 2]);
    fn kill(pid: i32, signal: u32);
    fn setpgid(pid: u32, pgid: u32);
    fn sigaction(signal: u32, disposition: u32);
    fn sigpending(out: *mut u32);
    fn umask(mask: u32, out: *mut u32);
    fn chmod(path: *const u8, len: usize, follow: u32, mode: u32);
    fn fchmod(fd: u32, mode: u32);
    fn chown(path: *const u8, len: usize, follow: u32, uid: u32, gid: u32);
    fn stat(path: *const u8, len: usize, follow: u32, out: *mut [u8; wisp_abi::Stat::SIZE]);
    fn fstat(fd: u32, out: *mut [u8; wisp_abi::Stat::SIZE]);
    fn statfs(out: *mut [u64; 4]);
    fn mkfifo(path: *const u8, len: usize, mode: u32);
}
