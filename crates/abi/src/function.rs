//! The functions of the module.

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number of 32 bits.
    U32,
    /// A signed number of 32 bits.
    I32,
    /// A number of 64 bits.
    U64,
    /// The bytes, strings or descriptors that the next address has room for or holds; 32 bits.
    Count,
    /// Address of a path without NUL at its end.
    Path,
    /// Address of bytes that are read.
    Bytes,
    /// Address of one number of 32 bits.
    OutU32,
    /// Address of so many numbers of 32 bits.
    OutU32s(usize),
    /// Address of so many numbers of 64 bits.
    OutU64s(usize),
    /// Address of pairs of numbers of 32 bits.
    OutPairs,
    /// Address of a [`crate::Stat`].
    OutStat,
}

/// A function; each returns an errno, 0 on success.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// Its name in the module.
    pub name: &'static str,
    /// Names and kinds of its parameters.
    pub parameters: &'static [(&'static str, Kind)],
}

/// All functions, in the order of `docs/abi.md`.
pub const FUNCTIONS: &[Function] = &[
    function("getpid", &[("out", Kind::OutU32s(3))]),
    function("pipe", &[("out", Kind::OutU32s(2))]),
    function("dup", &[("fd", Kind::U32), ("min", Kind::U32), ("out", Kind::OutU32)]),
    function("dup2", &[("from", Kind::U32), ("to", Kind::U32)]),
    function(
        "inherited",
        &[
            ("out", Kind::OutPairs),
            ("capacity", Kind::Count),
            ("count", Kind::OutU32),
        ],
    ),
    function(
        "spawn",
        &[("request", Kind::Bytes), ("length", Kind::Count), ("pid", Kind::OutU32)],
    ),
    function("exec", &[("request", Kind::Bytes), ("length", Kind::Count)]),
    function(
        "fork",
        &[
            ("arg", Kind::U32),
            ("keep", Kind::Bytes),
            ("keep_count", Kind::Count),
            ("pid", Kind::OutU32),
        ],
    ),
    function(
        "wait",
        &[("pid", Kind::I32), ("flags", Kind::U32), ("out", Kind::OutU32s(2))],
    ),
    function("kill", &[("pid", Kind::I32), ("signal", Kind::U32)]),
    function("setpgid", &[("pid", Kind::U32), ("group", Kind::U32)]),
    function("sigaction", &[("signal", Kind::U32), ("disposition", Kind::U32)]),
    function("sigpending", &[("out", Kind::OutU32)]),
    function(
        "setitimer",
        &[("value", Kind::U64), ("interval", Kind::U64), ("out", Kind::OutU64s(2))],
    ),
    function("umask", &[("mask", Kind::U32), ("out", Kind::OutU32)]),
    function(
        "chmod",
        &[
            ("path", Kind::Path),
            ("length", Kind::Count),
            ("follow", Kind::U32),
            ("mode", Kind::U32),
        ],
    ),
    function("fchmod", &[("fd", Kind::U32), ("mode", Kind::U32)]),
    function(
        "chown",
        &[
            ("path", Kind::Path),
            ("length", Kind::Count),
            ("follow", Kind::U32),
            ("uid", Kind::U32),
            ("gid", Kind::U32),
        ],
    ),
    function(
        "stat",
        &[
            ("path", Kind::Path),
            ("length", Kind::Count),
            ("follow", Kind::U32),
            ("out", Kind::OutStat),
        ],
    ),
    function("fstat", &[("fd", Kind::U32), ("out", Kind::OutStat)]),
    function("statfs", &[("out", Kind::OutU64s(4))]),
    function(
        "mkfifo",
        &[("path", Kind::Path), ("length", Kind::Count), ("mode", Kind::U32)],
    ),
];

const fn function(name: &'static str, parameters: &'static [(&'static str, Kind)]) -> Function {
    Function { name, parameters }
}
