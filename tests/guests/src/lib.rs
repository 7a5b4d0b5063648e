//! What the guest tests share: WASI preview1 and the `wisp` module as functions that return the exact errno.
//!
//! Each program of `src/bin` shows one behaviour of the kernel and is named after it. It ends with status 0 if the
//! behaviour holds; otherwise its panic says what differs. Every program starts in an empty machine, in `/tmp`.

mod errno;
mod file;
mod poll;
mod process;
pub mod raw;

pub use errno::{Answer, Errno};
pub use file::*;
pub use poll::*;
pub use process::*;

/// The preopened root directory.
pub const ROOT: u32 = 3;
/// A descriptor nobody has.
pub const CLOSED: u32 = 77;
/// An address outside every linear memory of these tests.
pub const BAD_ADDRESS: u32 = 0xffff_fff0;

/// Calls an import with plain numbers and checks its errno: `call!(preview1::fd_close(3))`.
#[macro_export]
macro_rules! call {
    ($module:ident :: $name:ident ( $($argument:expr),* $(,)? )) => {{
        #[allow(unsafe_code, reason = "an import gets numbers, right ones or, on purpose, wrong ones")]
        // SAFETY: the kernel writes only where an address says, and each address given is that of a live mutable
        // variable of the caller, or lies outside the memory, where nothing can be written.
        let errno = unsafe { $crate::raw::$module::$name($($argument),*) };
        $crate::Errno::check(errno)
    }};
}

/// The address of something, as imports take it.
pub fn address<T: ?Sized>(place: *const T) -> u32 {
    place.cast::<u8>().expose_provenance() as u32
}
