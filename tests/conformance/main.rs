//! What every provider must do, as cases that drive a server over HTTP: the specification of a provider.
//!
//! ```text
//! cargo test --test conformance                      a server of our own, both providers
//! cargo test --test conformance docker::files        cases of one provider and topic
//! WISP_CONFORMANCE_URL=http://…/api/v1 WISP_CONFORMANCE_PROVIDER=docker [WISP_CONFORMANCE_KEY=…] …    any server
//! ```
//! A case is an `async fn(&Target)` that panics when the provider does otherwise. Where providers differ for a reason,
//! the difference is a row of [`differences`], which the provider must also tell in `GET /providers/{name}`.
//!
//! Images: `alpine:latest` (a POSIX shell with the usual tools) and `python:3.12`.

#![allow(clippy::print_stderr, reason = "a test program tells its user what is wrong")]

mod archives;
mod concurrency;
mod differences;
mod exec;
mod files;
mod lifecycle;
mod limits;
mod observation;
#[path = "../server_support/mod.rs"]
mod server_support;
mod streaming;
mod target;
mod websocket;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use server_support::{api, server};
use target::{Case, Target};

/// Makes a list of cases from the names of their functions.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub const CASES: &[crate::target::Case] = &[$(
            crate::target::Case { name: stringify!($name), run: |target| Box::pin($name(target)) }
        ),*];
    };
}
pub(crate) use cases;

/// Every case, by topic.
const TOPICS: [(&str, &[Case]); 9] = [
    ("lifecycle", lifecycle::CASES),
    ("exec", exec::CASES),
    ("streaming", streaming::CASES),
    ("websocket", websocket::CASES),
    ("files", files::CASES),
    ("archives", archives::CASES),
    ("limits", limits::CASES),
    ("concurrency", concurrency::CASES),
    ("observation", observation::CASES),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A container engine on a small machine is slow when everything is asked of it at once.
    arguments.test_threads.get_or_insert(4);
    let (server, targets) = if arguments.list {
        (None, vec![Target::named("wasm"), Target::named("docker")])
    } else {
        match Target::all() {
            Ok(found) => found,
            Err(error) => {
                eprintln!("conformance: {error}");
                return ExitCode::FAILURE;
            }
        }
    };
    let tokio = Arc::new(tokio::runtime::Runtime::new().expect("tokio starts"));
    let mut trials = Vec::new();
    for target in targets {
        let target = Arc::new(target);
        for (topic, cases) in TOPICS {
            for case in cases {
                let (tokio, target) = (Arc::clone(&tokio), Arc::clone(&target));
                let name = format!("{}::{topic}::{}", target.provider(), case.name);
                let ignored = target.is_absent();
                let trial = Trial::test(name, move || {
                    tokio.block_on((case.run)(&target));
                    Ok(())
                });
                trials.push(trial.with_ignored_flag(ignored));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(server);
    conclusion.exit_code()
}
