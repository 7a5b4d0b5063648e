//! Fetching pinned inputs.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;

use super::error::BuildError;
use super::manifest::{Source, SourceFile};
use super::recipe::Recipe;
use wisp_image::PrivateDir;
use wisp_image::{Digest, source_name};
use wisp_image::{Progress, Step};

/// Largest package and largest file taken out of one, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// Files by the name the rest of the recipe calls them.
pub(crate) type Files = HashMap<String, Vec<u8>>;

/// Fetches all sources of a recipe, from the store where it has them already. Nothing is used whose digest is not the
/// one the recipe names.
pub(crate) fn fetch(recipe: &Recipe, store: &PrivateDir, progress: &dyn Progress) -> Result<Files, BuildError> {
    let mut files = Files::new();
    for source in &recipe.manifest.sources {
        if let Some(package) = &source.npm {
            let archive = npm_package(recipe, package, source, store, progress)?;
            take_files(package, &archive, &source.files, &mut files)?;
        } else if let Some(path) = &source.path {
            let bytes = recipe.read(path)?;
            check(path, source.sha256, &bytes)?;
            files.insert(path.clone(), bytes);
        }
    }
    Ok(files)
}

fn npm_package(
    recipe: &Recipe,
    package: &str,
    source: &Source,
    store: &PrivateDir,
    progress: &dyn Progress,
) -> Result<Vec<u8>, BuildError> {
    let name = source_name(source.sha256);
    if let Some(bytes) = store.read(&name)?.filter(|bytes| Digest::of(bytes) == source.sha256) {
        return Ok(bytes);
    }
    progress.step(&recipe.manifest.name, Step::Fetch, &format!("npm {package}"));
    let scratch = store.scratch()?;
    let bytes = npm_pack(package, &scratch.path())?;
    check(package, source.sha256, &bytes)?;
    store.write(&name, &bytes)?;
    Ok(bytes)
}

/// Has the `npm` client fetch a package's archive, from whatever registry the user has set up. No code of it is run.
fn npm_pack(package: &str, directory: &Path) -> Result<Vec<u8>, BuildError> {
    let failed = |reason: String| BuildError::Fetch {
        what: format!("npm package {package}"),
        reason,
    };
    let output = Command::new("npm")
        .args(["pack", "--ignore-scripts", "--silent", "--", package])
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            failed(format!(
                "`npm` could not be run ({error}); install Node.js or put it in PATH"
            ))
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!(
            "`npm pack` ended with {}: {}",
            output.status,
            said.trim()
        )));
    }
    let entries = std::fs::read_dir(directory).map_err(BuildError::io(directory))?;
    let archive = entries.filter_map(Result::ok).map(|entry| entry.path());
    let archive = archive
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"));
    let archive = archive.ok_or_else(|| failed("`npm pack` left no archive".to_owned()))?;
    let file = std::fs::File::open(&archive).map_err(BuildError::io(&archive))?;
    read_bounded(file).map_err(BuildError::io(&archive))
}

/// Takes the files a recipe names out of a gzipped tar archive. They are not unpacked to disk.
fn take_files(package: &str, archive: &[u8], wanted: &[SourceFile], files: &mut Files) -> Result<(), BuildError> {
    let failed = BuildError::io;
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let mut found = 0;
    for entry in archive.entries().map_err(failed(package))? {
        let entry = entry.map_err(failed(package))?;
        let path = entry.path_bytes().into_owned();
        let Some(file) = wanted.iter().find(|file| file.path.as_bytes() == path) else {
            continue;
        };
        let bytes = read_bounded(entry).map_err(failed(&file.path))?;
        check(&file.path, file.sha256, &bytes)?;
        files.insert(file.to.clone(), bytes);
        found += 1;
    }
    if found < wanted.len() {
        let missing = wanted.iter().find(|file| !files.contains_key(&file.to));
        let missing = missing.map_or("a file", |file| &file.path);
        let (what, reason) = (format!("npm package {package}"), format!("it has no {missing}"));
        return Err(BuildError::Fetch { what, reason });
    }
    Ok(())
}

fn read_bounded(reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = reader.take(MAX_BYTES + 1).read_to_end(&mut bytes)? as u64;
    if read > MAX_BYTES {
        return Err(std::io::Error::other("larger than 1 GiB"));
    }
    Ok(bytes)
}

fn check(what: &str, expected: Digest, bytes: &[u8]) -> Result<(), BuildError> {
    let found = Digest::of(bytes);
    if found == expected {
        Ok(())
    } else {
        Err(BuildError::Digest {
            what: what.to_owned(),
            expected,
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_cksum();
        builder.append_data(&mut header, "package/a.wasm", &b"abc"[..]).unwrap();
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn wanted(path: &str, contents: &[u8]) -> [SourceFile; 1] {
        [SourceFile {
            path: path.into(),
            to: "a.wasm".into(),
            sha256: Digest::of(contents),
        }]
    }

    #[test]
    fn a_pinned_file_is_taken_out_of_an_archive() {
        let mut files = Files::new();
        take_files("p@1", &archive(), &wanted("package/a.wasm", b"abc"), &mut files).unwrap();
        assert_eq!(files["a.wasm"], b"abc");
    }

    #[test]
    fn a_file_with_another_digest_is_refused() {
        let result = take_files("p@1", &archive(), &wanted("package/a.wasm", b"abd"), &mut Files::new());
        assert!(matches!(result, Err(BuildError::Digest { .. })));
    }

    #[test]
    fn a_missing_file_and_a_broken_archive_are_errors() {
        let result = take_files("p@1", &archive(), &wanted("package/b.wasm", b"abc"), &mut Files::new());
        assert!(matches!(result, Err(BuildError::Fetch { .. })));
        assert!(take_files("p@1", b"not gzip", &wanted("a", b""), &mut Files::new()).is_err());
    }
}
