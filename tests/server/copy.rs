//! `wisp cp`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::api::Sandbox;
use crate::setting::Setting;
use crate::wisp_command::{assert_ended, stderr, wisp};

/// Bytes of which no two neighbours are alike.
fn bytes(count: u32) -> Vec<u8> {
    (0..count).map(|number| (number % 251) as u8).collect()
}

/// A sandbox and what names it on the command line.
struct Target<'a> {
    setting: &'a Setting,
    sandbox: Sandbox,
}

impl<'a> Target<'a> {
    async fn new(setting: &'a Setting) -> Self {
        let sandbox = setting.sandbox().await;
        Self { setting, sandbox }
    }

    /// `ID:PATH`.
    fn at(&self, path: &str) -> String {
        format!("{}:{path}", self.sandbox.path.rsplit('/').next().expect("an id"))
    }

    async fn copy(&self, source: &str, destination: &str) -> std::process::Output {
        let server = self.setting.server.url().trim_end_matches("/api/v1");
        wisp(&["cp", "--server", server, source, destination], "").await
    }

    /// Copies; all of it must arrive.
    async fn copied(&self, source: &str, destination: &str) {
        assert_ended(&self.copy(source, destination).await, 0, "");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[tokio::test]
async fn a_file_goes_in_and_comes_out() {
    let setting = Setting::shared().await;
    let target = Target::new(&setting).await;
    let here = tempfile::tempdir().expect("a directory");
    let here = here.path();
    let program = here.join("program");
    fs::write(&program, bytes(3_000_000)).expect("a file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o750)).expect("its mode");

    target.copied(text(&program), &target.at("/made/on/the way/copy")).await;
    target.copied(text(&program), &target.at("/tmp")).await;
    let listed = target
        .sandbox
        .output("ls -l '/made/on/the way/copy' /tmp/program | cut -c 1-10")
        .await;
    assert_eq!(listed, "-rwxr-x---\n-rwxr-x---\n");

    target
        .copied(&target.at("/tmp/program"), text(&here.join("back")))
        .await;
    fs::create_dir(here.join("into")).expect("a directory");
    target
        .copied(&target.at("/tmp/program"), text(&here.join("into")))
        .await;
    for path in [here.join("back"), here.join("into/program")] {
        assert!(
            fs::read(&path).expect("the copy") == bytes(3_000_000),
            "{}",
            path.display()
        );
        let mode = fs::metadata(&path).expect("the copy").permissions().mode();
        assert_eq!(mode & 0o700, 0o700, "{mode:o}");
    }
}

#[tokio::test]
async fn a_directory_goes_in_and_comes_out_with_all_that_is_in_it() {
    let setting = Setting::shared().await;
    let target = Target::new(&setting).await;
    let here = tempfile::tempdir().expect("a directory");
    let here = here.path();
    let tree = here.join("tree");
    fs::create_dir_all(tree.join("deep/er")).expect("directories");
    fs::create_dir(tree.join("empty")).expect("a directory");
    fs::write(tree.join("deep/er/file"), bytes(700_001)).expect("a file");
    fs::write(tree.join("none"), "").expect("a file");
    symlink("deep/er/file", tree.join("link")).expect("a link");
    let long = "n".repeat(200);
    fs::write(tree.join(&long), "long").expect("a file");

    // As itself where nothing is, into a directory that is there, and its contents.
    target.copied(text(&tree), &target.at("/new")).await;
    target.copied(text(&tree), &target.at("/tmp")).await;
    target.copied(&format!("{}/.", text(&tree)), &target.at("/root")).await;
    let expected = format!("./deep\n./deep/er\n./deep/er/file\n./empty\n./link\n./{long}\n./none\n");
    for directory in ["/new", "/tmp/tree", "/root"] {
        let found = target
            .sandbox
            .output(&format!("cd {directory}; find . -mindepth 1 | LC_ALL=C sort"))
            .await;
        assert_eq!(found, expected, "{directory}");
        let size = target
            .sandbox
            .output(&format!("wc -c <{directory}/link; readlink {directory}/link"))
            .await;
        assert_eq!(
            size.split_whitespace().collect::<Vec<_>>(),
            ["700001", "deep/er/file"],
            "{directory}"
        );
    }

    let back = here.join("back");
    target.copied(&target.at("/new"), text(&back)).await;
    fs::create_dir(here.join("into")).expect("a directory");
    target.copied(&target.at("/new"), text(&here.join("into"))).await;
    // Once more over what is there.
    target.copied(&target.at("/new/."), text(&back)).await;
    for back in [back, here.join("into/new")] {
        assert!(
            fs::read(back.join("link")).expect("the file") == bytes(700_001),
            "{}",
            back.display()
        );
        assert_eq!(
            fs::read_link(back.join("link")).expect("a link"),
            Path::new("deep/er/file")
        );
        assert_eq!(fs::read_to_string(back.join(&long)).expect("the file"), "long");
        assert!(back.join("empty").is_dir() && back.join("none").is_file());
    }
}

#[tokio::test]
async fn links_and_paths_of_a_sandbox_lead_nowhere_on_this_machine() {
    let setting = Setting::shared().await;
    let target = Target::new(&setting).await;
    let script = "mkdir -p /d/e; cd /d; ln -s /etc/passwd absolute; ln -s ../../.. up; ln -s e/../../x through; \
        ln -s ../good e/fine; echo hi >good";
    assert_eq!(target.sandbox.output(script).await, "");
    let here = tempfile::tempdir().expect("a directory");
    let copied = target.copy(&target.at("/d"), text(&here.path().join("d"))).await;
    assert_ended(&copied, 1, "");
    let messages = stderr(&copied);
    for left_out in ["absolute", "up", "through"] {
        assert!(
            messages.contains(&format!("left out {}", here.path().join("d").join(left_out).display())),
            "{messages}"
        );
        assert!(
            fs::symlink_metadata(here.path().join("d").join(left_out)).is_err(),
            "{left_out}"
        );
    }
    assert_eq!(
        fs::read_to_string(here.path().join("d/e/fine")).expect("a link"),
        "hi\n"
    );
}

#[tokio::test]
async fn what_cannot_be_copied_says_why() {
    let setting = Setting::shared().await;
    let target = Target::new(&setting).await;
    let here = tempfile::tempdir().expect("a directory");
    let missing = here.path().join("missing");
    let missing = text(&missing);
    for (source, destination, words) in [
        (missing.to_owned(), target.at("/tmp"), "missing: No such file"),
        (target.at("/missing"), missing.to_owned(), "/missing: no such file"),
        (target.at("relative"), missing.to_owned(), "path"),
        (
            "sb_aaaaaaaaaaaaaaaa:/etc/passwd".to_owned(),
            missing.to_owned(),
            "no such file",
        ),
        (missing.to_owned(), missing.to_owned(), "ID:PATH"),
        (target.at("/a"), target.at("/b"), "ID:PATH"),
        (target.at("/etc/passwd"), format!("{missing}/x"), "No such file"),
    ] {
        let output = target.copy(&source, &destination).await;
        assert_ended(&output, 1, "");
        assert!(
            stderr(&output).contains(words),
            "{source} {destination}: {}",
            stderr(&output)
        );
    }
    assert!(!here.path().join("missing").exists());
}
