//! Commands that are answered when they have ended.

use std::time::Duration;

use serde_json::json;

use crate::api::Ran;
use crate::target::{PYTHON_IMAGE, Target};

crate::cases![
    a_command_runs_in_a_shell,
    python_runs,
    standard_error_is_apart,
    the_exit_status_is_the_commands,
    a_program_that_is_not_there_is_127,
    a_file_that_is_no_program_is_126,
    args_are_quoted_in_shell_mode,
    args_are_literal_in_argv_mode,
    the_environment_of_sandbox_and_command_add_up,
    a_command_starts_in_its_working_directory,
    a_working_directory_that_is_not_there_is_a_bad_request,
    standard_input_is_passed_on,
    without_input_a_reader_meets_the_end,
    text_that_is_not_ascii_passes_both_ways,
    bytes_that_are_no_text_are_replaced,
    much_output_arrives_whole,
    output_beyond_the_cap_is_cut_and_told,
    a_timeout_is_told_with_what_was_written,
    a_timeout_leaves_no_process,
    a_signal_is_128_and_its_number,
    files_stay_between_commands,
    a_command_in_the_background_does_not_delay_the_answer,
    malformed_commands_are_bad_requests,
];

fn ran(exit_code: i64, stdout: &str, stderr: &str) -> Ran {
    Ran {
        exit_code,
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
    }
}

async fn a_command_runs_in_a_shell(target: &Target) {
    let sandbox = target.sandbox().await;
    let answer = sandbox
        .exec(json!({"command": "x=3; for i in 1 2 $x; do echo \"line $i\"; done | tail -n 2", "timeout": "10s"}))
        .await;
    assert_eq!(answer.ran(), ran(0, "line 2\nline 3\n", ""));
    let duration = answer.text("duration");
    assert!(
        duration.ends_with('s') && duration.starts_with(|c: char| c.is_ascii_digit()),
        "{duration}"
    );
    assert!(answer.json().get("truncated").is_none(), "{answer:?}");
}

async fn python_runs(target: &Target) {
    let sandbox = target.create(json!({"image": PYTHON_IMAGE, "memory_mb": 512})).await;
    assert_eq!(sandbox.output("python3 -c \"print(40 + 2)\"").await, "42\n");
    let answer = sandbox
        .run_with(json!({"mode": "argv", "command": "python3", "args": ["-c", "import sys; print(sys.argv[1:])", "a b", "$HOME"]}))
        .await;
    assert_eq!(answer, ran(0, "['a b', '$HOME']\n", ""));
    let failing = sandbox.run("python3 -c 'raise ValueError(1)'").await;
    assert_eq!(failing.exit_code, 1);
    assert!(failing.stderr.contains("ValueError: 1"), "{failing:?}");
}

async fn standard_error_is_apart(target: &Target) {
    let sandbox = target.sandbox().await;
    assert_eq!(sandbox.run("echo out; echo err >&2").await, ran(0, "out\n", "err\n"));
}

async fn the_exit_status_is_the_commands(target: &Target) {
    let sandbox = target.sandbox().await;
    for status in [1, 2, 42, 255] {
        assert_eq!(sandbox.run(&format!("exit {status}")).await, ran(status, "", ""));
    }
    assert_eq!(sandbox.run("false").await.exit_code, 1);
    assert_eq!(sandbox.run("true | false").await.exit_code, 1);
}

async fn a_program_that_is_not_there_is_127(target: &Target) {
    let sandbox = target.sandbox().await;
    for request in [
        json!({"command": "no-such-program --flag"}),
        json!({"command": "no-such-program", "args": ["--flag"], "mode": "argv"}),
        json!({"command": "/no/such/program", "mode": "argv"}),
    ] {
        let ran = sandbox.run_with(request).await;
        assert_eq!((ran.exit_code, ran.stdout.as_str()), (127, ""), "{ran:?}");
        assert!(ran.stderr.contains("no"), "{ran:?}");
    }
}

async fn a_file_that_is_no_program_is_126(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox.write("/tmp/data", "no program").await;
    for request in [
        json!({"command": "/tmp/data"}),
        json!({"command": "/tmp/data", "mode": "argv"}),
    ] {
        let ran = sandbox.run_with(request).await;
        assert_eq!(ran.exit_code, 126, "{ran:?}");
        assert!(!ran.stderr.is_empty(), "{ran:?}");
    }
}

async fn args_are_quoted_in_shell_mode(target: &Target) {
    let sandbox = target.sandbox().await;
    let args = ["a b", "it's", "$HOME", "*", "", "\"q\"", "back\\slash"];
    let ran = sandbox
        .run_with(json!({"command": "printf '<%s>'", "args": args}))
        .await;
    assert_eq!(ran.stdout, "<a b><it's><$HOME><*><><\"q\"><back\\slash>", "{ran:?}");
}

async fn args_are_literal_in_argv_mode(target: &Target) {
    let sandbox = target.sandbox().await;
    let args = ["<%s>", "a b", "it's", "$HOME", "*", "", "; exit 3", "-n"];
    let ran = sandbox
        .run_with(json!({"command": "printf", "args": args, "mode": "argv"}))
        .await;
    assert_eq!(ran.stdout, "<a b><it's><$HOME><*><><; exit 3><-n>", "{ran:?}");
}

async fn the_environment_of_sandbox_and_command_add_up(target: &Target) {
    let sandbox = target.create(json!({"env": {"A": "sandbox", "B": "sandbox"}})).await;
    let ran = sandbox
        .run_with(json!({"command": "echo $A $B \"$C\"", "env": {"B": "exec", "C": "x  y=z"}}))
        .await;
    assert_eq!(ran.stdout, "sandbox exec x  y=z\n");
    assert_eq!(sandbox.output("echo $A $B $C").await, "sandbox sandbox\n");
}

async fn a_command_starts_in_its_working_directory(target: &Target) {
    let sandbox = target.sandbox().await;
    let request = json!({"command": "pwd", "workdir": "/tmp"});
    assert_eq!(sandbox.run_with(request).await.stdout, "/tmp\n");
    let request = json!({"command": "pwd", "mode": "argv", "workdir": "/usr/bin"});
    assert_eq!(sandbox.run_with(request).await.stdout, "/usr/bin\n");
}

async fn a_working_directory_that_is_not_there_is_a_bad_request(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox
        .exec(json!({"command": "pwd", "workdir": "/no/such"}))
        .await
        .assert_error(400, "bad_request");
    sandbox
        .exec(json!({"command": "pwd", "workdir": "relative"}))
        .await
        .assert_error(400, "bad_request");
}

async fn standard_input_is_passed_on(target: &Target) {
    let sandbox = target.sandbox().await;
    let text = "one\ntwo\nthree";
    let ran = sandbox.run_with(json!({"command": "cat", "stdin": text})).await;
    assert_eq!(ran.stdout, text);
    let long = "0123456789abcde\n".repeat(64 << 10);
    let ran = sandbox
        .run_with(json!({"command": "wc -c", "mode": "shell", "stdin": long}))
        .await;
    assert_eq!(ran.stdout.trim(), long.len().to_string());
    let unread = sandbox.run_with(json!({"command": "echo done", "stdin": long})).await;
    assert_eq!(unread.stdout, "done\n");
}

async fn without_input_a_reader_meets_the_end(target: &Target) {
    let sandbox = target.sandbox().await;
    let ran = sandbox
        .run_with(json!({"command": "cat; echo end", "timeout": "20s"}))
        .await;
    assert_eq!(ran.stdout, "end\n");
}

async fn text_that_is_not_ascii_passes_both_ways(target: &Target) {
    let sandbox = target.sandbox().await;
    let text = "grüße, 世界 🦀";
    let ran = sandbox
        .run_with(json!({"command": format!("echo '{text}'; echo \"$X\"; cat"), "env": {"X": text}, "stdin": text}))
        .await;
    assert_eq!(ran.stdout, format!("{text}\n{text}\n{text}"));
}

async fn bytes_that_are_no_text_are_replaced(target: &Target) {
    let sandbox = target.sandbox().await;
    assert_eq!(sandbox.output(r"printf 'a\377b\0c'").await, "a\u{fffd}b\0c");
}

async fn much_output_arrives_whole(target: &Target) {
    let sandbox = target.sandbox().await;
    let ran = sandbox.run("seq 1 300000").await;
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(ran.exit_code, 0);
    assert!(
        ran.stdout == expected,
        "{} bytes instead of {}",
        ran.stdout.len(),
        expected.len()
    );
}

async fn output_beyond_the_cap_is_cut_and_told(target: &Target) {
    let sandbox = target.sandbox().await;
    let answer = sandbox
        .exec(json!({"command": "yes 0123456789 | head -c 12000000; echo end >&2"}))
        .await;
    let ran = answer.ran();
    assert_eq!((ran.exit_code, ran.stderr.as_str()), (0, "end\n"));
    assert_eq!(ran.stdout.len(), 8 << 20);
    assert_eq!(answer.json()["truncated"], json!(true));
}

async fn a_timeout_is_told_with_what_was_written(target: &Target) {
    let sandbox = target.sandbox().await;
    let answer = sandbox
        .exec(json!({"command": "echo out; echo err >&2; sleep 60", "timeout": "1500ms"}))
        .await;
    answer.assert_error(408, "timeout");
    assert_eq!(answer.ran(), ran(124, "out\n", "err\n"));
    assert!(!answer.text("duration").is_empty());
    assert!(answer.elapsed < Duration::from_secs(10), "{answer:?}");
    assert_eq!(sandbox.output("echo alive").await, "alive\n");
}

async fn a_timeout_leaves_no_process(target: &Target) {
    let sandbox = target.sandbox().await;
    let command = "sleep 61 & (sleep 62 & sleep 63) & sleep 64 | cat";
    sandbox
        .exec(json!({"command": command, "timeout": "1500ms"}))
        .await
        .assert_error(408, "timeout");
    sandbox.assert_ends("sleep").await;
}

async fn a_signal_is_128_and_its_number(target: &Target) {
    let sandbox = target.sandbox().await;
    assert_eq!(sandbox.run("kill -9 $$").await.exit_code, 137);
    assert_eq!(sandbox.run("kill -TERM $$").await.exit_code, 143);
    assert_eq!(sandbox.run("sh -c 'kill -9 $$'; echo $?").await.stdout, "137\n");
}

async fn files_stay_between_commands(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox
        .output("mkdir -p /work/deep && echo kept > /work/deep/file && cd /work && export X=1")
        .await;
    assert_eq!(sandbox.output("cat /work/deep/file; echo \"[$X]\"").await, "kept\n[]\n");
}

async fn a_command_in_the_background_does_not_delay_the_answer(target: &Target) {
    let sandbox = target.sandbox().await;
    let answer = sandbox
        .exec(json!({"command": "sleep 60 & echo started", "timeout": "30s"}))
        .await;
    assert_eq!(answer.ran().stdout, "started\n");
    assert!(answer.elapsed < Duration::from_secs(10), "{answer:?}");
}

async fn malformed_commands_are_bad_requests(target: &Target) {
    let sandbox = target.sandbox().await;
    for request in [
        json!({}),
        json!({"command": ""}),
        json!({"command": "a\u{0}b"}),
        json!({"command": 5}),
        json!({"command": "true", "mode": "other"}),
        json!({"command": "true", "timeout": "banana"}),
        json!({"command": "true", "timeout": "-1s"}),
        json!({"command": "true", "timeout": "0s"}),
        json!({"command": "true", "args": "no list"}),
        json!({"command": "true", "env": {"A=B": "x"}}),
        json!({"command": "true", "env": {"A": "x\u{0}"}}),
        json!({"command": "true", "mode": "argv", "args": ["a\u{0}"]}),
    ] {
        let answer = sandbox.exec(request.clone()).await;
        assert_eq!(
            (answer.status, answer.text("code").as_str()),
            (400, "bad_request"),
            "{request}: {answer:?}"
        );
    }
}
