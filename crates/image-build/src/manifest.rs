//! `image.toml`: what an image is made of.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use wisp_image::{Digest, Licence, is_absolute, is_image_name, is_relative};

/// Most paths, sources, programs or layers of one image.
const MAX_ITEMS: usize = 4096;

/// A recipe.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `name` or `name:tag`, as clients ask for it.
    pub name: String,
    /// Other names for it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Version of what is inside.
    pub version: String,
    /// The image whose files, programs and environment come first.
    pub parent: Option<String>,
    /// One line for people.
    #[serde(default)]
    pub summary: String,
    /// Under which terms its parts may be used.
    #[serde(default)]
    pub licences: Vec<Licence>,
    /// Where it comes from and who made it.
    #[serde(default)]
    pub provenance: String,
    /// What it can do, as words clients can test for.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// What it cannot do though one might expect it.
    #[serde(default)]
    pub known_limits: Vec<String>,
    /// Environment of every process, over the parent's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where processes start; the parent's when absent.
    pub workdir: Option<String>,
    /// Pinned inputs.
    #[serde(default, rename = "source")]
    pub sources: Vec<Source>,
    /// How to build what is not fetched.
    pub build: Option<Build>,
    /// Its programs.
    #[serde(default, rename = "program")]
    pub programs: Vec<Program>,
    /// Directory trees, the first lowest.
    #[serde(default, rename = "layer")]
    pub layers: Vec<Layer>,
    /// A program run once at installation, whose files become the topmost layer.
    pub setup: Option<Setup>,
}

/// A pinned input: one of `npm` and `path`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// `NAME@VERSION` of an npm package, fetched with the `npm` client.
    pub npm: Option<String>,
    /// A file in the recipe's folder.
    pub path: Option<String>,
    /// Digest of the package's archive or of the file.
    pub sha256: Digest,
    /// What to take out of a package.
    #[serde(default)]
    pub files: Vec<SourceFile>,
}

/// A file taken out of a package.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Its name in the package's archive.
    pub path: String,
    /// What it is called for the rest of the recipe.
    pub to: String,
    /// Its digest.
    pub sha256: Digest,
}

/// A build command.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Program and arguments. It runs in the recipe's folder, writes to `$WISP_OUT` and may keep what it likes in
    /// `$WISP_BUILD_DIR`.
    pub command: Vec<String>,
    /// Files and directories of the recipe's folder it depends on.
    pub inputs: Vec<String>,
    /// The same outside the recipe's folder: paths in the tree that has the folder of recipes, such as a crate that
    /// guests and host share.
    #[serde(default)]
    pub shared: Vec<String>,
}

/// A module and the names it is started by.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The module's file: from a source, the build, or the recipe's folder.
    pub module: String,
    /// Absolute paths of the program files.
    pub paths: Vec<String>,
    /// Directories it finds preopened, `/` when none are named. A preview1 libc takes the longest that fits a path.
    #[serde(default)]
    pub preopens: Vec<String>,
    /// How it starts when not simply by `_start`.
    #[serde(default)]
    pub launch: Launch,
    /// How it is pre-initialised; `launch` has no meaning then.
    pub preinit: Option<Preinit>,
    /// A write to a pipe that nobody reads is an error for it instead of its end.
    #[serde(default)]
    pub ignores_sigpipe: bool,
}

/// How to pre-initialise a program: it is run once at installation, and its processes start from the state it left.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Preinit {
    /// A module that knows nothing of it.
    Unaware(UnawarePreinit),
    /// A module made for it.
    Exported(ExportedPreinit),
}

/// How to pre-initialise a module that was not made for it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnawarePreinit {
    /// The absolute path the program gets then, and its arguments. They make it exit with status 0 once it is ready,
    /// having printed the numbers `function` takes.
    pub arguments: Vec<Argument>,
    /// Number of the function that processes start with, imports counted.
    pub function: usize,
}

/// How to pre-initialise a module that exports functions for it, without parameters and results.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedPreinit {
    /// The export that is called at installation.
    pub initialize: String,
    /// The export that processes start with.
    pub entry: String,
}

/// How a program starts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// Placed before the user's arguments, in place of the program's name.
    #[serde(default)]
    pub arguments: Vec<Argument>,
}

/// An argument: a text, or the contents of a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Argument {
    /// The argument itself.
    Text(String),
    /// A UTF-8 file of the recipe's folder.
    File {
        /// Its name.
        file: String,
    },
}

/// A directory tree of the image.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// The directory: in the build's output, or in the recipe's folder.
    pub dir: String,
}

/// A program run once, in a machine made of the parent and this image's layers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The module to run; it gets `/` preopened.
    pub module: String,
    /// The absolute path the program gets, and its arguments.
    pub arguments: Vec<Argument>,
    /// The absolute directory it fills: that tree becomes the root of the topmost layer.
    pub output: String,
}

/// Why a text is not a manifest.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, or not of this schema.
    #[error("{0}")]
    Syntax(String),
    /// A value breaks a rule.
    #[error("{field}: `{value}` {rule}")]
    Rule {
        /// Which value.
        field: &'static str,
        /// The value.
        value: String,
        /// The rule it breaks.
        rule: &'static str,
    },
}

impl Manifest {
    /// Reads and checks an `image.toml`.
    ///
    /// # Errors
    /// When a field is missing, unknown or against its rule.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text).map_err(|error| ManifestError::Syntax(error.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        for name in std::iter::once(&self.name).chain(&self.aliases).chain(&self.parent) {
            require(
                "name",
                name,
                is_image_name(name),
                "is not NAME or NAME:TAG of lower-case letters, digits and ._-/",
            )?;
        }
        require(
            "parent",
            &self.name,
            self.parent.as_ref() != Some(&self.name),
            "is its own parent",
        )?;
        for (key, value) in &self.env {
            let good = !key.is_empty() && !key.contains(['=', '\0']) && !value.contains('\0');
            require("env", key, good, "is not an environment variable")?;
        }
        if let Some(workdir) = &self.workdir {
            require("workdir", workdir, is_absolute(workdir), "is not an absolute path")?;
        }
        for source in &self.sources {
            source.check()?;
        }
        if let Some(build) = &self.build {
            require("build.command", "", !build.command.is_empty(), "is empty")?;
            for input in &build.inputs {
                require(
                    "build.inputs",
                    input,
                    is_relative(input),
                    "is not a path inside the recipe's folder",
                )?;
            }
            for input in &build.shared {
                let rule = "is not a path inside the tree that has the folder of recipes";
                require("build.shared", input, is_relative(input), rule)?;
            }
        }
        let mut paths = HashSet::new();
        for program in &self.programs {
            program.check(&mut paths)?;
        }
        for layer in &self.layers {
            require(
                "layer.dir",
                &layer.dir,
                is_relative(&layer.dir),
                "is not a relative path without `..`",
            )?;
        }
        if let Some(setup) = &self.setup {
            require(
                "setup.module",
                &setup.module,
                is_relative(&setup.module),
                "is not a relative path without `..`",
            )?;
            let good = is_absolute(&setup.output) && setup.output != "/";
            require(
                "setup.output",
                &setup.output,
                good,
                "is not an absolute path below the root",
            )?;
            check_command(&setup.arguments)?;
        }
        let items = self.sources.len() + paths.len() + self.layers.len() + self.aliases.len();
        require("image", &self.name, items <= MAX_ITEMS, "has too many parts")
    }

    /// Its name and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).map(String::as_str)
    }
}

impl Source {
    fn check(&self) -> Result<(), ManifestError> {
        match (&self.npm, &self.path) {
            (Some(package), None) => {
                require(
                    "source.npm",
                    package,
                    is_npm_package(package),
                    "is not NAME@VERSION of an npm package",
                )?;
                require(
                    "source.files",
                    package,
                    !self.files.is_empty(),
                    "has no file that is taken",
                )?;
            }
            (None, Some(path)) => {
                require(
                    "source.path",
                    path,
                    is_relative(path),
                    "is not a path inside the recipe's folder",
                )?;
                require("source.files", path, self.files.is_empty(), "is not a package")?;
            }
            _ => require("source", "", false, "needs one of npm and path")?,
        }
        for file in &self.files {
            require(
                "source.files.path",
                &file.path,
                is_relative(&file.path),
                "is not a relative path",
            )?;
            require(
                "source.files.to",
                &file.to,
                is_relative(&file.to),
                "is not a relative path",
            )?;
        }
        Ok(())
    }
}

impl Program {
    fn check<'a>(&'a self, seen: &mut HashSet<&'a str>) -> Result<(), ManifestError> {
        require(
            "program.module",
            &self.module,
            is_relative(&self.module),
            "is not a relative path without `..`",
        )?;
        require("program.paths", &self.module, !self.paths.is_empty(), "has no path")?;
        for path in &self.paths {
            require(
                "program.paths",
                path,
                is_absolute(path) && path != "/",
                "is not an absolute path",
            )?;
            require("program.paths", path, seen.insert(path), "is named twice")?;
        }
        for path in &self.preopens {
            require("program.preopens", path, is_absolute(path), "is not an absolute path")?;
        }
        if let Some(preinit) = &self.preinit {
            require(
                "program.preinit",
                &self.module,
                self.launch.arguments.is_empty(),
                "has launch as well",
            )?;
            if let Preinit::Unaware(preinit) = preinit {
                check_command(&preinit.arguments)?;
            }
        }
        check_arguments(&self.launch.arguments)
    }
}

fn check_command(arguments: &[Argument]) -> Result<(), ManifestError> {
    let good = matches!(arguments.first(), Some(Argument::Text(path)) if is_absolute(path));
    require("arguments", "", good, "do not start with an absolute path")?;
    check_arguments(arguments)
}

fn check_arguments(arguments: &[Argument]) -> Result<(), ManifestError> {
    arguments.iter().try_for_each(|argument| match argument {
        Argument::Text(text) => require("arguments", text, !text.contains('\0'), "contains NUL"),
        Argument::File { file } => require("arguments", file, is_relative(file), "is not a path inside the folder"),
    })
}

fn require(field: &'static str, value: &str, holds: bool, rule: &'static str) -> Result<(), ManifestError> {
    if holds {
        Ok(())
    } else {
        Err(ManifestError::Rule {
            field,
            value: value.to_owned(),
            rule,
        })
    }
}

/// `NAME@VERSION`, where the name may have a scope. Options and anything a shell or `npm` reads otherwise are refused.
fn is_npm_package(text: &str) -> bool {
    let good = |part: &str, also: &[u8]| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte) || also.contains(&byte))
    };
    let Some((name, version)) = text.rsplit_once('@') else {
        return false;
    };
    let name_is_good = match name.strip_prefix('@') {
        Some(scoped) => scoped
            .split_once('/')
            .is_some_and(|(scope, name)| good(scope, b"") && good(name, b"")),
        None => good(name, b""),
    };
    name_is_good && good(version, b"+")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "name = \"demo:1\"\nversion = \"1\"\n";

    fn with(more: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(&format!("{SMALL}{more}"))
    }

    #[test]
    fn the_smallest_manifest_needs_a_name_and_a_version() {
        assert_eq!(with("").unwrap().name, "demo:1");
        assert!(Manifest::parse("name = \"demo\"").is_err());
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(with("colour = \"red\"").is_err());
        assert!(with("[[program]]\nmodule = \"a\"\npaths = [\"/a\"]\nmode = 5").is_err());
    }

    #[test]
    fn program_paths_must_be_absolute_and_unique() {
        assert!(with("[[program]]\nmodule = \"a\"\npaths = [\"/bin/a\"]").is_ok());
        for paths in ["\"bin/a\"", "\"/bin/../a\"", "\"/\"", "", "\"/a\", \"/a\"", "\"/a//b\""] {
            assert!(
                with(&format!("[[program]]\nmodule = \"a\"\npaths = [{paths}]")).is_err(),
                "{paths}"
            );
        }
    }

    #[test]
    fn paths_cannot_leave_the_recipes_folder() {
        for path in ["../x", "/etc/passwd", "a/../../b", "."] {
            assert!(with(&format!("[[layer]]\ndir = \"{path}\"")).is_err(), "{path}");
            assert!(
                with(&format!("[build]\ncommand = [\"x\"]\ninputs = [\"{path}\"]")).is_err(),
                "{path}"
            );
            assert!(
                with(&format!(
                    "[build]\ncommand = [\"x\"]\ninputs = []\nshared = [\"{path}\"]"
                ))
                .is_err(),
                "{path}"
            );
        }
    }

    #[test]
    fn a_source_is_pinned_and_of_one_kind() {
        let digest = "ab".repeat(32);
        let files = format!("files = [{{ path = \"a\", to = \"b\", sha256 = \"{digest}\" }}]");
        let source = |first: &str| with(&format!("[[source]]\n{first}\nsha256 = \"{digest}\"\n{files}"));
        assert!(source("npm = \"@scope/name@1.2.3\"").is_ok());
        for wrong in [
            "",
            "npm = \"name\"",
            "npm = \"--x@1\"",
            "npm = \"a b@1\"",
            "npm = \"git+ssh://x@1\"",
            "path = \"x\"",
        ] {
            assert!(source(wrong).is_err(), "{wrong}");
        }
        assert!(with("[[source]]\npath = \"x\"\nsha256 = \"12\"").is_err());
    }

    #[test]
    fn a_program_is_pre_initialised_by_its_arguments_or_its_exports() {
        let preinit = |text: &str| {
            let program = format!("[[program]]\nmodule = \"a\"\npaths = [\"/a\"]\npreinit = {{ {text} }}");
            with(&program).map(|mut manifest| manifest.programs.remove(0).preinit)
        };
        assert!(matches!(
            preinit("arguments = [\"/a\"], function = 3"),
            Ok(Some(Preinit::Unaware(_)))
        ));
        assert!(matches!(
            preinit("initialize = \"a\", entry = \"b\""),
            Ok(Some(Preinit::Exported(_)))
        ));
        for wrong in [
            "",
            "initialize = \"a\"",
            "arguments = [\"a\"], function = 3",
            "initialize = \"a\", entry = \"b\", function = 3",
        ] {
            assert!(preinit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_argument_is_a_text_or_a_file() {
        let manifest = with(
            "[[program]]\nmodule = \"a\"\npaths = [\"/a\"]\nlaunch = { arguments = [\"x\", { file = \"b.py\" }] }",
        );
        let arguments = &manifest.unwrap().programs[0].launch.arguments;
        assert!(matches!(&arguments[..], [Argument::Text(_), Argument::File { .. }]));
    }
}
