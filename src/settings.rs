//! The keys of `wisp.toml`: what declares a section of it, and what a key is.
//!
//! `section!` turns one declaration into the struct of a section, its defaults, and the list
//! of its keys with their documentation, so that `wisp config show` and the doc comments cannot disagree. Each module
//! declares its own section; [`config`](crate::config) puts them together.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::duration::GoDuration;

/// What the value of a key looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Text, in quotes; also durations, addresses, paths and named choices.
    Text,
    /// A list of texts or numbers. In an environment variable: separated by commas.
    List,
    /// A list of tables: no environment variable can hold it.
    Tables,
    /// A table whose keys follow in the list.
    Section,
}

/// A type that the value of a key can have.
pub trait Setting {
    /// What its values look like.
    const KIND: Kind = Kind::Text;
    /// The keys of a section; none for a plain value.
    const FIELDS: &'static [Field] = &[];
}

/// One key of a section, as it is declared.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name, without the section's.
    pub name: &'static str,
    /// The lines of its doc comment, each with a newline.
    pub doc: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// The keys inside, if it is a section.
    pub fields: &'static [Field],
}

/// Declares a section of `wisp.toml`. Each key has a doc comment, which tells its default in words, a type, and the
/// default itself.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $section:ident {
            $(
                $(#[doc = $doc:literal])+
                pub $key:ident: $type:ty = $default:expr,
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $section {
            $(
                $(#[doc = $doc])+
                pub $key: $type,
            )+
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl $crate::settings::Setting for $section {
            const KIND: $crate::settings::Kind = $crate::settings::Kind::Section;
            const FIELDS: &'static [$crate::settings::Field] = &[
                $(
                    $crate::settings::Field {
                        name: stringify!($key),
                        doc: concat!($($doc, "\n",)+),
                        kind: <$type as $crate::settings::Setting>::KIND,
                        fields: <$type as $crate::settings::Setting>::FIELDS,
                    },
                )+
            ];
        }
    };
}
pub(crate) use section;

macro_rules! kind_of {
    ($kind:ident: $($type:ty),+) => {
        $(
            impl Setting for $type {
                const KIND: Kind = Kind::$kind;
            }
        )+
    };
}

kind_of!(Integer: u8, u32, u64, usize);
kind_of!(Boolean: bool);
kind_of!(Text: String, PathBuf, SocketAddr, IpAddr, GoDuration);

impl<T: Setting> Setting for Option<T> {
    const KIND: Kind = T::KIND;
    const FIELDS: &'static [Field] = T::FIELDS;
}

impl<T: Setting> Setting for Vec<T> {
    const KIND: Kind = match T::KIND {
        Kind::Section => Kind::Tables,
        _ => Kind::List,
    };
}
