//! What an artifact may hold.

use std::collections::HashSet;
use std::fs::File;

use super::{tar_headers, wrong};
use crate::error::ImageError;
use crate::names::{is_absolute, is_image_name};
use crate::record::{FORM, LaunchRecord, ModuleKind, ProgramRecord, Record};
use crate::store::{DOCKER_PREFIXES, MAX_PARENTS, may_name};

/// Most aliases, licences, capabilities, limits, layers or programs of an image, and paths or directories of a program.
const MAX_ITEMS: usize = 512;
/// Longest text for people, bytes.
const MAX_TEXT_BYTES: usize = 4096;
/// Most bytes of all arguments a program starts with. They may be the source of a start-up program.
const MAX_ARGUMENT_BYTES: usize = 1 << 20;
/// Most bytes of an environment.
const MAX_ENV_BYTES: usize = 64 << 10;
/// Most parameters of an entry function.
const MAX_PARAMETERS: usize = 16;
/// Most entries of a layer.
const MAX_LAYER_ENTRIES: usize = 500_000;
/// Longest name of an entry that does not fit into its header, bytes.
const MAX_NAME_BYTES: u64 = 8192;

/// Checks the records of an image and those below it, the lowest first.
pub(super) fn records(chain: &[Record]) -> Result<(), ImageError> {
    require(
        (1..=MAX_PARENTS).contains(&chain.len()),
        "it holds no image, or too many",
    )?;
    let mut names = HashSet::new();
    for (index, image) in chain.iter().enumerate() {
        record(image)?;
        let below = index.checked_sub(1).and_then(|index| chain.get(index));
        let fits = match (&image.parent, below) {
            (None, None) => true,
            (Some(parent), Some(below)) => may_name(parent, &all_names(below)),
            _ => false,
        };
        require(fits, "the images in it do not stand on each other")?;
        let own: HashSet<String> = all_names(image).iter().map(|name| bare(name).to_owned()).collect();
        require(names.is_disjoint(&own), "two images in it have the same name")?;
        names.extend(own);
    }
    Ok(())
}

/// The name and the aliases of an image.
pub(super) fn all_names(record: &Record) -> Vec<String> {
    std::iter::once(&record.name).chain(&record.aliases).cloned().collect()
}

/// A name without the tag that it means anyway.
pub(super) fn bare(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}

fn record(image: &Record) -> Result<(), ImageError> {
    if image.form != FORM {
        return Err(wrong("it was made by another version of wisp"));
    }
    for name in all_names(image) {
        let is_prefixed = DOCKER_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        require(
            is_image_name(&name) && !is_prefixed,
            "a name in it is not one of an image",
        )?;
    }
    let lists = [
        image.aliases.len(),
        image.licences.len(),
        image.capabilities.len(),
        image.known_limits.len(),
        image.layers.len(),
        image.programs.len(),
    ];
    require(
        lists.iter().all(|count| *count <= MAX_ITEMS),
        "a list in it is too long",
    )?;
    let licences = image.licences.iter().flat_map(|part| [&part.what, &part.licence]);
    let texts = [&image.version, &image.summary, &image.provenance].into_iter();
    let mut texts = texts
        .chain(licences)
        .chain(&image.capabilities)
        .chain(&image.known_limits);
    require(
        texts.all(|text| is_text(text)),
        "a text in it is too long, or has control characters",
    )?;
    let env_bytes: usize = image.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    let is_variable =
        |(name, value): (&String, &String)| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
    let env_is_good = env_bytes <= MAX_ENV_BYTES && image.env.iter().all(is_variable);
    require(
        env_is_good,
        "its environment is too large, or has a variable that cannot be",
    )?;
    let workdir_is_good = image.workdir.as_ref().is_none_or(|workdir| is_absolute(workdir));
    require(workdir_is_good, "its working directory is not an absolute path")?;
    let mut paths = HashSet::new();
    image.programs.iter().try_for_each(|one| program(one, &mut paths))
}

fn program<'a>(program: &'a ProgramRecord, seen: &mut HashSet<&'a str>) -> Result<(), ImageError> {
    let counts = [program.paths.len(), program.preopens.len()];
    require(
        counts.iter().all(|count| (1..=MAX_ITEMS).contains(count)),
        "a program has no path, or too many",
    )?;
    require(
        program.kind == ModuleKind::Module,
        "it has a component, and components do not travel in artifacts yet",
    )?;
    let is_path = |path: &String| is_absolute(path) && is_text(path);
    for path in &program.paths {
        require(
            is_path(path) && path != "/" && seen.insert(path),
            "a program's path is not one, or is there twice",
        )?;
    }
    require(
        program.preopens.iter().all(is_path),
        "a program's directory is not an absolute path",
    )?;
    match &program.launch {
        LaunchRecord::Command { arguments } => {
            let bytes: usize = arguments.iter().map(|argument| argument.len() + 1).sum();
            let good = bytes <= MAX_ARGUMENT_BYTES && !arguments.iter().any(|argument| argument.contains('\0'));
            require(good, "a program's arguments are too long")
        }
        LaunchRecord::Resume { export, parameters } => {
            let good = is_text(export) && parameters.len() <= MAX_PARAMETERS;
            require(good, "a program's entry is not one")
        }
    }
}

/// Checks that a file is a layer: a tar archive of files, directories and symbolic links, whole, with bounded names.
pub(super) fn layer(file: &File) -> Result<(), ImageError> {
    let checked = tar_headers::read(file, MAX_LAYER_ENTRIES, |entry| {
        let kind = entry.kind;
        let is_name = kind.is_gnu_longname() || kind.is_gnu_longlink();
        let is_empty = kind.is_dir() || kind.is_symlink();
        if is_name && entry.size > MAX_NAME_BYTES {
            return Err("a name in a layer is too long".to_owned());
        }
        if is_empty && entry.size > 0 || !is_name && !is_empty && !kind.is_file() {
            return Err("a layer has an entry that is neither a file, a directory nor a symbolic link".to_owned());
        }
        Ok(())
    });
    checked.map_err(wrong)
}

/// These end up in terminals.
fn is_text(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES && !text.contains(char::is_control)
}

fn require(holds: bool, message: &str) -> Result<(), ImageError> {
    if holds { Ok(()) } else { Err(wrong(message)) }
}
