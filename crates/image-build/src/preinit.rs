//! Pre-initialised programs: the start of an interpreter is done once, at installation, and never again.
//!
//! The program is run until it exits, which is a trap to the host: its memory is whole. Or a function that it exports for
//! this is called until it returns. That memory becomes the initial memory of the module, and processes enter it at
//! another function, which runs the user's program. A module that was not made for this needs no change: the function is
//! an inner one that is named by its number, which the pinned digest of the module holds still.
//!
//! It runs on a machine whose clock and random bytes are the same each time, so that the same recipe makes the same
//! module everywhere. What is frozen is frozen for all sandboxes of the image, and everybody can know it: no secret may be
//! in it. The hash secret of Python is; its `random` is seeded again at every start.

use std::sync::Arc;

use wasmtime::Val;

use super::error::BuildError;
use super::machine::{Machine, Task};
use super::manifest::{Preinit, Program};
use super::recipe::Recipe;
use wisp_image::ImageError;
use wisp_image::Installation;
use wisp_image::LaunchRecord;
use wisp_image::module::{self, GlobalValue, State};
use wisp_kernel::{Launch, Runtime};

/// The name under which an inner function is exported.
const ENTRY: &str = "wisp-resume";

/// What is to be done with one program.
pub(crate) struct Plan {
    /// The program file and the arguments for the run.
    pub(crate) arguments: Vec<String>,
    /// How the run begins.
    pub(crate) launch: Launch,
    /// Where processes start.
    pub(crate) entry: Entry,
}

/// Where processes start.
pub(crate) enum Entry {
    /// At the function with this number, imports counted.
    Inner(usize),
    /// At this export.
    Exported(String),
}

/// A pre-initialised module.
pub(crate) struct Preinitialised {
    /// The module.
    pub(crate) wasm: Vec<u8>,
    /// How its processes start.
    pub(crate) launch: LaunchRecord,
}

/// What the recipe says about a program with this module.
pub(crate) fn plan(recipe: &Recipe, program: &Program, preinit: &Preinit, wasm: &[u8]) -> Result<Plan, BuildError> {
    match preinit {
        Preinit::Unaware(preinit) => Ok(Plan {
            arguments: recipe.arguments(&preinit.arguments)?,
            launch: Launch::Command { arguments: Vec::new() },
            entry: Entry::Inner(preinit.function),
        }),
        Preinit::Exported(preinit) => {
            for name in [&preinit.initialize, &preinit.entry] {
                let exported = module::exports_function(wasm, name);
                if !exported.map_err(|error| module_error(&program.module, &error.to_string()))? {
                    return Err(module_error(&program.module, &format!("exports no function `{name}`")));
                }
            }
            Ok(Plan {
                arguments: program.paths.first().cloned().into_iter().collect(),
                launch: Launch::Resume {
                    export: preinit.initialize.clone(),
                    parameters: Vec::new(),
                },
                entry: Entry::Exported(preinit.entry.clone()),
            })
        }
    }
}

/// Lets the host see the globals of a module, so that it can be frozen later. This is the module to run.
pub(crate) fn instrument(what: &str, wasm: &[u8]) -> Result<(Vec<u8>, usize), BuildError> {
    module::expose_globals(wasm).map_err(|error| module_error(what, &error.to_string()))
}

/// Runs the instrumented module of `task` to its end and freezes the original `wasm` in that state. When its processes
/// start at an inner function, what the program prints are the numbers that function shall be called with.
pub(crate) fn freeze(
    task: Task<'_>,
    what: &str,
    wasm: &[u8],
    globals: usize,
    entry: Entry,
    store: &Installation<'_>,
    runtime: &Arc<Runtime>,
) -> Result<Preinitialised, BuildError> {
    let names: Vec<String> = (0..globals).map(module::global_export).collect();
    let (snapshot, printed) = Machine::new(task, store, runtime)?.run_to_snapshot(&names)?;
    let values = snapshot.globals.iter().map(|value| match value {
        Val::I32(value) => Some(GlobalValue::I32(*value)),
        Val::I64(value) => Some(GlobalValue::I64(*value)),
        Val::F32(bits) => Some(GlobalValue::F32(*bits)),
        Val::F64(bits) => Some(GlobalValue::F64(*bits)),
        _ => None,
    });
    let values: Option<Vec<GlobalValue>> = values.collect();
    let values = values.ok_or_else(|| module_error(what, "has mutable globals that are not numbers"))?;
    let state = State {
        memory: &snapshot.memory,
        globals: &values,
    };
    let (added, export, parameters) = match entry {
        Entry::Inner(function) => (Some((ENTRY, function)), ENTRY.to_owned(), parameters(what, &printed)?),
        Entry::Exported(name) => (None, name, Vec::new()),
    };
    let wasm = module::freeze(wasm, &state, added).map_err(|error| module_error(what, &error.to_string()))?;
    let launch = LaunchRecord::Resume { export, parameters };
    Ok(Preinitialised { wasm, launch })
}

/// The numbers in what a program printed.
fn parameters(what: &str, printed: &str) -> Result<Vec<i32>, BuildError> {
    let numbers = printed.split_whitespace().map(str::parse::<i32>);
    let numbers = numbers.collect::<Result<Vec<_>, _>>();
    numbers.map_err(|_| module_error(what, &format!("printed `{printed}`, not parameters")))
}

fn module_error(what: &str, reason: &str) -> BuildError {
    BuildError::Image(ImageError::Module {
        what: what.to_owned(),
        reason: reason.to_owned(),
    })
}
