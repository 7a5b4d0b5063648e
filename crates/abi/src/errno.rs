/// The errno numbers of WASI preview1 (`typenames.witx`) that the kernel answers with, other than success.
///
/// Calls the macro `$callback` with `Name NAME = number,` for each, so that each side makes a type of its own that can
/// have its own conversions.
#[macro_export]
macro_rules! errnos {
    ($callback:ident) => {
        $callback! {
            TooBig TOO_BIG = 1,
            Acces ACCES = 2,
            Again AGAIN = 6,
            Badf BADF = 8,
            Busy BUSY = 10,
            Child CHILD = 12,
            Exist EXIST = 20,
            Fault FAULT = 21,
            Fbig FBIG = 22,
            Ilseq ILSEQ = 25,
            Intr INTR = 27,
            Inval INVAL = 28,
            Io IO = 29,
            Isdir ISDIR = 31,
            Loop LOOP = 32,
            Mfile MFILE = 33,
            Mlink MLINK = 34,
            Nametoolong NAMETOOLONG = 37,
            Noent NOENT = 44,
            Noexec NOEXEC = 45,
            Nomem NOMEM = 48,
            Nospc NOSPC = 51,
            Nosys NOSYS = 52,
            Notdir NOTDIR = 54,
            Notempty NOTEMPTY = 55,
            Notsock NOTSOCK = 57,
            Notsup NOTSUP = 58,
            Nxio NXIO = 60,
            Overflow OVERFLOW = 61,
            Perm PERM = 63,
            Pipe PIPE = 64,
            Rofs ROFS = 69,
            Spipe SPIPE = 70,
            Srch SRCH = 71,
            Xdev XDEV = 75,
        }
    };
}
