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

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::compiler::{CompileLimits, Compiler};
use super::digest::Digest;
use super::error::ImageError;
use super::generation::Generation;
use super::names::is_image_name;
use super::private_dir::PrivateDir;
use super::record::{FORM, Licence, Record};
use super::{compile, layer, soundness};

/// Most images on top of each other.
pub(super) const MAX_PARENTS: usize = 16;
/// Environment variable that names the directory the store and builds lie in.
const CACHE_VARIABLE: &str = "WISP_CACHE_DIR";
/// Prefixes under which Docker knows its own images.
pub(super) const DOCKER_PREFIXES: [&str; 3] = ["docker.io/library/", "docker.io/", "library/"];

/// What is known about an installed image.
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
    /// Digest of the recipe it was built from; of the file for an own image.
    pub recipe: Digest,
    /// Bytes of its modules and layers in the store.
    pub size: u64,
}

/// Installed images.
pub struct ImageStore {
    dir: PrivateDir,
    compiler: Compiler,
    generation: Generation,
}

impl ImageStore {
    /// Opens the store below `cache`.
    ///
    /// # Errors
    /// When the store cannot be made or others could write to it.
    pub fn open(cache: &Path) -> Result<Self, ImageError> {
        let dir = PrivateDir::open(&cache.join("images"))?;
        Ok(Self {
            generation: Generation::open(&dir)?,
            dir,
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

    /// The same store, which starts no process to compile: see [`Compiler::none`].
    #[must_use]
    pub fn without_compiling_process(self) -> Self {
        Self {
            compiler: Compiler::none(),
            ..self
        }
    }

    /// Opens the store of this user: below `WISP_CACHE_DIR`, else `$XDG_CACHE_HOME/wisp`, else `~/.cache/wisp`.
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
        Self::open(&cache)
    }

    /// All installed images, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<ImageInfo>, ImageError> {
        let mut infos: Vec<ImageInfo> = self.records()?.iter().map(info_of_record).collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(infos)
    }

    /// What is known about one image, by name or alias.
    ///
    /// # Errors
    /// When there is none, or the store cannot be read.
    pub fn inspect(&self, name: &str) -> Result<ImageInfo, ImageError> {
        let record = self.resolve(name)?;
        record
            .as_ref()
            .map(info_of_record)
            .ok_or_else(|| ImageError::NotInstalled(name.to_owned()))
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
            let Some(record) = self.resolve(&wanted)? else {
                return Err(ImageError::NotInstalled(wanted));
            };
            next.clone_from(&record.parent);
            chain.push(record);
        }
        chain.reverse();
        Ok(chain)
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), ImageError> {
        let name = record_name(&record.name);
        let json = serde_json::to_vec_pretty(record)
            .map_err(|error| ImageError::io(self.dir.path(&name))(std::io::Error::other(error)))?;
        self.dir.write(&name, &json)?;
        self.generation.advance()
    }

    pub(super) fn record(&self, name: &str) -> Result<Option<Record>, ImageError> {
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
            let sources = record.sources.iter().map(|digest| source_name(*digest));
            used.extend(
                programs
                    .chain(layers)
                    .chain(sources)
                    .chain(record.build.map(build_name)),
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

/// Whether a client's image name may mean the image that has these names.
#[must_use]
pub fn may_name(wanted: &str, names: &[String]) -> bool {
    find(wanted, vec![()], |()| names.to_vec()).is_some()
}

/// Finds what a client's image name means.
pub fn find<T>(wanted: &str, items: Vec<T>, names: impl Fn(&T) -> Vec<String>) -> Option<T> {
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

/// Name of what a recipe fetched in the store.
#[must_use]
pub fn source_name(digest: Digest) -> String {
    format!("sources/{digest}")
}

/// Name of what a recipe's build left in the store.
#[must_use]
pub fn build_name(key: Digest) -> String {
    format!("builds/{key}")
}

/// A file name for an image: `/` and `:` are replaced by characters an image name cannot have.
#[must_use]
pub fn file_stem(image: &str) -> String {
    image.replace('/', "+").replace(':', "@")
}

fn record_name(image: &str) -> String {
    format!("images/{}.json", file_stem(image))
}

fn info_of_record(record: &Record) -> ImageInfo {
    ImageInfo {
        name: record.name.clone(),
        aliases: record.aliases.clone(),
        version: record.version.clone(),
        parent: record.parent.clone(),
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
