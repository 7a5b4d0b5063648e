//! Programs: compiled WebAssembly modules that the files of an image name.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::{Engine, InstancePre, Module};

use super::foreign::ForeignProgram;
use super::process::Process;
use super::runtime::{Engines, Runtime};

/// First bytes of a program file: a line that names a module of the image by digest. It is not a script (`#!`), and
/// because the name is the digest, copies of the file run as well. A forged line can only name what the image has.
pub const FILE_PREFIX: &[u8] = b"\0wisp-program sha256:";

/// The contents of a program file for the module with this digest (64 hexadecimal digits).
pub fn file_contents(digest: &str) -> Vec<u8> {
    [FILE_PREFIX, digest.as_bytes(), b"\n"].concat()
}

/// How a process of a program starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launch {
    /// The export `_start`; `arguments` come before the user's own, in place of argv 0 when there are any.
    Command {
        /// Arguments placed before those of the user.
        arguments: Vec<String>,
    },
    /// A pre-initialised module: this export, with these parameters.
    Resume {
        /// The function's export name.
        export: String,
        /// Its parameters.
        parameters: Vec<i32>,
    },
}

/// What the image says of a program.
#[derive(Debug, Clone)]
pub struct ProgramSpec {
    /// SHA-256 of the WebAssembly, 64 hexadecimal digits: its name in program files.
    pub digest: String,
    /// Directories the program gets as preopened descriptors from 3 on; a preview1 libc matches the longest prefix.
    pub preopens: Vec<String>,
    /// How it starts.
    pub launch: Launch,
    /// A write to a pipe nobody reads gives the program an error instead of ending it (what CPython sets itself elsewhere).
    pub ignores_sigpipe: bool,
}

/// A compiled module, loaded wherever its processes may run.
#[derive(Clone)]
pub struct CompiledModule {
    on_demand: Module,
    /// For processes with a slot of the pool; without it none has one.
    pooled: Option<Module>,
    /// With code that counts fuel, where that is counted.
    fuel: Option<Module>,
}

/// A program, ready to be instantiated.
pub struct Program {
    /// What the image says of it.
    pub spec: ProgramSpec,
    pub(super) code: Code,
}

/// What a process of a program runs.
pub(super) enum Code {
    /// A module that calls the kernel.
    Module(Box<ModuleCode>),
    /// Something else, which runs itself.
    Foreign(Arc<dyn ForeignProgram>),
}

/// A module, ready to be instantiated.
pub(super) struct ModuleCode {
    /// The module with its imports resolved.
    pub(super) instance: InstancePre<Process>,
    /// The same for processes with a slot of the pool.
    pub(super) pooled: Option<InstancePre<Process>>,
    /// The same with code that counts fuel.
    pub(super) fuel: Option<InstancePre<Process>>,
    /// Whether `fork` may copy it.
    pub(super) can_fork: bool,
}

/// The programs of one image, by digest.
#[derive(Default, Clone)]
pub struct Programs {
    by_digest: HashMap<String, Arc<Program>>,
}

impl CompiledModule {
    /// Loads the module with each engine. One that does not fit into the slots of the pool does without.
    ///
    /// # Errors
    /// When it cannot be loaded at all.
    pub fn load<E>(engines: &Engines, load: impl Fn(&Engine) -> Result<Module, E>) -> Result<Self, E> {
        Ok(Self {
            on_demand: load(engines.on_demand())?,
            pooled: engines.pooled().and_then(|engine| load(engine).ok()),
            fuel: engines.fuel().map(&load).transpose()?,
        })
    }

    /// Whether its processes may have a slot of the pool.
    pub fn is_pooled(&self) -> bool {
        self.pooled.is_some()
    }
}

impl Program {
    /// Resolves a module's imports. Imports that nobody provides end the process when they are called.
    pub fn new(runtime: &Runtime, spec: ProgramSpec, module: &CompiledModule) -> wasmtime::Result<Self> {
        let instance = runtime.instantiate_pre(&module.on_demand)?;
        let pooled = module
            .pooled
            .as_ref()
            .map(|module| runtime.instantiate_pre_pooled(module));
        let fuel = module.fuel.as_ref().map(|module| runtime.instantiate_pre_fuel(module));
        let can_fork = can_fork(&module.on_demand);
        let code = ModuleCode {
            instance,
            pooled: pooled.transpose()?,
            fuel: fuel.transpose()?,
            can_fork,
        };
        Ok(Self {
            spec,
            code: Code::Module(Box::new(code)),
        })
    }

    /// A program that is no module of this kernel.
    pub fn foreign(runtime: &Runtime, spec: ProgramSpec, foreign: Arc<dyn ForeignProgram>) -> Self {
        runtime.tick(foreign.engine());
        Self {
            spec,
            code: Code::Foreign(foreign),
        }
    }

    /// Its module, if it is one.
    pub(super) fn module(&self) -> Option<&ModuleCode> {
        match &self.code {
            Code::Module(code) => Some(code),
            Code::Foreign(_) => None,
        }
    }
}

impl Programs {
    /// Adds a program under its digest.
    pub fn insert(&mut self, program: Program) {
        self.by_digest.insert(program.spec.digest.clone(), Arc::new(program));
    }

    /// The program a file names, by the file's first bytes.
    pub fn named_by(&self, head: &[u8]) -> Option<&Arc<Program>> {
        let digest = head.strip_prefix(FILE_PREFIX)?.get(..64)?;
        self.by_digest.get(std::str::from_utf8(digest).ok()?)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }
}

/// Fork copies linear memory and the shadow stack pointer. That is all of a module's state only if it exports both and
/// the entry, and has no other mutable global (an exported one is the only kind we could see; compilers emit just this one).
fn can_fork(module: &Module) -> bool {
    let exports = |name| module.get_export(name).is_some();
    exports("memory") && exports("__stack_pointer") && exports("wisp_fork_entry")
}
