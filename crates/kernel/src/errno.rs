//! The error numbers of WASI preview1.

use wisp_abi::RequestError;

use wisp_vfs as vfs;

macro_rules! define {
    ($($name:ident $_constant:ident = $number:literal,)*) => {
        /// A preview1 `errno` other than success, with the numbers of the standard's `typenames.witx`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        #[expect(missing_docs, reason = "the names are the standard's own")]
        pub enum Errno {
            $($name = $number,)*
        }
    };
}

wisp_abi::errnos!(define);

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

impl From<RequestError> for Errno {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::TooBig => Self::TooBig,
            RequestError::NameTooLong => Self::Nametoolong,
            RequestError::Invalid => Self::Inval,
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
