//! A Python that comes from its snapshot does the same as one that starts as Python always does.
//!
//! The same commands run twice: in an image as it is installed, and in one made of the same module and files whose recipe
//! has no `preinit`. Status and output have to be the same, byte for byte but for addresses of memory, unless
//! `tests/fixtures/python/starts/differences.md` lists the difference with its reason.
//!
//! ```text
//! cargo test --test own_images plain_start                  compare
//! WISP_RECORD=1 cargo test --test own_images plain_start    write what differs into the list; reasons are kept
//! ```

mod cases;
mod differences;
mod image;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::task;

use self::cases::Case;
use self::differences::Differences;
use crate::api::{Api, Ran};
use crate::images::{self, PYTHON, PYTHON_3_13};
use crate::server::Server;
use crate::store::default_cache;

/// Where a command runs.
const DIRECTORY: &str = "/app";

/// An image in a server of its own.
struct Python {
    image: &'static str,
    server: Server,
}

impl Python {
    /// As it is installed.
    fn from_snapshot(image: &'static str) -> Self {
        let cache = default_cache();
        Self::serve(image, cache.to_str().expect("a path that is text"))
    }

    /// With the start that a program has without a snapshot.
    fn plain(image: &'static str) -> Self {
        Self::serve(image, &image::without_snapshot(image))
    }

    fn serve(image: &'static str, cache: &str) -> Self {
        let server = Server::start("127.0.0.1:0", &[("WISP_CACHE_DIR", cache)]);
        Self { image, server }
    }

    /// Runs a case in a sandbox of its own.
    async fn run(&self, case: &Case) -> Ran {
        let api = Api::new(self.server.url(), None);
        let sandbox = api.create(json!({"image": self.image, "memory_mb": 512})).await;
        sandbox
            .write(&format!("{DIRECTORY}/{}", case.file), &case.program)
            .await;
        let command = json!({
            "command": case.command, "workdir": DIRECTORY, "stdin": case.stdin, "timeout": "60s",
        });
        sandbox.run_with(command).await
    }
}

/// Runs all cases for an image with both starts, and compares.
async fn assert_same(image: &'static str, version: &'static str) {
    let starts = task::spawn_blocking(move || (Python::plain(image), Python::from_snapshot(image)));
    let (plain, snapshot) = starts.await.expect("both can be started");
    let mut found = Vec::new();
    for case in cases::of_version(version) {
        let (plain, snapshot) = tokio::join!(plain.run(&case), snapshot.run(&case));
        found.push((case.name, differences::between(&plain, &snapshot)));
    }
    Differences::check(image, &found);
}

#[tokio::test]
async fn a_snapshot_of_python_3_13_and_a_plain_start_do_the_same_but_for_what_is_listed() {
    task::spawn_blocking(images::install_python_3_13)
        .await
        .expect("the image can be installed");
    assert_same(PYTHON_3_13, "3.13").await;
}

#[tokio::test]
async fn a_snapshot_of_python_3_12_and_a_plain_start_do_the_same_but_for_what_is_listed() {
    assert_same(PYTHON, "3.12").await;
}

/// What must not come out of a snapshot, which a comparison with a plain start cannot show.
#[tokio::test]
async fn random_numbers_and_times_are_new_in_each_process() {
    let start = |image| {
        task::spawn_blocking(move || {
            images::install_python_3_13();
            Python::from_snapshot(image)
        })
    };
    for image in [PYTHON, PYTHON_3_13] {
        let python = start(image).await.expect("a server");
        let (first, second) = (python.run(&cases::fresh()).await, python.run(&cases::fresh()).await);
        assert_eq!((first.exit_code, first.stderr.as_str()), (0, ""), "{image}");
        for (one, other) in first.stdout.lines().zip(second.stdout.lines()) {
            assert_ne!(one, other, "{image}");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
        for seconds in first.stdout.lines().filter_map(|line| line.strip_prefix("time ")) {
            let seconds = Duration::from_secs_f64(seconds.parse().expect("a number"));
            let age = now.checked_sub(seconds).expect("a time that has passed");
            assert!(age < Duration::from_secs(60), "{image}: {seconds:?}");
        }
    }
}
