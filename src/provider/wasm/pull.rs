//! Installs an image on request, and reports progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::blocking;
use super::images::Images;
use crate::image::{LogProgress, Progress, Step};
use crate::provider::{ProviderError, PullProgress};

/// Installs an image from its recipe unless that was done already, and loads it.
pub async fn pull(images: &Arc<Images>, name: &str, progress: mpsc::Sender<PullProgress>) -> Result<(), ProviderError> {
    let (known, wanted) = (Arc::clone(images), name.to_owned());
    blocking(move || known.check_known(&wanted)).await?;
    let _one_at_a_time = images.change().await;
    let (installing, wanted) = (Arc::clone(images), name.to_owned());
    let changed = blocking(move || {
        let told = Told {
            progress,
            worked: AtomicBool::new(false),
        };
        installing.install(&wanted, &told)
    });
    changed.await?;
    images.get(name).await.map(drop)
}

/// Passes progress on to whoever watches.
struct Told {
    progress: mpsc::Sender<PullProgress>,
    /// Whether there was anything to do.
    worked: AtomicBool,
}

impl Told {
    /// An installation waits for no one: what a watcher does not take in time is left out.
    fn tell(&self, status: &str, part: String) {
        let step = PullProgress {
            status: status.to_owned(),
            part: Some(part),
            current: None,
            total: None,
        };
        let _ = self.progress.try_send(step);
    }
}

impl Progress for Told {
    fn step(&self, image: &str, step: Step, what: &str) {
        LogProgress.step(image, step, what);
        self.worked.store(true, Ordering::Relaxed);
        self.tell(step.verb(), format!("{image}: {what}"));
    }

    fn line(&self, line: &str) {
        LogProgress.line(line);
    }

    fn done(&self, image: &str) {
        if self.worked.load(Ordering::Relaxed) {
            LogProgress.done(image);
            self.tell("installed", image.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::image::ImageStore;
    use crate::kernel::Runtime;

    /// The smallest module there is.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const MANIFEST: &str = "name = \"demo\"\nversion = \"1\"\n[[layer]]\ndir = \"rootfs\"\n[[program]]\n\
        module = \"a.wasm\"\npaths = [\"/usr/bin/demo\"]\n";

    const SLOW_MANIFEST: &str = "name = \"slow\"\nversion = \"1\"\n[build]\ncommand = [\"sh\", \"build.sh\"]\n\
        inputs = [\"build.sh\"]\n[[program]]\nmodule = \"b.wasm\"\npaths = [\"/usr/bin/slow\"]\n";

    /// Images with the recipe of `demo`, which is not installed.
    fn images(dir: &std::path::Path) -> Arc<Images> {
        let recipe = dir.join("recipes/demo");
        std::fs::create_dir_all(recipe.join("rootfs/etc")).unwrap();
        std::fs::write(recipe.join("a.wasm"), MODULE).unwrap();
        std::fs::write(recipe.join("image.toml"), MANIFEST).unwrap();
        let store = ImageStore::open(&dir.join("cache"), &dir.join("recipes")).unwrap();
        Arc::new(Images::new(Runtime::new(1).unwrap(), Arc::new(store)))
    }

    /// Pulls, and returns what was told.
    async fn pulled(images: &Arc<Images>, name: &str) -> Result<Vec<String>, ProviderError> {
        let (progress, mut steps) = mpsc::channel(100);
        pull(images, name, progress).await?;
        let mut told = Vec::new();
        while let Some(step) = steps.recv().await {
            told.push(format!("{} {}", step.status, step.part.unwrap_or_default()));
        }
        Ok(told)
    }

    #[tokio::test]
    async fn a_pull_installs_missing_images_and_reports_each_step() {
        let dir = tempfile::tempdir().unwrap();
        let images = images(dir.path());
        let told = pulled(&images, "demo").await.unwrap();
        assert_eq!(
            told,
            [
                "packing demo: rootfs",
                "compiling demo: /usr/bin/demo",
                "installed demo"
            ]
        );
        assert!(pulled(&images, "demo:latest").await.unwrap().is_empty());
        let unknown = pulled(&images, "nothing").await;
        assert!(
            matches!(unknown, Err(ProviderError::ImageNotFound { .. })),
            "{unknown:?}"
        );
    }

    #[tokio::test]
    async fn an_image_that_was_pulled_anew_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let images = images(dir.path());
        pulled(&images, "demo").await.unwrap();
        let before = images.get("demo").await.unwrap();
        std::fs::write(dir.path().join("recipes/demo/rootfs/etc/new"), b"new").unwrap();
        assert!(!pulled(&images, "demo").await.unwrap().is_empty());
        let after = images.get("demo").await.unwrap();
        assert!(!Arc::ptr_eq(&before, &after));
    }

    #[tokio::test]
    async fn a_removed_image_is_no_longer_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let images = images(dir.path());
        pulled(&images, "demo").await.unwrap();
        std::fs::remove_dir_all(dir.path().join("recipes")).unwrap();
        assert!(images.get("demo").await.is_ok());
        assert!(
            pulled(&images, "demo").await.unwrap().is_empty(),
            "it needs no recipe any more"
        );
        images.remove("demo").await.unwrap();
        assert!(images.get("demo").await.is_err());
        let again = images.remove("demo").await;
        assert!(matches!(again, Err(ProviderError::ImageNotFound { .. })), "{again:?}");
    }

    #[tokio::test]
    async fn who_wants_another_image_does_not_wait_for_one_that_is_being_installed() {
        let dir = tempfile::tempdir().unwrap();
        pulled(&images(dir.path()), "demo").await.unwrap();
        let slow = dir.path().join("recipes/slow");
        std::fs::create_dir_all(&slow).unwrap();
        let build = "cp a.wasm $WISP_OUT/b.wasm\necho begun > begun\nwhile [ ! -e go-on ]; do sleep 0.01; done\n";
        std::fs::write(slow.join("a.wasm"), MODULE).unwrap();
        std::fs::write(slow.join("build.sh"), build).unwrap();
        std::fs::write(slow.join("image.toml"), SLOW_MANIFEST).unwrap();

        // Nothing is in memory.
        let images = images(dir.path());
        let installing = tokio::spawn({
            let images = Arc::clone(&images);
            async move { images.get("slow").await.map(drop) }
        });
        while !slow.join("begun").exists() {
            assert!(!installing.is_finished());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let other = tokio::time::timeout(Duration::from_secs(10), images.get("demo")).await;
        std::fs::write(slow.join("go-on"), "").unwrap();
        assert!(other.expect("it did not wait").is_ok());
        installing.await.unwrap().unwrap();
    }
}
