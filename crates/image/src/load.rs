//! Loading installed images.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::compiler::{Compiler, ModuleOrigin};
use super::digest::{Digest, Hasher};
use super::error::ImageError;
use super::private_dir::PrivateDir;
use super::record::{LaunchRecord, ModuleKind, ProgramRecord, Record};
use super::store::ImageStore;
use super::{compile, import, layer};
use wasmtime::Engine;
use wisp_kernel::{
    CompiledModule, Engines, ForeignProgram, Launch, Program, ProgramSpec, Runtime, file_contents,
    install_system_directories,
};
use wisp_vfs::{Blob, Fs, Limits, ROOT, TimeChange, Tree};

/// Where processes start when no image of the chain says.
const DEFAULT_WORKDIR: &str = "/";
/// An image has no quota of its own; what a sandbox adds to it has.
const NO_LIMITS: Limits = Limits {
    max_bytes: u64::MAX,
    max_inodes: u64::MAX,
};

/// An image ready to make sandboxes from.
pub struct Image {
    /// What is known about it and its parents, the lowest first.
    pub chain: Vec<Record>,
    /// All its files, the parent's below.
    pub tree: Tree,
    /// Says which files these are: the same for another image only if its tree is the same, numbers of inodes included.
    pub identity: Digest,
    /// Its programs and the parent's.
    pub programs: Vec<LoadedProgram>,
    /// Environment of its processes.
    pub env: BTreeMap<String, String>,
    /// Where processes start.
    pub workdir: String,
}

/// A program of a loaded image.
#[derive(Clone)]
pub struct LoadedProgram {
    /// What the kernel is told of it.
    pub spec: ProgramSpec,
    /// Its compiled code.
    pub code: ProgramCode,
}

/// The compiled code of a program.
#[derive(Clone)]
pub enum ProgramCode {
    /// A module of the kernel.
    Module(CompiledModule),
    /// A component.
    Component(Arc<dyn ForeignProgram>),
}

impl LoadedProgram {
    /// Makes it a program of this runtime, which its engines are.
    ///
    /// # Errors
    /// When its imports cannot be resolved.
    pub fn link(self, runtime: &Runtime) -> wasmtime::Result<Program> {
        match self.code {
            ProgramCode::Module(module) => Program::new(runtime, self.spec, &module),
            ProgramCode::Component(component) => Ok(Program::foreign(runtime, self.spec, component)),
        }
    }
}

/// Loads images for one runtime. Programs that several images have are loaded once.
pub struct Loader {
    store: Arc<ImageStore>,
    engines: Engines,
    code: Mutex<HashMap<Digest, ProgramCode>>,
}

impl Loader {
    /// A loader of this store's images.
    #[must_use]
    pub fn new(store: Arc<ImageStore>, engines: Engines) -> Self {
        Self {
            store,
            engines,
            code: Mutex::default(),
        }
    }

    /// Loads an installed image, by name or alias. Takes a few ms, and seconds when a module has to be compiled because
    /// the engine is another than at installation, or one more; call it where blocking is allowed.
    ///
    /// # Errors
    /// When it or a parent is not installed, or the store is damaged.
    pub fn load(&self, name: &str) -> Result<Image, ImageError> {
        let records = self.store.installed_chain(name)?;
        let tree = tree(&self.store, &records)?;
        let identity = identity(&records, &tree);
        let mut programs: Vec<LoadedProgram> = Vec::new();
        let mut env = BTreeMap::new();
        let mut workdir = DEFAULT_WORKDIR.to_owned();
        for record in &records {
            env.extend(record.env.clone());
            if let Some(directory) = &record.workdir {
                workdir.clone_from(directory);
            }
            for program in &record.programs {
                programs.push(LoadedProgram {
                    spec: spec(program),
                    code: self.code(record, program)?,
                });
            }
        }
        Ok(Image {
            chain: records,
            tree,
            identity,
            programs,
            env,
            workdir,
        })
    }

    /// Forgets programs that none of these images has.
    pub fn retain<'a>(&self, chains: impl Iterator<Item = &'a [Record]>) {
        let used: HashSet<Digest> = chains
            .flatten()
            .flat_map(|record| &record.programs)
            .map(|program| program.digest)
            .collect();
        let mut code = self.code.lock().unwrap_or_else(PoisonError::into_inner);
        code.retain(|digest, _| used.contains(digest));
    }

    fn code(&self, record: &Record, program: &ProgramRecord) -> Result<ProgramCode, ImageError> {
        let loaded = || self.code.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = loaded().get(&program.digest) {
            return Ok(code.clone());
        }
        let code = code(self.store.dir(), &self.engines, record, program, self.store.compiler())?;
        loaded().insert(program.digest, code.clone());
        Ok(code)
    }
}

/// The code of one of an image's programs, for each engine; compiled first where it is missing.
pub(super) fn code(
    store: &PrivateDir,
    engines: &Engines,
    record: &Record,
    program: &ProgramRecord,
    compiler: &Compiler,
) -> Result<ProgramCode, ImageError> {
    let digest = program.digest;
    if program.kind == ModuleKind::Component {
        #[cfg(feature = "component")]
        return super::component::load(store, digest, compiler).map(ProgramCode::Component);
        #[cfg(not(feature = "component"))]
        return Err(no_components(digest));
    }
    let module = compile::load(store, engines, digest, |engine| {
        let counts_fuel = engines.counts_fuel(engine);
        tracing::info!(image = record.name, %digest, counts_fuel, "compiling a module for this engine");
        match (record.own, record.received) {
            (true, _) => import::recompile(store, engine, digest, compiler, counts_fuel, ModuleOrigin::User),
            (false, true) => import::recompile(store, engine, digest, compiler, counts_fuel, ModuleOrigin::Image),
            (false, false) => compile::compile(store, engine, digest),
        }
    });
    Ok(ProgramCode::Module(module?))
}

/// The engines that the code of a program is compiled for.
pub(super) fn engines_for(kind: ModuleKind, digest: Digest, engines: &Engines) -> Result<Vec<Engine>, ImageError> {
    match kind {
        ModuleKind::Module => Ok(engines.compiled_for().cloned().collect()),
        #[cfg(feature = "component")]
        ModuleKind::Component => super::component::engine(digest).map(|engine| vec![engine]),
        #[cfg(not(feature = "component"))]
        ModuleKind::Component => Err(no_components(digest)),
    }
}

/// Whether good code of a program is there for each of its engines.
pub(super) fn is_compiled(store: &PrivateDir, engines: &Engines, program: &ProgramRecord) -> Result<bool, ImageError> {
    match program.kind {
        ModuleKind::Module => Ok(compile::load_compiled(store, engines, program.digest)?.is_some()),
        #[cfg(feature = "component")]
        ModuleKind::Component => super::component::is_compiled(store, program.digest),
        #[cfg(not(feature = "component"))]
        ModuleKind::Component => Err(no_components(program.digest)),
    }
}

/// What is said of a component that another build has imported.
#[cfg(not(feature = "component"))]
pub(super) fn no_components(digest: Digest) -> ImageError {
    ImageError::Unsupported(format!(
        "{} is a component (WASI 0.2), and this build of wisp runs none",
        compile::wasm_name(digest)
    ))
}

/// The files of a chain of images, the lowest first.
pub(super) fn tree(store: &ImageStore, records: &[Record]) -> Result<Tree, ImageError> {
    let fs = Fs::new(NO_LIMITS);
    fs.set_clock(layer::file_time);
    // The root was made by the host's clock.
    fs.set_times(ROOT, TimeChange::Now, TimeChange::Now)
        .map_err(|error| ImageError::Damaged(format!("the root directory ({error})")))?;
    install_system_directories(&fs)
        .map_err(|error| ImageError::Damaged(format!("the system directories ({error})")))?;
    for record in records {
        for digest in &record.layers {
            let mapped = layer::map(store.dir(), *digest)?;
            layer::apply(&fs, &mapped).map_err(|error| wrong_layer(record, &error))?;
            layer::release_pages(&mapped);
        }
        for program in &record.programs {
            let contents = file_contents(&program.digest.to_string());
            let len = contents.len();
            let blob: Blob = Arc::new(contents);
            for path in &program.paths {
                let path = path.as_bytes();
                let added = layer::make_room(&fs, path)
                    .and_then(|()| fs.import_file(ROOT, path, 0o755, Arc::clone(&blob), 0..len));
                added.map_err(|error| wrong_layer(record, &error))?;
            }
        }
    }
    Ok(fs.freeze())
}

/// The digest of all that the files of a tree made from these records consist of.
fn identity(records: &[Record], tree: &Tree) -> Digest {
    let mut hasher = Hasher::default();
    for record in records {
        let programs = record.programs.iter().map(|program| &program.digest);
        for digest in record.layers.iter().chain(programs) {
            hasher.field(&digest.bytes());
        }
    }
    tree.describe(|part| hasher.update(part));
    hasher.finish()
}

fn wrong_layer(record: &Record, error: &dyn std::fmt::Display) -> ImageError {
    ImageError::Damaged(format!("the tree of image `{}` ({error})", record.name))
}

fn spec(program: &ProgramRecord) -> ProgramSpec {
    let launch = match &program.launch {
        LaunchRecord::Command { arguments } => Launch::Command {
            arguments: arguments.clone(),
        },
        LaunchRecord::Resume { export, parameters } => Launch::Resume {
            export: export.clone(),
            parameters: parameters.clone(),
        },
    };
    ProgramSpec {
        digest: program.digest.to_string(),
        preopens: program.preopens.clone(),
        launch,
        ignores_sigpipe: program.ignores_sigpipe,
    }
}
