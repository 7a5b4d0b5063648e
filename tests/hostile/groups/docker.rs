//! Attacks from a container. They need a Docker Engine with the images of `scripts/docker-images`, and are passed over
//! where there is none; in CI there is one.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::json;

use crate::attack::{Attack, Verdict, steps};
use crate::check;
use crate::scene::Scene;
use crate::server_support::engine;

macro_rules! commands {
    ($($name:literal: $command:expr, $fails:literal),* $(,)?) => {
        vec![$({
            fn all(scene: Arc<Scene>) -> impl Future<Output = Verdict> + Send {
                run(scene, $command, $fails)
            }
            steps($name, all)
        }),*]
    };
}

pub fn attacks() -> Vec<Attack> {
    // A command that must not succeed, or whose output must not have the word.
    commands![
        "a name space of its own": "unshare -r true && echo DONE", "DONE",
        "a mount": "mount -t tmpfs none /mnt && echo DONE", "DONE",
        "writes to /proc": "echo x >/proc/sys/kernel/core_pattern && echo DONE", "DONE",
        "the root of the first process": "cat /proc/1/root/etc/shadow && echo DONE", "DONE",
        "the socket of the engine": "ls /var/run/docker.sock && echo DONE", "DONE",
        "a device": "mknod /tmp/d b 8 0 && echo DONE", "DONE",
        "the network": "ls /sys/class/net | grep -v '^lo$' && echo DONE", "DONE",
        "a fork bomb": "b() { b | b & }; b; exec sleep 100", "DONE",
        "signals ignored": "trap '' TERM INT; while :; do :; done", "DONE",
        "memory": "x=x; while :; do x=$x$x; done", "DONE",
    ]
}

async fn run(scene: Arc<Scene>, command: &str, word: &str) -> Verdict {
    // Asked once: the engine's command line takes seconds where none answers.
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    let there = tokio::task::spawn_blocking(|| *AVAILABLE.get_or_init(engine::available)).await;
    if !there.unwrap_or(false) {
        return Ok("no engine: not tried".to_owned());
    }
    let body = json!({"image": "alpine:latest", "provider": "docker", "memory_mb": 64, "disk_mb": 64});
    let sandbox = scene.sandbox(body).await;
    let answer = sandbox.exec(json!({"command": command, "timeout": "2s"})).await;
    let alive = sandbox.exec(json!({"command": "echo alive", "timeout": "20s"})).await;
    scene.a.delete(&sandbox.path).await;
    check!(matches!(answer.status, 200 | 408), "{answer:?}");
    check!(!answer.ran().stdout.contains(word), "{answer:?}");
    check!(answer.elapsed < Duration::from_secs(10), "answered after {:?}", answer.elapsed);
    check!(alive.status == 200 && alive.ran().stdout == "alive\n", "{alive:?}");
    Ok(format!("{}", answer.status))
}
