//! Images of a registry: pulled and pushed by the command line, and pulled by the server.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use super::images::{Bar, pack, print_installed};
use super::serve::compile_limits;
use crate::config::{Config, RegistryConfig};
use crate::image::{ImageError, ImageStore, InstallOptions, Progress, PublicKey, Record};
use crate::kernel::Engines;
use crate::provider::wasm::ImageSource;
use crate::registry::{Credentials, Reference, Registry, Settings};

/// The registry of the configuration.
struct Source {
    address: String,
    plain_http: bool,
    trusted_keys: Vec<PublicKey>,
    runtime: tokio::runtime::Handle,
}

/// What the server gets images from; `None` when the configuration names no registry.
pub(super) fn source(config: &RegistryConfig) -> anyhow::Result<Option<Arc<dyn ImageSource>>> {
    let Some(address) = config.address.clone().filter(|address| !address.is_empty()) else {
        return Ok(None);
    };
    // Refuses now what would be no address later.
    Reference::below(&address, "base")?;
    Ok(Some(Arc::new(Source {
        address,
        plain_http: config.plain_http,
        trusted_keys: config.keys()?,
        runtime: tokio::runtime::Handle::current(),
    })))
}

impl ImageSource for Source {
    fn install(
        &self,
        store: &ImageStore,
        engines: &Engines,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<Record, ImageError> {
        let not_there = |_| ImageError::NotInRegistry(name.to_owned());
        let reference = Reference::below(&self.address, name).map_err(not_there)?;
        let options = InstallOptions {
            trusted_keys: self.trusted_keys.clone(),
            wanted: Some(name.to_owned()),
            replace: false,
        };
        let settings = settings(&reference, self.plain_http);
        let mut registry = Registry::new(reference, settings, self.runtime.clone())?;
        store.install_artifact(&mut registry, engines, &options, progress)
    }
}

fn settings(reference: &Reference, plain_http: bool) -> Settings {
    Settings {
        plain_http,
        credentials: Credentials::find(reference.host()),
    }
}

/// `wisp images pull`.
pub(super) fn pull(store: ImageStore, names: &[String], plain_http: bool, replace: bool) -> anyhow::Result<()> {
    let config = Config::load(None, std::env::vars())?;
    let store = store.with_compile_limits(compile_limits(&config.limits));
    let engines = Engines::for_compiling(config.fuel)?;
    let options = InstallOptions {
        trusted_keys: config.registry.keys()?,
        wanted: None,
        replace,
    };
    let progress = Bar::new();
    for name in names {
        let reference = reference(name, &config.registry)?;
        let settings = settings(&reference, plain_http || config.registry.plain_http);
        let mut registry = Registry::new(reference, settings, tokio::runtime::Handle::current())?;
        let result = store.install_artifact(&mut registry, &engines, &options, &progress);
        progress.clear();
        print_installed(&result?)?;
    }
    Ok(())
}

/// Where an image is that is asked for by this text.
fn reference(text: &str, config: &RegistryConfig) -> anyhow::Result<Reference> {
    if Reference::has_registry(text) {
        return Ok(text.parse()?);
    }
    match config.address.as_deref().filter(|address| !address.is_empty()) {
        Some(address) => Ok(Reference::below(address, text)?),
        None => anyhow::bail!(
            "`{text}` names no registry, and neither does the configuration (registry.address, WISP_REGISTRY_ADDRESS); \
             name one, as in registry.example/wisp/{text}, import an archive with `wisp images import`, or build the \
             image in a checkout of wisp: cargo run --release -p wisp-image-build -- {text}"
        ),
    }
}

/// `wisp images push`.
pub(super) fn push(
    store: &ImageStore,
    name: &str,
    reference: Reference,
    sign: Option<&Path>,
    plain_http: bool,
) -> anyhow::Result<()> {
    let config = Config::load(None, std::env::vars())?;
    let settings = settings(&reference, plain_http || config.registry.plain_http);
    let (progress, place) = (Bar::new(), reference.to_string());
    let artifact = pack(store, name, sign, &progress)?;
    let registry = Registry::new(reference, settings, tokio::runtime::Handle::current())?;
    let pushed = registry.push(&artifact, &progress);
    progress.clear();
    pushed?;
    Ok(writeln!(io::stdout(), "{name} {} is at {place}", artifact.digest())?)
}
