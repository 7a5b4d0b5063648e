//! Recipe folders.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, PermissionsExt};

use super::error::BuildError;
use super::manifest::{Argument, Manifest, Preinit};
use wisp_image::{Digest, Hasher};

/// Name of the manifest in a recipe's folder.
const MANIFEST: &str = "image.toml";
/// Directories that tools leave in a source tree and that no build depends on.
const IGNORED: [&str; 3] = ["target", ".git", "__pycache__"];
/// Environment variable that names the directory of recipes.
const RECIPES_VARIABLE: &str = "WISP_IMAGES_DIR";

/// A recipe's folder and its manifest.
pub(crate) struct Recipe {
    /// What the folder's `image.toml` says.
    pub(crate) manifest: Manifest,
    /// Digest of the manifest and of all files it names in the folder.
    pub(crate) digest: Digest,
    dir: Dir,
    path: PathBuf,
}

impl Recipe {
    /// Reads the recipe in a folder.
    pub(crate) fn open(path: &Path) -> Result<Self, BuildError> {
        let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(BuildError::io(path))?;
        let file = path.join(MANIFEST);
        let text = dir.read_to_string(MANIFEST).map_err(BuildError::io(&file))?;
        let manifest = Manifest::parse(&text).map_err(|error| BuildError::Manifest {
            path: file,
            reason: error.to_string(),
        })?;
        let mut recipe = Self {
            manifest,
            digest: Digest::of(text.as_bytes()),
            dir,
            path: path.to_owned(),
        };
        recipe.digest = recipe.inputs_digest(text.as_bytes())?;
        Ok(recipe)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a file of the folder.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, BuildError> {
        self.dir.read(name).map_err(BuildError::io(self.path.join(name)))
    }

    /// Whether the folder has this file or directory.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.dir.exists(name)
    }

    /// Arguments as the program will get them.
    pub(crate) fn arguments(&self, arguments: &[Argument]) -> Result<Vec<String>, BuildError> {
        let text = |argument: &Argument| match argument {
            Argument::Text(text) => Ok(text.clone()),
            Argument::File { file } => {
                let text = String::from_utf8(self.read(file)?)
                    .ok()
                    .filter(|text| !text.contains('\0'));
                let reason = format!("{file} is not UTF-8 text without NUL");
                text.ok_or(BuildError::Manifest {
                    path: self.path.join(MANIFEST),
                    reason,
                })
            }
        };
        arguments.iter().map(text).collect()
    }

    /// A digest over the contents, names and execute bits of the files `roots` name, sorted.
    pub(crate) fn tree_digest(&self, roots: &[String]) -> Result<Digest, BuildError> {
        tree_digest(&self.dir, &self.path, roots)
    }

    /// The same over what the build reads outside the folder; `None` for a build that reads nothing there.
    pub(crate) fn shared_digest(&self) -> Result<Option<Digest>, BuildError> {
        let shared = self.manifest.build.as_ref().map(|build| build.shared.as_slice());
        let Some(shared) = shared.filter(|shared| !shared.is_empty()) else {
            return Ok(None);
        };
        let path = self.path.join("../..");
        let dir = Dir::open_ambient_dir(&path, ambient_authority()).map_err(BuildError::io(&path))?;
        tree_digest(&dir, &path, shared).map(Some)
    }

    /// The digest of all the recipe says, as far as it is in its folder.
    fn inputs_digest(&self, manifest_text: &[u8]) -> Result<Digest, BuildError> {
        let manifest = &self.manifest;
        let arguments = manifest.programs.iter().flat_map(|program| &program.launch.arguments);
        let arguments = arguments.chain(manifest.setup.iter().flat_map(|setup| &setup.arguments));
        let preinits = manifest.programs.iter().filter_map(|program| program.preinit.as_ref());
        let arguments = arguments.chain(preinits.flat_map(|preinit| match preinit {
            Preinit::Unaware(preinit) => preinit.arguments.as_slice(),
            Preinit::Exported(_) => &[],
        }));
        let mut names: Vec<String> = manifest.build.iter().flat_map(|build| build.inputs.clone()).collect();
        names.extend(arguments.filter_map(|argument| match argument {
            Argument::File { file } => Some(file.clone()),
            Argument::Text(_) => None,
        }));
        names.extend(
            manifest
                .layers
                .iter()
                .map(|layer| layer.dir.clone())
                .filter(|dir| self.has(dir)),
        );
        names.sort_unstable();
        names.dedup();
        let mut hasher = Hasher::default();
        hasher.field(manifest_text);
        hasher.field(self.tree_digest(&names)?.to_string().as_bytes());
        if let Some(shared) = self.shared_digest()? {
            hasher.field(shared.to_string().as_bytes());
        }
        Ok(hasher.finish())
    }
}

/// A digest over the contents, names and execute bits of the files in `dir` that `roots` name, sorted.
fn tree_digest(dir: &Dir, path: &Path, roots: &[String]) -> Result<Digest, BuildError> {
    let mut hasher = Hasher::default();
    let mut pending: VecDeque<String> = roots.iter().cloned().collect();
    let mut files = Vec::new();
    while let Some(name) = pending.pop_front() {
        let failed = || BuildError::io(path.join(&name));
        let metadata = dir.symlink_metadata(&name).map_err(failed())?;
        if !metadata.is_dir() {
            files.push((name, metadata));
            continue;
        }
        for entry in dir.read_dir(&name).map_err(failed())? {
            let child = entry.map_err(failed())?.file_name();
            let child = child.to_string_lossy();
            if !IGNORED.contains(&child.as_ref()) {
                pending.push_back(format!("{name}/{child}"));
            }
        }
    }
    files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    for (name, metadata) in files {
        let failed = || BuildError::io(path.join(&name));
        hasher.field(name.as_bytes());
        if metadata.is_symlink() {
            let target = dir.read_link_contents(&name).map_err(failed())?;
            hasher.field(target.as_os_str().as_encoded_bytes());
        } else {
            hasher.field(&[u8::from(metadata.permissions().mode() & 0o100 != 0)]);
            hasher.field(&dir.read(&name).map_err(failed())?);
        }
    }
    Ok(hasher.finish())
}

/// Where recipes are: `WISP_IMAGES_DIR`, else in the checkout that this program was built from.
#[must_use]
pub fn default_folder() -> PathBuf {
    let named = std::env::var_os(RECIPES_VARIABLE).filter(|value| !value.is_empty());
    named.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wasm-images"),
        PathBuf::from,
    )
}

/// All recipes in a folder, by name. One that cannot be read is logged and left out, so that it does not hide others.
pub(crate) fn scan(folder: &Path) -> Vec<Recipe> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.join(MANIFEST).is_file());
    let mut recipes: Vec<Recipe> = paths
        .filter_map(|path| {
            Recipe::open(&path)
                .inspect_err(|error| tracing::warn!(%error, "a recipe is left out"))
                .ok()
        })
        .collect();
    recipes.sort_by(|a, b| a.manifest.name.cmp(&b.manifest.name));
    recipes
}
