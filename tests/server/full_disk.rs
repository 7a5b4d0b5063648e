//! A server whose disk is full: it says so, loses nothing it has acknowledged, and works again once there is room.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Method;
use serde_json::json;

use crate::api::{Answer, Api, Sandbox, answer};
use crate::images::PYTHON;
use crate::server::Server;

/// Size of the disk.
const SIZE: &str = "size=24m";
/// Size of the files that fill it.
const FILE: usize = 700_000;
/// What is made free again, bytes.
const ROOM: usize = 6 << 20;

/// A small disk of its own for a test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one. `None`, said on standard error, where this user may not; in CI that is a failure.
    #[expect(clippy::print_stderr, reason = "who runs the tests is to know")]
    fn mount() -> Option<Self> {
        let place = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SIZE, "wisp-test"])
            .arg(place.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if mounted {
            return Some(Self(place));
        }
        let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        assert!(
            !in_ci,
            "a small disk cannot be mounted, and CI needs one: run it as root"
        );
        eprintln!("only root can mount a small disk: what happens on a full one is not tested");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What cannot be unmounted stays until the machine is restarted.
        let _ = Command::new("umount").args(["--lazy"]).arg(self.path()).status();
    }
}

/// A file that takes room until it is removed.
struct Ballast(PathBuf);

impl Ballast {
    /// One of this many bytes.
    fn of(disk: &Path, bytes: usize) -> Self {
        let ballast = Self(disk.join("ballast"));
        fs::write(&ballast.0, vec![0; bytes]).expect("a file");
        ballast
    }

    /// Takes all that is left as well.
    fn grow(&self) {
        let mut file = File::options().append(true).open(&self.0).expect("the file");
        for piece in [vec![0; 64 << 10], vec![0; 512]] {
            while file.write_all(&piece).is_ok() {}
        }
    }

    fn remove(self) {
        fs::remove_file(self.0).expect("there it was");
    }
}

async fn put(sandbox: &Sandbox, path: &str, content: &str) -> Answer {
    let path = format!("{}/files?path={path}", sandbox.path);
    answer(sandbox.api.request(Method::PUT, &path).body(content.to_owned())).await
}

async fn assert_kept(sandbox: &Sandbox, acknowledged: &BTreeMap<String, String>) {
    for (path, content) in acknowledged {
        let read = sandbox.api.get(&format!("{}/files?path={path}", sandbox.path)).await;
        assert_eq!(read.status, 200, "{path}: {read:?}");
        assert!(read.body == *content, "{path} differs");
    }
}

#[tokio::test]
async fn full_disk_keeps_acknowledged_writes_and_recovers() {
    let Some(disk) = SmallDisk::mount() else { return };
    let serve = || {
        let data = disk.path().to_str().expect("a path in UTF-8");
        let server = Server::start("127.0.0.1:0", &[("WISP_DATA_DIR", data)]);
        let api = Api::new(server.url(), None);
        (server, api)
    };
    let ballast = Ballast::of(disk.path(), ROOM);
    let (server, api) = serve();
    let sandbox = api.create(json!({"image": PYTHON})).await;
    let mut acknowledged = BTreeMap::new();

    // Uploads, until one does not fit.
    let refused = loop {
        let number = acknowledged.len();
        assert!(number < 100, "the disk does not fill up");
        let (path, content) = (
            format!("/file-{number}"),
            number.to_string().repeat(FILE)[..FILE].to_owned(),
        );
        let written = put(&sandbox, &path, &content).await;
        if written.status != 200 {
            break written;
        }
        acknowledged.insert(path, content);
    };
    refused.assert_error(507, "insufficient_storage");
    assert!(acknowledged.len() > 3, "{} files", acknowledged.len());
    ballast.grow();

    // Nothing that has to be kept succeeds, and each says why.
    put(&sandbox, "/one-more", &"x".repeat(FILE))
        .await
        .assert_error(507, "insufficient_storage");
    let command = json!({"command": "seq 1 100000 >/from-a-command"});
    sandbox
        .exec(command.clone())
        .await
        .assert_error(507, "insufficient_storage");
    let streamed = sandbox
        .exec(json!({"command": "seq 1 100000 >/from-a-command", "stream": true}))
        .await;
    assert!(streamed.body.contains("no space left"), "{streamed:?}");
    for _ in 0..50 {
        // As long as the database has room of its own, it can still record sandboxes.
        let created = api
            .post("/sandboxes", json!({"metadata": {"m": "x".repeat(4000)}}).to_string())
            .await;
        if created.status != 201 {
            created.assert_error(507, "insufficient_storage");
        }
    }
    // What needs no room works.
    api.assert_alive().await;
    assert_eq!(api.get("/ready").await.status, 200);
    assert_kept(&sandbox, &acknowledged).await;

    // After a crash on the full disk.
    server.kill();
    let (server, api) = serve();
    let sandbox = Sandbox {
        api: api.clone(),
        ..sandbox
    };
    assert_kept(&sandbox, &acknowledged).await;
    put(&sandbox, "/one-more", &"x".repeat(FILE))
        .await
        .assert_error(507, "insufficient_storage");

    ballast.remove();
    assert_eq!(put(&sandbox, "/one-more", "fits").await.status, 200);
    acknowledged.insert("/one-more".to_owned(), "fits".to_owned());
    let ran = sandbox.exec(command).await;
    assert_eq!(ran.json()["exit_code"], 0, "{ran:?}");
    api.create(json!({})).await;
    server.kill();
    let (server, api) = serve();
    let sandbox = Sandbox {
        api: api.clone(),
        ..sandbox
    };
    assert_kept(&sandbox, &acknowledged).await;
    assert_eq!(sandbox.output("tail -n 1 /from-a-command").await, "100000\n");

    // A sandbox can be destroyed on a full disk, and its room is room again.
    let ballast = Ballast::of(disk.path(), 0);
    ballast.grow();
    let destroyed = api.delete(&sandbox.path).await;
    assert!([200, 507].contains(&destroyed.status), "{destroyed:?}");
    assert_eq!(api.get(&sandbox.path).await.status, 404);
    let other = api.create(json!({"image": PYTHON})).await;
    assert_eq!(put(&other, "/file", &"x".repeat(FILE)).await.status, 200);
    ballast.remove();
    server.stop();
}
