//! Attacks on processor time: what should end at its deadline, and must not keep others from theirs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use wasm_encoder::{BlockType, Instruction};

use crate::attack::Expected::{Contained, Fails, TimesOut};
use crate::attack::{Attack, How, Verdict, attack, guest, python, python_3_13, shell, steps};
use crate::bounds::Bounds;
use crate::check;
use crate::modules::{Parts, body};
use crate::scene::Scene;

pub fn attacks() -> Vec<Attack> {
    vec![
        guest("a busy loop", "spin", TimesOut),
        guest("a busy loop, eight sandboxes", "spin", TimesOut).times(8),
        guest("sleep", "sleep", TimesOut),
        guest("a read nobody answers", "read", TimesOut),
        guest("sched_yield in a loop", "yield-loop", TimesOut),
        guest("empty writes", "empty-writes", TimesOut),
        guest("writes of one byte", "byte-writes", TimesOut),
        guest("10 MiB of random bytes again and again", "random-loop", TimesOut),
        guest("getpid and kill in a loop", "kill-loop", TimesOut),
        guest("/proc read in a loop", "proc-spam", TimesOut),
        guest("39 links of 3,800 bytes", "symlink-chain", TimesOut),
        guest("a program that replaces itself for ever", "exec-self", TimesOut),
        guest("a flood of output", "flood", TimesOut),
        attack("a start function that loops", How::Program(looping_start), TimesOut).more(512),
        guest("spawn: long PATH times long directory", "path-bomb 700000", TimesOut),
        guest("spawn: long PATH times long directory, two sandboxes", "path-bomb 700000", TimesOut).times(2),
        guest("exec: long PATH times long directory", "exec-path-bomb 700000", TimesOut),
        steps("PATH of 60,000 entries over the API", long_path),
        steps("PATH through a chain of links over the API", linked_path),
        guest("1,024 polls of a file of 120,000 chunks, two sandboxes", "poll-stat 120000", TimesOut)
            .disk(1024)
            .times(2)
            .within(9),
        guest("fstat of a file of 40,000 chunks", "fstat-loop 40000", TimesOut).disk(256).within(2),
        python_3_13("select.poll of 240 copies of a file of 20,000 chunks", POLLED_COPIES, Contained)
            .disk(256)
            .within(5),
        guest("fd_allocate of 900 MiB", "allocate 900", TimesOut).disk(1024).within(2),
        python("posix_fallocate of 1,000 MiB", FALLOCATE, Contained).disk(1024).within(2),
        steps("statistics while a file of 900 MiB is allocated", stats_while_allocating)
            .disk(1024),
        guest("fork of 230 MiB", "fork-big 230", TimesOut).memory(512).within(2),
        guest("fork of 80 MiB, two sandboxes", "fork-big 80", TimesOut).memory(512).times(2).within(1),
        python("a loop", "while True: pass", TimesOut).within(1),
        python("a sum that never ends", "sum(range(10 ** 12))", TimesOut).within(1),
        python("a pattern that tries everything", "import re; re.match('(a+)+$', 'a' * 40 + 'b')", TimesOut).within(1),
        python("a number of 400,000 digits", "str(7 ** 400000) * 3; int('9' * 4000) ** 3000", Contained).within(1),
        python_3_13("a sleep that is interrupted by nothing", "import time; time.sleep(100)", TimesOut).within(1),
        python_3_13("sorted by a key that never ends", "sorted([1, 2], key=lambda x: [0 for _ in iter(int, 1)])", TimesOut)
            .within(1),
        python("a parser's recursion", "eval('(' * 100000)", Fails).within(20),
        shell("a loop of the shell", "while :; do :; done", TimesOut),
        shell("yes into nothing", "yes >/dev/null", TimesOut),
        shell("random bytes without end", "cat /dev/urandom >/dev/null", TimesOut),
        shell("shells in shells", "sh -c 'sh -c \"sh -c \\\"while :; do :; done\\\"\"'", TimesOut),
        shell("signals ignored", "trap '' TERM INT HUP QUIT; while :; do :; done", TimesOut),
        shell("recursion of a function", "f() { f; }; f", Contained).within(10),
        shell("awk in a loop", "awk 'BEGIN { while (1) x++ }'", TimesOut),
        shell("sed in a loop", "echo a | sed ':x; bx'", TimesOut),
        shell("a hundred thousand brackets", "eval \"$(printf '%0100000d' 0 | tr 0 '(')\"", Contained).within(3),
        shell("arithmetic without end", "i=0; while [ $((i += 1)) -gt 0 ]; do :; done", TimesOut),
        steps("work that goes on after its exec", background_work),
    ]
}

/// From a stock image: `select.poll` asks for the state of each descriptor.
const POLLED_COPIES: &str = "
import os, select
f = os.open('/tmp/f', os.O_RDWR | os.O_CREAT)
for i in range(20000): os.pwrite(f, b'x', i << 16)
p = select.poll()
for i in range(240):
    try: p.register(os.dup(f), select.POLLIN)
    except OSError: break
while True: p.poll(0)
";

const FALLOCATE: &str = "
import os
f = os.open('/tmp/f', os.O_RDWR | os.O_CREAT)
while True:
    os.posix_fallocate(f, 0, 1000 << 20)
    os.ftruncate(f, 0)
";

fn looping_start() -> Vec<u8> {
    let forever = [
        Instruction::Loop(BlockType::Empty),
        Instruction::Br(0),
        Instruction::End,
    ];
    Parts {
        functions: vec![body(&forever)],
        ..Parts::default()
    }
    .encode()
}

/// Two commands at once that are looked for in many directories. Each must be answered: found nowhere, refused, or
/// timed out in time.
async fn search(scene: &Scene, path: &str, exec: &Value) -> Verdict {
    let began = std::time::Instant::now();
    let exec_path = format!("{path}/exec");
    let both = (0..2).map(|_| scene.a.post(&exec_path, exec.to_string()));
    for answer in futures_util::future::join_all(both).await {
        check!(
            matches!(answer.status, 200 | 400 | 408 | 429),
            "{} {:.200}",
            answer.status,
            answer.body
        );
    }
    let took = began.elapsed();
    check!(took < Duration::from_secs(3), "a timeout of 1 s was answered after {took:.1?}");
    Ok(format!("answered after {took:.1?}"))
}

async fn long_path(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
    let exec = json!({
        "command": "x",
        "mode": "argv",
        "timeout": "1s",
        "workdir": format!("/{}", "./".repeat(2000)),
        "env": {"PATH": ":".repeat(60_000)},
    });
    let verdict = search(&scene, &sandbox.path, &exec).await;
    scene.a.delete(&sandbox.path).await;
    verdict
}

async fn linked_path(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
    let chain = "cd /tmp; mkdir d; ln -s d l39; p=$(printf '%01900d' 0 | sed 's,0,./,g'); i=39; \
                 while [ $i -gt 0 ]; do ln -s ${p}l$i l$((i - 1)); i=$((i - 1)); done";
    let made = sandbox.run_with(json!({"command": chain, "timeout": "20s"})).await;
    check!(made.exit_code == 0, "{made:?}");
    let exec = json!({
        "command": "x",
        "timeout": "1s",
        "env": {"PATH": "/tmp/l0:".repeat(3000)},
    });
    let verdict = search(&scene, &sandbox.path, &exec).await;
    scene.a.delete(&sandbox.path).await;
    verdict
}

/// Requests that look at a file system whose guest keeps it busy.
async fn stats_while_allocating(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene
        .sandbox(json!({"image": "hostile", "memory_mb": 64, "disk_mb": 1024}))
        .await;
    let allocate = json!({"command": "/usr/bin/hostile", "args": ["allocate", "900"], "mode": "argv", "timeout": "2s"});
    let stats = format!("{}/stats", sandbox.path);
    let (exec, ()) = tokio::join!(sandbox.exec(allocate), async {
        for _ in 0..4 {
            let looks = (0..4).map(|_| scene.a.get(&stats));
            futures_util::future::join_all(looks).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    scene.a.delete(&sandbox.path).await;
    check!(exec.status == 408, "{} {:.200}", exec.status, exec.body);
    let late = exec.elapsed.saturating_sub(Duration::from_secs(2));
    check!(late <= Bounds::get().overshoot, "answered {late:.1?} late");
    Ok("timeout".to_owned())
}

/// A process in the background may live on, but a sandbox must not use the processor without bound: here it is
/// destroyed, and its work must end.
async fn background_work(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
    let ran = sandbox
        .run_with(json!({"command": "for i in 1 2 3 4; do (while :; do :; done) & done", "timeout": "5s"}))
        .await;
    check!(ran.exit_code == 0, "{ran:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let gone = scene.a.delete(&sandbox.path).await;
    check!(gone.status == 200, "{gone:?}");
    Ok("destroyed".to_owned())
}
