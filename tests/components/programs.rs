//! What a component can do, as any program.

use serde_json::json;

use crate::{Scene, ran, tool, tool_with};

#[tokio::test]
async fn it_gets_its_arguments_environment_directory_and_the_time() {
    let scene = Scene::set(&[]);
    let sandbox = scene.sandbox(json!({"env": {"GREETING": "hello"}})).await;
    let answer = tool_with(&sandbox, &["tell", "a b", "é"], json!({"workdir": "/tmp"})).await;
    assert_eq!(
        answer.ran(),
        ran(0, "tool|tell|a b|é\nhello\n/tmp\ntrue\n", ""),
        "{answer:?}"
    );
    let sandbox_output = sandbox.output("cd /usr && tool tell 2>&1 | sed -n 3p").await;
    assert_eq!(sandbox_output, "/usr\n");
}

#[tokio::test]
async fn a_file_round_trip_works_and_others_see_the_files() {
    let scene = Scene::set(&[]);
    let sandbox = scene.sandbox(json!({})).await;
    let expected = "read world\nsize 13\nnames b c\nkept hello, world\nabsent: Err(Some(44))\n\
                    not empty: Err(Some(55))\nexists: Err(Some(20))\ndirectory: Err(Some(31))\n";
    assert_eq!(tool(&sandbox, &["round-trip", "/tmp"]).await, ran(0, expected, ""));
    assert_eq!(
        sandbox.output("cat /tmp/d/b; stat -c %a /tmp/d /tmp/d/b").await,
        "hello, world\n755\n644\n"
    );
    sandbox.write("/tmp/theirs", "from outside").await;
    let cat = "cat /tmp/theirs | tool cat | tr a-z A-Z; tool cat < /tmp/theirs > /tmp/copy; cat /tmp/copy";
    assert_eq!(sandbox.output(cat).await, "FROM OUTSIDEfrom outside");
}

#[tokio::test]
async fn it_is_a_process_like_any_other() {
    let scene = Scene::set(&[]);
    let sandbox = scene.sandbox(json!({})).await;
    for (command, expected) in [
        ("tool exit 7; echo $?", "7\n"),
        ("tool nothing && echo done", "done\n"),
        ("tool sleep 60 & kill $!; wait $!; echo $?", "143\n"),
        (
            "tool sleep 60 & cat /proc/$!/comm /proc/$!/cmdline | tr '\\0' '|'; kill -9 $!",
            "tool\ntool|sleep|60|",
        ),
        ("tool spin & sleep 0.1; kill -9 $!; wait $!; echo $?", "137\n"),
        ("(tool sleep 0.2; echo late) & echo early; wait", "early\ntrue\nlate\n"),
        ("exec tool exit 3", ""),
        // Nobody reads any more: SIGPIPE ends it.
        (
            "tool flood | head -c 3; echo; (tool flood; echo $? >&2) 2>/tmp/status | head -c 1; cat /tmp/status",
            "xxx\nx141\n",
        ),
        ("tool cat < /dev/null; echo $?", "0\n"),
        (
            "mkfifo /tmp/p; tool cat < /tmp/p & echo through > /tmp/p; wait",
            "through\n",
        ),
        (
            "find /tmp -name none; echo /usr/bin/tool | xargs -n1 sh -c '$0 exit 2'; echo $?",
            "123\n",
        ),
    ] {
        let ran = sandbox.run(command).await;
        assert_eq!(ran.stdout, expected, "{command}: {ran:?}");
    }
    let panicked = tool(&sandbox, &["panic"]).await;
    assert_eq!(panicked.exit_code, 134, "{panicked:?}");
    assert!(panicked.stderr.contains("on purpose") && panicked.stderr.ends_with("tool: killed: aborted\n"));
}

#[tokio::test]
async fn standard_input_comes_as_it_is_sent() {
    let scene = Scene::set(&[]);
    let sandbox = scene.sandbox(json!({})).await;
    let long = "0123456789".repeat(30_000);
    for input in ["", "a line\n", &long] {
        let answer = tool_with(&sandbox, &["cat"], json!({"stdin": input})).await;
        assert_eq!(answer.ran(), ran(0, input, ""));
    }
}

#[tokio::test]
async fn random_bytes_come_from_the_host_and_not_too_many_at_once() {
    let scene = Scene::set(&[]);
    let sandbox = scene.sandbox(json!({})).await;
    assert_eq!(tool(&sandbox, &["random", "131072"]).await, ran(0, "131072 true\n", ""));
    let refused = tool(&sandbox, &["random", "18446744073709551615"]).await;
    assert_eq!((refused.exit_code, refused.stdout.as_str()), (134, ""), "{refused:?}");
    assert!(refused.stderr.contains("exceeds limit"), "{refused:?}");
}

#[tokio::test]
async fn there_is_no_network() {
    let scene = Scene::set(&[]);
    let sandbox = scene.sandbox(json!({})).await;
    let tried = tool(&sandbox, &["network"]).await;
    let expected = "tcp: access-denied\nudp: access-denied\nnames: permanent-resolver-failure\n\
                    addresses: permanent-resolver-failure\n";
    assert_eq!(tried, ran(0, expected, ""));
}

#[tokio::test]
async fn fuel_is_refused_because_it_is_not_counted() {
    let scene = Scene::set(&[("WISP_FUEL", "true")]);
    let sandbox = scene.sandbox(json!({})).await;
    let answer = tool_with(&sandbox, &["nothing"], json!({"fuel": 1_000_000})).await;
    let expected = "tool: killed: fuel is not counted in components\n";
    assert_eq!(answer.ran(), ran(126, "", expected), "{answer:?}");
    assert_eq!(tool(&sandbox, &["nothing"]).await, ran(0, "", ""));
}

#[tokio::test]
async fn it_runs_in_the_server_and_in_worker_processes() {
    for isolation in ["none", "sandbox"] {
        let scene = Scene::set(&[("WISP_ISOLATION", isolation)]);
        let sandbox = scene.sandbox(json!({})).await;
        assert_eq!(tool(&sandbox, &["exit", "5"]).await, ran(5, "", ""), "{isolation}");
    }
}

#[tokio::test]
async fn its_image_says_what_it_is() {
    let scene = Scene::set(&[]);
    let image = scene.api.get("/images/tool:1").await.json();
    assert_eq!(image["capabilities"], json!(["wasi-0.2"]), "{image}");
}
