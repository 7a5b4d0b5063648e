//! How the API's description shows texts with a syntax of their own, and types of the layers below, which know nothing of
//! the API's description.

use std::borrow::Cow;

use serde::Serialize;
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::duration::{self, GoDuration};
use crate::provider::{Network, OutputStream};
use crate::scope::Scope;

/// An absolute path of a sandbox, as [`check_path`](super::extract::check_path) takes it.
pub struct FilePath;

impl PartialSchema for FilePath {
    fn schema() -> RefOr<Schema> {
        /// A component is anything but `..`, without NUL; several slashes are one.
        const PATTERN: &str =
            r"^/(([.]?|[.]?[^/.\x00][^/\x00]*|[.][.][^/\x00]+)/)*([.]?|[.]?[^/.\x00][^/\x00]*|[.][.][^/\x00]+)$";
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "An absolute path in the sandbox, at most 4096 bytes, without `..` and NUL.",
            ))
            .pattern(Some(PATTERN))
            .max_length(Some(4096))
            .examples(["/app/main.py"])
            .into()
    }
}

impl ToSchema for FilePath {
    fn name() -> Cow<'static, str> {
        "FilePath".into()
    }
}

/// Permission bits in octal, as [`parse_mode`](super::extract::parse_mode) takes them.
pub struct FileMode;

impl PartialSchema for FileMode {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Permission bits in octal."))
            .pattern(Some("^0?[0-7]{1,4}$"))
            .examples(["0644", "755"])
            .into()
    }
}

impl ToSchema for FileMode {
    fn name() -> Cow<'static, str> {
        "FileMode".into()
    }
}

/// A point in time, as [`timestamp`](super::sandboxes::timestamp) writes it.
pub struct Timestamp;

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("A point in time: RFC 3339, UTC."))
            .pattern(Some("Z$"))
            .examples(["2026-05-10T10:00:00.000Z"])
            .into()
    }
}

impl ToSchema for Timestamp {
    fn name() -> Cow<'static, str> {
        "Timestamp".into()
    }
}

impl PartialSchema for GoDuration {
    fn schema() -> RefOr<Schema> {
        /// What [`GoDuration::parse`] takes, but for the size of the numbers.
        const PATTERN: &str = r"^\+?(0|([0-9]{1,9}(\.[0-9]{0,9})?(ns|us|µs|μs|ms|s|m|h))+)$";
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A duration as Go writes it."))
            .pattern(Some(PATTERN))
            .max_length(Some(duration::MAX_TEXT_BYTES))
            .examples(["10m", "1h30m", "1.5s", "250ms"])
            .into()
    }
}

impl ToSchema for GoDuration {
    fn name() -> Cow<'static, str> {
        "Duration".into()
    }
}

/// A text that is one of several, as `serde` writes them.
fn choice<T: Serialize>(description: &str, choices: &[T]) -> RefOr<Schema> {
    // A variant without fields is always a text.
    let names = choices.iter().filter_map(|choice| serde_json::to_value(choice).ok());
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .enum_values(Some(names))
        .into()
}

impl PartialSchema for Network {
    fn schema() -> RefOr<Schema> {
        let choices = [Self::None, Self::Allowlist, Self::Public];
        choice("What a sandbox may reach over the network.", &choices)
    }
}

impl ToSchema for Network {
    fn name() -> Cow<'static, str> {
        "Network".into()
    }
}

impl PartialSchema for Scope {
    fn schema() -> RefOr<Schema> {
        choice(
            "What an API key may do. `admin` includes `api`, which includes `read`.",
            &Self::ALL,
        )
    }
}

impl ToSchema for Scope {
    fn name() -> Cow<'static, str> {
        "Scope".into()
    }
}

impl PartialSchema for OutputStream {
    fn schema() -> RefOr<Schema> {
        choice("Which output stream a chunk belongs to.", &[Self::Stdout, Self::Stderr])
    }
}

impl ToSchema for OutputStream {
    fn name() -> Cow<'static, str> {
        "OutputStream".into()
    }
}
