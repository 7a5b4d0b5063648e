//! Beginnings and ends: of sandboxes, of commands whose client has gone, of the server.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::{Api, Sandbox, answer};
use crate::images::PYTHON;
use crate::server::Server;
use crate::server_support::workers::anonymous_kib;
use crate::setting::Setting;

/// Waits until a sandbox runs no `sleep` any more.
async fn assert_sleep_ends(sandbox: &Sandbox) {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let names = sandbox.process_names().await;
        if !names.contains("sleep") {
            return;
        }
        assert!(Instant::now() < deadline, "still there: {names}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_sandbox_is_gone_when_its_time_is_over() {
    let setting = Setting::shared().await;
    let sandbox = setting.api.create(json!({"image": PYTHON, "ttl": "1s"})).await;
    let (ran, ()) = tokio::join!(sandbox.exec(json!({"command": "echo early; sleep 100"})), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(setting.api.get(&sandbox.path).await.status, 200);
    });
    let killed = ran.ran();
    assert_eq!((killed.exit_code, killed.stdout.as_str()), (137, "early\n"), "{ran:?}");
    assert!(ran.elapsed < Duration::from_secs(4), "{ran:?}");
    let gone = setting.api.get(&sandbox.path).await;
    gone.assert_error(404, "not_found");
    sandbox
        .exec(json!({"command": "true"}))
        .await
        .assert_error(404, "not_found");
    let listed = setting.api.get("/sandboxes").await.body;
    assert!(
        !listed.contains(sandbox.path.trim_start_matches("/sandboxes/")),
        "{listed}"
    );
    assert_eq!(setting.api.delete(&sandbox.path).await.status, 200);
}

#[tokio::test]
async fn an_extended_sandbox_lives_on() {
    let setting = Setting::shared().await;
    let sandbox = setting.api.create(json!({"image": PYTHON, "ttl": "1s"})).await;
    let extended = setting
        .api
        .post(&format!("{}/extend", sandbox.path), r#"{"ttl":"1h"}"#)
        .await;
    assert_eq!(extended.status, 200, "{extended:?}");
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(sandbox.output("echo alive").await, "alive\n");
}

#[tokio::test]
async fn destroying_a_sandbox_ends_its_commands() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    let (ran, destroyed) = tokio::join!(sandbox.exec(json!({"command": "echo early; sleep 100"})), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        setting.api.delete(&sandbox.path).await
    });
    assert_eq!(destroyed.json(), json!({"status": "destroyed"}));
    assert_eq!(ran.ran().exit_code, 137, "{ran:?}");
    assert!(ran.elapsed < Duration::from_secs(2), "{ran:?}");
}

#[tokio::test]
async fn a_command_ends_when_its_client_goes() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    for stream in [true, false] {
        let body = json!({"command": "sleep 100 | sleep 101", "stream": stream});
        let request = setting
            .api
            .request(Method::POST, &format!("{}/exec", sandbox.path))
            .body(body.to_string());
        let running = tokio::spawn(request.send());
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(sandbox.process_names().await.contains("sleep"));
        running.abort();
        // The answer's head may be there already; dropping it closes the connection.
        drop(running.await);
        assert_sleep_ends(&sandbox).await;
    }
}

#[tokio::test]
async fn background_processes_outlive_their_command() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    let started = Instant::now();
    sandbox.output("nohup sleep 100 >/tmp/log 2>&1 &").await;
    assert_eq!(sandbox.output("sleep 101 & echo started").await, "started\n");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(sandbox.process_names().await.matches("sleep").count(), 2);
    sandbox
        .output("kill $(grep -l sleep /proc/[0-9]*/comm | cut -d/ -f3)")
        .await;
    assert_sleep_ends(&sandbox).await;
}

#[tokio::test]
async fn a_stream_comes_as_it_is_written() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    let body = json!({"command": "echo first; sleep 1; echo second >&2; exit 5", "stream": true});
    let started = Instant::now();
    let request = setting
        .api
        .request(Method::POST, &format!("{}/exec", sandbox.path))
        .body(body.to_string());
    let mut response = request.send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let first = response.chunk().await.expect("a chunk").expect("not the end");
    assert!(
        started.elapsed() < Duration::from_millis(800),
        "the first line came after {:?}",
        started.elapsed()
    );
    let mut text = String::from_utf8(first.to_vec()).expect("UTF-8");
    while let Some(chunk) = response.chunk().await.expect("a chunk") {
        text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
    }
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines[0], json!({"stream": "stdout", "data": "first\n"}));
    assert_eq!(lines[1], json!({"stream": "stderr", "data": "second\n"}));
    assert_eq!(
        (&lines[2]["type"], &lines[2]["exit_code"]),
        (&json!("exit"), &json!(5)),
        "{text}"
    );
    assert_eq!((lines.len(), &lines[2]["timed_out"]), (3, &json!(false)), "{text}");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_command_back() {
    let setting = Setting::alone().await;
    let sandbox = setting.sandbox().await;
    let before = anonymous_kib(setting.server.pid());
    let body = json!({"command": "yes", "stream": true, "timeout": "1s"});
    let request = setting
        .api
        .request(Method::POST, &format!("{}/exec", sandbox.path))
        .body(body.to_string());
    let response = request.send().await.expect("an answer");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let grown = anonymous_kib(setting.server.pid()).saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB are held for a client that does not read");
    let text = response.text().await.expect("the rest");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        (&last["type"], &last["exit_code"], &last["timed_out"]),
        (&json!("exit"), &json!(124), &json!(true))
    );
}

#[tokio::test]
async fn many_clients_work_at_the_same_time() {
    let setting = Setting::alone().await;
    let clients: Vec<_> = (0..32)
        .map(|number| {
            let api = setting.api.clone();
            tokio::spawn(async move {
                let sandbox = api.create(json!({"image": PYTHON})).await;
                let command = format!("echo {number} >f; python3 -c 'print(int(open(\"f\").read()) * 2)'");
                assert_eq!(sandbox.output(&command).await, format!("{}\n", number * 2));
                assert_eq!(api.delete(&sandbox.path).await.status, 200);
            })
        })
        .collect();
    for client in clients {
        client.await.expect("the client succeeds");
    }
}

#[tokio::test]
async fn two_hundred_sandboxes_leave_nothing_behind() {
    let setting = Setting::alone().await;
    let round = async |count: usize| {
        for number in 0..count {
            let request = setting
                .api
                .request(Method::POST, "/sandboxes")
                .header("X-User-ID", "leak-test");
            let created = answer(request.body(json!({"image": PYTHON}).to_string())).await;
            assert_eq!(created.status, 201, "{created:?}");
            let sandbox = Sandbox {
                api: setting.api.clone(),
                path: format!("/sandboxes/{}", created.text("id")),
            };
            // Some are destroyed while a process runs in them.
            let background = if number % 10 == 0 { "sleep 100 & " } else { "" };
            let command = format!("{background}echo hi >/tmp/f; cat /tmp/f");
            assert_eq!(sandbox.output(&command).await, "hi\n");
            assert_eq!(setting.api.delete(&sandbox.path).await.status, 200);
        }
    };
    // What the allocator keeps for later is not a leak.
    round(50).await;
    let before = anonymous_kib(setting.server.pid());
    round(150).await;
    let grown = anonymous_kib(setting.server.pid()).saturating_sub(before);
    assert!(grown < 64 << 10, "150 sandboxes left {grown} KiB behind");
    let request = setting
        .api
        .request(Method::GET, "/sandboxes")
        .header("X-User-ID", "leak-test");
    assert_eq!(answer(request).await.json(), json!([]));
}

#[tokio::test]
async fn a_stopping_server_lets_short_commands_finish_and_kills_long_ones() {
    let server = Server::start("127.0.0.1:0", &[("WISP_LIMITS_SHUTDOWN_GRACE", "1s")]);
    let api = Api::new(server.url(), None);
    let sandbox = api.create(json!({"image": PYTHON})).await;
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let started = Instant::now();
        let status = tokio::task::spawn_blocking(|| server.stop())
            .await
            .expect("the server stops");
        (status, started.elapsed())
    };
    let (short, long, (status, elapsed)) = tokio::join!(
        sandbox.exec(json!({"command": "sleep 0.8; echo done"})),
        sandbox.exec(json!({"command": "echo early; sleep 100"})),
        stop,
    );
    assert_eq!(
        (short.ran().exit_code, short.ran().stdout.as_str()),
        (0, "done\n"),
        "{short:?}"
    );
    assert_eq!(
        (long.ran().exit_code, long.ran().stdout.as_str()),
        (137, "early\n"),
        "{long:?}"
    );
    assert!(status.success(), "{status}");
    assert!(elapsed < Duration::from_secs(5), "stopping took {elapsed:?}");
}

#[tokio::test]
async fn a_server_that_may_be_reached_by_others_wants_keys() {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_wisp"))
        .args(["serve", "--listen", "0.0.0.0:0"])
        .env_remove("WISP_API_KEYS")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(10), output)
        .await
        .expect("it ends")
        .expect("it starts");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("WISP_API_KEYS"), "{message}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let setting = Setting::shared().await;
    let address = setting
        .server
        .url()
        .trim_start_matches("http://")
        .trim_end_matches("/api/v1");
    let data = tempfile::tempdir().expect("a data directory");
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_wisp"))
        .args(["serve", "--listen", address])
        .env("WISP_DATA_DIR", data.path())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(10), output)
        .await
        .expect("it ends")
        .expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains(&format!("cannot listen on {address}")), "{message}");
}
