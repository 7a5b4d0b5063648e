//! Pre-initialised programs: the start of an interpreter is done once, at installation, and never again.
//!
//! The program is run on a bootstrap script until it exits, which is a trap to the host: its memory is whole. That
//! memory becomes the initial memory of the module, and processes enter it at an inner function that runs the user's
//! program. The module itself needs no change, and no knowledge of being frozen; the function is named by its number,
//! which the pinned digest of the module holds still.
//!
//! What is frozen is frozen for all sandboxes of the image: no secret may be in it. The hash secret of Python is (its
//! `random` is seeded again at every start), so it differs between installations but not between sandboxes.

use std::sync::Arc;

use wasmtime::Val;

use super::error::ImageError;
use super::machine::{Machine, Task};
use super::module::{self, GlobalValue, State};
use super::private_dir::PrivateDir;
use crate::kernel::Runtime;

/// The name under which the entry is exported.
pub(super) const ENTRY: &str = "wisp-resume";

/// A pre-initialised module.
pub(super) struct Preinitialised {
    /// The module.
    pub(super) wasm: Vec<u8>,
    /// What its entry is called with.
    pub(super) parameters: Vec<i32>,
}

/// Lets the host see the globals of a module, so that it can be frozen later. This is the module to run.
pub(super) fn instrument(what: &str, wasm: &[u8]) -> Result<(Vec<u8>, usize), ImageError> {
    module::expose_globals(wasm).map_err(|error| module_error(what, &error.to_string()))
}

/// Runs the instrumented module of `task` to its end and freezes the original `wasm` in that state, to be entered at
/// function `function`. What the program prints are the numbers that function shall be called with.
pub(super) fn freeze(
    task: Task<'_>,
    what: &str,
    wasm: &[u8],
    (globals, function): (usize, usize),
    store: &PrivateDir,
    runtime: &Arc<Runtime>,
) -> Result<Preinitialised, ImageError> {
    let names: Vec<String> = (0..globals).map(module::global_export).collect();
    let (snapshot, printed) = Machine::new(task, store, runtime)?.run_to_snapshot(&names)?;
    let parameters = printed
        .split_whitespace()
        .map(str::parse::<i32>)
        .collect::<Result<Vec<_>, _>>();
    let parameters = parameters.map_err(|_| module_error(what, &format!("printed `{printed}`, not parameters")))?;
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
    let wasm = module::freeze(wasm, &state, ENTRY, function).map_err(|error| module_error(what, &error.to_string()))?;
    Ok(Preinitialised { wasm, parameters })
}

fn module_error(what: &str, reason: &str) -> ImageError {
    ImageError::Module {
        what: what.to_owned(),
        reason: reason.to_owned(),
    }
}
