//! Mutated manifests.

use wisp_fuzzing::{fuzz, kind_of, outcome};

use super::manifest::Manifest;

/// A manifest is read or refused; what is read keeps its rules.
#[test]
fn fuzz_manifest() {
    let seed = include_bytes!("../../../wasm-images/base/image.toml").to_vec();
    let words: &[&[u8]] = &[b"[", b"]", b"=", b"\"", b"name", b"path", b"..", b"/", b"\n", b"sha256"];
    fuzz(crate::FUZZ, "manifest", &[seed], words, |input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return 0;
        };
        match Manifest::parse(text) {
            Ok(manifest) => {
                assert!(
                    manifest
                        .names()
                        .all(|name| !name.contains("..") && !name.starts_with('/'))
                );
                outcome(&(true, manifest.names().count().min(9)))
            }
            Err(error) => outcome(&kind_of(&error)),
        }
    });
}
