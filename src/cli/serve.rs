//! `wisp serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{ServeArgs, image_registry};
use crate::api::{self, ApiKeys, AppState};
use crate::config::{Config, Isolation, Limits};
use crate::image::{CompileLimits, ImageError, ImageStore};
use crate::kernel::{Runtime, guest_threads};
#[cfg(feature = "docker")]
use crate::provider::docker::DockerProvider;
use crate::provider::wasm::{Images, WasmProvider};
use crate::provider::{Provider, ProviderError};
use crate::sandbox::{ImageImporter, Providers, SandboxManager};
use crate::store::{DataDir, Durability, Store};
use crate::worker::{self, SandboxDirs, Sharing, WorkerPool, WorkerProvider, WorkerSettings};

/// How often the store is asked whether an image of the configuration has come.
const LOOK_FOR_IMAGES: Duration = Duration::from_millis(500);

/// Serves until interrupted.
///
/// # Errors
/// When the configuration is refused, the address is taken, or the engine or the image store cannot be opened.
pub async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let config = Arc::new(configuration(args)?);
    let data_dir = DataDir::open(&config.data_dir)?;
    let store = Store::open(&data_dir.database(), config.durability)?;
    let keys = ApiKeys::load(&config.auth, store.clone()).await?;
    config.check_exposure(keys.required())?;
    let runtime = Runtime::with_fuel(guest_threads(), config.fuel)?;
    let images = Arc::new(ImageStore::open_default()?.with_compile_limits(compile_limits(&config.limits)));
    let wasm = Wasm::new(&config, &data_dir, &runtime, &images)?;
    let importer = ImageImporter::new(Arc::clone(&images), runtime, &config.limits);
    let all = [Some(wasm.provider()), docker(&config, &data_dir)?];
    let providers = Providers::new(all.into_iter().flatten().collect(), &config.default_provider)?;
    let sandboxes = SandboxManager::new(Arc::clone(&config), providers, store.clone());
    recover(&sandboxes).await?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    announce(address, started);
    tokio::spawn(prepare_images(wasm, Arc::clone(&images), config.images.clone()));
    let state = AppState {
        config,
        sandboxes,
        store,
        images: Arc::new(images),
        image_import: Some(Arc::new(importer)),
        keys,
        started,
    };
    api::run(listener, interrupted()?, state).await;
    tracing::info!("stopped");
    Ok(())
}

fn configuration(args: ServeArgs) -> anyhow::Result<Config> {
    let config = args.load()?.config;
    config.check()?;
    Ok(config)
}

/// What compiling a user's file may cost.
pub(super) fn compile_limits(limits: &Limits) -> CompileLimits {
    CompileLimits {
        memory_mb: limits.compile_memory_mb,
        timeout: limits.compile_timeout.0,
    }
}

fn announce(address: SocketAddr, started: Instant) {
    tracing::info!(
        ready_ms = started.elapsed().as_millis(),
        "wisp {} serves http://{address}/api/v1",
        env!("CARGO_PKG_VERSION")
    );
}

/// Takes over what an earlier server left in the data directory.
async fn recover(sandboxes: &SandboxManager) -> anyhow::Result<()> {
    let started = Instant::now();
    let found = sandboxes
        .recover()
        .await
        .context("cannot take over the sandboxes of an earlier server")?;
    tracing::info!(
        recovered = found.recovered,
        in_error = found.in_error,
        removed = found.removed,
        ms = started.elapsed().as_millis(),
        "sandboxes of an earlier server"
    );
    Ok(())
}

/// The provider `wasm`, in worker processes or in this one.
enum Wasm {
    Workers(Arc<WorkerProvider>),
    InProcess(Arc<WasmProvider>),
}

impl Wasm {
    fn new(
        config: &Config,
        data_dir: &DataDir,
        runtime: &Arc<Runtime>,
        store: &Arc<ImageStore>,
    ) -> anyhow::Result<Self> {
        let fsync = config.durability == Durability::Power;
        let dirs = Arc::new(SandboxDirs::new(data_dir.sandboxes(), worker::can_change_users()));
        let images =
            Images::new(Arc::clone(runtime), Arc::clone(store)).with_source(image_registry::source(&config.registry)?);
        let images = Arc::new(images);
        let sharing = match config.isolation {
            Isolation::None => {
                dirs.leave_compartments()
                    .context("cannot move the sandboxes of an earlier server")?;
                let provider = WasmProvider::with_images(Arc::clone(runtime), images)
                    .keeping_files_in(data_dir.sandboxes(), fsync);
                return Ok(Self::InProcess(Arc::new(provider)));
            }
            Isolation::Tenant => Sharing::Tenant,
            Isolation::Sandbox => Sharing::Sandbox,
        };
        let settings = WorkerSettings {
            // The program as it was started, even if its file has been replaced since.
            program: PathBuf::from("/proc/self/exe"),
            cache: store.cache(),
            guest_threads: guest_threads(),
            fsync,
            max_workers: config.limits.max_workers,
            counts_fuel: config.fuel,
        };
        let pool = WorkerPool::new(settings, Arc::clone(&dirs));
        Ok(Self::Workers(Arc::new(WorkerProvider::new(
            images, pool, dirs, sharing,
        ))))
    }

    fn provider(&self) -> Arc<dyn Provider> {
        match self {
            Self::Workers(provider) => Arc::clone(provider) as _,
            Self::InProcess(provider) => Arc::clone(provider) as _,
        }
    }

    async fn prepare_image(&self, name: &str) -> Result<(), ProviderError> {
        match self {
            Self::Workers(provider) => provider.prepare_image(name).await,
            Self::InProcess(provider) => provider.prepare_image(name).await,
        }
    }
}

/// The second provider, where it is wanted.
#[cfg(feature = "docker")]
fn docker(config: &Config, data_dir: &DataDir) -> anyhow::Result<Option<Arc<dyn Provider>>> {
    if !config.docker.enabled {
        return Ok(None);
    }
    let provider = DockerProvider::new(config.docker.clone(), data_dir.server_id()?);
    Ok(Some(Arc::new(provider)))
}

/// This build has no second provider.
#[cfg(not(feature = "docker"))]
#[expect(clippy::unnecessary_wraps, reason = "as the other one")]
fn docker(_config: &Config, _data_dir: &DataDir) -> anyhow::Result<Option<Arc<dyn Provider>>> {
    Ok(None)
}

/// Loads the images that the configuration names, so that nobody waits for them later. One that is not installed yet is
/// loaded when it is: another process may be installing it.
async fn prepare_images(wasm: Wasm, store: Arc<ImageStore>, mut names: Vec<String>) {
    let mut is_first = true;
    while !names.is_empty() {
        let generation = store.generation();
        let mut missing = Vec::new();
        for name in names {
            let started = Instant::now();
            match wasm.prepare_image(&name).await {
                Ok(()) => tracing::info!(image = name, ms = started.elapsed().as_millis(), "image ready"),
                Err(ProviderError::ImageNotFound { .. }) => {
                    if is_first {
                        tracing::warn!("{}", ImageError::NotInstalled(name.clone()));
                    }
                    missing.push(name);
                }
                Err(error) => tracing::error!(image = name, %error, "image cannot be used"),
            }
        }
        names = missing;
        is_first = false;
        while !names.is_empty() && store.generation() == generation {
            tokio::time::sleep(LOOK_FOR_IMAGES).await;
        }
    }
}

/// Completes on the first SIGINT or SIGTERM; a second SIGINT ends the process as usual.
fn interrupted() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
    })
}
