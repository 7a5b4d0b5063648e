//! Checks the provider `wasm`: its engine and its images.

use super::Check;
use crate::config::{Config, Isolation};
use crate::image::ImageStore;
use crate::kernel::Runtime;
use crate::worker;

const GROUP: &str = "wasm";

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let mut checks = vec![engine()];
    checks.extend(walls(config.isolation));
    checks.extend(images(&config.images));
    checks
}

fn engine() -> Check {
    match Runtime::new(1) {
        Ok(_) => Check::ok(
            GROUP,
            "engine",
            "wasmtime works here; it needs no root, no KVM and no container engine",
        ),
        Err(error) => {
            let fix = "wisp needs a 64-bit x86 or ARM processor, threads, and addresses to reserve (see machine)";
            Check::missing(GROUP, "engine", error.to_string(), fix)
        }
    }
}

/// What confines the worker processes here, and what each part buys.
fn walls(isolation: Isolation) -> Vec<Check> {
    if isolation == Isolation::None {
        let fix = "set isolation = \"tenant\", unless only programs you trust run";
        let what = "isolation = \"none\": a guest that escapes from WebAssembly reaches the server";
        return vec![Check::warning(GROUP, "worker processes", what, fix)];
    }
    let walls = worker::available().into_iter().map(|wall| {
        if wall.is_there {
            Check::ok(GROUP, wall.name, wall.buys)
        } else {
            Check::warning(GROUP, wall.name, format!("not here: {}", wall.buys), wall.fix)
        }
    });
    walls.collect()
}

fn images(wanted: &[String]) -> Vec<Check> {
    let store = match ImageStore::open_default() {
        Ok(store) => store,
        Err(error) => {
            let fix = "let this user write to its cache directory, or set WISP_CACHE_DIR";
            return vec![Check::missing(GROUP, "image store", error.to_string(), fix)];
        }
    };
    wanted
        .iter()
        .map(|image| {
            let name = format!("image {image}");
            match store.inspect(image) {
                Ok(_) => Check::ok(GROUP, name, "installed"),
                Err(error) => {
                    let fix = format!("wisp images pull {image}, or wisp images import FILE");
                    Check::missing(GROUP, name, error.to_string(), fix)
                }
            }
        })
        .collect()
}
