//! Compiling modules ahead of time, and loading the compiled code.
//!
//! Compiled code is trusted: loading it runs it. It lies in the store's directory, which only its owner can write to,
//! so whoever could forge a file there could as well replace this program. What the checksum finds is what remains:
//! files that were cut off, damaged or mixed up. It is SHA-256, which needs no key.

use std::fs::File;
use std::io::{Read, Seek};

use wasmtime::{Engine, Module};

#[cfg(feature = "compiler")]
use super::bulk_memory;
use super::digest::Digest;
use super::error::ImageError;
use super::private_dir::PrivateDir;
use super::soundness;
use wisp_kernel::{CompiledModule, Engines};

/// Number of what is done to a module before it is compiled: another one makes all code be compiled anew. 1 was nothing,
/// 2 bounds bulk memory instructions.
const CODE_FORM: u32 = 2;

/// Name of a module's WebAssembly in the store.
pub(super) fn wasm_name(digest: Digest) -> String {
    format!("modules/{digest}.wasm")
}

/// Directory of the code compiled in one form for one engine version and configuration. wasmtime checks both again when it
/// loads the code, and refuses code of another engine, which is then compiled anew.
pub(super) fn engine_dir(engine: &Engine) -> String {
    format!("compiled/{}", engine_key(engine))
}

/// What [`engine_dir`] is called, and code for this engine in artifacts.
pub(super) fn engine_key(engine: &Engine) -> String {
    format!("{}-{CODE_FORM}", wisp_kernel::code_key(engine))
}

/// Loads a module of the store. If no good code for one of the engines is there, `compile` makes it first; it holds the
/// store's lock, and takes seconds.
pub(super) fn load(
    store: &PrivateDir,
    engines: &Engines,
    digest: Digest,
    compile: impl Fn(&Engine) -> Result<(), ImageError>,
) -> Result<CompiledModule, ImageError> {
    if let Some(module) = load_compiled(store, engines, digest)? {
        return Ok(module);
    }
    let _lock = store.lock()?;
    for engine in engines.compiled_for() {
        // Another installer may have compiled it while this one waited.
        let code = verified(store, engine, digest)?;
        if code.is_none_or(|code| deserialize(engine, &code).is_err()) {
            compile(engine)?;
        }
    }
    load_compiled(store, engines, digest)?.ok_or_else(|| ImageError::Damaged(wasm_name(digest)))
}

/// This build has no compiler.
#[cfg(not(feature = "compiler"))]
pub(super) fn compile(_store: &PrivateDir, _engine: &Engine, _digest: Digest) -> Result<(), ImageError> {
    Err(ImageError::NoCompiler)
}

/// Compiles a module of the store. The caller holds the store's lock.
#[cfg(feature = "compiler")]
pub(super) fn compile(store: &PrivateDir, engine: &Engine, digest: Digest) -> Result<(), ImageError> {
    let name = wasm_name(digest);
    let wasm = store.read(&name)?.filter(|wasm| Digest::of(wasm) == digest);
    let wasm = wasm.ok_or_else(|| ImageError::Damaged(store.path(&name).display().to_string()))?;
    let failed = |reason| ImageError::Module {
        what: name.clone(),
        reason,
    };
    let wasm = bulk_memory::bound(&wasm).map_err(|error| failed(error.to_string()))?;
    let code = engine.precompile_module(&wasm);
    let code = code.map_err(|error| failed(format!("{error:#}")))?;
    put(store, engine, digest, code.as_slice())
}

/// Stores compiled code of a module. The caller holds the store's lock.
pub(super) fn put(store: &PrivateDir, engine: &Engine, digest: Digest, code: impl Read) -> Result<(), ImageError> {
    let (code_name, checksum_name) = names(engine, digest);
    // Until the checksum is there too, or while it is an old one, this counts as not compiled.
    let (checksum, _) = store.write_from(&code_name, code)?;
    store.write(&checksum_name, checksum.to_string().as_bytes())
}

/// Whether a good compiled module is there.
pub(super) fn is_compiled(store: &PrivateDir, engine: &Engine, digest: Digest) -> Result<bool, ImageError> {
    Ok(verified(store, engine, digest)?.is_some())
}

fn names(engine: &Engine, digest: Digest) -> (String, String) {
    let directory = engine_dir(engine);
    (
        format!("{directory}/{digest}.cwasm"),
        format!("{directory}/{digest}.sha256"),
    )
}

/// Opens compiled code whose checksum is right.
pub(super) fn verified(store: &PrivateDir, engine: &Engine, digest: Digest) -> Result<Option<File>, ImageError> {
    let (code_name, checksum_name) = names(engine, digest);
    let (Some(mut file), Some(checksum)) = (store.open_file(&code_name)?, store.read(&checksum_name)?) else {
        return Ok(None);
    };
    let failed = || ImageError::io(store.path(&code_name));
    let checksum = String::from_utf8_lossy(&checksum).into_owned();
    let sound = soundness::is_sound(store, &code_name, &file, &checksum, || {
        let (found, _) = Digest::of_reader(&file).map_err(failed())?;
        Ok(found.to_string() == checksum)
    });
    if !sound? {
        tracing::warn!(
            file = code_name,
            "compiled code has the wrong checksum; it is compiled again"
        );
        return Ok(None);
    }
    file.rewind().map_err(failed())?;
    Ok(Some(file))
}

/// Loads compiled code if it is good, and there for each engine.
pub(super) fn load_compiled(
    store: &PrivateDir,
    engines: &Engines,
    digest: Digest,
) -> Result<Option<CompiledModule>, ImageError> {
    let Some(code) = verified(store, engines.on_demand(), digest)? else {
        return Ok(None);
    };
    let fuel_code = match engines.fuel() {
        Some(engine) => match verified(store, engine, digest)? {
            None => return Ok(None),
            found => found,
        },
        None => None,
    };
    let module = CompiledModule::load(engines, |engine| {
        let fuel_code = fuel_code.as_ref().filter(|_| engines.counts_fuel(engine));
        deserialize(engine, fuel_code.unwrap_or(&code))
    });
    match module {
        Ok(module) => Ok(Some(module)),
        Err(error) => {
            tracing::warn!(%error, %digest, "compiled code is of another engine; it is compiled again");
            Ok(None)
        }
    }
}

/// Whether an engine takes code from an artifact that a trusted key has signed. The file has no name, so that nothing else
/// can change it.
pub(super) fn check_code(engine: &Engine, code: &File) -> wasmtime::Result<()> {
    deserialize(engine, code).map(drop)
}

/// Loads code that [`verified`] has checked, or a signature.
fn deserialize(engine: &Engine, code: &File) -> wasmtime::Result<Module> {
    let file = code.try_clone()?;
    // SAFETY: the file was written by `compile` from `Engine::precompile_module`, as its checksum shows, or it was signed
    // by a key that the deployer trusts to sign nothing else; it is the very file that was checked, not one opened again
    // by name; only this user can write to the store's directory, and wisp replaces files there by renaming, never
    // changes them.
    #[expect(unsafe_code, reason = "wasmtime cannot check compiled code itself")]
    unsafe {
        Module::deserialize_open_file(engine, file)
    }
}
