//! The store of installed images.
//!
//! ```text
//! images/NAME.json          records of installed images
//! modules/DIGEST.wasm       stripped modules
//! compiled/ENGINE/DIGEST.*  compiled modules and their checksums
//! layers/DIGEST.tar         packed directory trees
//! sources/DIGEST            what was fetched
//! builds/KEY/               what recipes built
//! lock, work/               held and used during an installation
//! ```

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::build::{self, Built};
use super::digest::Digest;
use super::error::ImageError;
use super::manifest::{Licence, is_image_name};
use super::private_dir::PrivateDir;
use super::progress::{Progress, Step};
use super::recipe::{self, Recipe};
use super::record::{FORM, LaunchRecord, ProgramRecord, Record};
use super::setup::Setup;
use super::source::{self, Files};
use super::{compile, layer, load, module};
use crate::kernel::Runtime;

/// Most images on top of each other.
const MAX_PARENTS: usize = 16;
/// Environment variable that names the directory the store and builds lie in.
const CACHE_VARIABLE: &str = "WISP_CACHE_DIR";
/// Prefixes under which Docker knows its own images.
const DOCKER_PREFIXES: [&str; 3] = ["docker.io/library/", "docker.io/", "library/"];

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
    /// Digest of the recipe: of the installed one if it is installed.
    pub recipe: Digest,
    /// Bytes of its modules and layers in the store, 0 when not installed.
    pub size: u64,
}

/// Installed images and the recipes to install more from.
pub struct ImageStore {
    dir: PrivateDir,
    recipes: PathBuf,
    build_caches: PathBuf,
}

impl ImageStore {
    /// Opens the store below `cache` with the recipes of a folder.
    ///
    /// # Errors
    /// When the store cannot be made or others could write to it.
    pub fn open(cache: &Path, recipes: &Path) -> Result<Self, ImageError> {
        let dir = PrivateDir::open(&cache.join("images"))?;
        Ok(Self {
            dir,
            recipes: recipes.to_owned(),
            build_caches: cache.join("build"),
        })
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
                let outdated = recipe.is_some_and(|recipe| recipe.digest != record.recipe);
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
        self.collect_garbage()?;
        Ok(record)
    }

    /// The directory all is in.
    pub(super) fn dir(&self) -> &PrivateDir {
        &self.dir
    }

    /// An installed image and its parents, the lowest first.
    pub(super) fn installed_chain(&self, name: &str) -> Result<Vec<Record>, ImageError> {
        let mut chain = Vec::new();
        let mut next = Some(name.to_owned());
        while let Some(wanted) = next {
            if chain.len() == MAX_PARENTS {
                return Err(ImageError::ParentLoop(name.to_owned()));
            }
            let record = match self.resolve(&wanted)? {
                Some(record) => record,
                None if self.inspect(&wanted).is_ok() => return Err(ImageError::NotInstalled(wanted)),
                None => return Err(ImageError::Unknown(wanted)),
            };
            next = record.parent.clone();
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
        while let Some(wanted) = next {
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
            next = recipe.manifest.parent.clone();
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
            self.compile(&manifest.name, &setup.module, module, runtime, progress)?;
            progress.step(&manifest.name, Step::Prepare, &setup.module);
            let mut below = parents.to_vec();
            below.push(record.clone());
            let setup = Setup {
                image: &manifest.name,
                module,
                arguments: recipe.arguments(&setup.arguments)?,
                tree: load::tree(self, &below)?,
                output: &setup.output,
            };
            let packed = setup.run(&self.dir, runtime)?;
            record.size += packed.len() as u64;
            record.layers.push(layer::store(&self.dir, &packed)?);
        }
        for program in &manifest.programs {
            let wasm = inputs.module(&program.module)?;
            record.size += wasm.len() as u64;
            let preopens = if program.preopens.is_empty() {
                vec!["/".to_owned()]
            } else {
                program.preopens.clone()
            };
            record.programs.push(ProgramRecord {
                digest: self.store_module(&wasm)?,
                paths: program.paths.clone(),
                preopens,
                launch: LaunchRecord::Command {
                    arguments: recipe.arguments(&program.launch.arguments)?,
                },
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

    fn compile_programs(
        &self,
        record: &Record,
        runtime: &Arc<Runtime>,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        for program in &record.programs {
            let what = program.paths.first().map_or("", String::as_str);
            self.compile(&record.name, what, program.digest, runtime, progress)?;
        }
        Ok(())
    }

    fn compile(
        &self,
        image: &str,
        what: &str,
        digest: Digest,
        runtime: &Arc<Runtime>,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        if compile::is_compiled(&self.dir, runtime.engine(), digest)? {
            return Ok(());
        }
        progress.step(image, Step::Compile, what);
        compile::compile(&self.dir, runtime.engine(), digest)
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

    fn write_record(&self, record: &Record) -> Result<(), ImageError> {
        let name = record_name(&record.name);
        let json = serde_json::to_vec_pretty(record)
            .map_err(|error| ImageError::io(self.dir.path(&name))(std::io::Error::other(error)))?;
        self.dir.write(&name, &json)
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

    fn records(&self) -> Result<Vec<Record>, ImageError> {
        let files = self.dir.list("images")?;
        let files = files.iter().filter(|file| file.ends_with(".json"));
        files
            .filter_map(|file| self.read_record(&format!("images/{file}")).transpose())
            .collect()
    }

    /// Removes what no installed image uses. The caller holds the lock.
    fn collect_garbage(&self) -> Result<(), ImageError> {
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
                if !used.contains(&name) {
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
        recipe: recipe.digest,
        size: 0,
    }
}
