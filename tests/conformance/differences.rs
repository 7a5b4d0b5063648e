//! Where a provider does otherwise than the others, and why. A case that meets one asks
//! [`Target::differs`], and checks what holds instead.

use crate::target::Target;

/// A difference: its name here, the provider that has it, and words of the sentence in `GET /providers/{name}` that
/// tells clients of it.
struct Difference {
    name: &'static str,
    provider: &'static str,
    told_as: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    // The engine's storage drivers bound a container's disk only on some file systems. Elsewhere a limit of the size of
    // files ends the program that goes beyond it, with a signal.
    Difference {
        name: "disk_mb bounds each file",
        provider: "docker",
        told_as: "disk_mb",
    },
    // There is no network stack in the kernel.
    Difference {
        name: "no network",
        provider: "wasm",
        told_as: "network",
    },
];

/// Whether the target's provider has this difference. Fails when it has it and does not tell its clients.
pub async fn applies(target: &Target, name: &str) -> bool {
    let known: Vec<_> = DIFFERENCES
        .iter()
        .filter(|difference| difference.name == name)
        .collect();
    assert!(!known.is_empty(), "no difference is called {name:?}");
    let Some(difference) = known
        .into_iter()
        .find(|difference| difference.provider == target.provider())
    else {
        return false;
    };
    let provider = target
        .api
        .get(&format!("/providers/{}", target.provider()))
        .await
        .json();
    let told = provider["differences"].as_array().expect("a list of differences");
    assert!(
        told.iter()
            .any(|text| text.as_str().is_some_and(|text| text.contains(difference.told_as))),
        "the provider does not tell of {name:?}: {provider}"
    );
    true
}
