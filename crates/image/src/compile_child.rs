//! What `wisp compile-module` does: checks and compiles a file nobody has read, in a process of its own.
//!
//! The process limits itself before it looks at the first byte. It reads the file from standard input, writes the
//! result to standard output ([`write_output`]), and says what it found in one line of JSON on standard error
//! ([`Verdict`]). Whatever else happens (it is killed, it runs out of memory, the compiler panics), the file is refused.

use std::io::{self, Read as _, Write as _};

use rustix::process::{Resource, Rlimit, Signal};
use wasmparser::{Parser, Validator, WasmFeatures};
use wasmtime::{Engine, Module};

use super::compiler::{ModuleOrigin, Verdict};
use super::record::ModuleKind;
use super::{bulk_memory, module};
use wisp_kernel::Needs;

/// Open files it may have: the three it is given, and what the C library wants.
const MAX_OPEN_FILES: u64 = 32;
/// How far it steps back behind the server (`nice(2)`).
const NICENESS: i32 = 10;
/// Most bytes of a verdict's reason. Reasons repeat what the module says.
const MAX_REASON_BYTES: usize = 1000;

/// What is said of a component by a build that runs none.
#[cfg(not(feature = "component"))]
const COMPONENT: &str = "it is a component (WASI 0.2), and this build of wisp runs WASI preview1 modules only: build a \
                         module instead, in Rust with `--target wasm32-wasip1`, in C with `zig cc -target wasm32-wasi`";

/// Limits the process sets for itself.
#[derive(Debug, Clone, Copy)]
pub struct ChildLimits {
    /// Memory, bytes; also the size of the result.
    pub memory_bytes: u64,
    /// Processor time of all threads together, seconds.
    pub cpu_seconds: u64,
}

/// A program, compiled.
struct Compiled {
    kind: ModuleKind,
    needs: Needs,
    /// Its WebAssembly without custom sections.
    wasm: Vec<u8>,
    code: Vec<u8>,
}

/// The life of the process. With `counts_fuel` it compiles for the engine that counts fuel.
///
/// # Errors
/// When it cannot be limited, or its streams are not what they should be.
pub fn run(limits: ChildLimits, counts_fuel: bool, origin: ModuleOrigin) -> io::Result<()> {
    confine(limits)?;
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm)?;
    let verdict = match compile(wasm, counts_fuel, origin) {
        Ok(compiled) => {
            write_output(&compiled)?;
            Verdict::Accepted {
                kind: compiled.kind,
                memory_bytes: compiled.needs.memory_bytes,
            }
        }
        Err(verdict) => verdict,
    };
    let mut line = serde_json::to_vec(&verdict)?;
    line.push(b'\n');
    io::stderr().lock().write_all(&line)
}

/// Gives up what the process does not need.
fn confine(limits: ChildLimits) -> io::Result<()> {
    let at_most = |resource, most| {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        rustix::process::setrlimit(resource, limit)
    };
    // Not the address space: threads of the compiler reserve much more than they touch.
    at_most(Resource::Data, limits.memory_bytes)?;
    at_most(Resource::Fsize, limits.memory_bytes)?;
    at_most(Resource::Cpu, limits.cpu_seconds)?;
    at_most(Resource::Nofile, MAX_OPEN_FILES)?;
    at_most(Resource::Core, 0)?;
    rustix::process::nice(NICENESS)?;
    #[cfg(target_os = "linux")]
    {
        rustix::thread::set_no_new_privs(true)?;
        // Should the server die first, nobody waits for the result.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // If the machine runs out of memory, this is what goes. Where it cannot be said, the limits have to do.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
    Ok(())
}

/// Checks and compiles.
fn compile(wasm: Vec<u8>, counts_fuel: bool, origin: ModuleOrigin) -> Result<Compiled, Verdict> {
    // With every proposal switched on: what fails here is wrong, whatever an engine may know.
    let component = Parser::is_component(&wasm);
    if !component && !Parser::is_core_wasm(&wasm) {
        return Err(refused(
            &"it is not a WebAssembly module or component: the first bytes are wrong",
        ));
    }
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    validator.validate_all(&wasm).map_err(|error| refused(&error))?;
    if component {
        return compile_component(&wasm);
    }
    let engine = if counts_fuel {
        wisp_kernel::new_fuel_engine()
    } else {
        wisp_kernel::new_engine()
    };
    compile_module(&engine.map_err(|error| refused(&error))?, wasm, origin)
}

#[cfg(not(feature = "component"))]
fn compile_component(_wasm: &[u8]) -> Result<Compiled, Verdict> {
    Err(Verdict::Unsupported {
        reason: COMPONENT.to_owned(),
    })
}

#[cfg(feature = "component")]
fn compile_component(wasm: &[u8]) -> Result<Compiled, Verdict> {
    use super::component;
    use wisp_component::Unfit;

    let unfit = |error: Unfit| match error {
        Unfit::Composed => Verdict::Unsupported {
            reason: error.to_string(),
        },
        error => refused(&error),
    };
    wisp_component::check_structure(wasm).map_err(unfit)?;
    let components = component::components().map_err(|error| refused(&error))?;
    let wasm = component::strip(wasm).map_err(|error| refused(&error))?;
    let bounded = component::bound(&wasm).map_err(|error| refused(&error))?;
    let compiled = wasmtime::component::Component::new(components.engine(), &bounded);
    let compiled = compiled.map_err(|error| not_compiled(&error))?;
    let needs = components.check(&compiled).map_err(unfit)?;
    let code = compiled.serialize().map_err(|error| not_compiled(&error))?;
    Ok(Compiled {
        kind: ModuleKind::Component,
        needs,
        wasm,
        code,
    })
}

fn compile_module(engine: &Engine, wasm: Vec<u8>, origin: ModuleOrigin) -> Result<Compiled, Verdict> {
    let wasm = module::strip(&wasm).map_err(|error| refused(&error))?;
    let bounded = bulk_memory::bound(&wasm).map_err(|error| refused(&error))?;
    let compiled = Module::new(engine, &bounded).map_err(|error| not_compiled(&error))?;
    let needs = match origin {
        ModuleOrigin::User => wisp_kernel::check_module(engine, &compiled),
        ModuleOrigin::Image => wisp_kernel::check_image_module(engine, &compiled),
    };
    let needs = needs.map_err(|error| refused(&error))?;
    let code = compiled.serialize().map_err(|error| not_compiled(&error))?;
    Ok(Compiled {
        kind: ModuleKind::Module,
        needs,
        wasm,
        code,
    })
}

fn refused(reason: &dyn std::fmt::Display) -> Verdict {
    Verdict::Refused {
        reason: bounded(&reason.to_string()),
    }
}

/// It is valid, and yet the engine does not take it.
fn not_compiled(error: &wasmtime::Error) -> Verdict {
    let out_of_memory = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::OutOfMemory)
    };
    if error.chain().any(out_of_memory) {
        return Verdict::TooExpensive;
    }
    // The engine has no kind of its own for these.
    let text = format!("{error:#}");
    if text.contains("implementation limit") {
        return refused(&text);
    }
    let reason = format!(
        "it uses a feature of WebAssembly that sandboxes do not run ({text}): build it without threads, 64-bit \
         memories, garbage collection and tail calls"
    );
    Verdict::Unsupported {
        reason: bounded(&reason),
    }
}

/// One line of bounded length.
fn bounded(reason: &str) -> String {
    let mut text: String = reason
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_REASON_BYTES)
        .collect();
    text.truncate(text.floor_char_boundary(MAX_REASON_BYTES));
    text
}

/// Writes the result: eight bytes that say how long the WebAssembly is (little-endian), the WebAssembly, the code.
fn write_output(compiled: &Compiled) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(&(compiled.wasm.len() as u64).to_le_bytes())?;
    out.write_all(&compiled.wasm)?;
    out.write_all(&compiled.code)?;
    out.flush()
}
