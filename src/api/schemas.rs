//! Texts with a syntax of their own, as the API's description tells them.

use std::borrow::Cow;

use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

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
