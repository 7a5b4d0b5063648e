//! The images that the tests run.

use std::sync::Once;

use wisp::image::{ImageStore, LogProgress};
use wisp::kernel::Runtime;
use wisp_image_build::{Builder, default_folder};

/// The seed page's image; `base` comes along as its parent.
pub const PYTHON: &str = "python:3.12";
/// The Python that is built from source.
pub const PYTHON_3_13: &str = "python:3.13";

/// Installs the images that all tests need into the default store, once per test program. It takes minutes on a new
/// machine, and nothing when they are there; several test programs take turns by the store's own lock.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| build(PYTHON));
}

/// Installs [`PYTHON_3_13`] as well. Building it takes some minutes on a new machine.
pub fn install_python_3_13() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| build(PYTHON_3_13));
}

fn build(image: &str) {
    let store = ImageStore::open_default().expect("the store opens");
    build_into(&store, &default_folder(), image, &LogProgress);
}

/// Builds an image from a folder of recipes, and installs it into a store.
pub fn build_into(store: &ImageStore, recipes: &std::path::Path, image: &str, progress: &dyn wisp::image::Progress) {
    let (recipes, image) = (recipes.to_owned(), image.to_owned());
    // A test may be one of a runtime, where a runtime that ends must not wait.
    std::thread::scope(|scope| {
        let building = scope.spawn(|| {
            let runtime = Runtime::new(1).expect("an engine");
            let built = Builder::new(store, recipes, runtime).install(&image, progress);
            assert!(
                built.is_ok(),
                "{image} cannot be built: {}",
                built.err().map(|e| e.to_string()).unwrap_or_default()
            );
        });
        building.join().expect("it is built");
    });
}
