//! Recipes that are installed, and what the store makes of them.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

use std::path::PathBuf;
use std::sync::Arc;

use wisp_image::{
    Digest, ImageError, ImageStore, LaunchRecord, LoadedProgram, Loader, LogProgress, ProgramCode, Record,
};
use wisp_kernel::Runtime;

use crate::{BuildError, Builder};

/// The smallest module there is.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

struct Place {
    dir: tempfile::TempDir,
    runtime: Arc<Runtime>,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            runtime: Runtime::new(1).unwrap(),
        };
        place.recipe(
            "base",
            "aliases = [\"demo:latest\"]\nenv = { A = \"1\", B = \"1\" }\nworkdir = \"/w\"",
        );
        place.recipe("child", "parent = \"base\"\nenv = { B = \"2\" }");
        place
    }

    fn recipe(&self, name: &str, more: &str) {
        let folder = self.dir.path().join("recipes").join(name);
        std::fs::create_dir_all(folder.join("rootfs/etc")).unwrap();
        std::fs::write(folder.join("rootfs/etc").join(name), name).unwrap();
        std::fs::write(folder.join("a.wasm"), MODULE).unwrap();
        let parts = "[[layer]]\ndir = \"rootfs\"\n[[program]]\nmodule = \"a.wasm\"";
        let manifest = format!("name = \"{name}\"\nversion = \"1\"\n{more}\n{parts}\npaths = [\"/usr/bin/{name}\"]\n");
        std::fs::write(folder.join("image.toml"), manifest).unwrap();
    }

    fn store(&self) -> Arc<ImageStore> {
        Arc::new(ImageStore::open(&self.dir.path().join("cache")).unwrap())
    }

    fn install(&self, name: &str) -> Result<Record, BuildError> {
        self.install_for(name, &self.runtime)
    }

    fn install_for(&self, name: &str, runtime: &Arc<Runtime>) -> Result<Record, BuildError> {
        self.builder(&self.store(), runtime).install(name, &LogProgress)
    }

    fn builder<'a>(&self, store: &'a ImageStore, runtime: &Arc<Runtime>) -> Builder<'a> {
        Builder::new(store, self.dir.path().join("recipes"), Arc::clone(runtime))
    }

    fn is_current(&self, name: &str) -> bool {
        self.builder(&self.store(), &self.runtime).is_current(name).unwrap()
    }

    /// A file or directory of the store.
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("cache/images").join(name)
    }

    /// The files with compiled code of a module, one for each engine.
    fn codes(&self, module: Digest) -> Vec<PathBuf> {
        let engines = std::fs::read_dir(self.path("compiled"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let files = engines.map(|engine| engine.join(format!("{module}.cwasm")));
        files.filter(|file| file.exists()).collect()
    }

    fn loader(&self) -> Loader {
        Loader::new(self.store(), self.runtime.engines())
    }

    fn compiled(&self) -> PathBuf {
        self.codes(Digest::of(MODULE)).pop().expect("it is compiled")
    }
}

#[test]
fn an_image_brings_its_parents_files_programs_and_environment() {
    let place = Place::new();
    place.install("child").unwrap();
    let image = place.loader().load("child").unwrap();
    assert_eq!(
        (image.env["A"].as_str(), image.env["B"].as_str(), image.workdir.as_str()),
        ("1", "2", "/w")
    );
    let fs = wisp_vfs::Fs::from_tree(
        &image.tree,
        wisp_vfs::Limits {
            max_bytes: 0,
            max_inodes: 0,
        },
    );
    for path in [
        "/etc/base",
        "/etc/child",
        "/usr/bin/base",
        "/usr/bin/child",
        "/dev/null",
    ] {
        assert!(fs.stat_at(wisp_vfs::ROOT, path.as_bytes(), true).is_ok(), "{path}");
    }
    assert_eq!(image.programs.len(), 2);
    let is_pooled =
        |program: &LoadedProgram| matches!(&program.code, ProgramCode::Module(module) if module.is_pooled());
    assert!(image.programs.iter().all(is_pooled));
}

/// A module whose `init` puts 16 random bytes and the time into its memory; `go` does nothing.
fn curious_module() -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let import = |name: &str, kind: u8| [text("wasi_snapshot_preview1"), text(name), vec![0, kind]].concat();
    let export = |name: &str, kind: u8, index: u8| [text(name), vec![kind, index]].concat();
    let list = |items: &[Vec<u8>]| [vec![items.len() as u8], items.concat()].concat();
    let section = |id: u8, body: Vec<u8>| [vec![id, body.len() as u8], body].concat();
    let (i32, i64) = (0x7f, 0x7e);
    let types = list(&[
        vec![0x60, 2, i32, i32, 1, i32],
        vec![0x60, 3, i32, i64, i32, 1, i32],
        vec![0x60, 0, 0],
    ]);
    let imports = list(&[import("random_get", 0), import("clock_time_get", 1)]);
    let exports = list(&[export("memory", 2, 0), export("init", 0, 2), export("go", 0, 3)]);
    let init: &[u8] = &[
        0, 0x41, 0, 0x41, 16, 0x10, 0, 0x1a, 0x41, 0, 0x42, 0, 0x41, 16, 0x10, 1, 0x1a, 0x0b,
    ];
    let code = list(&[[&[init.len() as u8], init].concat(), vec![2, 0, 0x0b]]);
    [
        MODULE.to_vec(),
        section(1, types),
        section(2, imports),
        section(3, vec![2, 2, 2]),
        section(5, vec![1, 0, 1]),
        section(7, exports),
        section(10, code),
    ]
    .concat()
}

fn install_curious(preinit: &str) -> Result<(Record, Vec<u8>), BuildError> {
    let place = Place::new();
    let folder = place.dir.path().join("recipes/curious");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("curious.wasm"), curious_module()).unwrap();
    let manifest = format!(
        "name = \"curious\"\nversion = \"1\"\n[[program]]\nmodule = \"curious.wasm\"\npaths = [\"/bin/curious\"]\n\
         preinit = {preinit}\n"
    );
    std::fs::write(folder.join("image.toml"), manifest).unwrap();
    let record = place.install("curious")?;
    let wasm = std::fs::read(place.path(&format!("modules/{}.wasm", record.programs[0].digest)));
    Ok((record, wasm.unwrap()))
}

#[test]
fn the_same_recipe_makes_the_same_pre_initialised_module() {
    let preinit = "{ initialize = \"init\", entry = \"go\" }";
    let (record, wasm) = install_curious(preinit).unwrap();
    assert_eq!(install_curious(preinit).unwrap().0, record);
    let launch = LaunchRecord::Resume {
        export: "go".to_owned(),
        parameters: Vec::new(),
    };
    assert_eq!(record.programs[0].launch, launch);
    // It did run: the random bytes are in the module, which begins the next processes with them.
    assert!(wasm.len() > curious_module().len() + 16, "{wasm:?}");
}

#[test]
fn a_module_that_cannot_be_pre_initialised_is_refused_with_the_reason() {
    for (preinit, reason) in [
        ("{ initialize = \"no\", entry = \"go\" }", "exports no function `no`"),
        (
            "{ initialize = \"init\", entry = \"memory\" }",
            "exports no function `memory`",
        ),
    ] {
        let error = install_curious(preinit).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn docker_names_and_latest_find_an_image() {
    let place = Place::new();
    place.install("base").unwrap();
    for name in ["base", "base:latest", "demo", "demo:latest", "docker.io/library/demo"] {
        assert!(place.store().resolve(name).unwrap().is_some(), "{name}");
    }
    for name in ["base:1", "other", "../base", "", "demo:"] {
        assert!(place.store().resolve(name).unwrap().is_none(), "{name}");
    }
}

#[test]
fn damaged_compiled_code_is_compiled_again() {
    let place = Place::new();
    place.install("base").unwrap();
    let good = std::fs::read(place.compiled()).unwrap();
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    for bad in [&good[..good.len() / 2], &changed, b"", b"something else"] {
        std::fs::write(place.compiled(), bad).unwrap();
        place.loader().load("base").unwrap();
        assert_eq!(std::fs::read(place.compiled()).unwrap().len(), good.len());
    }
}

#[test]
fn code_that_counts_fuel_is_there_only_where_fuel_is_counted() {
    let place = Place::new();
    place.install("base").unwrap();
    let codes = || place.codes(Digest::of(MODULE));
    place.loader().load("base").unwrap();
    let plain = codes();
    assert_eq!(plain.len(), 1);
    // An image from before is compiled when it is loaded; again when that code is damaged.
    let with_fuel = Runtime::with_fuel(1, true).unwrap();
    let load = || Loader::new(place.store(), with_fuel.engines()).load("base").unwrap();
    let (before, metadata) = (std::fs::read(&plain[0]).unwrap(), std::fs::metadata(&plain[0]).unwrap());
    load();
    let fuel_code = codes().into_iter().find(|file| *file != plain[0]).unwrap();
    let good = std::fs::read(&fuel_code).unwrap();
    assert_ne!(good, before);
    std::fs::write(&fuel_code, &before).unwrap();
    load();
    assert_eq!(std::fs::read(&fuel_code).unwrap(), good);
    let untouched = std::fs::metadata(&plain[0]).unwrap().ino() == metadata.ino();
    assert!(untouched, "the other code was good");
    // It goes with its image, and installing makes both.
    place.store().remove("base").unwrap();
    assert!(!fuel_code.exists());
    place.install_for("base", &with_fuel).unwrap();
    assert!(fuel_code.exists() && plain[0].exists());
}

#[test]
fn damaged_layers_and_modules_are_errors() {
    let place = Place::new();
    let record = place.install("base").unwrap();
    let layer = place.path(&format!("layers/{}.tar", record.layers[0]));
    let good = std::fs::read(&layer).unwrap();
    std::fs::write(&layer, &good[..good.len() - 1]).unwrap();
    assert!(matches!(place.loader().load("base"), Err(ImageError::Damaged(_))));
    std::fs::write(&layer, &good).unwrap();
    std::fs::remove_file(place.compiled()).unwrap();
    std::fs::write(place.path(&format!("modules/{}.wasm", Digest::of(MODULE))), b"x").unwrap();
    assert!(matches!(place.loader().load("base"), Err(ImageError::Damaged(_))));
}

#[test]
fn a_changed_recipe_makes_an_image_outdated_until_it_is_installed_again() {
    let place = Place::new();
    let first = place.install("base").unwrap();
    std::fs::write(place.dir.path().join("recipes/base/rootfs/etc/new"), b"new").unwrap();
    assert!(!place.is_current("base"));
    let second = place.install("base").unwrap();
    assert!(place.is_current("base"));
    assert!(
        !place.path(&format!("layers/{}.tar", first.layers[0])).exists(),
        "the old layer is removed"
    );
    assert!(place.path(&format!("layers/{}.tar", second.layers[0])).exists());
}

#[test]
fn a_parent_cannot_be_removed_before_its_children() {
    let place = Place::new();
    place.install("child").unwrap();
    assert!(matches!(place.store().remove("base"), Err(ImageError::IsParent { .. })));
    place.store().remove("child").unwrap();
    place.store().remove("demo").unwrap();
    assert!(place.codes(Digest::of(MODULE)).is_empty());
    assert!(matches!(place.store().remove("base"), Err(ImageError::NotInstalled(_))));
}

#[test]
fn parents_that_form_a_ring_are_an_error() {
    let place = Place::new();
    place.recipe("base", "parent = \"child\"");
    assert!(matches!(
        place.install("child"),
        Err(BuildError::Image(ImageError::ParentLoop(_)))
    ));
}

#[test]
fn image_that_is_not_installed_and_image_without_recipe_are_errors() {
    let place = Place::new();
    assert!(matches!(place.loader().load("child"), Err(ImageError::NotInstalled(_))));
    assert!(matches!(place.install("other"), Err(BuildError::NoRecipe { .. })));
}

#[test]
fn a_store_others_can_write_to_is_refused() {
    let place = Place::new();
    place.install("base").unwrap();
    let cache = place.dir.path().join("cache/images");
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o770)).unwrap();
    let opened = ImageStore::open(&place.dir.path().join("cache"));
    assert!(matches!(opened, Err(ImageError::NotPrivate(_))));
}

#[test]
fn a_build_runs_once_for_the_same_inputs_and_its_failure_is_shown() {
    let place = Place::new();
    let script = "mkdir -p $WISP_OUT/built/etc && echo x >> $WISP_BUILD_DIR/runs && cp a.wasm $WISP_OUT/b.wasm";
    let more = |script: &str| format!("[build]\ncommand = [\"sh\", \"-c\", \"{script}\"]\ninputs = [\"a.wasm\"]");
    place.recipe("base", &more(script));
    place.install("base").unwrap();
    let manifest = place.dir.path().join("recipes/base/image.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("summary = \"x\"\n{text}")).unwrap();
    place.install("base").unwrap();
    let runs = std::fs::read_to_string(place.dir.path().join("cache/build/base/runs")).unwrap();
    assert_eq!(runs, "x\n");
    place.recipe("base", &more("echo the reason >&2; exit 3"));
    let error = place.install("base").unwrap_err().to_string();
    assert!(error.contains("the reason") && error.contains('3'), "{error}");
}

#[test]
fn a_change_of_what_builds_share_builds_again() {
    let place = Place::new();
    let library = place.dir.path().join("crates/shared");
    std::fs::create_dir_all(&library).unwrap();
    let script = "mkdir -p $WISP_OUT/built/etc && echo x >> $WISP_BUILD_DIR/runs && cp a.wasm $WISP_OUT/b.wasm";
    let build = format!("[build]\ncommand = [\"sh\", \"-c\", \"{script}\"]\ninputs = []\nshared = [\"crates/shared\"]");
    place.recipe("base", &build);
    for (text, runs) in [("1", "x\n"), ("1", "x\n"), ("2", "x\nx\n")] {
        std::fs::write(library.join("lib.rs"), text).unwrap();
        place.install("base").unwrap();
        let found = std::fs::read_to_string(place.dir.path().join("cache/build/base/runs")).unwrap();
        assert_eq!(found, runs);
    }
    std::fs::remove_dir_all(&library).unwrap();
    assert!(place.install("base").is_err(), "what it shares is gone");
}

#[test]
fn installers_at_the_same_time_do_not_disturb_each_other() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| place.install("child").unwrap());
        }
    });
    place.loader().load("child").unwrap();
}
