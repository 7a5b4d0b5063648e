//! Files of a sandbox over HTTP, and how they meet its commands.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::json;

use crate::api::{Answer, Sandbox, answer};
use crate::setting::Setting;

const MIB: usize = 1 << 20;

/// Every byte value, in an order that does not repeat soon.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 7 + index / 251) as u8).collect()
}

async fn put(sandbox: &Sandbox, query: &str, body: impl Into<reqwest::Body>) -> Answer {
    let path = format!("{}/files?{query}", sandbox.path);
    answer(sandbox.api.request(Method::PUT, &path).body(body)).await
}

/// The content of a file, which must be there.
async fn download(sandbox: &Sandbox, path: &str) -> Vec<u8> {
    let request = sandbox
        .api
        .request(Method::GET, &format!("{}/files?path={path}", sandbox.path));
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200, "{path}");
    response.bytes().await.expect("the whole file").to_vec()
}

#[tokio::test]
async fn bytes_go_in_and_come_out_unchanged() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    let content = bytes(20 * MIB + 1);
    let written = put(&sandbox, "path=/data/blob.bin&mode=0640", content.clone()).await;
    assert_eq!(written.json(), json!({"status": "written"}), "{written:?}");
    assert_eq!(sandbox.output("stat -c '%s %a' /data/blob.bin").await, "20971521 640\n");
    let digest = "python3 -c 'import hashlib; print(hashlib.file_digest(open(\"/data/blob.bin\", \"rb\"), \"md5\").hexdigest())'";
    assert_eq!(
        sandbox.output(digest).await,
        sandbox.output("md5sum </data/blob.bin | cut -d' ' -f1").await
    );
    assert!(
        download(&sandbox, "/data/blob.bin").await == content,
        "the bytes differ"
    );

    let small = bytes(1000);
    let body = json!({"path": "/data/small.bin", "content_base64": STANDARD.encode(&small)});
    let posted = setting
        .api
        .post(&format!("{}/files", sandbox.path), body.to_string())
        .await;
    assert_eq!(posted.status, 200, "{posted:?}");
    assert_eq!(download(&sandbox, "/data/small.bin").await, small);
    sandbox.write("/data/empty", "").await;
    assert_eq!(download(&sandbox, "/data/empty").await, b"");
}

#[tokio::test]
async fn replacing_a_file_keeps_its_mode_and_its_links() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    sandbox
        .output("cd /tmp; echo old >f; chmod 750 f; ln -s f link; mkdir d; ln -s d dlink")
        .await;
    sandbox.write("/tmp/f", "new").await;
    assert_eq!(sandbox.output("cat /tmp/f; stat -c %a /tmp/f").await, "new750\n");
    sandbox.write("/tmp/link", "through").await;
    assert_eq!(sandbox.output("cat /tmp/f; readlink /tmp/link").await, "throughf\n");
    sandbox.write("/tmp/dlink/g", "inside").await;
    assert_eq!(sandbox.output("cat /tmp/d/g").await, "inside");
}

#[tokio::test]
async fn an_upload_that_breaks_off_changes_nothing() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    sandbox.write("/data/f", "old").await;
    let pieces = futures_util::stream::iter([Ok(vec![b'x'; MIB]), Err(std::io::Error::other("gone"))]);
    let path = format!("{}/files?path=/data/f", sandbox.path);
    let request = setting
        .api
        .request(Method::PUT, &path)
        .body(reqwest::Body::wrap_stream(pieces));
    assert!(request.send().await.is_err(), "the client itself gave up");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(sandbox.output("cat /data/f; ls -A /data").await, "oldf\n");
}

#[tokio::test]
async fn only_regular_files_are_read_or_written() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    sandbox
        .output("mkfifo /tmp/fifo; ln -s loop /tmp/loop; mkdir /tmp/d")
        .await;
    for path in [
        "/dev/zero",
        "/dev/urandom",
        "/tmp/fifo",
        "/tmp",
        "/tmp/loop",
        "/proc/1/cmdline",
        "/etc/passwd/x",
        "/",
    ] {
        let read = setting.api.get(&format!("{}/files?path={path}", sandbox.path)).await;
        assert!((400..500).contains(&read.status), "{path}: {read:?}");
    }
    for path in [
        "/tmp",
        "/tmp/d",
        "/tmp/d/",
        "/",
        "/etc/passwd/x",
        "/tmp/loop/x",
        "/proc/1/cmdline",
    ] {
        let written = put(&sandbox, &format!("path={path}"), "x").await;
        assert!((400..500).contains(&written.status), "{path}: {written:?}");
    }
    for path in ["/", "/dev", "/proc", "/tmp/d/nothing"] {
        let request = setting.api.request(
            Method::DELETE,
            &format!("{}/files?path={path}&recursive=true", sandbox.path),
        );
        let deleted = answer(request).await;
        assert!((400..500).contains(&deleted.status), "{path}: {deleted:?}");
    }
    let into_itself = json!({"old_path": "/tmp/d", "new_path": "/tmp/d/e/f"});
    let moved = setting
        .api
        .post(&format!("{}/files/move", sandbox.path), into_itself.to_string())
        .await;
    assert_eq!(moved.status, 400, "{moved:?}");
    assert_eq!(sandbox.output("ls /tmp; echo hi").await, "d\nfifo\nloop\nhi\n");
}

#[tokio::test]
async fn a_deep_tree_is_walked_and_deleted() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    let code = "import os\nfor i in range(5000):\n    os.mkdir('d'); os.chdir('d')\nopen('leaf', 'w').close()";
    sandbox.write("/tmp/deep.py", code).await;
    // Python's own notion of the working directory ends at PATH_MAX; the kernel's tree does not.
    let ran = sandbox.run("mkdir /tmp/t; cd /tmp/t; python3 /tmp/deep.py").await;
    assert!(ran.exit_code == 0 || ran.stderr.contains("OSError"), "{ran:?}");
    let found = setting
        .api
        .get(&format!("{}/files/glob?pattern=/tmp/t/**/d", sandbox.path))
        .await;
    assert!(found.status == 200 || found.status == 429, "{found:?}");
    let path = format!("{}/files?path=/tmp/t&recursive=true", sandbox.path);
    let deleted = answer(setting.api.request(Method::DELETE, &path)).await;
    assert_eq!(deleted.json(), json!({"status": "deleted"}), "{deleted:?}");
    assert_eq!(sandbox.output("ls /tmp").await, "deep.py\n");
}
