//! What `python:3.13` can and `python:3.12` cannot: subprocesses, signals, descriptors, pip.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use self::common::sandbox;
use crate::setting::Setting;

#[path = "python.rs"]
mod common;

/// Runs a program of `tests/fixtures/python`, which checks what it does itself.
async fn assert_ok(program: &str) {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    sandbox.write("/app/program.py", program).await;
    let ran = sandbox.run("python3 /app/program.py").await;
    assert_eq!((ran.exit_code, ran.stdout.as_str()), (0, "ok\n"), "{}", ran.stderr);
}

#[tokio::test]
async fn subprocesses_behave_as_on_linux() {
    assert_ok(include_str!("../fixtures/python/subprocesses.py")).await;
}

#[tokio::test]
async fn asyncio_runs_subprocesses_and_signal_handlers() {
    assert_ok(include_str!("../fixtures/python/asyncio_subprocesses.py")).await;
}

#[tokio::test]
async fn signals_are_caught_ignored_and_deadly() {
    assert_ok(include_str!("../fixtures/python/signals.py")).await;
}

#[tokio::test]
async fn timers_ring_and_pause_waits_for_signals() {
    assert_ok(include_str!("../fixtures/python/timers.py")).await;
}

#[tokio::test]
async fn files_and_descriptors_behave_as_on_linux() {
    assert_ok(include_str!("../fixtures/python/descriptors.py")).await;
}

#[tokio::test]
async fn keys_are_derived_from_passwords() {
    assert_ok(include_str!("../fixtures/python/key_derivation.py")).await;
}

#[tokio::test]
async fn what_does_not_fit_into_memory_is_refused() {
    assert_ok(include_str!("../fixtures/python/memory.py")).await;
}

#[tokio::test]
async fn random_numbers_and_times_are_not_from_the_snapshot() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    let code = "import os, random, secrets, tempfile, uuid\n\
                print(random.random(), random.Random().random(), uuid.uuid4(), secrets.token_hex(), os.urandom(8), \
                tempfile.mktemp(), os.getpid())";
    let command = format!("python3 -c '{code}'");
    let (first, second) = (sandbox.output(&command).await, sandbox.output(&command).await);
    for (one, other) in first.split_whitespace().zip(second.split_whitespace()) {
        assert_ne!(one, other);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let code = "import time, datetime, logging; print(int(time.time()), int(datetime.datetime.now().timestamp()), \
                int(logging.makeLogRecord({}).created))";
    for time in sandbox.output(&format!("python3 -c '{code}'")).await.split_whitespace() {
        let time: u64 = time.parse().expect("a number");
        assert!((now..now + 60).contains(&time), "{time} {now}");
    }
    let code = "import logging; print(0 <= logging.makeLogRecord({}).relativeCreated < 10_000)";
    assert_eq!(sandbox.output(&format!("python3 -c '{code}'")).await, "True\n");
}

#[tokio::test]
async fn process_state_is_not_from_the_snapshot() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    let code = "import os, sys; print(sys.argv, sys.orig_argv[3:], os.getcwd(), os.environ[\"A\"], os.getenv(\"PYTHON_VERSION\"))";
    let command = format!("cd /usr/lib; A='ä b' python3 -c '{code}' x 'y z'");
    let expected = "['-c', 'x', 'y z'] ['x', 'y z'] /usr/lib ä b 3.13.5\n";
    assert_eq!(sandbox.output(&command).await, expected);
    assert_eq!(
        sandbox
            .output("cd /tmp; env -i /usr/local/bin/python3 -c 'import os; print(os.environ)'")
            .await,
        "environ({'PWD': '/tmp'})\n"
    );
    assert_eq!(
        sandbox.output("echo in | python3 -c 'print(input())' | cat").await,
        "in\n"
    );
    let ran = sandbox
        .run("python3 -c 'import sys; print(1); print(2, file=sys.stderr)' 2>&1 >/tmp/1; cat /tmp/1")
        .await;
    assert_eq!(ran.stdout, "2\n1\n");
    assert_eq!(
        sandbox
            .output("python3 -c 'import sys; print(sys.stdout.buffer.write(b\"a\"))' 2>&1")
            .await,
        "a1\n"
    );
    for (command, expected) in [
        (
            "python3 --version; python -V; python3.13 -V",
            "Python 3.13.5\nPython 3.13.5\nPython 3.13.5\n",
        ),
        (
            "PYTHONPATH=/a:/b python3 -c 'import sys; print(sys.path[1:3])'",
            "['/a', '/b']\n",
        ),
        (
            "PYTHONPATH=/a python3 -I -c 'import sys; print(sys.path[0])'",
            "/usr/local/lib/python313.zip\n",
        ),
        (
            "python3 -W error -c 'import sys; print(sys.warnoptions)'",
            "['error']\n",
        ),
        (
            "python3 -O -c 'assert False'; python3 -OO -c 'print(__debug__)'",
            "False\n",
        ),
        (
            "PYTHONIOENCODING=latin-1 python3 -c 'print(\"\\xe9\")' | xxd -p",
            "e90a\n",
        ),
        (
            "which python3; python3 -c 'import sys; print(sys.executable, sys.prefix)'",
            { "/usr/local/bin/python3\n/usr/local/bin/python3 /usr/local\n" },
        ),
    ] {
        assert_eq!(sandbox.output(command).await, expected, "{command}");
    }
}

#[tokio::test]
async fn the_end_of_a_program_finalises_its_objects_and_writes_its_output() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    let code = "import atexit\n\
                class Thing:\n    def __del__(self): print(\"deleted\")\n\
                thing = Thing()\n\
                ring = Thing(); ring.ring = ring\n\
                file = open(\"/tmp/unclosed\", \"w\"); file.write(\"text\")\n\
                atexit.register(print, \"at exit\")\n\
                print(\"end\", end=\" \")";
    let expected = "end at exit\ndeleted\ndeleted\n";
    assert_eq!(sandbox.output(&format!("python3 -c '{code}'")).await, expected);
    assert_eq!(sandbox.output("cat /tmp/unclosed").await, "text");
    let ran = sandbox.run("python3 -c 'print(1)' >/dev/full").await;
    assert_eq!(ran.exit_code, 120, "{ran:?}");
    let unwritten = "Exception ignored on flushing sys.stdout:\nOSError: [Errno 51] No space left on device\n";
    assert_eq!(ran.stderr, unwritten);
    let ran = sandbox.run("python3 -c 'import sys; print(1); sys.exit(7)'").await;
    assert_eq!((ran.exit_code, ran.stdout.as_str()), (7, "1\n"), "{ran:?}");
}

/// A wheel of one module, made with what Python brings.
const MAKE_WHEEL: &str = r#"
import zipfile
with zipfile.ZipFile("/tmp/demo-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("demo.py", "def main():\n    print('demo runs')\n")
    wheel.writestr("demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
    wheel.writestr("demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("demo-1.0.dist-info/entry_points.txt", "[console_scripts]\ndemo = demo:main\n")
    names = ["demo.py", *(f"demo-1.0.dist-info/{name}" for name in ("METADATA", "WHEEL", "entry_points.txt", "RECORD"))]
    wheel.writestr("demo-1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in names))
"#;

#[tokio::test]
async fn pip_installs_a_pure_python_wheel() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    assert!(
        sandbox
            .output("pip --version")
            .await
            .starts_with("pip 26.3 from /usr/local/lib/python3.13/")
    );
    sandbox.write("/tmp/make.py", MAKE_WHEEL).await;
    let ran = sandbox
        .run("cd /tmp; python3 make.py && pip install ./demo-1.0-py3-none-any.whl")
        .await;
    assert_eq!(ran.exit_code, 0, "{ran:?}");
    assert!(ran.stdout.contains("Successfully installed demo-1.0"), "{ran:?}");
    assert_eq!(
        sandbox
            .output("cd /; demo; python3 -c 'import demo; demo.main()'")
            .await,
        "demo runs\ndemo runs\n"
    );
    assert!(sandbox.output("python3 -m pip list").await.contains("demo"));
    let ran = sandbox
        .run("pip uninstall -y demo && ! python3 -c 'import demo' 2>/dev/null")
        .await;
    assert_eq!(ran.exit_code, 0, "{ran:?}");
}

#[tokio::test]
async fn a_virtual_environment_has_packages_of_its_own() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    sandbox.write("/tmp/make.py", MAKE_WHEEL).await;
    let ran = sandbox
        .run("cd /tmp; python3 make.py && python3 -m venv /tmp/env")
        .await;
    assert_eq!((ran.exit_code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let code = "import sys; print(sys.prefix, sys.base_prefix, sys.executable)";
    assert_eq!(
        sandbox.output(&format!("/tmp/env/bin/python -c '{code}'")).await,
        "/tmp/env /usr/local /tmp/env/bin/python\n"
    );
    let ran = sandbox
        .run("/tmp/env/bin/pip install /tmp/demo-1.0-py3-none-any.whl")
        .await;
    assert_eq!(ran.exit_code, 0, "{ran:?}");
    assert_eq!(sandbox.output("/tmp/env/bin/demo").await, "demo runs\n");
    let ran = sandbox.run("python3 -c 'import demo'").await;
    assert!(ran.stderr.contains("No module named 'demo'"), "{ran:?}");
}

#[tokio::test]
async fn the_names_docker_users_know_mean_this_image() {
    let setting = Setting::shared().await;
    drop(sandbox(&setting).await);
    for name in ["python:3.13", "python:3", "python:latest", "python", "python:3.13-slim"] {
        let sandbox = setting.api.create(json!({"image": name})).await;
        assert_eq!(
            sandbox
                .output("python3 -c 'import sys; print(sys.version_info[:2])'")
                .await,
            "(3, 13)\n",
            "{name}"
        );
    }
}
