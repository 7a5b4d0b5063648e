//! Execs with a budget of fuel, on servers that count it and on one that does not.

use serde_json::{Value, json};

use crate::api::{Answer, Api, Sandbox};
use crate::images::{self, PYTHON, PYTHON_3_13};
use crate::server::Server;
use crate::setting::Setting;
use crate::wisp_command::{assert_ended, command, finish, stderr};

/// More than any command here needs that ends by itself.
const PLENTY: u64 = 1 << 40;
/// Far less than a command uses that does not.
const LITTLE: u64 = 20_000_000;
/// The largest budget there is: 2^53.
const MOST: u64 = 9_007_199_254_740_992;

/// A server that counts fuel.
fn serve(isolation: &str) -> Server {
    let settings = [
        ("WISP_FUEL", "true"),
        ("WISP_ISOLATION", isolation),
        ("WISP_IMAGES", ""),
    ];
    Server::start("127.0.0.1:0", &settings)
}

async fn exec(sandbox: &Sandbox, command: &str, fuel: u64) -> Answer {
    sandbox
        .exec(json!({"command": command, "fuel": fuel, "timeout": "1m"}))
        .await
}

/// The count of a command that ends by itself, in a fresh sandbox.
async fn count(api: &Api, image: &str, command: &str) -> u64 {
    let sandbox = api.create(json!({"image": image, "vcpus": 2})).await;
    let answer = exec(&sandbox, command, PLENTY).await;
    assert_eq!(
        (answer.status, &answer.json()["exit_code"]),
        (200, &json!(0)),
        "{answer:?}"
    );
    answer.json()["fuel_used"]
        .as_u64()
        .unwrap_or_else(|| panic!("no count: {answer:?}"))
}

/// The last line of a stream.
fn last_line(answer: &Answer) -> Value {
    let line = answer.body.lines().last().expect("a line");
    serde_json::from_str(line).expect("JSON")
}

#[tokio::test]
async fn python_uses_the_same_fuel_in_fresh_sandboxes_whatever_the_isolation() {
    let installed = tokio::task::spawn_blocking(images::install_python_3_13).await;
    installed.expect("the image can be installed");
    let servers = [serve("tenant"), serve("none")];
    let hashes = "python3 -c 'print(sorted({str(n): n for n in range(100)}), hash(\"a\") % 7)'";
    for image in [PYTHON, PYTHON_3_13] {
        for command in ["python3 -c 'print(40 + 2)'", hashes] {
            let mut counts = Vec::new();
            for server in &servers {
                let api = Api::new(server.url(), None);
                for _ in 0..3 {
                    counts.push(count(&api, image, command).await);
                }
            }
            assert!(
                counts.iter().all(|count| *count == counts[0]),
                "{image}: {command}: {counts:?}"
            );
        }
        let api = Api::new(servers[0].url(), None);
        let little = count(&api, image, "python3 -c 'sum(range(10))'").await;
        let much = count(&api, image, "python3 -c 'sum(range(100000))'").await;
        assert!(much > little + 100_000, "{image}: {little} and {much}");
    }
}

#[tokio::test]
async fn command_is_stopped_when_its_fuel_is_used_up() {
    for isolation in ["tenant", "none"] {
        let server = serve(isolation);
        let api = Api::new(server.url(), None);
        let sandbox = api.create(json!({"image": PYTHON, "vcpus": 2})).await;
        let needed = count(&api, PYTHON, "python3 -c 'print(40 + 2)'").await;
        let answer = exec(&sandbox, "python3 -c 'print(40 + 2)'", needed - 1).await;
        assert_eq!(answer.json()["exit_code"], 137, "{answer:?}");
        for command in [
            "while :; do :; done",
            "python3 -c 'while True: pass'",
            "trap '' TERM INT; while :; do :; done | cat | cat",
            "while :; do ls / >/dev/null; done",
            "(while :; do :; done) & while :; do :; done",
        ] {
            let answer = exec(&sandbox, command, LITTLE).await;
            let body = answer.json();
            assert_eq!(answer.status, 200, "{command}: {answer:?}");
            assert_eq!(body["exit_code"], 137, "{command}: {answer:?}");
            assert_eq!(body["fuel_used"], LITTLE, "{command}: {answer:?}");
            assert_eq!(
                answer.text("stderr").lines().last(),
                Some("wisp: killed: its fuel is used up"),
                "{command}: {answer:?}"
            );
        }
        // One that is late is late, and counted.
        let request = json!({"command": "sleep 100", "fuel": PLENTY, "timeout": "300ms"});
        let answer = sandbox.exec(request).await;
        assert_eq!(answer.status, 408, "{answer:?}");
        assert!(
            answer.json()["fuel_used"].as_u64().is_some_and(|units| units > 0),
            "{answer:?}"
        );
        // The next one has its own, and one without is not counted.
        assert_eq!(exec(&sandbox, "echo $((40 + 2))", PLENTY).await.text("stdout"), "42\n");
        let answer = sandbox.exec(json!({"command": "echo $((40 + 2))"})).await;
        assert_eq!(
            (answer.text("stdout").as_str(), answer.json().get("fuel_used")),
            ("42\n", None)
        );
    }
}

#[tokio::test]
async fn streams_and_the_command_line_tell_the_count() {
    let server = serve("none");
    let api = Api::new(server.url(), None);
    let expected = count(&api, PYTHON, "python3 -c 'print(40 + 2)'").await;
    let sandbox = api.create(json!({"image": PYTHON})).await;
    let request = json!({"command": "python3 -c 'print(40 + 2)'", "fuel": PLENTY, "stream": true});
    let end = last_line(&sandbox.exec(request).await);
    assert_eq!(
        (&end["exit_code"], &end["fuel_used"]),
        (&json!(0), &json!(expected)),
        "{end}"
    );
    let request = json!({"command": "while :; do :; done", "fuel": LITTLE, "stream": true});
    let end = last_line(&sandbox.exec(request).await);
    assert_eq!(
        (&end["exit_code"], &end["fuel_used"]),
        (&json!(137), &json!(LITTLE)),
        "{end}"
    );
    assert_eq!(end["error"], "its fuel is used up", "{end}");

    let id = sandbox.path.rsplit('/').next().expect("an id");
    let url = server.url().trim_end_matches("/api/v1");
    let (plenty, little) = (PLENTY.to_string(), LITTLE.to_string());
    // The second kind is one over a WebSocket.
    for kind in [&[][..], &["--interactive"]] {
        let run = async |fuel: &str, program: &[&str]| {
            let options = ["exec", "--server", url, "--fuel", fuel];
            let mut command = command(&[&options, kind, &[id, "--"], program].concat());
            finish(&mut command, "").await
        };
        let output = run(&plenty, &["python3", "-c", "print(40 + 2)"]).await;
        assert_ended(&output, 0, "42\n");
        let told = stderr(&output);
        let units = told
            .strip_prefix("wisp: ")
            .and_then(|rest| rest.strip_suffix(" units of fuel used\n"));
        assert!(units.is_some_and(|units| units.parse::<u64>().is_ok()), "{told}");
        let output = run(&little, &["sh", "-c", "while :; do :; done"]).await;
        assert_ended(&output, 137, "");
        let told = stderr(&output);
        assert!(
            told.contains("its fuel is used up") && told.contains(&format!("{little} units")),
            "{told}"
        );
    }
}

#[tokio::test]
async fn budgets_that_make_no_sense_are_refused() {
    let server = serve("none");
    let sandbox = Api::new(server.url(), None).create(json!({"image": PYTHON})).await;
    for fuel in [
        json!(0),
        json!(-1),
        json!(1.5),
        json!(MOST + 1),
        json!(u64::MAX),
        json!("1"),
        json!([]),
    ] {
        let answer = sandbox.exec(json!({"command": "true", "fuel": fuel})).await;
        answer.assert_error(400, "bad_request");
        assert!(answer.text("message").contains("fuel"), "{answer:?}");
    }
    assert_eq!(exec(&sandbox, "echo $((40 + 2))", MOST).await.text("stdout"), "42\n");
    assert_eq!(exec(&sandbox, "echo $((40 + 2))", 1).await.json()["exit_code"], 137);
    // Nothing runs, and it is counted.
    let request = json!({"command": "nothing", "mode": "argv", "fuel": 1});
    let answer = sandbox.exec(request).await.json();
    assert_eq!(
        (&answer["exit_code"], &answer["fuel_used"]),
        (&json!(127), &json!(0)),
        "{answer}"
    );
    // No limit.
    let answer = sandbox.exec(json!({"command": "true", "fuel": null})).await;
    assert_eq!(answer.json()["exit_code"], 0, "{answer:?}");
}

#[tokio::test]
async fn server_that_does_not_count_fuel_says_what_to_do() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    for stream in [false, true] {
        let answer = sandbox
            .exec(json!({"command": "true", "fuel": PLENTY, "stream": stream}))
            .await;
        answer.assert_error(422, "unsupported");
        assert!(answer.text("message").contains("fuel = true"), "{answer:?}");
    }
    assert_eq!(sandbox.output("echo $((40 + 2))").await, "42\n");
}
