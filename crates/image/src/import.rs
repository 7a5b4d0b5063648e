//! Images that users bring: one WebAssembly file becomes a program, on top of an installed image or alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use wasmtime::Engine;

use super::compiler::{Compiler, ModuleOrigin, Verdict};
use super::digest::Digest;
use super::error::ImageError;
use super::names::{is_absolute, is_image_name};
use super::private_dir::PrivateDir;
use super::progress::{Progress, Step};
use super::record::{FORM, LaunchRecord, Licence, ModuleKind, ProgramRecord, Record};
use super::store::{DOCKER_PREFIXES, ImageStore, MAX_PARENTS};
use super::{compile, load};
use wisp_kernel::Engines;

/// Most names of one program.
const MAX_PATHS: usize = 64;
/// Most bytes of the environment of an image.
const MAX_ENV_BYTES: usize = 64 << 10;
/// Longest summary, version, provenance or licence, characters.
const MAX_TEXT_CHARS: usize = 500;
/// Trees that the kernel serves itself.
const SERVED: [&str; 2] = ["/proc", "/dev"];
/// Memory at the start that is worth a word, bytes: the least a sandbox gets is often less.
const NOTABLE_MEMORY_BYTES: u64 = 16 << 20;

/// What a user wants of an image of their own.
#[derive(Debug, Clone, Default)]
pub struct NewImage {
    /// `NAME` or `NAME:TAG`.
    pub name: String,
    /// Absolute paths of the program in a sandbox; the first is its name in messages.
    pub paths: Vec<String>,
    /// The installed image it stands on; `None` for none, so that the program is all there is.
    pub parent: Option<String>,
    /// Environment of every process, over the parent's.
    pub env: BTreeMap<String, String>,
    /// Where processes start; the parent's when absent.
    pub workdir: Option<String>,
    /// Version of the program; the first digits of the file's digest when absent.
    pub version: Option<String>,
    /// One line for people.
    pub summary: String,
    /// Where the file comes from.
    pub provenance: String,
    /// Terms of the program, an SPDX expression.
    pub licence: Option<String>,
    /// Takes the place of an own image of the same name.
    pub replace: bool,
}

/// What is left of a file once it is compiled, in files without names.
pub(super) struct Compiled {
    kind: ModuleKind,
    /// Linear memory the program starts with, bytes.
    memory_bytes: u64,
    /// Digest of the WebAssembly as it is run.
    pub(super) digest: Digest,
    /// Bytes of it.
    wasm_len: u64,
    /// As `compile_child` writes it.
    output: File,
}

/// Bytes before the WebAssembly in the output of the compiling process.
const OUTPUT_HEADER: u64 = 8;

impl NewImage {
    /// Where the program of an image of this name is when nothing else is said.
    #[must_use]
    pub fn default_path(name: &str) -> String {
        let bare = name.split_once(':').map_or(name, |(bare, _)| bare);
        let last = bare.rsplit_once('/').map_or(bare, |(_, last)| last);
        format!("/usr/bin/{last}")
    }

    /// Refuses what breaks a rule.
    ///
    /// # Errors
    /// [`ImageError::Invalid`] tells which.
    pub fn check(&self) -> Result<(), ImageError> {
        let require = |holds: bool, message: &dyn Fn() -> String| {
            if holds {
                Ok(())
            } else {
                Err(ImageError::Invalid(message()))
            }
        };
        require(is_image_name(&self.name), &|| {
            "the name must be NAME or NAME:TAG of lower-case letters, digits and ._-/, such as tools:1".to_owned()
        })?;
        // These are taken off a name before it is looked up.
        require(
            !DOCKER_PREFIXES.iter().any(|prefix| self.name.starts_with(prefix)),
            &|| "the name must not start with library/ or docker.io/".to_owned(),
        )?;
        require((1..=MAX_PATHS).contains(&self.paths.len()), &|| {
            format!("the program needs 1 to {MAX_PATHS} paths")
        })?;
        for path in &self.paths {
            let is_in = |served: &&str| {
                path.strip_prefix(*served)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            require(
                is_absolute(path) && path != "/" && is_text(path) && !SERVED.iter().any(is_in),
                &|| "the program's path must be absolute, without . and .., and outside /proc and /dev".to_owned(),
            )?;
        }
        if let Some(workdir) = &self.workdir {
            require(is_absolute(workdir), &|| {
                "the working directory must be an absolute path".to_owned()
            })?;
        }
        let bytes: usize = self.env.iter().map(|(name, value)| name.len() + value.len()).sum();
        require(bytes <= MAX_ENV_BYTES, &|| {
            format!("the environment must not have more than {MAX_ENV_BYTES} bytes")
        })?;
        for (name, value) in &self.env {
            let good = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
            require(good, &|| {
                "a variable of the environment needs a name without =, and no NUL".to_owned()
            })?;
        }
        let texts = [
            Some(&self.summary),
            Some(&self.provenance),
            self.version.as_ref(),
            self.licence.as_ref(),
        ];
        for text in texts.into_iter().flatten() {
            require(is_text(text) && text.chars().count() <= MAX_TEXT_CHARS, &|| {
                format!("a text must not have more than {MAX_TEXT_CHARS} characters, nor control characters")
            })?;
        }
        Ok(())
    }
}

/// These end up in terminals.
fn is_text(text: &str) -> bool {
    !text.contains(char::is_control)
}

impl ImageStore {
    /// A file to gather a user's WebAssembly in. It has no name, and is gone when it is closed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn upload_file(&self) -> Result<File, ImageError> {
        self.dir().unnamed_file()
    }

    /// Whether a new image may have this name and parent, as things are now.
    ///
    /// # Errors
    /// [`ImageError::Invalid`], [`ImageError::NameTaken`] or [`ImageError::NameReserved`].
    pub fn check_new(&self, new: &NewImage) -> Result<(), ImageError> {
        new.check()?;
        if let Ok(info) = self.inspect(&new.name) {
            if !info.own {
                return Err(ImageError::NameReserved {
                    wanted: new.name.clone(),
                    image: info.name,
                });
            }
            // `tools` and `tools:latest` are one image, which has one record.
            if !new.replace || info.name != new.name {
                return Err(ImageError::NameTaken(info.name));
            }
        }
        self.parents_of(new).map(|_| ())
    }

    /// Makes an image of a file of WebAssembly. The file is compiled by another process, for each of the engines; a file
    /// that is no good leaves nothing behind. Blocks for as long as compiling takes.
    ///
    /// # Errors
    /// As [`Self::check_new`]; [`ImageError::Refused`], [`ImageError::Unsupported`] and [`ImageError::TooExpensive`] for
    /// the file.
    pub fn import(
        &self,
        new: &NewImage,
        wasm: &mut File,
        engines: &Engines,
        progress: &dyn Progress,
    ) -> Result<Record, ImageError> {
        self.check_new(new)?;
        let what = new.paths.first().map_or("", String::as_str);
        progress.step(&new.name, Step::Compile, what);
        let upload = || ImageError::io("the file");
        wasm.rewind().map_err(upload())?;
        let (source, _) = Digest::of_reader(&mut *wasm).map_err(upload())?;
        let origin = ModuleOrigin::User;
        let mut compiled = compile_file(self.dir(), self.compiler(), wasm, false, origin)?;
        // Now, and not when the image is loaded, which would keep the store's lock.
        let fuel = engines.fuel().filter(|_| compiled.kind == ModuleKind::Module);
        let compile_fuel = |_| compile_file(self.dir(), self.compiler(), wasm, true, origin);
        let mut fuel_code = fuel.map(compile_fuel).transpose()?;
        let record = record(new, source, &compiled);

        let _lock = self.dir().lock()?;
        // Others may have been faster while this one compiled.
        self.check_new(new)?;
        let result = self.adopt(new, &record, &mut compiled, fuel_code.as_mut(), engines);
        // Takes back what a failure has left, and what the replaced image used.
        self.collect_garbage()?;
        result?;
        progress.done(&record.name);
        Ok(record)
    }

    /// Moves what was compiled into the store. The caller holds the lock.
    fn adopt(
        &self,
        new: &NewImage,
        record: &Record,
        compiled: &mut Compiled,
        fuel_code: Option<&mut Compiled>,
        engines: &Engines,
    ) -> Result<(), ImageError> {
        compiled.store(self.dir(), engines)?;
        let digest = record.programs[0].digest;
        if let (Some(engine), Some(compiled)) = (engines.fuel(), fuel_code) {
            compile::put(self.dir(), engine, digest, compiled.code()?)?;
        }
        load::code(self.dir(), engines, record, &record.programs[0], self.compiler())?;
        let mut chain = self.parents_of(new)?;
        chain.push(record.clone());
        load::tree(self, &chain).map_err(|error| {
            ImageError::Invalid(format!(
                "the program does not fit into the files of its parent at this path ({error})"
            ))
        })?;
        self.write_record(record)
    }

    /// The images below a new one, the lowest first.
    fn parents_of(&self, new: &NewImage) -> Result<Vec<Record>, ImageError> {
        let Some(parent) = &new.parent else {
            return Ok(Vec::new());
        };
        let chain = self.installed_chain(parent).map_err(|error| match error {
            ImageError::NotInstalled(_) => ImageError::Invalid(format!("parent: {error}")),
            other => other,
        })?;
        if chain.len() + 1 >= MAX_PARENTS {
            return Err(ImageError::Invalid(format!(
                "there are too many images below `{parent}`"
            )));
        }
        if chain.iter().any(|record| record.name == new.name) {
            return Err(ImageError::Invalid(format!("`{}` would be its own parent", new.name)));
        }
        Ok(chain)
    }
}

/// Compiles a program that is not our own again, for this engine. The caller holds the store's lock.
pub(super) fn recompile(
    store: &PrivateDir,
    engine: &Engine,
    digest: Digest,
    compiler: &Compiler,
    counts_fuel: bool,
    origin: ModuleOrigin,
) -> Result<(), ImageError> {
    let damaged = || ImageError::Damaged(compile::wasm_name(digest));
    let wasm = store.open_file(&compile::wasm_name(digest))?.ok_or_else(damaged)?;
    let mut compiled = compile_file(store, compiler, &wasm, counts_fuel, origin)?;
    if compiled.digest != digest {
        return Err(damaged());
    }
    compile::put(store, engine, digest, compiled.code()?)
}

/// Has a module checked and compiled by another process.
pub(super) fn compile_file(
    store: &PrivateDir,
    compiler: &Compiler,
    wasm: &File,
    counts_fuel: bool,
    origin: ModuleOrigin,
) -> Result<Compiled, ImageError> {
    let mut output = store.unnamed_file()?;
    let (kind, memory_bytes) = match compiler.compile(wasm, &output, counts_fuel, origin)? {
        Verdict::Accepted { kind, memory_bytes } => (kind, memory_bytes),
        Verdict::Refused { reason } => return Err(ImageError::Refused(reason)),
        Verdict::Unsupported { reason } => return Err(ImageError::Unsupported(reason)),
        Verdict::TooExpensive => {
            let limits = compiler.limits();
            return Err(ImageError::TooExpensive {
                memory_mb: limits.memory_mb,
                seconds: limits.timeout.as_secs(),
            });
        }
    };
    let failed = || ImageError::io("the result of compiling");
    let mut header = [0; OUTPUT_HEADER as usize];
    output.rewind().map_err(failed())?;
    output.read_exact(&mut header).map_err(failed())?;
    let wasm_len = u64::from_le_bytes(header);
    let (digest, read) = Digest::of_reader((&mut output).take(wasm_len)).map_err(failed())?;
    if read != wasm_len {
        return Err(failed()(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(Compiled {
        kind,
        memory_bytes,
        digest,
        wasm_len,
        output,
    })
}

impl Compiled {
    /// Puts it where the store has modules and their code.
    fn store(&mut self, store: &PrivateDir, engines: &Engines) -> Result<(), ImageError> {
        let (digest, wasm_len) = (self.digest, self.wasm_len);
        let wasm = self.part(OUTPUT_HEADER)?.take(wasm_len);
        store.write_from(&compile::wasm_name(digest), wasm)?;
        match self.kind {
            ModuleKind::Module => compile::put(store, engines.on_demand(), digest, self.code()?),
            #[cfg(feature = "component")]
            ModuleKind::Component => super::component::put(store, digest, self.code()?),
            #[cfg(not(feature = "component"))]
            ModuleKind::Component => Err(load::no_components(digest)),
        }
    }

    /// The compiled code.
    pub(super) fn code(&mut self) -> Result<&File, ImageError> {
        self.part(OUTPUT_HEADER + self.wasm_len)
    }

    fn part(&mut self, start: u64) -> Result<&File, ImageError> {
        let sought = self.output.seek(SeekFrom::Start(start));
        sought.map_err(ImageError::io("the result of compiling"))?;
        Ok(&self.output)
    }
}

fn record(new: &NewImage, source: Digest, compiled: &Compiled) -> Record {
    let mut known_limits = vec![
        "no network, no threads".to_owned(),
        "only what comes with the image runs: a binary of another machine does not".to_owned(),
    ];
    if compiled.memory_bytes >= NOTABLE_MEMORY_BYTES {
        let mebibytes = compiled.memory_bytes.div_ceil(1 << 20);
        known_limits.push(format!("the program starts with {mebibytes} MiB of memory"));
    }
    Record {
        form: FORM,
        name: new.name.clone(),
        aliases: Vec::new(),
        version: new
            .version
            .clone()
            .unwrap_or_else(|| source.to_string()[..12].to_owned()),
        parent: new.parent.clone(),
        summary: new.summary.clone(),
        licences: new
            .licence
            .iter()
            .map(|licence| Licence {
                what: new.name.clone(),
                licence: licence.clone(),
            })
            .collect(),
        provenance: new.provenance.clone(),
        capabilities: vec![compiled.kind.capability().to_owned()],
        known_limits,
        env: new.env.clone(),
        workdir: new.workdir.clone(),
        own: true,
        received: false,
        recipe: source,
        sources: Vec::new(),
        build: None,
        programs: vec![ProgramRecord {
            digest: compiled.digest,
            kind: compiled.kind,
            paths: new.paths.clone(),
            preopens: vec!["/".to_owned()],
            launch: LaunchRecord::Command { arguments: Vec::new() },
            ignores_sigpipe: false,
        }],
        layers: Vec::new(),
        size: compiled.wasm_len,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str) -> NewImage {
        NewImage {
            name: name.to_owned(),
            paths: vec!["/usr/bin/tool".to_owned()],
            ..NewImage::default()
        }
    }

    #[test]
    fn names_are_image_names_that_can_be_found_again() {
        for good in ["tool", "me/tool:1", "tool:latest"] {
            new(good).check().unwrap();
        }
        for wrong in [
            "",
            "Tool",
            "a b",
            "../a",
            "tool:",
            "library/tool",
            "docker.io/tool",
            "a\u{1b}",
        ] {
            assert!(matches!(new(wrong).check(), Err(ImageError::Invalid(_))), "{wrong:?}");
        }
    }

    #[test]
    fn program_paths_are_absolute_and_leave_the_kernels_trees_alone() {
        for good in ["/usr/bin/a", "/a", "/process", "/devices/a"] {
            let image = NewImage {
                paths: vec![good.to_owned()],
                ..new("tool")
            };
            image.check().unwrap();
        }
        for wrong in [
            "",
            "/",
            "a",
            "/a/../b",
            "/proc",
            "/proc/1",
            "/dev/null",
            "/dev",
            "/a\n",
            "/a//b",
        ] {
            let image = NewImage {
                paths: vec![wrong.to_owned()],
                ..new("tool")
            };
            assert!(matches!(image.check(), Err(ImageError::Invalid(_))), "{wrong:?}");
        }
        let image = NewImage {
            paths: Vec::new(),
            ..new("tool")
        };
        assert!(image.check().is_err());
    }

    #[test]
    fn texts_are_bounded_and_without_control_characters() {
        let with = |summary: &str| NewImage {
            summary: summary.to_owned(),
            ..new("tool")
        };
        with("é").check().unwrap();
        assert!(with("a\u{1b}[2J").check().is_err());
        assert!(with(&"a".repeat(MAX_TEXT_CHARS + 1)).check().is_err());
    }
}
