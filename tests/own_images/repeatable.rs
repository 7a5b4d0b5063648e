//! What is installed follows from the recipe alone.

use std::path::Path;
use std::{fs, thread};

use wisp::image::{ImageStore, LogProgress};
use wisp_image_build::default_folder;

use crate::images::{self, PYTHON, PYTHON_3_13};
use crate::store::Store;

/// Installs an image again, from what was fetched and built for the default store. Returns its record, which names all
/// modules and layers by digest.
fn installed_again(image: &str) -> String {
    let store = Store::with_inputs();
    let record = format!("{}/images/images/{}.json", store.path(), image.replace(':', "@"));
    fs::remove_file(&record).expect("the record is there");
    let opened = ImageStore::open(Path::new(store.path())).expect("the store opens");
    images::build_into(&opened, &default_folder(), image, &LogProgress);
    fs::read_to_string(record).expect("the record is there again")
}

fn assert_repeatable(image: &'static str) {
    let other = thread::spawn(move || installed_again(image));
    assert_eq!(installed_again(image), other.join().expect("it is installed"));
}

#[test]
fn an_interpreter_that_knows_nothing_of_it_is_pre_initialised_the_same_way_each_time() {
    images::install();
    assert_repeatable(PYTHON);
}

#[test]
fn an_interpreter_made_for_it_is_pre_initialised_the_same_way_each_time() {
    images::install();
    images::install_python_3_13();
    assert_repeatable(PYTHON_3_13);
}
