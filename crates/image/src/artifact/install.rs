//! Installs an artifact that somebody else made.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};

use wasmtime::Engine;
use wisp_kernel::Engines;

use super::archive::parse;
use super::oci::{self, BlobDigest, Descriptor, annotation};
use super::pack::{Configuration, Hashing};
use super::signature::{PublicKey, Signature};
use super::{
    MAX_BLOBS, MAX_CONTENT_BYTES, MAX_MANIFEST_BYTES, MAX_PACKED_BYTES, MAX_RECORDS_BYTES, check, target, wrong,
};
use crate::compiler::ModuleOrigin;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::import::{self, Compiled};
use crate::progress::{Progress, Step};
use crate::record::{LaunchRecord, ModuleKind, Record};
use crate::store::{ImageStore, may_name};
use crate::{compile, layer, load, module};

/// Largest module, bytes.
const MAX_MODULE_BYTES: u64 = 1 << 30;

/// Where an artifact comes from. It may send anything: nothing it says is believed.
pub trait ArtifactSource {
    /// The manifest; at most [`super::MAX_MANIFEST_BYTES`].
    ///
    /// # Errors
    /// When it cannot be had.
    fn manifest(&mut self) -> Result<Vec<u8>, ImageError>;

    /// The manifest of the signature of the manifest with this digest, if there is one.
    ///
    /// # Errors
    /// When it cannot be had.
    fn signature(&mut self, manifest: Digest) -> Result<Option<Vec<u8>>, ImageError>;

    /// Writes a blob to a file, at most as many bytes as the descriptor says.
    ///
    /// # Errors
    /// When it cannot be had.
    fn blob(&mut self, descriptor: &Descriptor, into: &mut File) -> Result<(), ImageError>;
}

/// How an artifact is installed.
#[derive(Debug, Clone, Default)]
pub struct InstallOptions {
    /// Machine code is used as it is if one of these has signed the artifact.
    pub trusted_keys: Vec<PublicKey>,
    /// The name or alias the image must have.
    pub wanted: Option<String>,
    /// It may take the place of an own image of the same name.
    pub replace: bool,
}

/// What an artifact says it holds.
struct Contents {
    /// The image and those below it, the lowest first.
    chain: Vec<Record>,
    layers: BTreeMap<Digest, Descriptor>,
    modules: BTreeMap<Digest, Descriptor>,
    code: Vec<Code>,
    /// Whether a trusted key has signed it.
    is_trusted: bool,
}

/// A layer of machine code.
struct Code {
    module: Digest,
    engine: String,
    /// Digest of the code.
    content: Digest,
    descriptor: Descriptor,
}

/// What an artifact brings that the store does not have, in files without names.
#[derive(Default)]
struct Staged {
    layers: Vec<(Digest, File)>,
    modules: Vec<(Digest, File)>,
    code: Vec<(Engine, Digest, StagedCode)>,
}

enum StagedCode {
    Signed(File),
    Compiled(Compiled),
}

impl ImageStore {
    /// Installs an artifact: an image and those below it. Machine code that a trusted key has signed is used as it is;
    /// otherwise each module is compiled by another process, within limits. Blocks for as long as that takes. What was
    /// installed before stays if this fails, and nothing else is left behind.
    ///
    /// # Errors
    /// [`ImageError::Artifact`] for an artifact that is damaged or not one; [`ImageError::Signature`] for a wrong
    /// signature; [`ImageError::NameTaken`] for a name that another image has; those of compiling a module.
    pub fn install_artifact(
        &self,
        source: &mut dyn ArtifactSource,
        engines: &Engines,
        options: &InstallOptions,
        progress: &dyn Progress,
    ) -> Result<Record, ImageError> {
        let contents = self.read_contents(source, options)?;
        let image = contents.chain.last().ok_or_else(|| wrong("it holds no image"))?;
        if let Some(wanted) = &options.wanted
            && !may_name(wanted, &check::all_names(image))
        {
            return Err(wrong(format!("it holds the image `{}`, not `{wanted}`", image.name)));
        }
        // Refuses early what would be refused at the end.
        check_names(&contents.chain, &self.records()?, options.replace)?;
        let mut staged = Staged::default();
        self.stage_layers(source, &contents, &mut staged, progress)?;
        self.stage_modules(source, &contents, engines, &mut staged, progress)?;

        let _lock = self.dir().lock()?;
        let result = self.adopt_artifact(&contents.chain, staged, engines, options);
        // Takes back what a failure has left, and what replaced images used.
        self.collect_garbage()?;
        let record = result?;
        progress.done(&record.name);
        Ok(record)
    }

    fn read_contents(&self, source: &mut dyn ArtifactSource, options: &InstallOptions) -> Result<Contents, ImageError> {
        let bytes = source.manifest()?;
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(wrong("its manifest is too large"));
        }
        let manifest: oci::Manifest = parse(&bytes, "its manifest")?;
        if manifest.artifact_type != oci::RECORDS || manifest.config.media_type != oci::RECORDS {
            return Err(wrong("it is not an image of wisp"));
        }
        let is_trusted = match source.signature(Digest::of(&bytes))? {
            None => false,
            Some(signature) => {
                let carrier: oci::Manifest = parse(&signature, "its signature")?;
                let signature = Signature::read(&carrier)?;
                signature.verify(&carrier, &bytes)?;
                let is_trusted = options.trusted_keys.contains(&signature.key);
                if !is_trusted {
                    tracing::info!(key = %signature.key, "the image is signed by a key that is not trusted");
                }
                is_trusted
            }
        };
        let blobs = || manifest.layers.iter().chain([&manifest.config]);
        let packed = blobs().try_fold(0_u64, |sum, blob| sum.checked_add(blob.size));
        if manifest.layers.len() >= MAX_BLOBS || packed.is_none_or(|bytes| bytes > MAX_PACKED_BYTES) {
            return Err(wrong("it is too large"));
        }
        if manifest.config.size > MAX_RECORDS_BYTES {
            return Err(wrong("its configuration is too large"));
        }
        let mut config = Vec::new();
        let mut file = self.fetch(source, &manifest.config)?;
        file.read_to_end(&mut config).map_err(ImageError::io("a blob"))?;
        let configuration: Configuration = parse(&config, "its configuration")?;
        let mut contents = Contents {
            chain: configuration.images.iter().map(Record::portable).collect(),
            layers: BTreeMap::new(),
            modules: BTreeMap::new(),
            code: Vec::new(),
            is_trusted,
        };
        check::records(&contents.chain)?;
        contents.sort(&manifest.layers)?;
        contents.measure()?;
        Ok(contents)
    }

    /// Fetches a blob and checks its size and digest.
    fn fetch(&self, source: &mut dyn ArtifactSource, descriptor: &Descriptor) -> Result<File, ImageError> {
        let mut file = self.dir().unnamed_file()?;
        source.blob(descriptor, &mut file)?;
        let failed = || ImageError::io("a blob");
        file.rewind().map_err(failed())?;
        let (digest, size) = Digest::of_reader(&file).map_err(failed())?;
        if size != descriptor.size {
            let (wanted, digest) = (descriptor.size, descriptor.digest);
            return Err(wrong(format!("blob {digest} has {size} bytes instead of {wanted}")));
        }
        if digest != descriptor.digest.0 {
            return Err(wrong(format!(
                "blob {} has another digest: it was changed",
                descriptor.digest
            )));
        }
        file.rewind().map_err(failed())?;
        Ok(file)
    }

    /// Fetches a blob and unpacks it. The result must have the digest and size that the manifest says.
    fn unpack(
        &self,
        source: &mut dyn ArtifactSource,
        descriptor: &Descriptor,
        content: Digest,
    ) -> Result<File, ImageError> {
        let size = content_size(descriptor)?;
        let packed = self.fetch(source, descriptor)?;
        let damaged = |error: &dyn std::fmt::Display| wrong(format!("blob {}: {error}", descriptor.digest));
        let mut file = self.dir().unnamed_file()?;
        let decoder = zstd::Decoder::new(BufReader::new(packed)).map_err(|error| damaged(&error))?;
        let mut unpacked = Hashing::new(decoder.take(size.saturating_add(1)));
        let written = io::copy(&mut unpacked, &mut file).map_err(|error| damaged(&error))?;
        if written != size || unpacked.finish() != content {
            return Err(damaged(&"its contents are not what the manifest says"));
        }
        file.rewind().map_err(ImageError::io("a blob"))?;
        Ok(file)
    }

    fn stage_layers(
        &self,
        source: &mut dyn ArtifactSource,
        contents: &Contents,
        staged: &mut Staged,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        for (digest, descriptor) in &contents.layers {
            if layer::map(self.dir(), *digest).is_ok() {
                continue;
            }
            progress.step(contents.name(), Step::Fetch, &format!("layer {}", descriptor.digest));
            let file = self.unpack(source, descriptor, *digest)?;
            check::layer(&file)?;
            staged.layers.push((*digest, file));
        }
        Ok(())
    }

    fn stage_modules(
        &self,
        source: &mut dyn ArtifactSource,
        contents: &Contents,
        engines: &Engines,
        staged: &mut Staged,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        for (&digest, descriptor) in &contents.modules {
            let stored = self.dir().open_file(&compile::wasm_name(digest))?;
            let is_good = |file: &File| Digest::of_reader(file).is_ok_and(|(found, _)| found == digest);
            let (wasm, is_new) = match stored.filter(is_good) {
                Some(file) => (file, false),
                None => {
                    progress.step(contents.name(), Step::Fetch, &format!("module {}", descriptor.digest));
                    (self.unpack(source, descriptor, digest)?, true)
                }
            };
            contents.check_entries(digest, &wasm)?;
            for engine in &load::engines_for(contents.kind(digest), digest, engines)? {
                if !is_new && compile::is_compiled(self.dir(), engine, digest)? {
                    continue;
                }
                let code = match self.signed_code(source, contents, engine, digest, progress)? {
                    Some(file) => StagedCode::Signed(file),
                    None => {
                        let what = contents.first_path(digest);
                        progress.step(contents.name(), Step::Compile, what);
                        let origin = contents.origin(digest);
                        let counts_fuel = engines.counts_fuel(engine);
                        let compiled = import::compile_file(self.dir(), self.compiler(), &wasm, counts_fuel, origin)?;
                        if compiled.digest != digest {
                            return Err(wrong(format!("module {digest} is not as wisp writes modules")));
                        }
                        StagedCode::Compiled(compiled)
                    }
                };
                staged.code.push((engine.clone(), digest, code));
            }
            if is_new {
                staged.modules.push((digest, wasm));
            }
        }
        Ok(())
    }

    /// Machine code of a module for an engine, if a trusted key has signed it and the engine takes it.
    fn signed_code(
        &self,
        source: &mut dyn ArtifactSource,
        contents: &Contents,
        engine: &Engine,
        module: Digest,
        progress: &dyn Progress,
    ) -> Result<Option<File>, ImageError> {
        let key = compile::engine_key(engine);
        let fits = |code: &&Code| contents.is_trusted && code.module == module && code.engine == key;
        let Some(code) = contents.code.iter().find(fits) else {
            return Ok(None);
        };
        progress.step(
            contents.name(),
            Step::Fetch,
            &format!("code {}", code.descriptor.digest),
        );
        let file = self.unpack(source, &code.descriptor, code.content)?;
        match compile::check_code(engine, &file) {
            Ok(()) => Ok(Some(file)),
            Err(error) => {
                tracing::warn!(%error, %module, "signed code does not fit this engine; the module is compiled");
                Ok(None)
            }
        }
    }

    /// Moves what was staged into the store. The caller holds the lock.
    fn adopt_artifact(
        &self,
        chain: &[Record],
        staged: Staged,
        engines: &Engines,
        options: &InstallOptions,
    ) -> Result<Record, ImageError> {
        let before = self.records()?;
        check_names(chain, &before, options.replace)?;
        let failed = || ImageError::io("a blob");
        for (digest, mut file) in staged.layers {
            file.rewind().map_err(failed())?;
            self.dir().write_from(&layer::stored_name(digest), &file)?;
        }
        for (digest, mut file) in staged.modules {
            file.rewind().map_err(failed())?;
            self.dir().write_from(&compile::wasm_name(digest), &file)?;
        }
        for (engine, digest, code) in staged.code {
            match code {
                StagedCode::Signed(mut file) => {
                    file.rewind().map_err(failed())?;
                    compile::put(self.dir(), &engine, digest, &file)?;
                }
                StagedCode::Compiled(mut compiled) => compile::put(self.dir(), &engine, digest, compiled.code()?)?,
            }
        }
        // What was there before may have been removed meanwhile.
        let programs = chain.iter().flat_map(|record| &record.programs);
        for program in programs {
            if !load::is_compiled(self.dir(), engines, program)? {
                return Err(ImageError::Damaged(compile::wasm_name(program.digest)));
            }
        }
        let new: Vec<Record> = chain
            .iter()
            .map(|record| match before.iter().find(|old| old.is_same(record)) {
                Some(old) => old.clone(),
                None => record.received(),
            })
            .collect();
        self.check_trees(&new, &before)?;
        for record in &new {
            if !before.contains(record) {
                self.write_record(record)?;
            }
        }
        new.last().cloned().ok_or_else(|| wrong("it holds no image"))
    }

    /// Proves that the new images and those on top of a replaced one can be loaded.
    fn check_trees(&self, new: &[Record], before: &[Record]) -> Result<(), ImageError> {
        load::tree(self, new).map_err(|error| wrong(format!("its files do not fit together: {error}")))?;
        let replaced = |record: &Record| new.iter().find(|one| one.name == record.name);
        for image in before.iter().filter(|record| replaced(record).is_none()) {
            let mut chain = self.installed_chain(&image.name)?;
            let changes = |record: &Record| replaced(record).is_some_and(|one| one != record);
            if !chain.iter().any(changes) {
                continue;
            }
            for record in &mut chain {
                if let Some(one) = replaced(record) {
                    *record = one.clone();
                }
            }
            load::tree(self, &chain).map_err(|error| {
                let name = &image.name;
                wrong(format!(
                    "it replaces an image below `{name}`, which does not fit on it ({error}); remove that first"
                ))
            })?;
        }
        Ok(())
    }
}

/// Refuses names that other images have.
fn check_names(chain: &[Record], installed: &[Record], replace: bool) -> Result<(), ImageError> {
    let in_chain = |name: &str| chain.iter().any(|record| record.name == name);
    for (index, record) in chain.iter().enumerate() {
        let is_last = index + 1 == chain.len();
        for other in installed {
            if other.name == record.name {
                let is_own = other.own || record.own;
                if is_own && !other.is_same(record) && !(is_last && replace && other.own == record.own) {
                    return Err(ImageError::NameTaken(other.name.clone()));
                }
                continue;
            }
            let taken: HashSet<String> = check::all_names(other)
                .iter()
                .map(|name| check::bare(name).to_owned())
                .collect();
            let is_taken = check::all_names(record)
                .iter()
                .any(|name| taken.contains(check::bare(name)));
            if is_taken && !in_chain(&other.name) {
                return Err(ImageError::NameTaken(other.name.clone()));
            }
        }
    }
    Ok(())
}

impl Contents {
    /// The name of the image, for messages.
    fn name(&self) -> &str {
        self.chain.last().map_or("", |image| image.name.as_str())
    }

    /// The first path of the program of a module, for messages.
    fn first_path(&self, module: Digest) -> &str {
        let mut programs = self.chain.iter().flat_map(|record| &record.programs);
        let program = programs.find(|program| program.digest == module);
        program
            .and_then(|program| program.paths.first())
            .map_or("", String::as_str)
    }

    /// The form of a program.
    fn kind(&self, digest: Digest) -> ModuleKind {
        let mut programs = self.chain.iter().flat_map(|record| &record.programs);
        let program = programs.find(|program| program.digest == digest);
        program.map_or(ModuleKind::Module, |program| program.kind)
    }

    /// Whether the program is a user's or made for an image.
    fn origin(&self, module: Digest) -> ModuleOrigin {
        let is_in = |record: &&Record| record.programs.iter().any(|program| program.digest == module);
        if self.chain.iter().filter(is_in).all(|record| record.own) {
            ModuleOrigin::User
        } else {
            ModuleOrigin::Image
        }
    }

    /// Sorts blobs by what they are. Each that the images need must be there, and no others.
    fn sort(&mut self, blobs: &[Descriptor]) -> Result<(), ImageError> {
        for blob in blobs {
            let content = digest_in(blob, annotation::CONTENT)?;
            let is_new = match blob.media_type.as_str() {
                oci::LAYER => self.layers.insert(content, blob.clone()).is_none(),
                oci::MODULE => self.modules.insert(content, blob.clone()).is_none(),
                oci::CODE => {
                    let text = |name: &str| blob.annotations.get(name).cloned().unwrap_or_default();
                    // Code for another kind of machine is none of our business.
                    if text(annotation::TARGET) == target() {
                        self.code.push(Code {
                            module: digest_in(blob, annotation::MODULE)?,
                            engine: text(annotation::ENGINE),
                            content,
                            descriptor: blob.clone(),
                        });
                    }
                    true
                }
                _ => {
                    return Err(wrong(
                        "it has a blob of an unknown kind; it was made by another version of wisp",
                    ));
                }
            };
            if !is_new {
                return Err(wrong(format!("blob {} is in it twice", blob.digest)));
            }
        }
        let programs = self.chain.iter().flat_map(|record| &record.programs);
        let modules: HashSet<Digest> = programs.map(|program| program.digest).collect();
        let layers: HashSet<Digest> = self.chain.iter().flat_map(|record| &record.layers).copied().collect();
        let is_whole = modules.iter().all(|digest| self.modules.contains_key(digest))
            && layers.iter().all(|digest| self.layers.contains_key(digest));
        if !is_whole {
            return Err(wrong("a layer or module that its images need is missing"));
        }
        if modules.len() < self.modules.len() || layers.len() < self.layers.len() {
            return Err(wrong("it has a layer or module that none of its images needs"));
        }
        Ok(())
    }

    /// Bounds what the contents take on disk, and notes for each image what it takes.
    fn measure(&mut self) -> Result<(), ImageError> {
        let code = self.code.iter().map(|code| &code.descriptor);
        let blobs = self.layers.values().chain(self.modules.values()).chain(code);
        let total = blobs
            .map(content_size)
            .try_fold(0_u64, |sum, size| Ok(sum.saturating_add(size?)))?;
        if total > MAX_CONTENT_BYTES {
            return Err(wrong(format!("it is larger than {} MiB", MAX_CONTENT_BYTES >> 20)));
        }
        for record in &mut self.chain {
            let programs = record
                .programs
                .iter()
                .filter_map(|program| self.modules.get(&program.digest));
            let layers = record.layers.iter().filter_map(|digest| self.layers.get(digest));
            record.size = programs.chain(layers).filter_map(|blob| content_size(blob).ok()).sum();
        }
        Ok(())
    }

    /// Checks that a module exports the functions that its programs start with.
    fn check_entries(&self, digest: Digest, wasm: &File) -> Result<(), ImageError> {
        let failed = || ImageError::io("a module");
        let mut wasm = wasm.try_clone().map_err(failed())?;
        let mut bytes = Vec::new();
        wasm.rewind().map_err(failed())?;
        wasm.take(MAX_MODULE_BYTES).read_to_end(&mut bytes).map_err(failed())?;
        let programs = self.chain.iter().flat_map(|record| &record.programs);
        for program in programs.filter(|program| program.digest == digest) {
            let entry = match &program.launch {
                LaunchRecord::Command { .. } => "_start",
                LaunchRecord::Resume { export, .. } => export,
            };
            if !module::exports_function(&bytes, entry).is_ok_and(|exports| exports) {
                return Err(wrong(format!("module {digest} exports no function `{entry}`")));
            }
        }
        Ok(())
    }
}

fn digest_in(blob: &Descriptor, name: &str) -> Result<Digest, ImageError> {
    let digest = blob.annotations.get(name).cloned().map(BlobDigest::try_from);
    match digest {
        Some(Ok(digest)) => Ok(digest.0),
        _ => Err(wrong(format!("blob {} has no {name}", blob.digest))),
    }
}

fn content_size(blob: &Descriptor) -> Result<u64, ImageError> {
    let size = blob
        .annotations
        .get(annotation::CONTENT_SIZE)
        .and_then(|text| text.parse().ok());
    size.ok_or_else(|| wrong(format!("blob {} has no {}", blob.digest, annotation::CONTENT_SIZE)))
}
