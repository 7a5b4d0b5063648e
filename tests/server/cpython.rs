//! CPython's own tests: a few that are quick. `scripts/python-tests` without arguments runs all that are listed.

use std::process::{Command, Stdio};

use crate::images;

/// What is run, of the list in `tests/fixtures/python/cpython.txt`.
const QUICK: [&str; 13] = [
    "test_atexit",
    "test_bisect",
    "test_dict",
    "test_file",
    "test_float",
    "test_gc",
    "test_popen",
    "test_posix",
    "test_random",
    "test_runpy",
    "test_secrets",
    "test_stat",
    "test_uuid",
];

#[test]
fn quick_ones_of_cpythons_own_tests_end_as_listed() {
    images::install_python_3_13();
    let ran = Command::new("scripts/python-tests")
        .args(QUICK)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("WISP", env!("CARGO_BIN_EXE_wisp"))
        .stdin(Stdio::null())
        .output()
        .expect("the script starts");
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(printed.ends_with("13 modules, 0 not as expected\n"), "{printed}");
}
