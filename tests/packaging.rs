//! What `packaging/` holds: an installed wisp works without its sources, and the unit and the configurations are valid.

mod server_support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use server_support::images;

/// `packaging/`.
fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

/// Where this user's images are.
fn cache() -> PathBuf {
    let named = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    named("WISP_CACHE_DIR")
        .or_else(|| Some(named("XDG_CACHE_HOME")?.join("wisp")))
        .or_else(|| Some(named("HOME")?.join(".cache/wisp")))
        .expect("a home")
}

/// `wisp` in a place where no wisp.toml of anybody's is read.
fn wisp(program: &Path, arguments: &[&str], environment: &BTreeMap<String, String>) -> Output {
    let mut command = Command::new(program);
    let output = command.current_dir("/").args(arguments).envs(environment).output();
    output.expect("the wisp program starts")
}

#[track_caller]
fn assert_succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The variables that a file sets for wisp, `WISP_NAME=value` behind whatever else is on the line.
fn variables(file: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(packaging().join(file)).expect("the file");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = lines.flat_map(str::split_whitespace);
    let found: BTreeMap<_, _> = words
        .filter_map(|word| word.strip_prefix("Environment=").unwrap_or(word).split_once('='))
        .filter(|(name, _)| name.starts_with("WISP_"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert!(!found.is_empty(), "{file} sets nothing");
    found
}

#[test]
fn an_installed_wisp_needs_nothing_of_its_sources() {
    images::install();
    let root = tempfile::tempdir().expect("a directory");
    let install = || {
        let output = Command::new(packaging().join("install"))
            .arg(env!("CARGO_BIN_EXE_wisp"))
            .arg(cache())
            .env("DESTDIR", root.path())
            .output();
        assert_succeeded(&output.expect("bash starts"));
    };
    install();
    let configuration = root.path().join("etc/wisp/wisp.toml");
    fs::write(&configuration, "# changed\n").expect("it is there");
    install();
    let kept = fs::read_to_string(configuration).expect("it is there");
    assert_eq!(kept, "# changed\n", "an update keeps the configuration");

    let place = |path: &str| root.path().join(path).to_str().expect("UTF-8").to_owned();
    let environment = BTreeMap::from([
        ("WISP_CACHE_DIR".to_owned(), place("var/cache/private/wisp")),
        ("WISP_IMAGES_DIR".to_owned(), place("nowhere")),
        ("HOME".to_owned(), place("nowhere")),
    ]);
    let program = root.path().join("usr/local/bin/wisp");
    let arguments = ["run", "python:3.12", "-c", "python3 -c 'print(40 + 2)' | cat"];
    let ran = wisp(&program, &arguments, &environment);
    assert_succeeded(&ran);
    assert_eq!(ran.stdout, b"42\n");
    for path in ["etc/systemd/system/wisp.service", "usr/local/share/man/man1/wisp.1"] {
        assert!(root.path().join(path).is_file(), "{path}");
    }
}

#[test]
fn the_configurations_are_understood() {
    let program = Path::new(env!("CARGO_BIN_EXE_wisp"));
    let file = packaging().join("wisp.toml");
    let check = ["config", "check", file.to_str().expect("a path in UTF-8")];
    assert_succeeded(&wisp(program, &check, &variables("wisp.service")));
    assert_succeeded(&wisp(program, &["config", "check"], &variables("Dockerfile")));
}

#[test]
fn the_container_is_built_with_the_toolchain_that_wisp_needs() {
    let text = fs::read_to_string(packaging().join("Dockerfile")).expect("the file");
    let image = format!("FROM rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(text.contains(&image), "no {image} in {text}");
}

#[test]
#[expect(clippy::print_stderr, reason = "who runs the tests is to know")]
fn systemd_takes_the_unit() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("there is no systemd-analyze: the unit is not verified");
        return;
    }
    let unit = fs::read_to_string(packaging().join("wisp.service")).expect("the unit");
    let unit = unit.replace("/usr/local/bin/wisp", env!("CARGO_BIN_EXE_wisp"));
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("wisp.service");
    fs::write(&path, unit).expect("a file");
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(path)
        .output()
        .expect("systemd-analyze starts");
    let messages = String::from_utf8_lossy(&verified.stderr);
    let ours: Vec<_> = messages.lines().filter(|line| line.contains("wisp.service")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{messages}");
}
