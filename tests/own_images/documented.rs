//! The programs of `docs/own-images.md`, built and run by the commands that stand there.

use std::process::{Command, Stdio};
use std::{env, fs};

use crate::guest_build::sysroot;
use crate::store::{Store, default_cache};

const GUIDE: &str = include_str!("../../docs/own-images.md");
/// The C compiler, by its name on `PyPI`.
const ZIG: &str = "ziglang==0.13.0.post1";

/// The first block of a language after a heading.
fn block(heading: &str, language: &str) -> &'static str {
    let (_, section) = GUIDE.split_once(heading).expect("the heading");
    let (_, rest) = section.split_once(&format!("```{language}\n")).expect("the block");
    rest.split_once("```").expect("its end").0
}

/// Follows a section of the guide, and compares what it prints with what stands there.
fn follow(heading: &str, language: &str, source: &str, settings: &[(&str, &str)], prelude: &str) {
    let store = Store::new();
    let folder = tempfile::tempdir().expect("a directory");
    fs::write(folder.path().join(source), block(heading, language)).expect("the source");
    let wisp = env!("CARGO_BIN_EXE_wisp");
    let script = format!(
        "set -e\nwisp() {{ '{wisp}' \"$@\"; }}\n{prelude}\n{}",
        block(heading, "sh")
    );
    let ran = store
        .command("sh")
        .args(["-c", &script])
        .current_dir(folder.path())
        .envs(settings.iter().copied())
        .output()
        .expect("sh starts");
    let stdout = String::from_utf8_lossy(&ran.stdout);
    let printed: Vec<&str> = stdout
        .lines()
        .filter(|line| !line.contains(" is installed ("))
        .collect();
    let expected: Vec<&str> = block(heading, "text").lines().collect();
    assert_eq!(printed, expected, "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn the_rust_program_of_the_guide_becomes_an_image() {
    let sysroot = sysroot().expect("a standard library for WASI");
    let prelude = sysroot.map_or(String::new(), |sysroot| {
        format!("rustc() {{ command rustc --sysroot='{}' \"$@\"; }}", sysroot.display())
    });
    follow("## A Rust program", "rust", "greet.rs", &[], &prelude);
}

#[test]
fn the_c_program_of_the_guide_becomes_an_image() {
    let packages = default_cache().join("ziglang/0.13.0.post1");
    if !packages.join("ziglang").is_dir() {
        let installed = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--target"])
            .arg(&packages)
            .arg(ZIG)
            .stdin(Stdio::null())
            .output()
            .expect("python3 starts");
        assert!(
            installed.status.success(),
            "{}",
            String::from_utf8_lossy(&installed.stderr)
        );
    }
    let packages = packages.to_str().expect("a path that is text");
    follow("## A C program", "c", "count.c", &[("PYTHONPATH", packages)], "");
}
