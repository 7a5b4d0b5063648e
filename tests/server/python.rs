//! Python as agents use it: through the shell of a sandbox. This file is a module for each version of Python.

use serde_json::json;

use crate::api::{Ran, Sandbox};
use crate::images::{self, PYTHON, PYTHON_3_13};
use crate::setting::Setting;

/// Whether the tests of this module are those for 3.13.
fn is_3_13() -> bool {
    module_path!().contains("python_3_13")
}

/// A fresh sandbox with Python.
pub(super) async fn sandbox(setting: &Setting) -> Sandbox {
    if is_3_13() {
        let installed = tokio::task::spawn_blocking(images::install_python_3_13).await;
        installed.expect("the image can be installed");
    }
    let image = if is_3_13() { PYTHON_3_13 } else { PYTHON };
    setting.api.create(json!({"image": image, "vcpus": 2})).await
}

/// Fails unless a command ends in success and prints exactly this.
macro_rules! assert_prints {
    ($sandbox:expr, $command:expr, $expected:expr) => {
        assert_eq!($sandbox.output($command).await, $expected, "{}", $command)
    };
}

#[tokio::test]
async fn programs_come_from_the_command_line_a_module_a_file_or_standard_input() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    assert_prints!(sandbox, "python3 -c 'print(40 + 2)'", "42\n");
    let own_name = if is_3_13() { "python3.13" } else { "python3.12" };
    let both = format!("python -c 'print(1)'; {own_name} -c 'print(2)'");
    assert_prints!(sandbox, &both, "1\n2\n");
    assert_prints!(
        sandbox,
        "echo '{\"a\": [1]}' | python3 -m json.tool --compact",
        "{\"a\":[1]}\n"
    );
    assert_prints!(sandbox, "echo 'print(6 * 7)' | python3", "42\n");
    assert_prints!(sandbox, "echo 'print(6 * 7)' | python3 -", "42\n");
    let heredoc = "cat <<'EOF' | python3 - a 'b c'\nimport sys\nprint(sys.argv)\nEOF";
    assert_prints!(sandbox, heredoc, "['-', 'a', 'b c']\n");
    assert_prints!(
        sandbox,
        "python3 <<'EOF'\nfor i in range(2):\n    print(i)\n\nEOF",
        "0\n1\n"
    );
    let ran = sandbox
        .run_with(json!({"command": "python3 -", "stdin": "print('from stdin')"}))
        .await;
    assert_eq!(ran.stdout, "from stdin\n", "{ran:?}");
    let version = if is_3_13() { "Python 3.13" } else { "Python 3.12" };
    assert!(
        sandbox
            .output("python3 --version; python3 -V")
            .await
            .starts_with(version)
    );
}

#[tokio::test]
async fn scripts_are_found_from_any_directory() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    let script = "import os, sys\nimport helper\nprint(os.getcwd(), sys.argv, sys.path[0], __name__, __file__)\n";
    sandbox.write("/app/tool/main.py", script).await;
    sandbox.write("/app/tool/helper.py", "").await;
    for (command, expected) in [
        (
            "cd /app/tool; python3 main.py x",
            "/app/tool ['main.py', 'x'] /app/tool __main__ /app/tool/main.py\n",
        ),
        (
            "cd /app; python3 tool/main.py",
            "/app ['tool/main.py'] /app/tool __main__ /app/tool/main.py\n",
        ),
        (
            "cd /app/tool; python3 ./main.py",
            "/app/tool ['./main.py'] /app/tool __main__ /app/tool/./main.py\n",
        ),
        (
            "mkdir -p /tmp/a; cd /tmp/a; python3 ../../app/tool/main.py",
            "/tmp/a ['../../app/tool/main.py'] /app/tool __main__ /tmp/a/../../app/tool/main.py\n",
        ),
        (
            "cd /; python3 /app/tool/main.py",
            "/ ['/app/tool/main.py'] /app/tool __main__ /app/tool/main.py\n",
        ),
    ] {
        assert_prints!(sandbox, command, expected);
    }
    assert_prints!(sandbox, "cd /app/tool; python3 -m main", {
        "/app/tool ['/app/tool/main.py'] /app/tool __main__ /app/tool/main.py\n"
    });
    let ran = sandbox.run("cd /tmp; python3 nothing.py").await;
    assert_eq!(ran.exit_code, 2, "{ran:?}");
    assert!(
        ran.stderr.contains("can't open file") && ran.stderr.contains("No such file or directory"),
        "{ran:?}"
    );
    let ran = sandbox
        .run_with(json!({"command": "python3 main.py", "workdir": "/app/tool"}))
        .await;
    assert!(ran.stdout.starts_with("/app/tool "), "{ran:?}");
}

#[tokio::test]
async fn scripts_run_by_their_first_line() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    sandbox
        .write("/app/tool", "#!/usr/bin/env python3\nimport sys\nprint(sys.argv)\n")
        .await;
    assert_prints!(
        sandbox,
        "chmod +x /app/tool; /app/tool 1; cd /app; ./tool 2; PATH=/app:$PATH tool 3",
        { "['/app/tool', '1']\n['./tool', '2']\n['/app/tool', '3']\n" }
    );
}

#[tokio::test]
async fn standard_input_is_the_programs_own() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    sandbox
        .write("/app/ask.py", "name = input('name? ')\nprint(f'hello {name}')\n")
        .await;
    assert_prints!(sandbox, "printf 'Ada\\n' | python3 /app/ask.py", "name? hello Ada\n");
    let ran = sandbox
        .run_with(json!({"command": "python3 /app/ask.py", "stdin": "Grace\n"}))
        .await;
    assert_eq!(ran.stdout, "name? hello Grace\n", "{ran:?}");
    let ran = sandbox.run("python3 /app/ask.py").await;
    assert_eq!(ran.exit_code, 1, "{ran:?}");
    assert!(ran.stderr.contains("EOFError"), "{ran:?}");
    assert_prints!(
        sandbox,
        "seq 3 | python3 -c 'import sys; print(sum(map(int, sys.stdin)))'",
        "6\n"
    );
    assert_prints!(sandbox, "printf 'a\\nb\\n' | (python3 -c 'print(input())'; cat)", "a\n");
}

#[tokio::test]
async fn the_exit_status_is_the_programs_own() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    for (code, exit_code, stderr) in [
        ("import sys; sys.exit(7)", 7, ""),
        ("raise SystemExit", 0, ""),
        ("import sys; sys.exit(\"message\")", 1, "message\n"),
        ("import os; os._exit(9)", 9, ""),
        ("exit(3)", 3, ""),
        ("import sys; sys.exit(256 + 4)", 4, ""),
        (
            "import atexit; atexit.register(print, \"bye\"); raise SystemExit(5)",
            5,
            "",
        ),
    ] {
        let ran = sandbox.run(&format!("python3 -c '{code}'")).await;
        assert_eq!(
            (ran.exit_code, ran.stderr.as_str()),
            (exit_code, stderr),
            "{code}: {ran:?}"
        );
        assert_eq!(
            ran.stdout,
            if code.contains("bye") { "bye\n" } else { "" },
            "{code}: {ran:?}"
        );
    }
    assert_prints!(
        sandbox,
        "python3 -c 'raise SystemExit(3)' && echo yes || echo no $?",
        "no 3\n"
    );
}

#[tokio::test]
async fn an_uncaught_exception_shows_its_traceback() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    sandbox
        .write("/app/fail.py", "def f(x):\n    return 1 / x\n\nprint('before')\nf(0)\n")
        .await;
    let ran = sandbox.run("cd /app; python3 fail.py").await;
    // 3.13 marks more, and knows the text of `-c`.
    let (call, text) = if is_3_13() {
        ("    ~^^^\n", "    1/0\n    ~^~\n")
    } else {
        ("", "")
    };
    let traceback = format!(
        "Traceback (most recent call last):\n  File \"/app/fail.py\", line 5, in <module>\n    f(0)\n{call}  \
         File \"/app/fail.py\", line 2, in f\n    return 1 / x\n           ~~^~~\nZeroDivisionError: division by zero\n"
    );
    let expected = Ran {
        exit_code: 1,
        stdout: "before\n".to_owned(),
        stderr: traceback,
    };
    assert_eq!(ran, expected);
    let ran = sandbox.run("python3 -c '1/0'").await;
    let traceback = format!(
        "Traceback (most recent call last):\n  File \"<string>\", line 1, in <module>\n{text}\
         ZeroDivisionError: division by zero\n"
    );
    assert_eq!((ran.exit_code, ran.stderr), (1, traceback));
    let ran = sandbox.run("python3 -c 'print('").await;
    assert_eq!(ran.exit_code, 1);
    assert!(ran.stderr.contains("SyntaxError: '(' was never closed"), "{ran:?}");
    let ran = sandbox.run("python3 -c 'import nothing_of_that_name'").await;
    assert!(
        ran.stderr
            .contains("ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn files_have_their_modes_times_and_places() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    let script = r#"
import errno, os, pathlib, shutil, stat, tempfile, time
os.chdir("/tmp")
assert os.getcwd() == "/tmp", os.getcwd()
path = pathlib.Path("relative.txt")
path.write_text("text")
assert os.path.abspath("relative.txt") == "/tmp/relative.txt"
assert stat.S_IMODE(os.stat(path).st_mode) == 0o644, oct(os.stat(path).st_mode)
os.chmod(path, 0o600)
assert stat.filemode(path.stat().st_mode) == "-rw-------", stat.filemode(path.stat().st_mode)
path.chmod(0o755)
assert os.access(path, os.X_OK)
assert abs(path.stat().st_mtime - time.time()) < 60
assert path.stat().st_size == 4 and path.stat().st_uid == 0 and path.stat().st_nlink == 1
os.utime(path, (1, 2))
assert path.stat().st_mtime == 2
os.symlink("relative.txt", "link")
assert os.readlink("link") == "relative.txt" and os.path.islink("link")
os.makedirs("a/b/c", exist_ok=True)
shutil.copy2(path, "a/b/c/copy.txt")
assert stat.S_IMODE(os.stat("a/b/c/copy.txt").st_mode) == 0o755
assert sorted(p.name for p in pathlib.Path("a").rglob("*")) == ["b", "c", "copy.txt"]
assert [x[0] for x in os.walk("a")] == ["a", "a/b", "a/b/c"]
os.rename("a/b", "moved")
shutil.rmtree("moved")
with tempfile.TemporaryDirectory() as directory:
    assert os.listdir(directory) == []
with tempfile.NamedTemporaryFile("w+") as file:
    file.write("x"); file.flush(); file.seek(0)
    assert file.read() == "x"
try:
    open("/nowhere/file", "w")
except FileNotFoundError as error:
    assert error.errno == errno.ENOENT
os.umask(0o077)
pathlib.Path("private").touch()
assert stat.S_IMODE(os.stat("private").st_mode) == 0o600, oct(os.stat("private").st_mode)
print("ok")
"#;
    sandbox.write("/app/files.py", script).await;
    assert_prints!(sandbox, "python3 /app/files.py", "ok\n");
    assert_prints!(
        sandbox,
        "stat -c '%a %n' /tmp/relative.txt /tmp/private",
        "755 /tmp/relative.txt\n600 /tmp/private\n"
    );
    assert_prints!(
        sandbox,
        "mkdir -p /tmp/d; cd /tmp/d; python3 -c 'import os; print(os.getcwd())'",
        "/tmp/d\n"
    );
    assert_prints!(
        sandbox,
        "chmod 640 /app/files.py; python3 -c 'import os; print(oct(os.stat(\"/app/files.py\").st_mode))'",
        { "0o100640\n" }
    );
}

#[tokio::test]
async fn the_standard_library_is_there() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    let script = r#"
import argparse, ast, base64, bz2, calendar, collections, concurrent.futures, configparser, contextlib, copy, csv
import dataclasses, datetime, decimal, difflib, email, enum, fnmatch, fractions, functools, glob, gzip, hashlib, heapq
import hmac, html, http, inspect, io, ipaddress, itertools, json, locale, logging, math, numbers, operator, os, pathlib
import pickle, platform, pprint, queue, random, re, secrets, shlex, shutil, signal, socket, sqlite3, statistics, string
import struct, subprocess, sys, tarfile, tempfile, textwrap, threading, time, timeit, tomllib, traceback, types, typing
import unicodedata, unittest, urllib.parse, urllib.request, uuid, warnings, weakref, xml.etree.ElementTree, zipfile, zlib
import asyncio

database = sqlite3.connect("/tmp/test.db")
database.execute("create table t (a integer, b text)")
database.executemany("insert into t values (?, ?)", [(1, "one"), (2, "two")])
database.commit()
assert database.execute("select sum(a), group_concat(b) from t").fetchone() == (3, "one,two")
assert zlib.decompress(zlib.compress(b"a" * 1000)) == bz2.decompress(bz2.compress(b"a" * 1000)) == b"a" * 1000
assert hashlib.sha256(b"").hexdigest().startswith("e3b0c442")
assert decimal.Decimal("0.1") + decimal.Decimal("0.2") == decimal.Decimal("0.3")

async def double(x):
    await asyncio.sleep(0.01)
    return x * 2

async def main():
    return await asyncio.gather(*map(double, range(3)))

assert asyncio.run(main()) == [0, 2, 4]
with zipfile.ZipFile("/tmp/a.zip", "w") as archive:
    archive.writestr("a.txt", "content")
assert zipfile.ZipFile("/tmp/a.zip").read("a.txt") == b"content"
assert xml.etree.ElementTree.fromstring("<a><b>c</b></a>").find("b").text == "c"
assert datetime.datetime(2026, 1, 31).isoformat() == "2026-01-31T00:00:00"
assert re.sub(r"(\w+) (\w+)", r"\2 \1", "a b") == "b a"
assert sys.version_info[:2] in [(3, 12), (3, 13)]
print("ok")
"#;
    sandbox.write("/app/library.py", script).await;
    assert_prints!(sandbox, "python3 /app/library.py", "ok\n");
    sandbox
        .write(
            "/app/test_it.py",
            "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(1, 1)\n",
        )
        .await;
    let ran = sandbox.run("cd /app; python3 -m unittest").await;
    assert!(ran.exit_code == 0 && ran.stderr.contains("Ran 1 test"), "{ran:?}");
}

#[tokio::test]
async fn no_compiled_files_are_left_beside_a_users_own() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    sandbox.write("/app/main.py", "import helper, package.part\n").await;
    sandbox.write("/app/helper.py", "").await;
    sandbox.write("/app/package/part.py", "").await;
    assert_prints!(sandbox, "cd /app; python3 main.py; find . | sort", {
        ".\n./helper.py\n./main.py\n./package\n./package/part.py\n"
    });
}

#[tokio::test]
async fn pipelines_end_when_nobody_reads() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    sandbox
        .write("/app/count.py", "for i in range(100000):\n    print(i)\n")
        .await;
    let ran = sandbox.run("python3 /app/count.py | head -1").await;
    assert_eq!((ran.exit_code, ran.stdout.as_str()), (0, "0\n"), "{ran:?}");
    assert_prints!(sandbox, "python3 /app/count.py | tail -1", "99999\n");
    assert_prints!(
        sandbox,
        "python3 /app/count.py | python3 -c 'import sys; print(len(sys.stdin.readlines()))'",
        "100000\n"
    );
    assert_prints!(sandbox, "x=$(python3 -c 'print(7)'); echo \"<$x>\"", "<7>\n");
    assert_prints!(sandbox, "python3 -c 'print(1)' >/tmp/out 2>&1; cat /tmp/out", "1\n");
}

#[tokio::test]
async fn arguments_and_environment_arrive_as_given() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    let code = "import os, sys; print(sys.argv[1:], os.environ.get('COLOUR'), os.environ['HOME'])";
    let ran = sandbox
        .run_with(json!({
            "command": "python3", "mode": "argv", "args": ["-c", code, "", "a b", "$HOME", "*", "é\n"],
            "env": {"COLOUR": "rot grün"},
        }))
        .await;
    assert_eq!(
        ran.stdout, "['', 'a b', '$HOME', '*', 'é\\n'] rot grün /root\n",
        "{ran:?}"
    );
    assert_prints!(
        sandbox,
        "A=1 python3 -c 'import os; print(os.environ[\"A\"], os.getenv(\"B\"))'",
        "1 None\n"
    );
    assert_prints!(
        sandbox,
        "export B=2; python3 -c 'import os; print(os.getenv(\"B\"))'",
        "2\n"
    );
}

#[tokio::test]
async fn output_of_any_kind_and_size_arrives() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    assert_prints!(sandbox, "python3 -c 'print(\"äöü → 日本語 🎉\")'", "äöü → 日本語 🎉\n");
    assert_prints!(
        sandbox,
        "python3 -c 'print(ascii(\"é\"), len(\"é\"), input())' <<< 'ü'",
        "'\\xe9' 1 ü\n"
    );
    let big = sandbox.output("python3 -c 'print(\"x\" * 5_000_000)'").await;
    assert_eq!(big.len(), 5_000_001);
    let ran = sandbox
        .run("python3 -c 'import sys; print(1); print(2, file=sys.stderr); print(3)'")
        .await;
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("1\n3\n", "2\n"));
    let ran = sandbox
        .run("python3 -c 'import sys; sys.stdout.buffer.write(bytes([65, 255, 66]))'")
        .await;
    assert_eq!(ran.stdout, "A\u{fffd}B");
}

#[tokio::test]
async fn every_run_starts_afresh() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    let code =
        "import random, uuid, secrets, os; print(random.random(), uuid.uuid4(), secrets.token_hex(), os.urandom(4))";
    let command = format!("python3 -c '{code}'");
    let (first, second) = (sandbox.output(&command).await, sandbox.output(&command).await);
    for (one, other) in first.split_whitespace().zip(second.split_whitespace()) {
        assert_ne!(one, other);
    }
    let clock = "python3 -c 'import time; print(time.time())'";
    let told: f64 = sandbox.output(clock).await.trim().parse().expect("a number");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs_f64();
    assert!((now - told).abs() < 5.0, "{told} is not {now}");
    let slept = "python3 -c 'import time; t = time.monotonic(); time.sleep(0.2); print(time.monotonic() - t)'";
    let slept: f64 = sandbox.output(slept).await.trim().parse().expect("a number");
    assert!((0.2..1.0).contains(&slept), "{slept}");
    assert_prints!(
        sandbox,
        "python3 -c 'import builtins; builtins.x = 1'; python3 -c 'x' 2>&1 | tail -1",
        { "NameError: name 'x' is not defined\n" }
    );
}

#[tokio::test]
async fn what_is_missing_says_so() {
    let setting = Setting::shared().await;
    let sandbox = sandbox(&setting).await;
    let no_processes = "import subprocess; subprocess.run([\"ls\"])";
    for code in [
        if is_3_13() { "import ctypes" } else { no_processes },
        "import urllib.request; urllib.request.urlopen(\"http://example.com\", timeout=2)",
        "import threading; threading.Thread(target=print).start()",
    ] {
        let ran = sandbox.run(&format!("python3 -c '{code}'")).await;
        assert_eq!(ran.exit_code, 1, "{code}: {ran:?}");
        assert!(ran.stderr.contains("Error"), "{code}: {ran:?}");
    }
}
