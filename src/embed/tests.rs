//! What an embedder relies on, with the image `base`.

use std::time::{Duration, Instant};

use super::*;

/// An image with a shell and the usual tools.
const BASE: &str = "base";

async fn sandbox() -> Sandbox {
    let engine = Engine::new().unwrap();
    engine.sandbox(BASE).create().await.unwrap()
}

#[tokio::test]
async fn a_command_reads_its_input_and_both_its_streams_come_back() {
    let sandbox = sandbox().await;
    let output = sandbox
        .shell("cat; echo err >&2; exit 3")
        .stdin("in")
        .output()
        .await
        .unwrap();
    assert_eq!((output.stdout, output.stderr), (b"in".to_vec(), b"err\n".to_vec()));
    assert_eq!(output.exit.code, 3);
    assert!(!output.exit.success() && !output.exit.timed_out && !output.truncated);
}

#[tokio::test]
async fn arguments_of_a_script_are_its_parameters() {
    let output = sandbox()
        .await
        .shell("echo $# $2")
        .args(["a", "b c"])
        .output()
        .await
        .unwrap();
    assert_eq!(output.stdout, b"2 b c\n");
}

#[tokio::test]
async fn output_beyond_its_limit_is_thrown_away_and_the_command_ends() {
    let script = sandbox().await.shell("yes | head -c 1000000; echo done >&2");
    let output = script.max_output(1000).output().await.unwrap();
    assert_eq!(output.stdout.len() + output.stderr.len(), 1000);
    assert!(output.truncated);
    assert!(output.success());
}

#[tokio::test]
async fn a_timeout_ends_a_command_and_its_children() {
    let sandbox = sandbox().await;
    let started = Instant::now();
    let command = sandbox.shell("sleep 50 & sleep 60").timeout(Duration::from_millis(300));
    let output = command.output().await.unwrap();
    assert!(output.exit.timed_out);
    assert_eq!(output.exit.code, 124);
    assert!(started.elapsed() < Duration::from_secs(20));
    while sandbox.usage().processes > 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "a process is left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_child_that_is_dropped_is_killed() {
    let sandbox = sandbox().await;
    let child = sandbox.command("sleep").arg("60").spawn().await.unwrap();
    assert_eq!(sandbox.usage().processes, 1);
    drop(child);
    let deadline = Instant::now() + Duration::from_secs(20);
    while sandbox.usage().processes > 0 {
        assert!(Instant::now() < deadline, "the process is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_sandbox_that_is_dropped_frees_its_memory_though_a_child_was_leaked_in_it() {
    let engine = Engine::builder().threads(1).build().unwrap();
    let sandbox = engine.sandbox(BASE).create().await.unwrap();
    sandbox.shell("sleep 60 & true").output().await.unwrap();
    let machine = std::sync::Arc::downgrade(&sandbox.machine);
    drop(sandbox);
    assert!(machine.upgrade().is_none());
}

#[tokio::test]
async fn memory_and_disk_of_a_sandbox_are_bounded() {
    let engine = Engine::new().unwrap();
    let sandbox = engine.sandbox(BASE).disk_mb(1).memory_mb(32).create().await.unwrap();
    let full = sandbox.write_file("/file", vec![1; 2 << 20]).await;
    assert!(matches!(full, Err(Error::LimitReached(_))), "{full:?}");
    assert!(matches!(sandbox.stat("/file"), Err(Error::FileNotFound(_))));
    let output = sandbox
        .shell("head -c 2000000 /dev/zero > /file")
        .output()
        .await
        .unwrap();
    assert!(!output.success());
    assert!(sandbox.usage().disk_bytes <= 1 << 20);
    let greedy = sandbox.command("awk").arg("BEGIN { x = \"x\"; while (1) x = x x }");
    let output = greedy.timeout(Duration::from_secs(30)).output().await.unwrap();
    assert!(!output.success() && !output.exit.timed_out, "{output:?}");
}

#[tokio::test]
async fn sandboxes_of_one_engine_see_nothing_of_each_other() {
    let engine = Engine::new().unwrap();
    let first = engine.sandbox(BASE).env("NAME", "first").create().await.unwrap();
    let second = engine.sandbox(BASE).hostname("other").create().await.unwrap();
    first.write_file("/tmp/secret", "1").await.unwrap();
    let output = second
        .shell("cat /tmp/secret; echo \"$NAME\"; hostname")
        .output()
        .await
        .unwrap();
    assert_eq!(output.stdout, b"\nother\n");
    let output = first
        .shell("cat /tmp/secret; echo \"$NAME\"; hostname")
        .output()
        .await
        .unwrap();
    assert_eq!(output.stdout, b"1first\nsandbox\n");
}

#[tokio::test]
async fn missing_programs_are_127_and_invalid_commands_an_error() {
    let engine = Engine::new().unwrap();
    let unknown = engine.sandbox("no-such-image").create().await;
    assert!(matches!(unknown, Err(Error::ImageNotFound { .. })), "{unknown:?}");
    let sandbox = engine.sandbox(BASE).create().await.unwrap();
    assert_eq!(
        sandbox.command("no-such-program").output().await.unwrap().exit.code,
        127
    );
    for path in ["", "relative", "/a/../b", "/nul\0"] {
        let read = sandbox.read_file(path).await;
        assert!(matches!(read, Err(Error::BadPath { .. })), "{path:?}: {read:?}");
        let directory = sandbox.command("true").current_dir(path).output().await;
        assert!(
            matches!(directory, Err(Error::BadPath { .. })),
            "{path:?}: {directory:?}"
        );
    }
    let bad = sandbox.command("true").arg("nul\0").output().await;
    assert!(matches!(bad, Err(Error::Invalid(_))), "{bad:?}");
    let fuel = sandbox.command("true").fuel(1000).output().await;
    assert!(matches!(fuel, Err(Error::Unsupported(_))), "{fuel:?}");
    let mut child = sandbox.command("true").spawn().await.unwrap();
    assert!(matches!(child.write_stdin("x").await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn a_directory_of_many_entries_is_listed_whole() {
    let sandbox = sandbox().await;
    let made = sandbox
        .shell("mkdir /many; cd /many; seq 1 2500 | xargs touch")
        .output()
        .await
        .unwrap();
    assert!(made.success(), "{made:?}");
    assert_eq!(sandbox.list_dir("/many").await.unwrap().len(), 2500);
}

#[tokio::test]
async fn a_store_without_images_has_none() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::builder().image_store(directory.path()).build().unwrap();
    assert!(engine.installed_images().unwrap().is_empty());
    let missing = engine.load_image(BASE).await;
    assert!(matches!(missing, Err(Error::ImageNotFound { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_guest_cannot_make_its_embedder_read_a_file_without_end() {
    let sandbox = sandbox().await;
    let made = sandbox
        .shell("truncate -s 1T /large; printf 12345 > /small")
        .output()
        .await
        .unwrap();
    assert!(made.success(), "{made:?}");
    let read = sandbox.read_file("/large").await;
    assert!(matches!(read, Err(Error::LimitReached(_))));
    assert_eq!(sandbox.read_file_up_to("/small", 5).await.unwrap(), b"12345");
    assert!(matches!(
        sandbox.read_file_up_to("/small", 4).await,
        Err(Error::LimitReached(_))
    ));
}
