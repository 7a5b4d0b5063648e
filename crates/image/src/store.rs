//! The store of installed images.
//!
//! ```text
//! images/NAME.json          records of installed images
//! modules/DIGEST.wasm       stripped modules
//! compiled/ENGINE/DIGEST.*  compiled modules and their checksums
//! layers/DIGEST.tar         packed directory trees
//! sources/DIGEST            what was fetched
//! builds/KEY/               what recipes built
//! generation                a number that changes with the installed images
//! lock, work/               held and used during an installation
//! ```

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::build::{self, Built};
use super::compiler::{CompileLimits, Compiler};
use super::digest::Digest;
use super::error::ImageError;
use super::generation::Generation;
use super::machine::Task;
use super::manifest::{Licence, is_image_name};
use super::private_dir::PrivateDir;
use super::progress::{Progress, Step};
use super::recipe::{self, Recipe};
use super::record::{FORM, LaunchRecord, ModuleKind, ProgramRecord, Record};
use super::source::{self, Files};
use super::{compile, layer, load, module, preinit, setup, soundness};
use wisp_kernel::{Engines, Launch, Runtime};

/// Most images on top of each other.
pub(super) const MAX_PARENTS: usize = 16;
/// Environment variable that names the directory the store and builds lie in.
const CACHE_VARIABLE: &str = "WISP_CACHE_DIR";
/// Prefixes under which Docker knows its own images.
pub(super) const DOCKER_PREFIXES: [&str; 3] = ["docker.io/library/", "docker.io/", "library/"];

/// Whether an image can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// Only its recipe is there.
    NotInstalled,
    /// Installed.
    Installed,
    /// Installed from an older recipe. It works.
    Outdated,
}

/// What is known about an image, installed or not.
#[derive(Debug, Clone, Serialize)]
pub struct ImageInfo {
    /// Its name.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// Version of what is inside.
    pub version: String,
    /// The image below it.
    pub parent: Option<String>,
    /// Whether it can be used.
    pub state: ImageState,
    /// One line for people.
    pub summary: String,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// What it cannot do.
    pub known_limits: Vec<String>,
    /// Terms of its parts.
    pub licences: Vec<Licence>,
    /// Where it comes from.
    pub provenance: String,
    /// Paths of its own programs.
    pub programs: Vec<String>,
    /// Brought by a user as a file.
    pub own: bool,
    /// Digest of the recipe: of the installed one if it is installed. Of the file for an own image.
    pub recipe: Digest,
    /// Bytes of its modules and layers in the store, 0 when not installed.
    pub size: u64,
}

/// Installed images and the recipes to install more from.
pub struct ImageStore {
    dir: PrivateDir,
    recipes: PathBuf,
    build_caches: PathBuf,
    compiler: Compiler,
    generation: Generation,
}

impl ImageStore {
    /// Opens the store below `cache` with the recipes of a folder.
    ///
    /// # Errors
    /// When the store cannot be made or others could write to it.
    pub fn open(cache: &Path, recipes: &Path) -> Result<Self, ImageError> {
        let dir = PrivateDir::open(&cache.join("images"))?;
        Ok(Self {
            generation: Generation::open(&dir)?,
            dir,
            recipes: recipes.to_owned(),
            build_caches: cache.join("build"),
            compiler: Compiler::new(CompileLimits::default()),
        })
    }

    /// The directory [`Self::open`] was given.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        let images = self.dir.path("");
        images.parent().map(Path::to_owned).unwrap_or(images)
    }

    /// The same store, where compiling a user's file may cost this much.
    #[must_use]
    pub fn with_compile_limits(self, limits: CompileLimits) -> Self {
        Self {
            compiler: Compiler::new(limits),
            ..self
        }
    }

    /// Opens the store of this user: below `WISP_CACHE_DIR`, else `$XDG_CACHE_HOME/wisp`, else `~/.cache/wisp`. Recipes
    /// come from `WISP_IMAGES_DIR`, else from beside the executable, else from the source tree.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_default() -> Result<Self, ImageError> {
        let named = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let cache = named(CACHE_VARIABLE)
            .or_else(|| Some(named("XDG_CACHE_HOME")?.join("wisp")))
            .or_else(|| Some(named("HOME")?.join(".cache/wisp")))
            .ok_or_else(|| ImageError::io(CACHE_VARIABLE)(std::io::Error::other("neither it nor HOME is set")))?;
        Self::open(&cache, &recipe::default_folder())
    }

    /// All images, installed or with a recipe, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<ImageInfo>, ImageError> {
        let recipes = recipe::scan(&self.recipes);
        let records = self.records()?;
        let mut infos: Vec<ImageInfo> = records
            .iter()
            .map(|record| {
                let recipe = recipes.iter().find(|recipe| recipe.manifest.name == record.name);
                let outdated = !record.own && recipe.is_some_and(|recipe| recipe.digest != record.recipe);
                let state = if outdated {
                    ImageState::Outdated
                } else {
                    ImageState::Installed
                };
                info_of_record(record, state)
            })
            .collect();
        let installed: HashSet<&str> = records.iter().map(|record| record.name.as_str()).collect();
        infos.extend(
            recipes
                .iter()
                .filter(|recipe| !installed.contains(recipe.manifest.name.as_str()))
                .map(info_of_recipe),
        );
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(infos)
    }

    /// What is known about one image, by name or alias.
    ///
    /// # Errors
    /// When there is none, or the store cannot be read.
    pub fn inspect(&self, name: &str) -> Result<ImageInfo, ImageError> {
        let names = |info: &ImageInfo| std::iter::once(info.name.clone()).chain(info.aliases.clone()).collect();
        find(name, self.list()?, names).ok_or_else(|| ImageError::Unknown(name.to_owned()))
    }

    /// The installed image a client's name means: a name, an alias, or either without `:latest` and Docker's prefixes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn resolve(&self, name: &str) -> Result<Option<Record>, ImageError> {
        let names = |record: &Record| {
            std::iter::once(record.name.clone())
                .chain(record.aliases.clone())
                .collect()
        };
        Ok(find(name, self.records()?, names))
    }

    /// Names and aliases of all installed images, sorted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn available(&self) -> Result<Vec<String>, ImageError> {
        let records = self.records()?.into_iter();
        let mut names: Vec<String> = records
            .flat_map(|record| std::iter::once(record.name).chain(record.aliases))
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Installs an image and the parents it lacks. What is installed from the same recipe already is left as it is.
    /// Blocks, for minutes when something has to be built; one installation runs at a time.
    ///
    /// # Errors
    /// When there is no recipe, an input is not what the recipe pins, or a step fails. What was installed before stays.
    pub fn install(&self, name: &str, runtime: &Arc<Runtime>, progress: &dyn Progress) -> Result<Record, ImageError> {
        let chain = self.recipe_chain(name)?;
        let _lock = self.dir.lock()?;
        let mut installed = Vec::new();
        for recipe in &chain {
            let current = self
                .record(&recipe.manifest.name)?
                .filter(|record| record.recipe == recipe.digest);
            let record = match current {
                Some(record) => record,
                None => self.install_one(recipe, &installed, runtime, progress)?,
            };
            self.compile_programs(&record, runtime, progress)?;
            progress.done(&record.name);
            installed.push(record);
        }
        self.collect_garbage()?;
        installed.pop().ok_or_else(|| ImageError::Unknown(name.to_owned()))
    }

    /// Removes an installed image and what only it used.
    ///
    /// # Errors
    /// When it is not installed or is the parent of an installed image.
    pub fn remove(&self, name: &str) -> Result<Record, ImageError> {
        let _lock = self.dir.lock()?;
        let record = self
            .resolve(name)?
            .ok_or_else(|| ImageError::NotInstalled(name.to_owned()))?;
        let records = self.records()?;
        let is_parent = |child: &&Record| child.parent.as_ref().is_some_and(|parent| record_has(&record, parent));
        if let Some(child) = records.iter().find(is_parent) {
            return Err(ImageError::IsParent {
                image: record.name,
                child: child.name.clone(),
            });
        }
        self.dir.remove(&record_name(&record.name))?;
        self.generation.advance()?;
        self.collect_garbage()?;
        Ok(record)
    }

    /// A number that changes whenever an image is installed, replaced or removed, by this process or another.
    pub fn generation(&self) -> u64 {
        self.generation.read()
    }

    /// Whether an image of this name or alias, loaded earlier, is what the store has now.
    pub fn is_current(&self, name: &str, chain: &[Record]) -> bool {
        self.installed_chain(name).is_ok_and(|now| now == chain)
    }

    /// What compiles users' files.
    pub(super) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// The directory all is in.
    pub(super) fn dir(&self) -> &PrivateDir {
        &self.dir
    }

    /// An installed image and its parents, the lowest first.
    pub(super) fn installed_chain(&self, name: &str) -> Result<Vec<Record>, ImageError> {
        let mut chain = Vec::new();
        let mut next = Some(name.to_owned());
        while let Some(wanted) = next.take() {
            if chain.len() == MAX_PARENTS {
                return Err(ImageError::ParentLoop(name.to_owned()));
            }
            let record = match self.resolve(&wanted)? {
                Some(record) => record,
                None if self.inspect(&wanted).is_ok() => return Err(ImageError::NotInstalled(wanted)),
                None => return Err(ImageError::Unknown(wanted)),
            };
            next.clone_from(&record.parent);
            chain.push(record);
        }
        chain.reverse();
        Ok(chain)
    }

    /// The recipes of an image and its parents, the lowest first.
    fn recipe_chain(&self, name: &str) -> Result<Vec<Recipe>, ImageError> {
        let mut recipes = recipe::scan(&self.recipes);
        let mut chain: Vec<Recipe> = Vec::new();
        let mut next = Some(name.to_owned());
        while let Some(wanted) = next.take() {
            let names = |recipe: &&Recipe| recipe.manifest.names().map(str::to_owned).collect();
            let Some(found) = find(&wanted, recipes.iter().collect(), names) else {
                // A recipe is taken out of the list when it is used, so one that is asked for again is not found.
                let again = chain
                    .iter()
                    .any(|recipe| recipe.manifest.names().any(|name| name == wanted));
                return Err(match again {
                    true => ImageError::ParentLoop(name.to_owned()),
                    false if self.resolve(&wanted)?.is_some() => ImageError::NoRecipe(wanted, self.recipes.clone()),
                    false => ImageError::Unknown(wanted),
                });
            };
            let position = recipes
                .iter()
                .position(|recipe| recipe.manifest.name == found.manifest.name);
            let recipe = recipes.swap_remove(position.unwrap_or_default());
            next.clone_from(&recipe.manifest.parent);
            chain.push(recipe);
        }
        chain.reverse();
        Ok(chain)
    }

    /// Installs one image on top of installed parents. The caller holds the lock.
    fn install_one(
        &self,
        recipe: &Recipe,
        parents: &[Record],
        runtime: &Arc<Runtime>,
        progress: &dyn Progress,
    ) -> Result<Record, ImageError> {
        let manifest = &recipe.manifest;
        // What is run once, here, has no budget.
        let engines = runtime.engines().without_fuel();
        let files = source::fetch(recipe, &self.dir, progress)?;
        let built = match &manifest.build {
            Some(command) => {
                let cache = self.build_caches.join(file_stem(&manifest.name));
                Some(build::build(recipe, command, &self.dir, cache.as_os_str(), progress)?)
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
            let packed = layer::pack_directory(&inputs.directory(&entry.dir)?)?;
            record.size += packed.len() as u64;
            record.layers.push(layer::store(&self.dir, &packed)?);
        }
        if let Some(setup) = &manifest.setup {
            let wasm = inputs.module(&setup.module)?;
            let module = self.store_module(&wasm)?;
            self.compile(&manifest.name, &setup.module, module, &engines, progress)?;
            progress.step(&manifest.name, Step::Prepare, &setup.module);
            let task = Task {
                arguments: recipe.arguments(&setup.arguments)?,
                ..self.task(&record, parents, module)?
            };
            let packed = setup::run(task, &setup.output, &self.dir, runtime)?;
            record.size += packed.len() as u64;
            record.layers.push(layer::store(&self.dir, &packed)?);
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
                    let module = self.store_module(&instrumented)?;
                    self.compile(&manifest.name, &program.module, module, &engines, progress)?;
                    progress.step(&manifest.name, Step::Prepare, &program.module);
                    let task = Task {
                        arguments: plan.arguments,
                        preopens: preopens.clone(),
                        launch: plan.launch,
                        ..self.task(&record, parents, module)?
                    };
                    let done = preinit::freeze(task, &program.module, &wasm, globals, plan.entry, &self.dir, runtime)?;
                    (done.wasm, done.launch)
                }
                None => {
                    let arguments = recipe.arguments(&program.launch.arguments)?;
                    (wasm, LaunchRecord::Command { arguments })
                }
            };
            record.size += wasm.len() as u64;
            record.programs.push(ProgramRecord {
                digest: self.store_module(&wasm)?,
                kind: ModuleKind::Module,
                paths: program.paths.clone(),
                preopens,
                launch,
                ignores_sigpipe: program.ignores_sigpipe,
            });
        }
        self.compile_programs(&record, runtime, progress)?;
        // Proves that the layers fit on top of each other before the image counts as installed.
        let mut whole = parents.to_vec();
        whole.push(record.clone());
        load::tree(self, &whole)?;
        self.write_record(&record)?;
        Ok(record)
    }

    /// What a program of an image that is being installed needs to be run, as a command without arguments.
    fn task<'a>(&self, record: &'a Record, parents: &[Record], module: Digest) -> Result<Task<'a>, ImageError> {
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
            tree: load::tree(self, &chain)?,
        })
    }

    fn compile_programs(
        &self,
        record: &Record,
        runtime: &Arc<Runtime>,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        for program in &record.programs {
            let what = program.paths.first().map_or("", String::as_str);
            self.compile(&record.name, what, program.digest, &runtime.engines(), progress)?;
        }
        Ok(())
    }

    fn compile(
        &self,
        image: &str,
        what: &str,
        digest: Digest,
        engines: &Engines,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        for engine in engines.compiled_for() {
            if !compile::is_compiled(&self.dir, engine, digest)? {
                progress.step(image, Step::Compile, what);
                compile::compile(&self.dir, engine, digest)?;
            }
        }
        Ok(())
    }

    fn store_module(&self, wasm: &[u8]) -> Result<Digest, ImageError> {
        let digest = Digest::of(wasm);
        let name = compile::wasm_name(digest);
        let good = self.dir.read(&name)?.is_some_and(|stored| stored == wasm);
        if !good {
            self.dir.write(&name, wasm)?;
        }
        Ok(digest)
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), ImageError> {
        let name = record_name(&record.name);
        let json = serde_json::to_vec_pretty(record)
            .map_err(|error| ImageError::io(self.dir.path(&name))(std::io::Error::other(error)))?;
        self.dir.write(&name, &json)?;
        self.generation.advance()
    }

    fn record(&self, name: &str) -> Result<Option<Record>, ImageError> {
        self.read_record(&record_name(name))
    }

    /// Reads a record; one of another form, or damaged, counts as not installed.
    fn read_record(&self, file: &str) -> Result<Option<Record>, ImageError> {
        let Some(bytes) = self.dir.read(file)? else {
            return Ok(None);
        };
        match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.form == FORM => Ok(Some(record)),
            Ok(record) => {
                tracing::warn!(
                    image = record.name,
                    "was installed by another version of wisp; install it again"
                );
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(file, %error, "the record of an image is damaged; install it again");
                Ok(None)
            }
        }
    }

    pub(super) fn records(&self) -> Result<Vec<Record>, ImageError> {
        let files = self.dir.list("images")?;
        let files = files
            .iter()
            .filter(|file| Path::new(file).extension().is_some_and(|extension| extension == "json"));
        files
            .filter_map(|file| self.read_record(&format!("images/{file}")).transpose())
            .collect()
    }

    /// Removes what no installed image uses. The caller holds the lock.
    pub(super) fn collect_garbage(&self) -> Result<(), ImageError> {
        let mut used: HashSet<String> = HashSet::new();
        for record in self.records()? {
            let programs = record.programs.iter().map(|program| compile::wasm_name(program.digest));
            let layers = record.layers.iter().map(|digest| layer::stored_name(*digest));
            let sources = record.sources.iter().map(|digest| source::stored_name(*digest));
            used.extend(
                programs
                    .chain(layers)
                    .chain(sources)
                    .chain(record.build.map(build::stored_name)),
            );
        }
        for directory in ["modules", "layers", "sources", "builds", "work"] {
            for name in self.dir.list(directory)? {
                let name = format!("{directory}/{name}");
                if !used.contains(name.trim_end_matches(soundness::NOTE)) {
                    self.dir.remove(&name)?;
                }
            }
        }
        for engine in self.dir.list("compiled")? {
            let directory = format!("compiled/{engine}");
            for name in self.dir.list(&directory)? {
                let stem = name.split('.').next().unwrap_or_default();
                if !used.contains(&format!("modules/{stem}.wasm")) {
                    self.dir.remove(&format!("{directory}/{name}"))?;
                }
            }
        }
        Ok(())
    }
}

/// Where the files a recipe names come from: its sources, then its build, then its folder.
struct Inputs<'a> {
    recipe: &'a Recipe,
    files: &'a Files,
    built: Option<&'a Built>,
}

impl Inputs<'_> {
    /// A module, without its custom sections.
    fn module(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let bytes = match (self.files.get(name), self.built) {
            (Some(bytes), _) => bytes.clone(),
            (None, Some(built)) if built.out.join(name).is_file() => {
                let path = built.out.join(name);
                std::fs::read(&path).map_err(ImageError::io(path))?
            }
            _ => self.recipe.read(name)?,
        };
        module::strip(&bytes).map_err(|error| ImageError::Module {
            what: name.to_owned(),
            reason: error.to_string(),
        })
    }

    /// A directory of the build's output or of the recipe.
    fn directory(&self, name: &str) -> Result<PathBuf, ImageError> {
        let built = self
            .built
            .map(|built| built.out.join(name))
            .filter(|path| path.is_dir());
        let own = || Some(self.recipe.path().join(name)).filter(|path| path.is_dir());
        let missing = || std::io::Error::other("neither the build nor the recipe has this directory");
        built.or_else(own).ok_or_else(|| ImageError::io(name)(missing()))
    }
}

/// Whether a client's image name may mean the image that has these names.
#[must_use]
pub fn may_name(wanted: &str, names: &[String]) -> bool {
    find(wanted, vec![()], |()| names.to_vec()).is_some()
}

/// Finds what a client's image name means.
fn find<T>(wanted: &str, items: Vec<T>, names: impl Fn(&T) -> Vec<String>) -> Option<T> {
    let short = DOCKER_PREFIXES
        .iter()
        .find_map(|prefix| wanted.strip_prefix(prefix))
        .unwrap_or(wanted);
    if !is_image_name(short) {
        return None;
    }
    let other = match short.strip_suffix(":latest") {
        Some(bare) => bare.to_owned(),
        None => format!("{short}:latest"),
    };
    let position = |text: &str| {
        items
            .iter()
            .position(|item| names(item).iter().any(|name| name == text))
    };
    // A name without a tag means `latest` and nothing else, as with Docker.
    let tagged = short.contains(':') && !short.ends_with(":latest");
    let found = position(short).or_else(|| if tagged { None } else { position(&other) })?;
    items.into_iter().nth(found)
}

fn record_has(record: &Record, name: &str) -> bool {
    record.name == name || record.aliases.iter().any(|alias| alias == name)
}

/// A file name for an image: `/` and `:` are replaced by characters an image name cannot have.
fn file_stem(image: &str) -> String {
    image.replace('/', "+").replace(':', "@")
}

fn record_name(image: &str) -> String {
    format!("images/{}.json", file_stem(image))
}

fn info_of_record(record: &Record, state: ImageState) -> ImageInfo {
    ImageInfo {
        name: record.name.clone(),
        aliases: record.aliases.clone(),
        version: record.version.clone(),
        parent: record.parent.clone(),
        state,
        summary: record.summary.clone(),
        capabilities: record.capabilities.clone(),
        known_limits: record.known_limits.clone(),
        licences: record.licences.clone(),
        provenance: record.provenance.clone(),
        programs: record
            .programs
            .iter()
            .flat_map(|program| program.paths.clone())
            .collect(),
        own: record.own,
        recipe: record.recipe,
        size: record.size,
    }
}

fn info_of_recipe(recipe: &Recipe) -> ImageInfo {
    let manifest = &recipe.manifest;
    ImageInfo {
        name: manifest.name.clone(),
        aliases: manifest.aliases.clone(),
        version: manifest.version.clone(),
        parent: manifest.parent.clone(),
        state: ImageState::NotInstalled,
        summary: manifest.summary.clone(),
        capabilities: manifest.capabilities.clone(),
        known_limits: manifest.known_limits.clone(),
        licences: manifest.licences.clone(),
        provenance: manifest.provenance.clone(),
        programs: manifest
            .programs
            .iter()
            .flat_map(|program| program.paths.clone())
            .collect(),
        own: false,
        recipe: recipe.digest,
        size: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

    use super::*;
    use crate::{Loader, LogProgress};

    /// The smallest module there is.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    struct Place {
        dir: tempfile::TempDir,
        runtime: Arc<Runtime>,
    }

    impl Place {
        fn new() -> Self {
            let place = Self {
                dir: tempfile::tempdir().unwrap(),
                runtime: Runtime::new(1).unwrap(),
            };
            place.recipe(
                "base",
                "aliases = [\"demo:latest\"]\nenv = { A = \"1\", B = \"1\" }\nworkdir = \"/w\"",
            );
            place.recipe("child", "parent = \"base\"\nenv = { B = \"2\" }");
            place
        }

        fn recipe(&self, name: &str, more: &str) {
            let folder = self.dir.path().join("recipes").join(name);
            std::fs::create_dir_all(folder.join("rootfs/etc")).unwrap();
            std::fs::write(folder.join("rootfs/etc").join(name), name).unwrap();
            std::fs::write(folder.join("a.wasm"), MODULE).unwrap();
            let parts = "[[layer]]\ndir = \"rootfs\"\n[[program]]\nmodule = \"a.wasm\"";
            let manifest =
                format!("name = \"{name}\"\nversion = \"1\"\n{more}\n{parts}\npaths = [\"/usr/bin/{name}\"]\n");
            std::fs::write(folder.join("image.toml"), manifest).unwrap();
        }

        fn store(&self) -> Arc<ImageStore> {
            Arc::new(ImageStore::open(&self.dir.path().join("cache"), &self.dir.path().join("recipes")).unwrap())
        }

        fn install(&self, name: &str) -> Result<Record, ImageError> {
            self.store().install(name, &self.runtime, &LogProgress)
        }

        fn loader(&self) -> Loader {
            Loader::new(self.store(), self.runtime.engines())
        }

        fn compiled(&self) -> PathBuf {
            let name = format!(
                "{}/{}.cwasm",
                compile::engine_dir(self.runtime.engine()),
                Digest::of(MODULE)
            );
            self.store().dir().path(&name)
        }
    }

    #[test]
    fn an_image_brings_its_parents_files_programs_and_environment() {
        let place = Place::new();
        place.install("child").unwrap();
        let image = place.loader().load("child").unwrap();
        assert_eq!(
            (image.env["A"].as_str(), image.env["B"].as_str(), image.workdir.as_str()),
            ("1", "2", "/w")
        );
        let fs = wisp_vfs::Fs::from_tree(
            &image.tree,
            wisp_vfs::Limits {
                max_bytes: 0,
                max_inodes: 0,
            },
        );
        for path in [
            "/etc/base",
            "/etc/child",
            "/usr/bin/base",
            "/usr/bin/child",
            "/dev/null",
        ] {
            assert!(fs.stat_at(wisp_vfs::ROOT, path.as_bytes(), true).is_ok(), "{path}");
        }
        assert_eq!(image.programs.len(), 2);
        assert!(
            image
                .programs
                .iter()
                .all(|program| matches!(&program.code, crate::ProgramCode::Module(module) if module.is_pooled()))
        );
    }

    /// A module whose `init` puts 16 random bytes and the time into its memory; `go` does nothing.
    fn curious_module() -> Vec<u8> {
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        let import = |name: &str, kind: u8| [text("wasi_snapshot_preview1"), text(name), vec![0, kind]].concat();
        let export = |name: &str, kind: u8, index: u8| [text(name), vec![kind, index]].concat();
        let list = |items: &[Vec<u8>]| [vec![items.len() as u8], items.concat()].concat();
        let section = |id: u8, body: Vec<u8>| [vec![id, body.len() as u8], body].concat();
        let (i32, i64) = (0x7f, 0x7e);
        let types = list(&[
            vec![0x60, 2, i32, i32, 1, i32],
            vec![0x60, 3, i32, i64, i32, 1, i32],
            vec![0x60, 0, 0],
        ]);
        let imports = list(&[import("random_get", 0), import("clock_time_get", 1)]);
        let exports = list(&[export("memory", 2, 0), export("init", 0, 2), export("go", 0, 3)]);
        let init: &[u8] = &[
            0, 0x41, 0, 0x41, 16, 0x10, 0, 0x1a, 0x41, 0, 0x42, 0, 0x41, 16, 0x10, 1, 0x1a, 0x0b,
        ];
        let code = list(&[[&[init.len() as u8], init].concat(), vec![2, 0, 0x0b]]);
        [
            MODULE.to_vec(),
            section(1, types),
            section(2, imports),
            section(3, vec![2, 2, 2]),
            section(5, vec![1, 0, 1]),
            section(7, exports),
            section(10, code),
        ]
        .concat()
    }

    fn install_curious(preinit: &str) -> Result<(Record, Vec<u8>), ImageError> {
        let place = Place::new();
        let folder = place.dir.path().join("recipes/curious");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("curious.wasm"), curious_module()).unwrap();
        let manifest = format!(
            "name = \"curious\"\nversion = \"1\"\n[[program]]\nmodule = \"curious.wasm\"\npaths = [\"/bin/curious\"]\n\
             preinit = {preinit}\n"
        );
        std::fs::write(folder.join("image.toml"), manifest).unwrap();
        let record = place.install("curious")?;
        let wasm = place.store().dir().read(&compile::wasm_name(record.programs[0].digest));
        Ok((record, wasm.unwrap().unwrap()))
    }

    #[test]
    fn the_same_recipe_makes_the_same_pre_initialised_module() {
        let preinit = "{ initialize = \"init\", entry = \"go\" }";
        let (record, wasm) = install_curious(preinit).unwrap();
        assert_eq!(install_curious(preinit).unwrap().0, record);
        let launch = LaunchRecord::Resume {
            export: "go".to_owned(),
            parameters: Vec::new(),
        };
        assert_eq!(record.programs[0].launch, launch);
        // It did run: the random bytes are in the module, which begins the next processes with them.
        assert!(wasm.len() > curious_module().len() + 16, "{wasm:?}");
    }

    #[test]
    fn a_module_that_cannot_be_pre_initialised_is_refused_with_the_reason() {
        for (preinit, reason) in [
            ("{ initialize = \"no\", entry = \"go\" }", "exports no function `no`"),
            (
                "{ initialize = \"init\", entry = \"memory\" }",
                "exports no function `memory`",
            ),
        ] {
            let error = install_curious(preinit).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn docker_names_and_latest_find_an_image() {
        let place = Place::new();
        place.install("base").unwrap();
        for name in ["base", "base:latest", "demo", "demo:latest", "docker.io/library/demo"] {
            assert!(place.store().resolve(name).unwrap().is_some(), "{name}");
        }
        for name in ["base:1", "other", "../base", "", "demo:"] {
            assert!(place.store().resolve(name).unwrap().is_none(), "{name}");
        }
    }

    #[test]
    fn damaged_compiled_code_is_compiled_again() {
        let place = Place::new();
        place.install("base").unwrap();
        let good = std::fs::read(place.compiled()).unwrap();
        let mut changed = good.clone();
        changed[good.len() / 2] ^= 1;
        for bad in [&good[..good.len() / 2], &changed, b"", b"something else"] {
            std::fs::write(place.compiled(), bad).unwrap();
            place.loader().load("base").unwrap();
            assert_eq!(std::fs::read(place.compiled()).unwrap().len(), good.len());
        }
    }

    #[test]
    fn code_that_counts_fuel_is_there_only_where_fuel_is_counted() {
        let place = Place::new();
        let record = place.install("base").unwrap();
        let engines = || place.store().dir().list("compiled").unwrap();
        place.loader().load("base").unwrap();
        assert_eq!(engines().len(), 1);
        // An image from before is compiled when it is loaded; again when that code is damaged.
        let with_fuel = Runtime::with_fuel(1, true).unwrap();
        let fuel_code = compile::engine_dir(with_fuel.engines().fuel().unwrap());
        let fuel_code = format!("{fuel_code}/{}.cwasm", record.programs[0].digest);
        let fuel_code = place.store().dir().path(&fuel_code);
        let load = || Loader::new(place.store(), with_fuel.engines()).load("base").unwrap();
        let (before, plain) = (
            std::fs::read(place.compiled()).unwrap(),
            std::fs::metadata(place.compiled()),
        );
        load();
        let good = std::fs::read(&fuel_code).unwrap();
        assert_ne!(good, before);
        std::fs::write(&fuel_code, &before).unwrap();
        load();
        assert_eq!(std::fs::read(&fuel_code).unwrap(), good);
        let untouched = std::fs::metadata(place.compiled()).unwrap().ino() == plain.unwrap().ino();
        assert!(untouched, "the other code was good");
        // It goes with its image, and installing makes both.
        place.store().remove("base").unwrap();
        assert!(!fuel_code.exists());
        place.store().install("base", &with_fuel, &LogProgress).unwrap();
        assert!(fuel_code.exists() && place.compiled().exists());
    }

    #[test]
    fn damaged_layers_and_modules_are_errors() {
        let place = Place::new();
        let record = place.install("base").unwrap();
        let layer = place.store().dir().path(&layer::stored_name(record.layers[0]));
        let good = std::fs::read(&layer).unwrap();
        std::fs::write(&layer, &good[..good.len() - 1]).unwrap();
        assert!(matches!(place.loader().load("base"), Err(ImageError::Damaged(_))));
        std::fs::write(&layer, &good).unwrap();
        std::fs::remove_file(place.compiled()).unwrap();
        std::fs::write(place.store().dir().path(&compile::wasm_name(Digest::of(MODULE))), b"x").unwrap();
        assert!(matches!(place.loader().load("base"), Err(ImageError::Damaged(_))));
    }

    #[test]
    fn a_changed_recipe_makes_an_image_outdated_until_it_is_installed_again() {
        let place = Place::new();
        let first = place.install("base").unwrap();
        std::fs::write(place.dir.path().join("recipes/base/rootfs/etc/new"), b"new").unwrap();
        assert_eq!(place.store().inspect("base").unwrap().state, ImageState::Outdated);
        let second = place.install("base").unwrap();
        assert_eq!(place.store().inspect("base").unwrap().state, ImageState::Installed);
        assert!(
            !place.store().dir().exists(&layer::stored_name(first.layers[0])),
            "the old layer is removed"
        );
        assert!(place.store().dir().exists(&layer::stored_name(second.layers[0])));
    }

    #[test]
    fn a_parent_cannot_be_removed_before_its_children() {
        let place = Place::new();
        place.install("child").unwrap();
        assert!(matches!(place.store().remove("base"), Err(ImageError::IsParent { .. })));
        place.store().remove("child").unwrap();
        place.store().remove("demo").unwrap();
        assert!(!place.compiled().exists());
        assert!(matches!(place.store().remove("base"), Err(ImageError::NotInstalled(_))));
    }

    #[test]
    fn parents_that_form_a_ring_are_an_error() {
        let place = Place::new();
        place.recipe("base", "parent = \"child\"");
        assert!(matches!(place.install("child"), Err(ImageError::ParentLoop(_))));
    }

    #[test]
    fn unknown_and_uninstalled_images_are_told_apart() {
        let place = Place::new();
        assert!(matches!(place.loader().load("child"), Err(ImageError::NotInstalled(_))));
        assert!(matches!(place.loader().load("other"), Err(ImageError::Unknown(_))));
        assert!(matches!(place.install("other"), Err(ImageError::Unknown(_))));
    }

    #[test]
    fn a_store_others_can_write_to_is_refused() {
        let place = Place::new();
        place.install("base").unwrap();
        let cache = place.dir.path().join("cache/images");
        std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o770)).unwrap();
        let opened = ImageStore::open(&place.dir.path().join("cache"), &place.dir.path().join("recipes"));
        assert!(matches!(opened, Err(ImageError::NotPrivate(_))));
    }

    #[test]
    fn a_build_runs_once_for_the_same_inputs_and_its_failure_is_shown() {
        let place = Place::new();
        let script = "mkdir -p $WISP_OUT/built/etc && echo x >> $WISP_BUILD_DIR/runs && cp a.wasm $WISP_OUT/b.wasm";
        let more = |script: &str| format!("[build]\ncommand = [\"sh\", \"-c\", \"{script}\"]\ninputs = [\"a.wasm\"]");
        place.recipe("base", &more(script));
        place.install("base").unwrap();
        let manifest = place.dir.path().join("recipes/base/image.toml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        std::fs::write(&manifest, format!("summary = \"x\"\n{text}")).unwrap();
        place.install("base").unwrap();
        let runs = std::fs::read_to_string(place.dir.path().join("cache/build/base/runs")).unwrap();
        assert_eq!(runs, "x\n");
        place.recipe("base", &more("echo the reason >&2; exit 3"));
        let error = place.install("base").unwrap_err().to_string();
        assert!(error.contains("the reason") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_change_of_what_builds_share_builds_again() {
        let place = Place::new();
        let library = place.dir.path().join("crates/shared");
        std::fs::create_dir_all(&library).unwrap();
        let script = "mkdir -p $WISP_OUT/built/etc && echo x >> $WISP_BUILD_DIR/runs && cp a.wasm $WISP_OUT/b.wasm";
        let build =
            format!("[build]\ncommand = [\"sh\", \"-c\", \"{script}\"]\ninputs = []\nshared = [\"crates/shared\"]");
        place.recipe("base", &build);
        for (text, runs) in [("1", "x\n"), ("1", "x\n"), ("2", "x\nx\n")] {
            std::fs::write(library.join("lib.rs"), text).unwrap();
            place.install("base").unwrap();
            let found = std::fs::read_to_string(place.dir.path().join("cache/build/base/runs")).unwrap();
            assert_eq!(found, runs);
        }
        std::fs::remove_dir_all(&library).unwrap();
        assert!(place.install("base").is_err(), "what it shares is gone");
    }

    #[test]
    fn installers_at_the_same_time_do_not_disturb_each_other() {
        let place = Place::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| place.install("child").unwrap());
            }
        });
        place.loader().load("child").unwrap();
    }
}
