//! Modules of the package depend downward only, and each foreign framework stays in its layer. The compiler holds this for
//! crates; for modules of one crate this test does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules, lowest first. Those of one line do not know each other.
const LAYERS: &[&[&str]] = &[
    &["duration", "scope"],
    &["settings"],
    &["provider"],
    &["store", "worker", "embed"],
    &["config"],
    &["sandbox"],
    &["api"],
    &["cli"],
];

/// Foreign crates and the only modules that may use them, tests aside.
const FRAMEWORKS: &[(&str, &[&str])] = &[
    ("axum", &["api"]),
    ("utoipa", &["api"]),
    ("utoipa_axum", &["api"]),
    ("tower_http", &["api"]),
    ("rusqlite", &["store"]),
    // `wisp doctor` asks the engine what it can do.
    ("bollard", &["provider", "cli"]),
    ("clap", &["cli"]),
];

/// What another crate offers under a name of this one (`pub use wisp_vfs as vfs`).
const CRATES: &[&str] = &["vfs", "kernel", "image", "registry", "FUZZ"];

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// All source files below a directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The code of a file without comments, so that documentation may link upward.
fn code(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The first components of the paths that start with `prefix`, such as the modules after `crate::`.
fn names_after<'a>(code: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(prefix)
        .filter(move |(index, _)| !code[..*index].ends_with(|c: char| is_name(c) || c == '$'))
        .map(move |(index, _)| {
            let rest = &code[index + prefix.len()..];
            &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]
        })
}

/// Why a file of a module breaks the order, one line for each reason.
fn faults(module: &str, code: &str, is_test: bool) -> BTreeSet<String> {
    let mut faults = BTreeSet::new();
    let Some(own) = layer_of(module) else {
        return BTreeSet::from([format!("the module `{module}` has no place in LAYERS")]);
    };
    for used in names_after(code, "crate::") {
        let is_below = layer_of(used).is_some_and(|layer| layer < own);
        if used != module && !is_below && !CRATES.contains(&used) {
            faults.insert(format!("`{module}` uses `{used}`, which is not below it"));
        }
    }
    for (framework, users) in FRAMEWORKS {
        let path = format!("{framework}::");
        if !is_test && !users.contains(&module) && names_after(code, &path).next().is_some() {
            faults.insert(format!("`{module}` uses `{framework}`, which is for {users:?}"));
        }
    }
    faults
}

#[test]
fn modules_depend_downward_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in sources(&src) {
        let inside = file.strip_prefix(&src).expect("a path below src");
        let first = inside.iter().next().expect("a name");
        let module = Path::new(first)
            .file_stem()
            .and_then(|name| name.to_str())
            .expect("UTF-8");
        if matches!(module, "lib" | "main") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file");
        let is_test = inside.iter().any(|part| part == "tests" || part == "tests.rs");
        found.extend(
            faults(module, &code(&text), is_test)
                .into_iter()
                .map(|fault| format!("{}: {fault}", inside.display())),
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn an_upward_or_sideways_use_is_a_fault() {
    for (module, code) in [
        ("store", "use crate::config::Config;"),
        ("store", "use crate::worker::WorkerPool;"),
        ("provider", "let scope = crate::api::Scope::Read;"),
        ("config", "#[derive(utoipa::ToSchema)]"),
        ("store", "use crate::{config, scope};"),
        ("newcomer", ""),
    ] {
        assert!(!faults(module, code, false).is_empty(), "{module}: {code}");
    }
    for (module, code) in [
        ("api", "use crate::config::Config;"),
        ("store", "use crate::store::Store;"),
        ("provider", "use wisp_kernel::Kernel; use crate::vfs::Fs;"),
    ] {
        assert_eq!(faults(module, code, false), BTreeSet::new(), "{module}: {code}");
    }
    assert_eq!(code("// use crate::cli\nlet a = 1; // crate::api"), "\nlet a = 1; ");
}
