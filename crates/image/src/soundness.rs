//! Which files of the store were checked already.
//!
//! Reading all compiled code and all layers to compute their digests is most of what loading an image costs. A file that
//! was found sound is not read again until it changes: beside it lies what the file system said of it then. That notices
//! files that were cut off, replaced or written to, as the digest does; it does not notice a disk that returns other bytes
//! than were written, which is for the disk and the file system to notice.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use super::error::ImageError;
use super::private_dir::PrivateDir;

/// End of the name of the note on a file.
pub(super) const NOTE: &str = ".checked";
/// How long a file must have been left alone for a note to be made. File systems tell time in steps, and a change within
/// the same step would not be noticed.
const SETTLED: Duration = Duration::from_millis(100);

/// Whether `file`, which is `name` in the store, is what `expected` says. If it must be read for that, `check` does it.
pub(super) fn is_sound(
    store: &PrivateDir,
    name: &str,
    file: &File,
    expected: &str,
    check: impl FnOnce() -> Result<bool, ImageError>,
) -> Result<bool, ImageError> {
    let metadata = file.metadata().map_err(ImageError::io(store.path(name)))?;
    let now = format!(
        "{expected} device {} inode {} bytes {} modified {}.{:09} changed {}.{:09}\n",
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    );
    let note = format!("{name}{NOTE}");
    if store.read(&note)?.is_some_and(|then| then == now.as_bytes()) {
        return Ok(true);
    }
    let sound = check()?;
    if sound && is_settled(&metadata) {
        // Without the note the file is only checked again.
        if let Err(error) = store.write(&note, now.as_bytes()) {
            tracing::debug!(%error, "what was checked cannot be noted");
        }
    }
    Ok(sound)
}

/// Whether a file has been left alone long enough.
fn is_settled(metadata: &Metadata) -> bool {
    let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(metadata.ctime()), u32::try_from(metadata.ctime_nsec())) else {
        return false;
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.is_ok_and(|now| now > Duration::new(seconds, nanoseconds) + SETTLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        store: PrivateDir,
        _dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = PrivateDir::open(&dir.path().join("store")).unwrap();
            Self { store, _dir: dir }
        }

        /// Whether the file `data` is sound, and whether it was read to find that out.
        fn check(&self, expected: &str) -> (bool, bool) {
            let file = self.store.open_file("data").unwrap().unwrap();
            let mut read = false;
            let sound = is_sound(&self.store, "data", &file, expected, || {
                read = true;
                Ok(self.store.read("data").unwrap().unwrap() == expected.as_bytes())
            });
            (sound.unwrap(), read)
        }

        /// Writes to the file.
        fn write(&self, bytes: &str) {
            std::fs::write(self.store.path("data"), bytes).unwrap();
        }

        /// Waits until a file written now has settled.
        fn settle() {
            std::thread::sleep(2 * SETTLED);
        }
    }

    #[test]
    fn a_sound_file_is_read_once() {
        let place = Place::new();
        place.write("good");
        assert_eq!(place.check("good"), (true, true), "too fresh to be noted");
        assert_eq!(place.check("good"), (true, true));
        Place::settle();
        assert_eq!(place.check("good"), (true, true));
        assert_eq!(place.check("good"), (true, false));
    }

    #[test]
    fn a_file_that_changed_is_read_again() {
        let place = Place::new();
        place.write("good");
        Place::settle();
        assert_eq!(place.check("good"), (true, true));
        assert_eq!(place.check("good"), (true, false));
        place.write("evil");
        assert_eq!(place.check("good"), (false, true), "written to");
        assert_eq!(place.check("good"), (false, true), "what is not sound is not noted");
        place.store.write("data", b"good").unwrap();
        assert_eq!(place.check("good"), (true, true), "replaced");
        assert_eq!(place.check("evil"), (false, true), "something else is wanted");
    }
}
