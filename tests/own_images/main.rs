//! Programs of users' own become images, and files that cannot cost nothing.

mod documented;
#[path = "../guest_support/build.rs"]
#[allow(dead_code, reason = "the guests are built elsewhere")]
mod guest_build;
mod hostile;
mod import;
mod modules;
mod plain_start;
mod repeatable;
#[path = "../server_support/mod.rs"]
mod server_support;

use server_support::{api, images, server, store};
