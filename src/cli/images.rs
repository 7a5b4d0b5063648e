//! `wisp images`: lists, installs, adds and removes images.

use parking_lot::Mutex;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::image_registry;
use super::serve::compile_limits;
use super::terminal::{printable_json, printable_line};
use crate::config::Config;
use crate::image::{
    Archive, Artifact, ImageInfo, ImageStore, InstallOptions, NewImage, Progress, Record, SigningKey, Step,
};
use crate::kernel::Engines;
use crate::registry::Reference;

/// Bytes of a file that tell an archive from WebAssembly.
const HEAD_BYTES: u64 = 512;
/// What to do with images.
#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// Shows which images there are.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Installs images from a registry, with all images below them.
    Pull {
        /// Images in a registry (HOST[:PORT]/NAME[:TAG]), or names in the registry of the configuration, if it names one.
        #[arg(required = true)]
        names: Vec<String>,
        /// Speak HTTP without TLS.
        #[arg(long)]
        plain_http: bool,
        /// Take the place of an own image of the same name.
        #[arg(long)]
        replace: bool,
    },
    /// Installs an image from a file: an archive that `export` has written, or a WebAssembly program (a WASI preview1 command
    /// module), which becomes an image.
    #[command(visible_alias = "import")]
    Add(Box<AddArgs>),
    /// Writes an installed image, with all images below it, to a file.
    Export {
        /// Name or alias.
        name: String,
        /// The archive to write: an OCI layout in a tar file.
        file: PathBuf,
        /// Sign it with the key in this file.
        #[arg(long, value_name = "KEYFILE")]
        sign: Option<PathBuf>,
    },
    /// Sends an installed image to a registry, with all images below it.
    Push {
        /// Name or alias.
        name: String,
        /// Where it goes: HOST[:PORT]/NAME[:TAG].
        reference: Reference,
        /// Sign it with the key in this file.
        #[arg(long, value_name = "KEYFILE")]
        sign: Option<PathBuf>,
        /// Speak HTTP without TLS.
        #[arg(long)]
        plain_http: bool,
    },
    /// Makes a key to sign images with, and prints the public key for `registry.trusted_keys`.
    Keygen {
        /// The file for the secret key. It must not be there yet.
        file: PathBuf,
    },
    /// Removes installed images and what only they used.
    #[command(visible_alias = "remove")]
    Rm {
        /// Names or aliases.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Shows all that is known about an image.
    Inspect {
        /// Name or alias.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `wisp images add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The archive or `.wasm` file. All options but --replace are for a program: an archive says what it holds.
    pub file: PathBuf,
    /// NAME or NAME:TAG of the image; a program needs it.
    #[arg(long)]
    pub name: Option<String>,
    /// Absolute path of the program in a sandbox, /usr/bin and the file's name by default; may be repeated.
    #[arg(long = "program", value_name = "PATH")]
    pub paths: Vec<String>,
    /// The installed image it stands on, or `none` for an image that is this program alone.
    #[arg(long, default_value = "base")]
    pub parent: String,
    /// Environment of every process, NAME=VALUE; may be repeated.
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = super::parse_assignment)]
    pub env: Vec<(String, String)>,
    /// Where processes start; as in the parent by default.
    #[arg(short, long)]
    pub workdir: Option<String>,
    /// Version of the program; digits of the file's digest by default.
    #[arg(long)]
    pub version: Option<String>,
    /// One line for people.
    #[arg(long, default_value = "")]
    pub summary: String,
    /// Where the file comes from; its name by default.
    #[arg(long)]
    pub provenance: Option<String>,
    /// Terms of the program, an SPDX expression.
    #[arg(long)]
    pub licence: Option<String>,
    /// Take the place of an own image of this name.
    #[arg(long)]
    pub replace: bool,
}

impl ImagesCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// What failed, in words for the user.
    pub async fn run(self) -> anyhow::Result<()> {
        // All of it blocks: files, other programs, compiling.
        tokio::task::spawn_blocking(move || self.run_blocking()).await?
    }

    fn run_blocking(self) -> anyhow::Result<()> {
        let store = ImageStore::open_default()?;
        match self {
            Self::List { json: true } => print_json(&store.list()?),
            Self::List { json: false } => Ok(print_table(&store.list()?)?),
            Self::Inspect { name, json: true } => print_json(&store.inspect(&name)?),
            Self::Inspect { name, json: false } => Ok(print_details(&store.inspect(&name)?)?),
            Self::Pull {
                names,
                plain_http,
                replace,
            } => image_registry::pull(store, &names, plain_http, replace),
            Self::Push {
                name,
                reference,
                sign,
                plain_http,
            } => image_registry::push(&store, &name, reference, sign.as_deref(), plain_http),
            Self::Add(args) => add(store, *args),
            Self::Export { name, file, sign } => export(&store, &name, &file, sign.as_deref()),
            Self::Keygen { file } => {
                let key = SigningKey::generate()?;
                key.write(&file)?;
                Ok(writeln!(io::stdout(), "{}", key.public())?)
            }
            Self::Rm { names } => {
                for name in names {
                    let record = store.remove(&name)?;
                    writeln!(io::stdout(), "removed {}", record.name)?;
                }
                Ok(())
            }
        }
    }
}

pub(super) fn pack(store: &ImageStore, name: &str, sign: Option<&Path>, progress: &Bar) -> anyhow::Result<Artifact> {
    let key = sign.map(SigningKey::read).transpose()?;
    // Both kinds of code, as far as they are installed.
    let engines = Engines::for_compiling(true)?;
    let artifact = store.pack(name, &engines, progress);
    progress.clear();
    let mut artifact = artifact?;
    if let Some(key) = &key {
        artifact.sign(key);
    }
    Ok(artifact)
}

fn export(store: &ImageStore, name: &str, path: &Path, sign: Option<&Path>) -> anyhow::Result<()> {
    let artifact = pack(store, name, sign, &Bar::new())?;
    // Beside its final place, so that a file of that name is a whole archive.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let context = || path.display().to_string();
    let partial = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new("."))).with_context(context)?;
    artifact.write_archive(io::BufWriter::new(partial.as_file()))?;
    let file = partial.persist(path).with_context(context)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    let size = mebibytes(file.metadata()?.len());
    Ok(writeln!(
        io::stdout(),
        "{name} {} is in {} ({size})",
        artifact.digest(),
        path.display()
    )?)
}

/// Installs an archive that [`export`] has written.
fn import(store: &ImageStore, file: File, replace: bool, config: &Config) -> anyhow::Result<()> {
    let options = InstallOptions {
        trusted_keys: config.registry.keys()?,
        wanted: None,
        replace,
    };
    let engines = Engines::for_compiling(config.fuel)?;
    let progress = Bar::new();
    let result =
        Archive::open(file).and_then(|mut archive| store.install_artifact(&mut archive, &engines, &options, &progress));
    progress.clear();
    Ok(print_installed(&result?)?)
}

fn add(store: ImageStore, args: AddArgs) -> anyhow::Result<()> {
    let config = Config::load(None, std::env::vars())?;
    let store = store.with_compile_limits(compile_limits(&config.limits));
    let mut file = File::open(&args.file).with_context(|| args.file.display().to_string())?;
    let mut head = Vec::new();
    (&file).take(HEAD_BYTES).read_to_end(&mut head)?;
    file.rewind()?;
    if Archive::may_be(&head) {
        return import(&store, file, args.replace, &config).with_context(|| args.file.display().to_string());
    }
    let Config { limits, fuel, .. } = config;
    let name = args.name.context("a program needs --name NAME for its image")?;
    let size = file.metadata().with_context(|| args.file.display().to_string())?.len();
    anyhow::ensure!(
        size <= limits.max_image_bytes,
        "{} is larger than {} bytes (limits.max_image_bytes)",
        args.file.display(),
        limits.max_image_bytes
    );
    let file_name = |name: Option<&OsStr>| name.unwrap_or_default().to_string_lossy().into_owned();
    let paths = match args.paths.as_slice() {
        [] => vec![format!("/usr/bin/{}", file_name(args.file.file_stem()))],
        paths => paths.to_vec(),
    };
    let new = NewImage {
        name,
        paths,
        parent: Some(args.parent).filter(|parent| parent != "none"),
        env: args.env.into_iter().collect(),
        workdir: args.workdir,
        version: args.version,
        summary: args.summary,
        provenance: args.provenance.unwrap_or_else(|| file_name(args.file.file_name())),
        licence: args.licence,
        replace: args.replace,
    };
    let engines = Engines::for_compiling(fuel)?;
    let progress = Bar::new();
    let result = store.import(&new, &mut file, &engines, &progress);
    progress.clear();
    let record = result.with_context(|| args.file.display().to_string())?;
    Ok(print_installed(&record)?)
}

pub(super) fn print_installed(image: &Record) -> io::Result<()> {
    let (name, version, size) = (&image.name, &image.version, mebibytes(image.size));
    writeln!(io::stdout(), "{name} {version} is installed ({size})")
}

/// One line that says what is being done. Where standard error is no terminal, each step is printed once instead.
pub(super) struct Bar {
    spinner: ProgressBar,
    last: Mutex<String>,
}

impl Bar {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        // The template is a constant; if it were wrong, the built-in one would do.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        Self {
            spinner: bar,
            last: Mutex::default(),
        }
    }

    pub(super) fn clear(&self) {
        self.spinner.finish_and_clear();
    }

    fn say(&self, line: &str) {
        if self.spinner.is_hidden() {
            // A message that cannot be shown is no reason to stop.
            let _ = writeln!(io::stderr(), "{line}");
        } else {
            self.spinner.println(line);
        }
    }
}

impl Progress for Bar {
    fn step(&self, image: &str, step: Step, what: &str) {
        let message = format!("{image}: {} {what}", step.verb());
        if self.spinner.is_hidden() {
            self.say(&message);
        }
        self.spinner.reset_elapsed();
        self.spinner.enable_steady_tick(Duration::from_millis(100));
        self.spinner.set_message(message.clone());
        *self.last.lock() = message;
    }

    fn line(&self, line: &str) {
        let step = self.last.lock();
        let shown: String = line.chars().filter(|c| !c.is_control()).take(60).collect();
        self.spinner.set_message(format!("{step}: {shown}"));
    }

    fn done(&self, _: &str) {
        self.spinner.set_message("");
    }
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    writeln!(
        io::stdout(),
        "{}",
        printable_json(&serde_json::to_string_pretty(value)?)
    )?;
    Ok(())
}

fn print_table(images: &[ImageInfo]) -> io::Result<()> {
    let width = images
        .iter()
        .map(|image| image.name.len())
        .chain([4])
        .max()
        .unwrap_or(4);
    let mut out = io::stdout().lock();
    writeln!(out, "{:width$}  {:>9}  {:8}  SUMMARY", "NAME", "SIZE", "VERSION")?;
    for image in images {
        let (name, size, version) = (&image.name, mebibytes(image.size), printable_line(&image.version));
        writeln!(
            out,
            "{name:width$}  {size:>9}  {version:8}  {}",
            printable_line(&image.summary)
        )?;
        if !image.aliases.is_empty() {
            writeln!(out, "{:width$}  also called {}", "", image.aliases.join(", "))?;
        }
    }
    Ok(())
}

fn print_details(image: &ImageInfo) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut line = |name: &str, value: &str| {
        if value.is_empty() {
            Ok(())
        } else {
            writeln!(out, "{name:14} {}", printable_line(value))
        }
    };
    line("name", &image.name)?;
    line("aliases", &image.aliases.join(", "))?;
    line("version", &image.version)?;
    line("parent", image.parent.as_deref().unwrap_or(""))?;
    line("summary", &image.summary)?;
    line("size", &mebibytes(image.size))?;
    line(
        if image.own { "file" } else { "recipe" },
        &format!("sha256:{}", image.recipe),
    )?;
    line("provenance", &image.provenance)?;
    line("capabilities", &image.capabilities.join(", "))?;
    for limit in &image.known_limits {
        line("limit", limit)?;
    }
    for licence in &image.licences {
        line("licence", &format!("{} ({})", licence.licence, licence.what))?;
    }
    line("programs", &image.programs.join(" "))
}

/// A size with one decimal.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
