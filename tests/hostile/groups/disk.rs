//! Attacks on the disk and its inodes.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::attack::Expected::{Contained, Fails, Prints, Says, TimesOut};
use crate::attack::{Attack, Verdict, guest, python, python_3_13, shell, steps};
use crate::check;
use crate::scene::Scene;
use crate::server_support::api::answer;

pub fn attacks() -> Vec<Attack> {
    vec![
        guest("a disk filled in every way", "fill-disk", Contained).within(30),
        guest("chunks of one byte", "one-byte-chunks", Prints("refused")).within(60),
        guest("links to one file", "links", Prints("refused")).disk(8).within(60),
        guest("symbolic links of 4,095 bytes", "symlinks", Prints("refused")).within(60),
        guest("empty files", "many-files", Prints("refused")).disk(8).within(60),
        guest("offsets beyond everything", "sparse", Prints("done")).within(10),
        guest("allocations beyond everything", "allocate-huge", Prints("refused")).within(10),
        guest("1,500 directories in each other", "deep-directories", Prints("made")).within(20),
        guest("renames at the end of a deep tree", "rename-storm", TimesOut),
        guest("a file that grows and shrinks", "resize-storm", TimesOut),
        shell("zeros until the disk is full", "cat /dev/zero >/tmp/zeros", Says("No space left")).within(20),
        shell("a file in memory that is never closed", "yes | while read -r x; do echo $x; done >/tmp/f", TimesOut),
        shell("two writers of one file", "yes a >/tmp/f & yes b >/tmp/f; wait", Contained).within(5),
        shell("a copy of everything into itself", "cp -r / /tmp/all; cp -r /tmp /tmp/again", Contained).within(2),
        shell("an archive of itself", "tar -cf /tmp/x.tar /tmp", Contained).within(5),
        shell("removal of everything", "rm -rf / 2>/dev/null; rm -rf /*; echo $?", Contained).within(10),
        shell("a truncation to 8 EiB", "truncate -s 8E /tmp/f; truncate -s 9223372036854775807 /tmp/f", Fails).within(5),
        shell("dd with a seek beyond everything", "dd if=/dev/zero of=/tmp/f bs=1 count=1 seek=9223372036854775806", Fails)
            .within(5),
        python("a file of 1 TiB with one byte", "f = open('/tmp/f', 'wb'); f.seek(1 << 40); f.write(b'x'); f.flush()", Contained)
            .within(10),
        python_3_13("files removed while they are open", ORPHANS, Fails).within(20),
        steps("an upload larger than the disk", large_upload),
        steps("uploads until the disk is full", many_uploads),
        steps("a list of as many names as fit, four at once", long_lists),
        steps("a pattern over a tree of 12,000 levels, left by its client", deep_patterns).disk(256),
        steps("downloads that nobody reads while the file changes", stalled_downloads),
        steps("an archive that nobody reads while the tree changes", stalled_archive),
        steps("a deep tree removed", deep_removal).disk(64),
    ]
}

const ORPHANS: &str = "
import os
held = []
while True:
    f = os.open('/tmp/f', os.O_RDWR | os.O_CREAT)
    os.unlink('/tmp/f')
    os.write(f, b'x' * (1 << 20)) == 1 << 20 or exit(1)
    held.append(f)
";

async fn large_upload(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 8})).await;
    let path = format!("{}/files?path=/tmp/large", sandbox.path);
    let request = scene.a.request(Method::PUT, &path).body(vec![b'x'; 12 << 20]);
    let refused = match request.send().await {
        Ok(response) => response.status().as_u16(),
        // The server may close before it has read all.
        Err(_) => 0,
    };
    check!([0, 413, 429, 507].contains(&refused), "{refused}");
    let left = sandbox.run("ls /tmp").await;
    scene.a.delete(&sandbox.path).await;
    check!(!left.stdout.contains("large"), "half of it stayed: {left:?}");
    Ok(format!("{refused}"))
}

async fn many_uploads(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 8})).await;
    let body = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    let uploads = (0..24).map(|number| {
        let path = format!("{}/files?path=/tmp/{number}", sandbox.path);
        answer(scene.a.request(Method::PUT, &path).body(body.clone()))
    });
    let answers = futures_util::future::join_all(uploads).await;
    scene.a.delete(&sandbox.path).await;
    let kept = answers.iter().filter(|answer| answer.status == 200).count();
    for answer in &answers {
        check!(matches!(answer.status, 200 | 429 | 503 | 507), "{answer:?}");
    }
    check!(kept <= 8, "{kept} MiB are in a disk of 8");
    Ok(format!("{kept} kept"))
}

async fn long_lists(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "hostile", "memory_mb": 64, "disk_mb": 16})).await;
    let links = json!({"command": "/usr/bin/hostile", "args": ["links"], "mode": "argv", "timeout": "80s"});
    let made = sandbox.exec(links).await;
    check!(made.status == 200, "{made:?}");
    let path = format!("{}/files/list?path=/tmp", sandbox.path);
    let lists = (0..4).map(|_| scene.a.get(&path));
    let mut bytes = 0;
    for answer in futures_util::future::join_all(lists).await {
        check!(matches!(answer.status, 200 | 413 | 429 | 503), "{} {:.200}", answer.status, answer.body);
        bytes += answer.body.len();
    }
    scene.a.delete(&sandbox.path).await;
    Ok(format!("{bytes} bytes"))
}

async fn deep_patterns(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "hostile", "memory_mb": 64, "disk_mb": 256})).await;
    let deep = json!({"command": "/usr/bin/hostile", "args": ["deep-tree", "12000"], "mode": "argv", "timeout": "60s"});
    let made = sandbox.exec(deep).await;
    check!(made.status == 200 && made.ran().exit_code == 0, "the tree was not made: {made:?}");
    for pattern in ["/**/x", "/**/*/**/*/**/x"] {
        let path = format!("{}/files/glob?pattern={pattern}", sandbox.path);
        let left = tokio::time::timeout(Duration::from_millis(500), scene.a.get(&path)).await;
        if let Ok(answer) = left {
            check!(matches!(answer.status, 200 | 400 | 408 | 413 | 429), "{answer:?}");
        }
    }
    scene.a.delete(&sandbox.path).await;
    Ok("left".to_owned())
}

/// Each holds a version of the file.
async fn stalled_downloads(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
    let mut held = Vec::new();
    for _ in 0..6 {
        let ran = sandbox.run("head -c 5000000 /dev/urandom >/tmp/f").await;
        check!(ran.exit_code == 0 || ran.stderr.contains("No space"), "{ran:?}");
        let request = scene.a.request(Method::GET, &format!("{}/files?path=/tmp/f", sandbox.path));
        // The body is not read.
        held.push(request.send().await.map_err(|error| error.to_string())?);
    }
    scene.a.delete(&sandbox.path).await;
    drop(held);
    Ok("held".to_owned())
}

async fn stalled_archive(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
    sandbox.run("mkdir /tmp/d; for i in 1 2 3 4; do head -c 1000000 /dev/urandom >/tmp/d/$i; done").await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let request = scene.a.request(Method::GET, &format!("{}/files/archive?path=/tmp/d", sandbox.path));
        held.push(request.send().await.map_err(|error| error.to_string())?);
        sandbox.run("head -c 1000000 /dev/urandom >/tmp/d/1").await;
    }
    scene.a.delete(&sandbox.path).await;
    drop(held);
    Ok("held".to_owned())
}

async fn deep_removal(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "hostile", "memory_mb": 64, "disk_mb": 64})).await;
    let deep = json!({"command": "/usr/bin/hostile", "args": ["deep-directories"], "mode": "argv", "timeout": "30s"});
    check!(sandbox.exec(deep).await.status == 200, "the tree was not made");
    let path = format!("{}/files?path=/tmp/d&recursive=true", sandbox.path);
    let removed = scene.a.delete(&path).await;
    scene.a.delete(&sandbox.path).await;
    check!(removed.status == 200, "{removed:?}");
    Ok("removed".to_owned())
}
