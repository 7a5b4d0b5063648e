//! What is run: the programs and commands of `tests/fixtures/python/starts`.

use std::fs;
use std::path::Path;

use super::DIRECTORY;

/// What a program's standard input is.
const STDIN: &str = "one\ntwo\n";

/// One command.
pub struct Case {
    pub name: String,
    /// The shell's command.
    pub command: String,
    pub stdin: &'static str,
    /// A file that is there, by its name in the directory of the command.
    pub file: String,
    /// What is in it.
    pub program: String,
}

/// All cases for a version of Python.
pub fn of_version(version: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/python/starts");
    let mut cases = Vec::new();
    for entry in fs::read_dir(&folder).expect("the cases") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "py") {
            cases.push(program(&path));
        }
    }
    let commands = fs::read_to_string(folder.join("commands.txt")).expect("the commands");
    cases.extend(
        commands
            .split("\n### ")
            .skip(1)
            .filter_map(|text| command(text, version)),
    );
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// A program that tells what has to be new in each process.
pub fn fresh() -> Case {
    program(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/python/fresh.py"))
}

fn program(path: &Path) -> Case {
    let file = path.file_name().expect("a name").to_string_lossy().into_owned();
    Case {
        name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
        command: format!("python3 {file}"),
        stdin: STDIN,
        file,
        program: fs::read_to_string(path).expect("a program"),
    }
}

/// A part of `commands.txt`: a line with its name and, when only one can run it, the version; then the commands.
fn command(text: &str, version: &str) -> Option<Case> {
    let (head, commands) = text.split_once('\n').expect("a name and commands");
    let (name, only) = head.split_once(' ').unwrap_or((head, version));
    (only == version).then(|| Case {
        name: name.to_owned(),
        command: format!("cd {DIRECTORY}\n{commands}"),
        stdin: "",
        file: ".keep".to_owned(),
        program: String::new(),
    })
}
