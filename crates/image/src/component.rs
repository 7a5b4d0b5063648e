//! Programs that are WASI 0.2 components.

use std::os::fd::AsRawFd as _;
use std::sync::{Arc, OnceLock};

use wasmtime::Engine;
use wasmtime::component::Component;
use wisp_component::Components;
use wisp_kernel::{ForeignProgram, RuntimeError};

use super::compile;
use super::compiler::{Compiler, ModuleOrigin};
use super::digest::Digest;
use super::error::ImageError;
use super::import;
use super::module::{ModuleError, Reader, Writer, section};
use super::private_dir::PrivateDir;
use super::{bulk_memory, module};

/// First bytes of a component.
const HEADER: &[u8; 8] = b"\0asm\x0d\0\x01\0";
/// A core module within a component (component model, binary format).
const MODULE: u8 = 1;
/// A component within a component.
const COMPONENT: u8 = 4;

/// What this process compiles and loads components with. Made when the first one comes.
pub(super) fn components() -> Result<&'static Components, RuntimeError> {
    static COMPONENTS: OnceLock<Components> = OnceLock::new();
    if let Some(components) = COMPONENTS.get() {
        return Ok(components);
    }
    let made = Components::new()?;
    Ok(COMPONENTS.get_or_init(|| made))
}

fn failed(digest: Digest, error: &dyn std::fmt::Display) -> ImageError {
    ImageError::Module {
        what: compile::wasm_name(digest),
        reason: error.to_string(),
    }
}

/// The engine that the code of components is compiled for.
pub(super) fn engine(digest: Digest) -> Result<Engine, ImageError> {
    let components = components().map_err(|error| failed(digest, &error))?;
    Ok(components.engine().clone())
}

/// Whether good code of a component is there.
pub(super) fn is_compiled(store: &PrivateDir, digest: Digest) -> Result<bool, ImageError> {
    let components = components().map_err(|error| failed(digest, &error))?;
    Ok(load_compiled(store, components, digest)?.is_some())
}

/// Stores compiled code. The caller holds the store's lock.
pub(super) fn put(store: &PrivateDir, digest: Digest, code: impl std::io::Read) -> Result<(), ImageError> {
    let components = components().map_err(|error| failed(digest, &error))?;
    compile::put(store, components.engine(), digest, code)
}

/// Loads a component of the store. If no good code for the engine is there, it is compiled first, which takes seconds.
pub(super) fn load(
    store: &PrivateDir,
    digest: Digest,
    compiler: &Compiler,
) -> Result<Arc<dyn ForeignProgram>, ImageError> {
    let components = components().map_err(|error| failed(digest, &error))?;
    let component = match load_compiled(store, components, digest)? {
        Some(component) => component,
        None => {
            let _lock = store.lock()?;
            // Another process may have compiled it while this one waited.
            if load_compiled(store, components, digest)?.is_none() {
                tracing::info!(%digest, "compiling a component for this engine");
                import::recompile(store, components.engine(), digest, compiler, false, ModuleOrigin::User)?;
            }
            load_compiled(store, components, digest)?.ok_or_else(|| ImageError::Damaged(compile::wasm_name(digest)))?
        }
    };
    components
        .program(&component)
        .map_err(|error| failed(digest, &format!("{error:#}")))
}

fn load_compiled(store: &PrivateDir, components: &Components, digest: Digest) -> Result<Option<Component>, ImageError> {
    let Some(code) = compile::verified(store, components.engine(), digest)? else {
        return Ok(None);
    };
    // The very file that was checked, not one opened again by its name.
    let path = format!("/proc/self/fd/{}", code.as_raw_fd());
    // SAFETY: as for modules (`compile::deserialize`): the compiling child made the file, as its checksum shows, only this
    // user can write to the store's directory, and wisp replaces files there by renaming, never changes them.
    #[expect(unsafe_code, reason = "wasmtime cannot check compiled code itself")]
    let loaded = unsafe { Component::deserialize_file(components.engine(), path) };
    match loaded {
        Ok(component) => Ok(Some(component)),
        Err(error) => {
            tracing::warn!(%error, %digest, "compiled code is of another engine; it is compiled again");
            Ok(None)
        }
    }
}

/// The component without custom sections, its modules included.
pub(super) fn strip(wasm: &[u8]) -> Result<Vec<u8>, ModuleError> {
    rewrite(wasm, module::strip, true)
}

/// The component with the bulk memory instructions of its modules bounded.
pub(super) fn bound(wasm: &[u8]) -> Result<Vec<u8>, ModuleError> {
    rewrite(wasm, bulk_memory::bound, true)
}

/// The component with each of its modules replaced. `wisp_component::check_structure` has seen that components within it
/// have none in turn.
fn rewrite(
    wasm: &[u8],
    replace: fn(&[u8]) -> Result<Vec<u8>, ModuleError>,
    outermost: bool,
) -> Result<Vec<u8>, ModuleError> {
    let mut reader = Reader(wasm.strip_prefix(HEADER).ok_or(ModuleError::Malformed)?);
    let mut out = Writer(HEADER.to_vec());
    while !reader.0.is_empty() {
        let id = reader.byte()?;
        let len = reader.number()?;
        let body = reader.take(len)?;
        match id {
            section::CUSTOM => {}
            MODULE => out.section(id, &replace(body)?),
            COMPONENT if outermost => out.section(id, &rewrite(body, replace, false)?),
            COMPONENT => return Err(ModuleError::Malformed),
            _ => out.section(id, body),
        }
    }
    Ok(out.0)
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        CodeSection, Component as Builder, CustomSection, Function, FunctionSection, Instruction, MemorySection,
        MemoryType, Module, ModuleSection, NestedComponentSection, TypeSection,
    };

    use super::*;

    /// A module that fills its memory.
    fn filling() -> Module {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut functions = FunctionSection::new();
        functions.function(0);
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: 1,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        let mut body = Function::new([]);
        // A length that is not a constant.
        for instruction in [
            Instruction::I32Const(0),
            Instruction::I32Const(1),
            Instruction::MemorySize(0),
            Instruction::MemoryFill(0),
            Instruction::End,
        ] {
            body.instruction(&instruction);
        }
        let mut code = CodeSection::new();
        code.function(&body);
        let mut module = Module::new();
        module
            .section(&types)
            .section(&functions)
            .section(&memories)
            .section(&code)
            .section(&CustomSection {
                name: "notes".into(),
                data: b"a note".into(),
            });
        module
    }

    fn component(module: &Module) -> Builder {
        let mut component = Builder::new();
        component.section(&ModuleSection(module));
        component
    }

    fn find(bytes: &[u8], wanted: &[u8]) -> bool {
        bytes.windows(wanted.len()).any(|window| window == wanted)
    }

    #[test]
    fn modules_of_a_component_and_of_those_within_lose_their_notes_and_long_fills() {
        let module = filling();
        let plain = module.clone().finish();
        let bounded = bulk_memory::bound(&module::strip(&plain).unwrap()).unwrap();
        assert_ne!(bounded.len(), plain.len());
        let mut outer = component(&module);
        outer.section(&NestedComponentSection(&component(&module)));
        let wasm = outer.finish();
        assert!(find(&wasm, b"a note") && !find(&wasm, &bounded));
        let done = bound(&strip(&wasm).unwrap()).unwrap();
        assert!(!find(&done, b"a note"));
        let count = done.windows(bounded.len()).filter(|window| *window == bounded).count();
        assert_eq!(count, 2);
        wasmparser::Validator::new().validate_all(&done).unwrap();
    }

    #[test]
    fn a_component_that_is_cut_off_or_too_deep_is_refused() {
        let mut deep = component(&filling());
        for _ in 0..2 {
            let mut outer = Builder::new();
            outer.section(&NestedComponentSection(&deep));
            deep = outer;
        }
        assert_eq!(strip(&deep.finish()), Err(ModuleError::Malformed));
        let whole = component(&filling()).finish();
        for len in 1..whole.len() {
            // Eight bytes are an empty component.
            assert_eq!(strip(&whole[..len]).is_ok(), len == HEADER.len(), "{len}");
        }
    }
}
