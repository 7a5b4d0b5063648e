//! Builtins that need the wisp kernel.

mod disown;
mod exec;
mod jobs;
mod kill;
mod printf;
mod ulimit;
mod umask;
mod wait;

use brush_core::ShellExtensions;
use brush_core::builtins::{Registration, builtin};

/// The builtins by name.
pub fn all<SE: ShellExtensions>() -> Vec<(String, Registration<SE>)> {
    [
        ("disown", builtin::<disown::Disown, SE>()),
        ("exec", builtin::<exec::Exec, SE>().special()),
        ("jobs", builtin::<jobs::Jobs, SE>()),
        ("kill", builtin::<kill::Kill, SE>()),
        ("printf", builtin::<printf::Printf, SE>()),
        ("ulimit", builtin::<ulimit::Ulimit, SE>()),
        ("umask", builtin::<umask::Umask, SE>()),
        ("wait", builtin::<wait::Wait, SE>()),
    ]
    .map(|(name, registration)| (name.to_owned(), registration))
    .into()
}
