//! Installs an image on request, and reports progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::blocking;
use super::images::Images;
use crate::image::{LogProgress, Progress, Step};
use crate::provider::{ProviderError, PullProgress};

/// Installs an image from the source of images, if there is one and it has something newer, and loads it.
pub async fn pull(images: &Arc<Images>, name: &str, progress: mpsc::Sender<PullProgress>) -> Result<(), ProviderError> {
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
    use std::path::Path;
    use std::sync::atomic::AtomicUsize;

    use super::super::images::ImageSource;
    use super::*;
    use crate::image::{FORM, ImageError, ImageStore, LaunchRecord, ModuleKind, ProgramRecord, Record};
    use crate::kernel::{Engines, Runtime};

    /// The smallest module there is.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    /// Has `demo` in as many versions as one likes.
    #[derive(Default)]
    struct Demo {
        version: AtomicUsize,
    }

    impl ImageSource for Demo {
        fn install(
            &self,
            store: &ImageStore,
            engines: &Engines,
            name: &str,
            progress: &dyn Progress,
        ) -> Result<Record, ImageError> {
            let version = self.version.load(Ordering::Relaxed).to_string();
            if name.strip_suffix(":latest").unwrap_or(name) != "demo" {
                return Err(ImageError::NotInRegistry(name.to_owned()));
            }
            let installation = store.begin_installation()?;
            if let Some(record) = installation.record("demo")?.filter(|record| record.version == version) {
                return Ok(record);
            }
            let digest = installation.add_module(MODULE)?;
            installation.compile("demo", "/usr/bin/demo", digest, engines, progress)?;
            let record = demo(version, digest);
            installation.commit(&record, &[])?;
            progress.done("demo");
            Ok(record)
        }
    }

    fn demo(version: String, digest: crate::image::Digest) -> Record {
        Record {
            form: FORM,
            name: "demo".to_owned(),
            aliases: Vec::new(),
            version,
            parent: None,
            summary: String::new(),
            licences: Vec::new(),
            provenance: String::new(),
            capabilities: Vec::new(),
            known_limits: Vec::new(),
            env: std::collections::BTreeMap::new(),
            workdir: None,
            own: false,
            received: false,
            recipe: digest,
            sources: Vec::new(),
            build: None,
            programs: vec![ProgramRecord {
                digest,
                kind: ModuleKind::Module,
                paths: vec!["/usr/bin/demo".to_owned()],
                preopens: vec!["/".to_owned()],
                launch: LaunchRecord::Command { arguments: Vec::new() },
                ignores_sigpipe: false,
            }],
            layers: Vec::new(),
            size: 0,
        }
    }

    fn images(dir: &Path, source: Option<Arc<Demo>>) -> Arc<Images> {
        let store = ImageStore::open(&dir.join("cache")).unwrap();
        let source = source.map(|source| source as Arc<dyn ImageSource>);
        Arc::new(Images::new(Runtime::new(1).unwrap(), Arc::new(store)).with_source(source))
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
        let images = images(dir.path(), Some(Arc::default()));
        let told = pulled(&images, "demo").await.unwrap();
        assert_eq!(told, ["compiling demo: /usr/bin/demo", "installed demo"]);
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
        let source = Arc::new(Demo::default());
        let images = images(dir.path(), Some(Arc::clone(&source)));
        pulled(&images, "demo").await.unwrap();
        let before = images.get("demo").await.unwrap();
        source.version.store(1, Ordering::Relaxed);
        pulled(&images, "demo").await.unwrap();
        let after = images.get("demo").await.unwrap();
        assert!(!Arc::ptr_eq(&before, &after));
    }

    #[tokio::test]
    async fn another_process_that_changes_the_store_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let here = images(dir.path(), None);
        assert!(here.get("demo").await.is_err());
        // As another process does, it opens the store for itself.
        let there = images(dir.path(), Some(Arc::default()));
        pulled(&there, "demo").await.unwrap();
        assert!(here.get("demo").await.is_ok());
        there.remove("demo").await.unwrap();
        assert!(here.get("demo").await.is_err());
    }

    #[tokio::test]
    async fn without_a_source_only_what_is_installed_is_there() {
        let dir = tempfile::tempdir().unwrap();
        pulled(&images(dir.path(), Some(Arc::default())), "demo").await.unwrap();
        let images = images(dir.path(), None);
        assert!(pulled(&images, "demo").await.unwrap().is_empty());
        let missing = pulled(&images, "other").await;
        assert!(
            matches!(missing, Err(ProviderError::ImageNotFound { .. })),
            "{missing:?}"
        );
        images.remove("demo").await.unwrap();
        assert!(images.get("demo").await.is_err());
        let again = images.remove("demo").await;
        assert!(matches!(again, Err(ProviderError::ImageNotFound { .. })), "{again:?}");
    }
}
