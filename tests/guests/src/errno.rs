//! Error numbers of preview1.

/// An errno other than success.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What an import answers.
pub type Answer<T = ()> = Result<T, Errno>;

macro_rules! numbers {
    ($($name:ident = $number:literal,)*) => {
        #[expect(missing_docs, reason = "the names are the standard's own")]
        impl Errno {
            $(pub const $name: Self = Self($number);)*

            fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    _ => "?",
                }
            }
        }
    };
}

numbers! {
    TOO_BIG = 1,
    ACCES = 2,
    AGAIN = 6,
    BADF = 8,
    BUSY = 10,
    CHILD = 12,
    EXIST = 20,
    FAULT = 21,
    FBIG = 22,
    INTR = 27,
    INVAL = 28,
    ISDIR = 31,
    LOOP = 32,
    MFILE = 33,
    NAMETOOLONG = 37,
    NOENT = 44,
    NOEXEC = 45,
    NOMEM = 48,
    NOSPC = 51,
    NOSYS = 52,
    NOTDIR = 54,
    NOTEMPTY = 55,
    NOTSOCK = 57,
    NOTSUP = 58,
    NXIO = 60,
    PERM = 63,
    PIPE = 64,
    SPIPE = 70,
    SRCH = 71,
}

impl Errno {
    /// Success, or the errno.
    pub fn check(number: i32) -> Answer {
        if number == 0 { Ok(()) } else { Err(Self(number)) }
    }
}

impl std::fmt::Debug for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}
