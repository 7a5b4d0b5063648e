//! Whether a module can be a program here: everything that a start would stumble over, known beforehand.

use wasmtime::{Engine, ExternType, Module, ResourcesRequired, UnknownImportError};

use super::limiter::{MAX_TABLE_ELEMENTS, MAX_TABLES};
use super::runtime::new_linker;

/// Bytes of a page of linear memory.
const PAGE: u64 = 64 << 10;
/// Most characters of a name that a message repeats.
const MAX_SHOWN_CHARS: usize = 80;

/// Why a module cannot be a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It wants something that nobody provides.
    #[error(
        "it imports `{0}`, which a sandbox does not have; a program may import WASI preview1 \
         (`wasi_snapshot_preview1`) only"
    )]
    Import(String),
    /// It wants a function by a type it does not have.
    #[error("it imports a function under a wrong type: {0}")]
    ImportType(String),
    /// It has no entry.
    #[error("it has no function `_start` without parameters and results: build a program with a `main`, not a library")]
    NoStart,
    /// Nobody can reach its memory.
    #[error("it does not export its memory under the name `memory`, as WASI demands")]
    NoMemory,
    /// It declares more than an instance may have.
    #[error("it declares {0}")]
    TooLarge(String),
}

/// What a program needs whenever it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of linear memory at its start.
    pub memory_bytes: u64,
}

/// Checks a compiled module.
///
/// # Errors
/// The first thing that keeps it from being a program.
pub fn check_module(engine: &Engine, module: &Module) -> Result<Needs, Unfit> {
    let linker = new_linker(engine).map_err(|error| Unfit::ImportType(excerpt(&error.to_string())))?;
    if let Err(error) = linker.instantiate_pre(module) {
        return Err(match error.downcast_ref::<UnknownImportError>() {
            Some(unknown) => Unfit::Import(format!("{}.{}", excerpt(unknown.module()), excerpt(unknown.name()))),
            None => Unfit::ImportType(excerpt(&error.to_string())),
        });
    }
    let is_entry = |export| matches!(export, ExternType::Func(ty) if ty.params().len() == 0 && ty.results().len() == 0);
    if !module.get_export("_start").is_some_and(is_entry) {
        return Err(Unfit::NoStart);
    }
    if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
        return Err(Unfit::NoMemory);
    }
    check_size(&module.resources_required(), 1, MAX_TABLES)
}

/// Checks a compiled module of an image, which says itself how the module starts. An import that is not there is none of its
/// faults: it ends the process when it is called.
///
/// # Errors
/// The first thing that keeps it from being a program.
pub fn check_image_module(engine: &Engine, module: &Module) -> Result<Needs, Unfit> {
    let wrong_type = |error: wasmtime::Error| Unfit::ImportType(excerpt(&error.to_string()));
    let mut linker = new_linker(engine).map_err(|error| Unfit::ImportType(excerpt(&error.to_string())))?;
    linker.define_unknown_imports_as_traps(module).map_err(wrong_type)?;
    linker.instantiate_pre(module).map_err(wrong_type)?;
    if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
        return Err(Unfit::NoMemory);
    }
    check_size(&module.resources_required(), 1, MAX_TABLES)
}

/// Checks what an instance declares against what [`MemoryLimiter`](super::limiter::MemoryLimiter) grants at most.
pub(super) fn check_size(required: &ResourcesRequired, memories: usize, tables: usize) -> Result<Needs, Unfit> {
    if required.num_memories as usize > memories {
        return Err(Unfit::TooLarge(format!(
            "{} memories, and may have {memories}",
            required.num_memories
        )));
    }
    if required.num_tables as usize > tables {
        return Err(Unfit::TooLarge(format!(
            "{} tables, and may have {tables}",
            required.num_tables
        )));
    }
    let elements = required.max_initial_table_size.unwrap_or(0);
    if elements > MAX_TABLE_ELEMENTS as u64 {
        return Err(Unfit::TooLarge(format!(
            "a table of {elements} elements, and may have {MAX_TABLE_ELEMENTS}"
        )));
    }
    let pages = required.max_initial_memory_size.unwrap_or(0);
    Ok(Needs {
        memory_bytes: pages.saturating_mul(PAGE),
    })
}

/// A name of the module's author, fit for a message: short, and without control characters.
pub(super) fn excerpt(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(MAX_SHOWN_CHARS)
        .collect()
}
