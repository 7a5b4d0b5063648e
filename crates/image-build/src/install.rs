//! Installing images from their recipes.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use wisp_image::{
    Digest, FORM, ImageError, ImageStore, Installation, LaunchRecord, ModuleKind, ProgramRecord, Progress, Record,
    Step, file_stem, find, module,
};
use wisp_kernel::{Launch, Runtime};

use super::build::{self, Built};
use super::error::BuildError;
use super::machine::Task;
use super::recipe::{self, Recipe};
use super::source::{self, Files};
use super::{preinit, setup};

/// Builds images from a folder of recipes, and installs them into a store.
pub struct Builder<'a> {
    store: &'a ImageStore,
    recipes: PathBuf,
    runtime: Arc<Runtime>,
}

impl<'a> Builder<'a> {
    /// A builder that runs on `runtime` what images run once, and compiles modules for its engines.
    #[must_use]
    pub fn new(store: &'a ImageStore, recipes: PathBuf, runtime: Arc<Runtime>) -> Self {
        Self {
            store,
            recipes,
            runtime,
        }
    }

    /// Names of all images that have a recipe, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let recipes = recipe::scan(&self.recipes).into_iter();
        recipes.map(|recipe| recipe.manifest.name).collect()
    }

    /// Whether an image and those below it are installed from these very recipes.
    ///
    /// # Errors
    /// When there is no recipe, or the store cannot be read.
    pub fn is_current(&self, name: &str) -> Result<bool, BuildError> {
        for recipe in self.recipe_chain(name)? {
            let record = self.store.resolve(&recipe.manifest.name)?;
            if record.is_none_or(|record| record.recipe != recipe.digest) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Installs an image and the parents it lacks. What is installed from the same recipe already is left as it is.
    /// Blocks, for minutes when something has to be built; one installation runs at a time.
    ///
    /// # Errors
    /// When there is no recipe, an input is not what the recipe pins, or a step fails. What was installed before stays.
    pub fn install(&self, name: &str, progress: &dyn Progress) -> Result<Record, BuildError> {
        let chain = self.recipe_chain(name)?;
        let installation = self.store.begin_installation()?;
        let mut installed: Vec<Record> = Vec::new();
        for recipe in &chain {
            let current = installation
                .record(&recipe.manifest.name)?
                .filter(|record| record.recipe == recipe.digest);
            let record = match current {
                Some(record) => record,
                None => self.install_one(&installation, recipe, &installed, progress)?,
            };
            self.compile_programs(&installation, &record, progress)?;
            progress.done(&record.name);
            installed.push(record);
        }
        installation.finish()?;
        installed.pop().ok_or_else(|| self.no_recipe(name))
    }

    /// The recipes of an image and its parents, the lowest first.
    fn recipe_chain(&self, name: &str) -> Result<Vec<Recipe>, BuildError> {
        let mut chain: Vec<Recipe> = Vec::new();
        let mut seen = HashSet::new();
        let mut next = Some(name.to_owned());
        while let Some(wanted) = next.take() {
            let names = |recipe: &Recipe| recipe.manifest.names().map(str::to_owned).collect();
            let recipe = find(&wanted, recipe::scan(&self.recipes), names).ok_or_else(|| self.no_recipe(&wanted))?;
            if !seen.insert(recipe.manifest.name.clone()) {
                return Err(ImageError::ParentLoop(name.to_owned()).into());
            }
            next.clone_from(&recipe.manifest.parent);
            chain.push(recipe);
        }
        chain.reverse();
        Ok(chain)
    }

    fn no_recipe(&self, image: &str) -> BuildError {
        BuildError::NoRecipe {
            image: image.to_owned(),
            folder: self.recipes.clone(),
            known: self.names(),
        }
    }

    /// Installs one image on top of installed parents.
    fn install_one(
        &self,
        installation: &Installation<'_>,
        recipe: &Recipe,
        parents: &[Record],
        progress: &dyn Progress,
    ) -> Result<Record, BuildError> {
        let manifest = &recipe.manifest;
        // What is run once, here, has no budget.
        let engines = self.runtime.engines().without_fuel();
        let files = source::fetch(recipe, installation.dir(), progress)?;
        let built = match &manifest.build {
            Some(command) => {
                let cache = self.store.cache().join("build").join(file_stem(&manifest.name));
                Some(build::build(
                    recipe,
                    command,
                    installation.dir(),
                    cache.as_os_str(),
                    progress,
                )?)
            }
            None => None,
        };
        let inputs = Inputs {
            recipe,
            files: &files,
            built: built.as_ref(),
        };
        let mut record = Record {
            form: FORM,
            name: manifest.name.clone(),
            aliases: manifest.aliases.clone(),
            version: manifest.version.clone(),
            parent: manifest.parent.clone(),
            summary: manifest.summary.clone(),
            licences: manifest.licences.clone(),
            provenance: manifest.provenance.clone(),
            capabilities: manifest.capabilities.clone(),
            known_limits: manifest.known_limits.clone(),
            env: manifest.env.clone(),
            workdir: manifest.workdir.clone(),
            own: false,
            received: false,
            recipe: recipe.digest,
            sources: manifest
                .sources
                .iter()
                .filter(|source| source.npm.is_some())
                .map(|s| s.sha256)
                .collect(),
            build: built.as_ref().map(|built| built.key),
            programs: Vec::new(),
            layers: Vec::new(),
            size: 0,
        };
        for entry in &manifest.layers {
            progress.step(&manifest.name, Step::Index, &entry.dir);
            let packed = wisp_image::pack_directory(&inputs.directory(&entry.dir)?)?;
            record.size += packed.len() as u64;
            record.layers.push(installation.add_layer(&packed)?);
        }
        if let Some(setup) = &manifest.setup {
            let wasm = inputs.module(&setup.module)?;
            let module = installation.add_module(&wasm)?;
            installation.compile(&manifest.name, &setup.module, module, &engines, progress)?;
            progress.step(&manifest.name, Step::Prepare, &setup.module);
            let task = Task {
                arguments: recipe.arguments(&setup.arguments)?,
                ..task(installation, &record, parents, module)?
            };
            let packed = setup::run(task, &setup.output, installation, &self.runtime)?;
            record.size += packed.len() as u64;
            record.layers.push(installation.add_layer(&packed)?);
        }
        for program in &manifest.programs {
            let preopens = match program.preopens.as_slice() {
                [] => vec!["/".to_owned()],
                named => named.to_vec(),
            };
            let wasm = inputs.module(&program.module)?;
            let (wasm, launch) = match &program.preinit {
                Some(preinit) => {
                    let plan = preinit::plan(recipe, program, preinit, &wasm)?;
                    let (instrumented, globals) = preinit::instrument(&program.module, &wasm)?;
                    let module = installation.add_module(&instrumented)?;
                    installation.compile(&manifest.name, &program.module, module, &engines, progress)?;
                    progress.step(&manifest.name, Step::Prepare, &program.module);
                    let task = Task {
                        arguments: plan.arguments,
                        preopens: preopens.clone(),
                        launch: plan.launch,
                        ..task(installation, &record, parents, module)?
                    };
                    let done = preinit::freeze(
                        task,
                        &program.module,
                        &wasm,
                        globals,
                        plan.entry,
                        installation,
                        &self.runtime,
                    )?;
                    (done.wasm, done.launch)
                }
                None => {
                    let arguments = recipe.arguments(&program.launch.arguments)?;
                    (wasm, LaunchRecord::Command { arguments })
                }
            };
            record.size += wasm.len() as u64;
            record.programs.push(ProgramRecord {
                digest: installation.add_module(&wasm)?,
                kind: ModuleKind::Module,
                paths: program.paths.clone(),
                preopens,
                launch,
                ignores_sigpipe: program.ignores_sigpipe,
            });
        }
        self.compile_programs(installation, &record, progress)?;
        installation.commit(&record, parents)?;
        Ok(record)
    }

    fn compile_programs(
        &self,
        installation: &Installation<'_>,
        record: &Record,
        progress: &dyn Progress,
    ) -> Result<(), BuildError> {
        for program in &record.programs {
            let what = program.paths.first().map_or("", String::as_str);
            installation.compile(&record.name, what, program.digest, &self.runtime.engines(), progress)?;
        }
        Ok(())
    }
}

/// What a program of an image that is being installed needs to be run, as a command without arguments.
fn task<'a>(
    installation: &Installation<'_>,
    record: &'a Record,
    parents: &[Record],
    module: Digest,
) -> Result<Task<'a>, BuildError> {
    let mut chain = parents.to_vec();
    chain.push(record.clone());
    let environment: BTreeMap<&String, &String> = chain.iter().flat_map(|record| &record.env).collect();
    Ok(Task {
        image: &record.name,
        module,
        arguments: Vec::new(),
        environment: environment
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        preopens: vec!["/".to_owned()],
        launch: Launch::Command { arguments: Vec::new() },
        tree: installation.tree(&chain)?,
    })
}

/// Where the files a recipe names come from: its sources, then its build, then its folder.
struct Inputs<'a> {
    recipe: &'a Recipe,
    files: &'a Files,
    built: Option<&'a Built>,
}

impl Inputs<'_> {
    /// A module, without its custom sections.
    fn module(&self, name: &str) -> Result<Vec<u8>, BuildError> {
        let bytes = match (self.files.get(name), self.built) {
            (Some(bytes), _) => bytes.clone(),
            (None, Some(built)) if built.out.join(name).is_file() => {
                let path = built.out.join(name);
                std::fs::read(&path).map_err(BuildError::io(path))?
            }
            _ => self.recipe.read(name)?,
        };
        Ok(module::strip(&bytes).map_err(|error| ImageError::Module {
            what: name.to_owned(),
            reason: error.to_string(),
        })?)
    }

    /// A directory of the build's output or of the recipe.
    fn directory(&self, name: &str) -> Result<PathBuf, BuildError> {
        let built = self
            .built
            .map(|built| built.out.join(name))
            .filter(|path| path.is_dir());
        let own = || Some(self.recipe.path().join(name)).filter(|path| path.is_dir());
        let missing = || std::io::Error::other("neither the build nor the recipe has this directory");
        built.or_else(own).ok_or_else(|| BuildError::io(name)(missing()))
    }
}
