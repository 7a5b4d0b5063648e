//! Archives between two stores. Machine code is signed here: compiling in another process needs the program `wisp`, and is
//! tested with it.

use std::io::{Cursor, Seek as _, Write as _};
use std::sync::Arc;

use wisp_kernel::Engines;

use super::{Archive, ArtifactSource as _, InstallOptions, SigningKey};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::record::{FORM, LaunchRecord, ModuleKind, ProgramRecord, Record};
use crate::store::ImageStore;
use crate::{Loader, LogProgress, compile, layer};

/// A module with `memory` and `_start`. The last byte of its data is `version`.
fn module(version: u8) -> Vec<u8> {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    bytes.extend([1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 5, 3, 1, 0, 1]);
    bytes.extend(b"\x07\x13\x02\x06memory\x02\0\x06_start\0\0");
    bytes.extend([10, 4, 1, 2, 0, 0x0b, 11, 7, 1, 0, 0x41, 8, 0x0b, 1, version]);
    bytes
}

struct Place {
    dir: tempfile::TempDir,
    engines: Engines,
    key: SigningKey,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            engines: Engines::for_compiling(false).unwrap(),
            key: SigningKey::generate().unwrap(),
        }
    }

    fn store(&self, name: &str) -> ImageStore {
        let cache = self.dir.path().join(name);
        ImageStore::open(&cache).unwrap()
    }

    /// Puts an image with one file and one program into a store.
    fn put(&self, store: &ImageStore, name: &str, parent: Option<&str>, version: u8) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc").join(name), [version]).unwrap();
        let layer = layer::store(store.dir(), &layer::pack_directory(root.path()).unwrap()).unwrap();
        let wasm = [module(version), name.as_bytes().to_vec()].concat();
        // The name makes the modules of two images different: as a custom section without contents.
        let wasm = [
            &wasm[..wasm.len() - name.len()],
            &[0, name.len() as u8 + 1, name.len() as u8],
            name.as_bytes(),
        ]
        .concat();
        let digest = Digest::of(&wasm);
        store.dir().write(&compile::wasm_name(digest), &wasm).unwrap();
        compile::compile(store.dir(), self.engines.on_demand(), digest).unwrap();
        let record = Record {
            form: FORM,
            name: name.to_owned(),
            aliases: vec![format!("also-{name}")],
            version: version.to_string(),
            parent: parent.map(str::to_owned),
            summary: String::new(),
            licences: Vec::new(),
            provenance: String::new(),
            capabilities: Vec::new(),
            known_limits: Vec::new(),
            env: [("A".to_owned(), "1".to_owned())].into(),
            workdir: None,
            own: false,
            received: false,
            recipe: Digest::of(&[version]),
            sources: Vec::new(),
            build: None,
            programs: vec![ProgramRecord {
                digest,
                kind: ModuleKind::Module,
                paths: vec![format!("/usr/bin/{name}")],
                preopens: vec!["/".to_owned()],
                launch: LaunchRecord::Command { arguments: Vec::new() },
                ignores_sigpipe: false,
            }],
            layers: vec![layer],
            size: 0,
        };
        store.write_record(&record).unwrap();
    }

    /// A store with `base` and `child` on it, and the signed archive of `child`.
    fn archive(&self, version: u8) -> Vec<u8> {
        let store = self.store(&format!("from-{version}"));
        self.put(&store, "base", None, version);
        self.put(&store, "child", Some("base"), version);
        let mut artifact = store.pack("child", &self.engines, &LogProgress).unwrap();
        artifact.sign(&self.key);
        let mut bytes = Vec::new();
        artifact.write_archive(&mut bytes).unwrap();
        bytes
    }

    fn install(&self, store: &ImageStore, archive: &[u8]) -> Result<Record, ImageError> {
        let options = InstallOptions {
            trusted_keys: vec![self.key.public()],
            ..InstallOptions::default()
        };
        install(store, archive, &self.engines, &options)
    }
}

fn install(
    store: &ImageStore,
    archive: &[u8],
    engines: &Engines,
    options: &InstallOptions,
) -> Result<Record, ImageError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(archive).unwrap();
    file.rewind().unwrap();
    store.install_artifact(&mut Archive::open(file)?, engines, options, &LogProgress)
}

/// All files of a store and their contents, but for the ones that count and lock.
fn files(store: &ImageStore) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut pending = vec![store.dir().path("")];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_string_lossy().into_owned();
            if path.is_dir() {
                pending.push(path);
            } else if !name.ends_with("/lock") && !name.ends_with("/generation") && !name.ends_with(".checked") {
                found.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Where each blob of an archive is.
fn blobs(archive: &[u8]) -> Vec<(String, std::ops::Range<usize>)> {
    let mut archive = tar::Archive::new(Cursor::new(archive));
    let entries = archive.entries_with_seek().unwrap().map(Result::unwrap);
    let place = |entry: tar::Entry<'_, _>| {
        let start = entry.raw_file_position() as usize;
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        (name, start..start + entry.size() as usize)
    };
    entries
        .map(place)
        .filter(|(name, _)| name.starts_with("blobs/"))
        .collect()
}

#[test]
fn an_archive_brings_an_image_and_those_below_it_to_another_store() {
    let place = Place::new();
    let archive = place.archive(1);
    let store = place.store("to");
    let record = place.install(&store, &archive).unwrap();
    assert_eq!((record.name.as_str(), record.received), ("child", true));
    let image = Loader::new(Arc::new(store), place.engines.clone())
        .load("also-child")
        .unwrap();
    assert_eq!((image.chain.len(), image.programs.len()), (2, 2));
    // The files are the same, and so is what sandboxes remember of them.
    let before = place.store("from-1");
    let before = Loader::new(Arc::new(before), place.engines.clone())
        .load("child")
        .unwrap();
    assert_eq!(image.identity, before.identity);
}

#[test]
fn the_same_store_gives_the_same_archive_and_so_does_one_it_came_to() {
    let place = Place::new();
    let (first, second) = (place.archive(1), place.archive(1));
    assert!(first == second);
    let store = place.store("to");
    place.install(&store, &first).unwrap();
    let mut artifact = store.pack("child", &place.engines, &LogProgress).unwrap();
    artifact.sign(&place.key);
    let mut third = Vec::new();
    artifact.write_archive(&mut third).unwrap();
    let size = |bytes: &[u8]| blobs(bytes).len();
    assert_eq!(size(&third), size(&first));
}

#[test]
fn a_flipped_byte_in_any_blob_is_refused_and_the_old_image_stays() {
    let place = Place::new();
    let (old, new) = (place.archive(1), place.archive(2));
    let store = place.store("to");
    place.install(&store, &old).unwrap();
    let before = files(&store);
    let all = blobs(&new);
    assert!(
        all.len() >= 9,
        "two images with layer, module and code, configuration, manifests: {}",
        all.len()
    );
    for (name, range) in all {
        // The blob of the signature's manifest says nothing, and is not read.
        if range.len() == 2 {
            continue;
        }
        let mut changed = new.clone();
        changed[range.start + range.len() / 2] ^= 1;
        let error = place.install(&store, &changed).unwrap_err();
        assert!(error.to_string().contains("was changed"), "{name}: {error}");
        assert!(files(&store) == before, "{name} left something");
    }
    Loader::new(Arc::new(place.store("to")), place.engines.clone())
        .load("child")
        .unwrap();
    assert_eq!(place.install(&store, &new).unwrap().version, "2");
}

#[test]
fn an_archive_that_is_cut_off_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let archive = place.archive(1);
    let store = place.store("to");
    let before = files(&store);
    let end = archive.len() - 1024;
    for length in [0, 1, 511, 512, 1000, end / 3, end / 2, end - 1, end] {
        let error = place.install(&store, &archive[..length]).unwrap_err().to_string();
        assert!(error.contains("cut off"), "{length}: {error}");
        assert!(files(&store) == before, "{length}");
    }
}

#[test]
fn a_signature_of_another_image_is_refused() {
    let place = Place::new();
    let store = place.store("from");
    place.put(&store, "base", None, 1);
    let mut artifact = store.pack("base", &place.engines, &LogProgress).unwrap();
    artifact.sign(&place.key);
    // The same signature over a manifest that says something else.
    let text = String::from_utf8(artifact.manifest.clone()).unwrap();
    artifact.manifest = text.replace("ref.name\":\"base\"", "ref.name\":\"fake\"").into_bytes();
    artifact.descriptor.digest = super::BlobDigest(Digest::of(&artifact.manifest));
    let mut archive = Vec::new();
    artifact.write_archive(&mut archive).unwrap();
    let error = place.install(&place.store("to"), &archive).unwrap_err();
    assert!(matches!(error, ImageError::Signature(_)), "{error}");
    assert!(error.to_string().contains("was changed"), "{error}");
}

#[test]
fn code_is_used_only_if_a_trusted_key_signed_it() {
    let place = Place::new();
    let archive = place.archive(1);
    let other = SigningKey::generate().unwrap().public();
    for trusted_keys in [vec![], vec![other]] {
        let options = InstallOptions {
            trusted_keys,
            ..InstallOptions::default()
        };
        // The compiling process is this test program, which compiles nothing.
        let error = install(&place.store("to"), &archive, &place.engines, &options).unwrap_err();
        assert!(matches!(error, ImageError::TooExpensive { .. }), "{error}");
        assert!(files(&place.store("to")).is_empty());
    }
}

#[test]
fn names_of_other_images_are_not_taken() {
    let place = Place::new();
    let archive = place.archive(1);
    let store = place.store("to");
    place.put(&store, "other", None, 7);
    let mut record = store.resolve("other").unwrap().unwrap();
    record.aliases = vec!["child:latest".to_owned()];
    store.write_record(&record).unwrap();
    let error = place.install(&store, &archive).unwrap_err();
    assert!(
        matches!(error, ImageError::NameTaken(ref name) if name == "other"),
        "{error}"
    );
    // An own image is not replaced either.
    record.aliases.clear();
    record.own = true;
    store.write_record(&record).unwrap();
    let own = Record {
        name: "child".to_owned(),
        ..record
    };
    store.write_record(&own).unwrap();
    let error = place.install(&store, &archive).unwrap_err();
    assert!(
        matches!(error, ImageError::NameTaken(ref name) if name == "child"),
        "{error}"
    );
}

#[test]
fn an_image_that_is_installed_already_is_left_as_it_is() {
    let place = Place::new();
    let archive = place.archive(1);
    let store = place.store("from-1");
    let generation = store.generation();
    let record = place.install(&store, &archive).unwrap();
    assert!(!record.received);
    assert_eq!(store.generation(), generation);
}

#[test]
fn an_artifact_of_another_name_than_was_wanted_is_refused() {
    let place = Place::new();
    let archive = place.archive(1);
    for (wanted, is_good) in [("child", true), ("also-child:latest", true), ("base", false)] {
        let options = InstallOptions {
            trusted_keys: vec![place.key.public()],
            wanted: Some(wanted.to_owned()),
            replace: false,
        };
        let installed = install(&place.store("to"), &archive, &place.engines, &options);
        assert_eq!(installed.is_ok(), is_good, "{wanted}");
    }
}

#[test]
fn what_is_no_archive_of_an_image_is_refused() {
    let place = Place::new();
    let mut other = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(2);
    other.append_data(&mut header, "oci-layout", &b"{}"[..]).unwrap();
    let other = other.into_inner().unwrap();
    for bytes in [&b"not an archive"[..], &[b'x'; 2048], &[0; 1024], &other] {
        let error = place.install(&place.store("to"), bytes).unwrap_err();
        assert!(matches!(error, ImageError::Artifact(_)), "{error}");
    }
}

/// What an archive says it holds is read or refused, and never a panic.
#[test]
fn fuzz_archive() {
    let place = Place::new();
    let archive = place.archive(1);
    // Up to the manifests: the blobs are not looked at here.
    let seed = [&archive[..8 << 10], &[0; 1024]].concat();
    let words: &[&[u8]] = &[
        b"sha256:",
        b"\"size\":",
        b"99999999999",
        b"blobs/sha256/",
        b"[",
        b"null",
        b"L",
        b"5",
    ];
    wisp_fuzzing::fuzz(crate::FUZZ, "archive", &[seed], words, |input| {
        let mut bytes = input.to_vec();
        for block in bytes
            .chunks_exact_mut(512)
            .filter(|block| block.get(257..262) == Some(b"ustar"))
        {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let kind = Archive::open(file).and_then(|mut archive| archive.manifest().map(|bytes| bytes.len()));
        wisp_fuzzing::outcome(&kind.map_err(|error| wisp_fuzzing::kind_of(&error)))
    });
}

/// The records of an artifact are accepted or refused, and what is accepted can be looked up by its names.
#[test]
fn fuzz_records() {
    let place = Place::new();
    let store = place.store("from");
    place.put(&store, "base", None, 1);
    place.put(&store, "child", Some("base"), 1);
    let chain = store.installed_chain("child").unwrap();
    let seed = super::pack::json(&super::pack::Configuration { images: chain }).unwrap();
    let words: &[&[u8]] = &[
        b"null",
        b"[]",
        b"\"own\":true",
        b"..",
        b"/",
        b"\\u0000",
        b"resume",
        b"docker.io/",
    ];
    wisp_fuzzing::fuzz(crate::FUZZ, "image_records", &[seed], words, |input| {
        let checked = super::archive::parse::<super::pack::Configuration>(input, "it").and_then(|configuration| {
            super::check::records(&configuration.images)?;
            Ok(configuration.images)
        });
        if let Ok(images) = &checked {
            let mut names = images.iter().flat_map(super::check::all_names);
            assert!(names.all(|name| crate::may_name(&name, std::slice::from_ref(&name))));
        }
        let kind = checked
            .map(|images| images.len())
            .map_err(|error| wisp_fuzzing::kind_of(&error));
        wisp_fuzzing::outcome(&kind)
    });
}
