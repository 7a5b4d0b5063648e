//! Attacks by processes and their number.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::attack::Expected::{Contained, Fails, Killed, Prints, TimesOut};
use crate::attack::{Attack, Verdict, guest, python_3_13, shell, steps};
use crate::check;
use crate::scene::Scene;

pub fn attacks() -> Vec<Attack> {
    vec![
        guest("a fork bomb", "fork-bomb", TimesOut).memory(128),
        guest("a fork bomb on two virtual CPUs", "fork-bomb", TimesOut).memory(128).vcpus(2),
        guest("a bomb of process groups", "spawn-bomb", TimesOut).memory(128),
        guest("a bomb of process groups on two virtual CPUs", "spawn-bomb", TimesOut).memory(128).vcpus(2),
        guest("63 spinners", "spinners", TimesOut).memory(128),
        guest("63 spinners on two virtual CPUs", "spinners", TimesOut).memory(128).vcpus(2),
        guest("63 sleepers", "sleepers", TimesOut).memory(128),
        guest("a tree of sleepers", "sleeping-tree", TimesOut).memory(128),
        guest("one process too many", "processes", Contained).memory(128).within(5),
        guest("4,500 zombies", "zombies", Contained).memory(128).within(60),
        guest("a signal to every number", "pid-sweep", Prints("swept")).within(20),
        guest("arguments of megabytes", "many-arguments", Contained).memory(256).within(30),
        guest("requests that lie", "lying-requests", Contained).memory(128).within(60),
        guest("wait in a loop", "wait-storm", TimesOut),
        shell("a fork bomb of the shell", "f() { f | f & }; f; wait; sleep 9", Contained).within(1),
        shell("a fork bomb of the shell on two virtual CPUs", "f() { f | f & }; f; wait; sleep 9", Contained)
            .vcpus(2)
            .within(1),
        shell("kill -9 -1", "sleep 5 & kill -9 -1; echo alive", Contained).within(3),
        shell("kill of the first process", "kill -9 1; echo $?", Contained).within(3),
        shell("65,000 arguments", "/bin/echo $(seq 1 65000) | wc -w", Contained).within(20),
        shell("a pipeline of 200 commands", "eval \"true$(printf '%0200d' 0 | sed 's/0/ | cat/g')\"", Contained).within(5),
        shell("commands without end", "while :; do cat /dev/null; done", TimesOut),
        shell("an exec that fails again and again", "while :; do (exec /no/such/program) 2>/dev/null; done", TimesOut),
        python_3_13(
            "subprocesses without end",
            "import subprocess\nwhile True: subprocess.run(['true'])",
            TimesOut,
        )
        .within(2),
        python_3_13(
            "subprocesses that nobody waits for",
            "import subprocess\nx = []\nwhile True: x.append(subprocess.Popen(['sleep', '9']))",
            Fails,
        )
        .within(10),
        shell("a shell that kills itself", "kill -9 $$", Killed).within(3),
        steps("more commands than a sandbox may run", many_commands),
        steps("processes that outlive their group and timeout", outliving),
        steps("a sandbox destroyed while it forks", destroyed_while_forking),
    ]
}

async fn many_commands(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 256, "disk_mb": 16})).await;
    let exec = json!({"command": "sleep", "args": ["0.5"], "mode": "argv", "timeout": "20s"}).to_string();
    let path = format!("{}/exec", sandbox.path);
    let all = (0..90).map(|_| scene.a.post(&path, exec.clone()));
    let answers = futures_util::future::join_all(all).await;
    scene.a.delete(&sandbox.path).await;
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    for answer in &answers {
        check!(matches!(answer.status, 200 | 429), "{answer:?}");
    }
    check!(refused > 0, "all 90 ran");
    Ok(format!("{refused} of 90 refused"))
}

async fn outliving(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
    let tree = "for i in 1 2 3 4; do (sleep 100 | cat) & done; sh -c 'sleep 100 & while :; do :; done' & wait";
    let answer = sandbox.exec(json!({"command": tree, "timeout": "300ms"})).await;
    check!(answer.status == 408, "{answer:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let names = sandbox.process_names().await;
    scene.a.delete(&sandbox.path).await;
    check!(!names.contains("sleep"), "left: {names}");
    Ok("none left".to_owned())
}

async fn destroyed_while_forking(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene
        .sandbox(json!({"image": "hostile", "memory_mb": 128, "disk_mb": 16, "vcpus": 2}))
        .await;
    let bomb = json!({"command": "/usr/bin/hostile", "args": ["fork-bomb"], "mode": "argv", "timeout": "20s"});
    let (exec, gone) = tokio::join!(sandbox.exec(bomb), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        scene.a.delete(&sandbox.path).await
    });
    check!(gone.status == 200, "{gone:?}");
    check!(exec.elapsed < Duration::from_secs(5), "the exec was answered after {:?}", exec.elapsed);
    Ok(format!("the exec got {}", exec.status))
}
