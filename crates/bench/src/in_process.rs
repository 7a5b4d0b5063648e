//! Sandboxes of this very process, without a server: what wisp takes when HTTP is taken away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wisp::image::ImageStore;
use wisp::kernel::{Runtime, guest_threads};
use wisp::provider::wasm::WasmProvider;
use wisp::provider::{Command, ExecEvent, ExecSpec, Network, OutputStream, Provider as _, SandboxSpec, Stdin};

/// Longer than anything measured.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The provider `wasm` over the installed images. Files of its sandboxes are in memory only.
#[derive(Clone)]
pub struct InProcess {
    /// The provider.
    pub provider: Arc<WasmProvider>,
}

impl InProcess {
    /// Opens the default image store.
    ///
    /// # Errors
    /// When the engine does not start or there is no image store.
    pub fn open() -> anyhow::Result<Self> {
        let runtime = Runtime::new(guest_threads())?;
        let store = Arc::new(ImageStore::open_default()?);
        Ok(Self {
            provider: Arc::new(WasmProvider::new(runtime, store)),
        })
    }

    /// Creates a sandbox of this name.
    ///
    /// # Errors
    /// When there is no such image.
    pub async fn create(&self, id: &str, image: &str) -> anyhow::Result<()> {
        let spec = SandboxSpec {
            image: image.to_owned(),
            memory_mb: 512,
            vcpus: 2,
            disk_mb: 1024,
            cpu_time: None,
            env: BTreeMap::new(),
            network: Network::None,
        };
        Ok(self.provider.create("default", id, &spec).await?)
    }

    /// Destroys a sandbox.
    ///
    /// # Errors
    /// When it cannot be destroyed.
    pub async fn destroy(&self, id: &str) -> anyhow::Result<()> {
        Ok(self.provider.destroy(id).await?)
    }

    /// Runs a command in a sandbox, and returns its exit code and what it wrote to standard output.
    ///
    /// # Errors
    /// When it cannot be started, or breaks off.
    pub async fn run(&self, id: &str, command: Command) -> anyhow::Result<(i32, Vec<u8>)> {
        let exec = ExecSpec {
            command,
            env: BTreeMap::new(),
            workdir: None,
            timeout: TIMEOUT,
            cpu_time: None,
            fuel: None,
            stdin: Stdin::default(),
        };
        let mut running = self.provider.exec(id, exec).await?;
        let mut stdout = Vec::new();
        while let Some(event) = running.events.recv().await {
            match event {
                ExecEvent::Output(OutputStream::Stdout, bytes) => stdout.extend_from_slice(&bytes),
                ExecEvent::Output(OutputStream::Stderr, _) => {}
                ExecEvent::Exit(outcome) => return Ok((outcome.exit_code, stdout)),
                ExecEvent::Failed(error) => return Err(error.into()),
            }
        }
        anyhow::bail!("the command ended without an exit event")
    }
}
