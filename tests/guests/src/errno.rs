//! Error numbers of preview1.

/// An errno other than success.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What an import answers.
pub type Answer<T = ()> = Result<T, Errno>;

macro_rules! define {
    ($($_name:ident $constant:ident = $number:literal,)*) => {
        #[expect(missing_docs, reason = "the names are the standard's own")]
        impl Errno {
            $(pub const $constant: Self = Self($number);)*

            fn name(self) -> &'static str {
                match self {
                    $(Self::$constant => stringify!($constant),)*
                    _ => "?",
                }
            }
        }
    };
}

wisp_abi::errnos!(define);

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
