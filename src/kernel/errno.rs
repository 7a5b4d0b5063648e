//! The error numbers of WASI preview1.

use crate::vfs;

/// A preview1 `errno` other than success, with the numbers of the standard's `typenames.witx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[expect(missing_docs, reason = "the names are the standard's own")]
pub enum Errno {
    TooBig = 1,
    Acces = 2,
    Again = 6,
    Badf = 8,
    Busy = 10,
    Child = 12,
    Exist = 20,
    Fault = 21,
    Fbig = 22,
    Ilseq = 25,
    Intr = 27,
    Inval = 28,
    Io = 29,
    Isdir = 31,
    Loop = 32,
    Mfile = 33,
    Mlink = 34,
    Nametoolong = 37,
    Noent = 44,
    Noexec = 45,
    Nomem = 48,
    Nospc = 51,
    Nosys = 52,
    Notdir = 54,
    Notempty = 55,
    Notsock = 57,
    Notsup = 58,
    Nxio = 60,
    Overflow = 61,
    Perm = 63,
    Pipe = 64,
    Rofs = 69,
    Spipe = 70,
    Srch = 71,
    Xdev = 75,
}

impl From<Errno> for i32 {
    fn from(errno: Errno) -> Self {
        Self::from(errno as u16)
    }
}

impl From<vfs::Error> for Errno {
    fn from(error: vfs::Error) -> Self {
        use vfs::Error;
        match error {
            Error::NotFound => Self::Noent,
            Error::NotDir => Self::Notdir,
            Error::IsDir => Self::Isdir,
            Error::Exists => Self::Exist,
            Error::NotEmpty => Self::Notempty,
            Error::Loop => Self::Loop,
            Error::NameTooLong => Self::Nametoolong,
            Error::NoSpace => Self::Nospc,
            Error::TooBig => Self::Fbig,
            Error::Invalid => Self::Inval,
            Error::Busy => Self::Busy,
            Error::NotPermitted => Self::Perm,
            Error::TooManyLinks => Self::Mlink,
            Error::NotSupported => Self::Notsup,
            Error::Io => Self::Io,
        }
    }
}

impl From<vfs::PathError> for Errno {
    /// A change inside `/proc` or `/dev/fd` is denied; calls that read there resolve the path themselves.
    fn from(error: vfs::PathError) -> Self {
        match error {
            vfs::PathError::Fs(error) => error.into(),
            vfs::PathError::Mounted { .. } => Self::Acces,
        }
    }
}
