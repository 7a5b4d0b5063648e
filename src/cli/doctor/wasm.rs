//! Checks the provider `wasm`: its engine, its images, and the tools that building images needs.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Check, Status};
use crate::config::{Config, Isolation};
use crate::image::{ImageState, ImageStore};
use crate::kernel::Runtime;
use crate::worker;

const GROUP: &str = "wasm";

/// Programs that recipes call, and the Debian package of each.
const BUILD_TOOLS: [(&str, &str); 6] = [
    ("cc", "gcc"),
    ("make", "make"),
    ("npm", "npm"),
    ("patch", "patch"),
    ("zstd", "zstd"),
    ("cargo", ""),
];

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let images = images(&config.images);
    let must_build = images.iter().any(|check| check.status != Status::Ok);
    let mut checks = vec![engine()];
    checks.extend(walls(config.isolation));
    checks.extend(images);
    // Without them, what is installed works on.
    checks.extend(build_tools().into_iter().map(|check| match check.status {
        Status::Missing if !must_build => Check {
            status: Status::Warning,
            ..check
        },
        _ => check,
    }));
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
            let pull = format!("wisp images pull {image} (the server does it at its start as well)");
            match store.inspect(image).map(|info| info.state) {
                Ok(ImageState::Installed) => Check::ok(GROUP, name, "installed"),
                Ok(ImageState::Outdated) => Check::warning(GROUP, name, "installed from an older recipe", pull),
                Ok(ImageState::NotInstalled) => Check::warning(GROUP, name, "not installed yet", pull),
                Err(error) => {
                    let fix = "`wisp images list` shows what there is; correct `images` in the configuration";
                    Check::missing(GROUP, name, error.to_string(), fix)
                }
            }
        })
        .collect()
}

fn build_tools() -> Vec<Check> {
    let mut absent = Vec::new();
    for (program, package) in BUILD_TOOLS {
        if !is_on_the_path(program) {
            absent.push((program, package));
        }
    }
    let programs: Vec<&str> = absent.iter().map(|(program, _)| *program).collect();
    let packages: Vec<&str> = absent
        .iter()
        .map(|(_, package)| *package)
        .filter(|package| !package.is_empty())
        .collect();
    let tools = if absent.is_empty() {
        Check::ok(GROUP, "tools that build images", "all there")
    } else {
        let mut fix = Vec::new();
        if !packages.is_empty() {
            fix.push(format!("apt-get install {}", packages.join(" ")));
        }
        if programs.contains(&"cargo") {
            fix.push("install Rust with rustup".to_owned());
        }
        let found = format!("{} not found", programs.join(", "));
        Check::missing(GROUP, "tools that build images", found, fix.join("; "))
    };
    vec![tools, guest_target()]
}

fn is_on_the_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()))
}

/// Guest programs in Rust need a standard library for their target.
fn guest_target() -> Check {
    const NAME: &str = "Rust target wasm32-wasip1";
    const FIX: &str = "rustup target add wasm32-wasip1, or name a sysroot in WISP_WASI_SYSROOT";
    if let Some(path) = std::env::var_os("WISP_WASI_SYSROOT").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return if path.exists() {
            Check::ok(GROUP, NAME, format!("from {}", path.display()))
        } else {
            Check::missing(GROUP, NAME, format!("{} does not exist", path.display()), FIX)
        };
    }
    let libdir = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", "wasm32-wasip1"])
        .stdin(Stdio::null())
        .output();
    match libdir {
        Ok(output) if PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).is_dir() => {
            Check::ok(GROUP, NAME, "installed")
        }
        Ok(_) => Check::missing(GROUP, NAME, "not installed", FIX),
        Err(_) => Check::missing(GROUP, NAME, "rustc not found", "install Rust with rustup"),
    }
}
