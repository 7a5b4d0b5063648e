//! The image without its snapshot.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use wisp::image::{ImageStore, Progress, Step};

use crate::images::{self, PYTHON};
use crate::store;

/// How python:3.12 starts when nothing is done ahead: its start-up program is imported then, and run.
const LAUNCH_3_12: &str =
    r#"launch = { arguments = ["/usr/local/bin/python3.12", "-c", "import _wisp_start; _wisp_start.main()"] }"#;

/// A store that has the image made of the same module, which is not built again, by the recipe without `preinit`. What was
/// compiled for it stays for the next time.
pub fn without_snapshot(image: &str) -> String {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("plain-start")
        .join(image.replace(':', "-"));
    fs::create_dir_all(&place).expect("a directory");
    let lock = File::create(place.join("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let (cache, recipes) = (place.join("cache"), place.join("recipes"));
    store::share_inputs(&cache);
    write_recipes(&recipes, image);
    let steps = Steps::default();
    let opened = ImageStore::open(&cache).expect("the store opens");
    images::build_into(&opened, &recipes, image, &steps);
    let steps = steps.0.into_inner().expect("nobody panics");
    assert!(!steps.contains(&Step::Build), "it was built again: {steps:?}");
    drop(opened);
    cache.into_os_string().into_string().expect("a path that is text")
}

/// Remembers what was done.
#[derive(Default)]
struct Steps(Mutex<Vec<Step>>);

impl Progress for Steps {
    fn step(&self, _: &str, step: Step, _: &str) {
        self.0.lock().expect("nobody panics").push(step);
    }

    fn line(&self, _: &str) {}

    fn done(&self, _: &str) {}
}

/// Makes a folder of the image's recipe, without `preinit`, and its parent's.
fn write_recipes(recipes: &Path, image: &str) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("wasm-images");
    let folder = image.replace(':', "-");
    if recipes.exists() {
        fs::remove_dir_all(recipes).expect("the last recipes are removed");
    }
    copy(&sources.join(&folder), &recipes.join(&folder));
    symlink(sources.join("base"), recipes.join("base")).expect("a link");
    let file = recipes.join(&folder).join("image.toml");
    let recipe = fs::read_to_string(&file).expect("a recipe");
    let launch = if image == PYTHON { LAUNCH_3_12 } else { "" };
    let preinit = recipe.lines().find(|line| line.starts_with("preinit = "));
    let plain = recipe.replace(preinit.expect("it is pre-initialised in one line"), launch);
    fs::write(file, plain).expect("the recipe is written");
}

fn copy(from: &Path, to: &PathBuf) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("a name"));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a file is copied");
        }
    }
}
