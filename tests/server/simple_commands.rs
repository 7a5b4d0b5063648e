//! Commands that the server starts without a shell do what they do in a shell.

use serde_json::json;

use crate::images::PYTHON;
use crate::setting::Setting;

/// Each is one simple command, or looks like one.
const COMMANDS: [&str; 22] = [
    "python3 -c \"import os, sys; print(sorted(os.environ.items()), sys.argv, os.getppid(), os.getcwd())\"",
    "cat /proc/self/cmdline",
    "sh -c 'tr \"\\\\0\" \"\\\\n\" </proc/self/environ | sort'",
    "cat",
    "sort -r",
    "env -i /usr/bin/env A=b /usr/bin/env",
    "readlink /proc/self/exe",
    "python3 -c 'import sys; sys.exit(7)'",
    "python3 -c 'import os; os.abort()'",
    "timeout -s KILL 0.1 sleep 5",
    "ls /nowhere",
    "nowhere",
    "/nowhere",
    "./nowhere a b",
    "/etc/passwd",
    "/tmp",
    "/tmp/script a 'b c'",
    "/tmp/plain a 'b c'",
    "/tmp/not-executable",
    "sh -c 'echo $0 $SHLVL' name",
    "basename -- '/a b/c d'",
    "  uname\t-s  ",
];

#[tokio::test]
async fn a_simple_command_does_the_same_without_a_shell() {
    let setting = Setting::shared().await;
    let sandbox = setting.api.create(json!({"image": PYTHON})).await;
    sandbox.write("/tmp/script", "#!/bin/sh\necho script $0 $#\n").await;
    sandbox.write("/tmp/plain", "echo plain $0 $#\n").await;
    sandbox.write("/tmp/not-executable", "echo\n").await;
    sandbox.output("chmod +x /tmp/script /tmp/plain").await;
    for command in COMMANDS {
        for env in [
            json!({}),
            json!({"A": "b c", "SHLVL": "4"}),
            json!({"BASH_FUNC_cat%%": "() { echo function; }"}),
        ] {
            let run = async |command: &str| {
                let request = json!({"command": command, "stdin": "b\na\n", "env": env, "workdir": "/tmp"});
                let ran = sandbox.run_with(request).await;
                (ran.exit_code, ran.stdout, ran.stderr)
            };
            // The second one is not simple: its program is started by the shell.
            let (without, with) = (run(command).await, run(&format!(":; {command}")).await);
            assert_eq!(without, with, "{command:?} with {env}");
        }
    }
}

#[tokio::test]
async fn a_sandbox_that_has_another_shell_uses_it() {
    let setting = Setting::shared().await;
    let sandbox = setting.api.create(json!({"image": PYTHON})).await;
    assert_eq!(sandbox.output("uname -s").await, "Linux\n");
    sandbox.write("/usr/bin/sh", "#!/usr/bin/echo\n").await;
    assert_eq!(sandbox.output("uname -s").await, "/bin/sh -c uname -s\n");
}
