//! Pipes and duplicated file descriptors.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::{check, imports};

/// Makes a pipe: (read end, write end). Its buffer holds 64 KiB.
#[allow(unsafe_code)]
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` outlives the call, which writes both numbers.
    check(unsafe { imports::pipe(&raw mut ends) })?;
    // SAFETY: the kernel just made both descriptors for this process; nothing else owns them.
    Ok(unsafe {
        (
            OwnedFd::from_raw_fd(ends[0] as RawFd),
            OwnedFd::from_raw_fd(ends[1] as RawFd),
        )
    })
}

/// A new descriptor, the lowest free one that is at least `min`, for the same open file description.
#[allow(unsafe_code)]
pub fn dup(fd: BorrowedFd<'_>, min: u32) -> io::Result<OwnedFd> {
    let mut new = 0;
    // SAFETY: `new` outlives the call.
    check(unsafe { imports::dup(fd.as_raw_fd() as u32, min, &raw mut new) })?;
    // SAFETY: the kernel just made this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(new as RawFd) })
}

/// Makes number `to` the same open file description as `from`; `to` is closed first if it is open.
///
/// `to` is a plain number because it is most often 0, 1 or 2, which no Rust value owns. An [`OwnedFd`] of that number
/// refers to the new file from then on.
#[allow(unsafe_code)]
pub fn dup2(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    // SAFETY: takes numbers only, which the kernel checks.
    check(unsafe { imports::dup2(from.as_raw_fd() as u32, to as u32) })
}

/// A descriptor ≥ 3 that the parent passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inherited {
    /// The number the parent chose, which the user of the program knows.
    pub chosen: u32,
    /// Its number in this process.
    pub actual: RawFd,
}

/// The descriptors ≥ 3 that the parent passed.
#[allow(unsafe_code)]
pub fn inherited() -> io::Result<Vec<Inherited>> {
    let mut pairs = vec![[0; 2]; 4];
    loop {
        let mut count = 0;
        // SAFETY: `pairs` has room for the capacity given; both outlive the call.
        check(unsafe { imports::inherited(pairs.as_mut_ptr(), pairs.len(), &raw mut count) })?;
        let grown = count as usize > pairs.len();
        pairs.resize(count as usize, [0; 2]);
        if !grown {
            return Ok(pairs
                .iter()
                .map(|&[chosen, actual]| Inherited {
                    chosen,
                    actual: actual as RawFd,
                })
                .collect());
        }
    }
}
