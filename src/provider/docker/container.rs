//! A sandbox's container: made, found again, removed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, ImageConfig, ImageInspect, ResourcesUlimits,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, RestartContainerOptionsBuilder, StartContainerOptions,
};

use super::engine::{Connection, Engine, has_status};
use super::{images, launch, owner};
use crate::provider::{Network, ProviderError, SandboxSpec};

/// Label that holds a sandbox's id.
const SANDBOX: &str = "wisp.sandbox";
/// Label that holds the name of the server whose sandbox it is.
const SERVER: &str = "wisp.server";
/// Label that holds the name of the process of that server which made it.
const RUN: &str = "wisp.run";
/// What keeps a container running: a program every image with a shell has.
const IDLE: [&str; 3] = ["tail", "-f", "/dev/null"];
/// The least memory an engine takes for a container, MiB.
const MIN_MEMORY_MB: u64 = 6;
const MIB: u64 = 1 << 20;

/// Whose a container is.
#[derive(Clone)]
pub struct Maker {
    /// The server, the same after it has started again.
    pub server: String,
    /// One process of it.
    pub run: String,
}

/// The name of a sandbox's container.
pub fn name(id: &str) -> String {
    format!("wisp-{id}")
}

/// Makes and starts a sandbox's container. When the returned future is dropped, the container is removed all the same
/// when the engine has made it.
///
/// # Errors
/// An unknown image, a network that cannot be had, an engine that refuses. Nothing is left behind then.
pub async fn create(engine: &Arc<Engine>, maker: &Maker, id: &str, spec: &SandboxSpec) -> Result<(), ProviderError> {
    let unwanted = Arc::new(AtomicBool::new(false));
    let guard = Unwanted(Arc::clone(&unwanted));
    let (engine, maker, id, spec) = (Arc::clone(engine), maker.clone(), id.to_owned(), spec.clone());
    // The engine does not notice that nobody waits for its answer, so whoever asked must.
    let task = tokio::spawn(async move {
        let made = make(&engine, &maker, &id, &spec).await;
        if (made.is_err() || unwanted.load(Ordering::Acquire))
            && let Err(error) = remove(&engine, &name(&id)).await
        {
            tracing::warn!(sandbox = id, %error, "a container that was not finished is left");
        }
        made
    });
    let made = task.await;
    std::mem::forget(guard);
    made.unwrap_or_else(|_| Err(ProviderError::Internal("making a container failed".to_owned())))
}

/// Says that nobody waits for a container any more.
struct Unwanted(Arc<AtomicBool>);

impl Drop for Unwanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

async fn make(engine: &Arc<Engine>, maker: &Maker, id: &str, spec: &SandboxSpec) -> Result<(), ProviderError> {
    /// Whether the engine can limit the size of a container's files; found out by trying.
    static NO_QUOTA: AtomicBool = AtomicBool::new(false);
    let connection = engine.connect().await?;
    let docker = &connection.docker;
    let image = images::find(engine, docker, &spec.image).await?;
    let name = name(id);
    let mut body = body(engine, &connection, maker, id, spec, &image)?;
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    if NO_QUOTA.load(Ordering::Relaxed) {
        without_quota(&mut body);
    }
    let mut created = docker.create_container(Some(options.clone()), body.clone()).await;
    if created.as_ref().is_err_and(is_about_quota) {
        NO_QUOTA.store(true, Ordering::Relaxed);
        without_quota(&mut body);
        created = docker.create_container(Some(options), body.clone()).await;
    }
    created.map_err(|error| refused(engine, error))?;
    docker
        .start_container(&name, None::<StartContainerOptions>)
        .await
        .map_err(|error| unusable(engine, &spec.image, error))?;
    owner::hand_over(
        engine,
        &connection,
        &name,
        &image,
        body.user.as_deref().unwrap_or_default(),
    )
    .await
}

fn without_quota(body: &mut ContainerCreateBody) {
    if let Some(host) = &mut body.host_config {
        host.storage_opt = None;
    }
}

/// Only some storage drivers know quotas.
fn is_about_quota(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { message, .. }
        if message.contains("storage-opt") || message.contains("storage opt") || message.contains("pquota") || message.contains("quota"))
}

fn body(
    engine: &Engine,
    connection: &Connection,
    maker: &Maker,
    id: &str,
    spec: &SandboxSpec,
    image: &ImageInspect,
) -> Result<ContainerCreateBody, ProviderError> {
    let config = &engine.config;
    let network = match spec.network {
        Network::None => "none".to_owned(),
        Network::Public => config.network.clone(),
        Network::Allowlist => {
            return Err(ProviderError::Unsupported(
                "the provider docker cannot limit a sandbox to named hosts; use \"network\": \"none\" or \"public\""
                    .to_owned(),
            ));
        }
    };
    if spec.memory_mb < MIN_MEMORY_MB {
        return Err(ProviderError::Unsupported(format!(
            "the provider docker needs a memory_mb of at least {MIN_MEMORY_MB}"
        )));
    }
    let own = image.config.clone().unwrap_or_default();
    let user = owner::user(&config.user, own.user.as_deref().unwrap_or_default());
    let bytes = |mib: u64| i64::try_from(mib.saturating_mul(MIB)).unwrap_or(i64::MAX);
    let host = HostConfig {
        memory: Some(bytes(spec.memory_mb)),
        // Memory and swap together: there is no swap.
        memory_swap: Some(bytes(spec.memory_mb)),
        // The engine refuses more than the machine has.
        nano_cpus: Some(i64::from(spec.vcpus.min(connection.cpus)) * 1_000_000_000),
        pids_limit: Some(i64::from(config.pids_limit)),
        storage_opt: Some(HashMap::from([("size".to_owned(), format!("{}M", spec.disk_mb))])),
        // Where the engine knows no quota, this at least bounds each file.
        ulimits: Some(vec![ResourcesUlimits {
            name: Some("fsize".to_owned()),
            soft: Some(bytes(spec.disk_mb)),
            hard: Some(bytes(spec.disk_mb)),
        }]),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        network_mode: Some(network),
        ipc_mode: Some("private".to_owned()),
        init: Some(true),
        privileged: Some(false),
        runtime: (!config.runtime.is_empty()).then(|| config.runtime.clone()),
        // Nothing reads the output of `tail`.
        log_config: Some(HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        }),
        ..HostConfig::default()
    };
    Ok(ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: Some(IDLE.map(str::to_owned).to_vec()),
        cmd: Some(Vec::new()),
        env: Some(environment(&own, &spec.env, &user)),
        user: Some(user),
        labels: Some(HashMap::from([
            (SANDBOX.to_owned(), id.to_owned()),
            (SERVER.to_owned(), maker.server.clone()),
            (RUN.to_owned(), maker.run.clone()),
        ])),
        // A health check of the image would run commands nobody asked for.
        healthcheck: Some(bollard::models::HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..bollard::models::HealthConfig::default()
        }),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    })
}

/// The environment on top of the image's.
fn environment(image: &ImageConfig, own: &BTreeMap<String, String>, user: &str) -> Vec<String> {
    let mut env = own.clone();
    let in_image = image.env.iter().flatten().any(|variable| variable.starts_with("HOME="));
    // The engine would look it up in the image's list of users, which does not have this one.
    if user == owner::FALLBACK && !in_image {
        env.entry("HOME".to_owned()).or_insert_with(|| "/root".to_owned());
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The engine does not make a container like this.
fn refused(engine: &Engine, error: Error) -> ProviderError {
    match error {
        Error::DockerResponseServerError {
            status_code: 400,
            message,
        } => ProviderError::Unsupported(format!("the Docker Engine refuses the sandbox: {message}")),
        error => engine.failure(error),
    }
}

/// The container does not start: its image may have nothing to start.
fn unusable(engine: &Engine, image: &str, error: Error) -> ProviderError {
    match &error {
        Error::DockerResponseServerError { message, .. } if message.contains("executable file not found") => {
            ProviderError::Unsupported(format!(
                "image {image} has no `tail`; the provider docker needs an image with a shell and the usual tools"
            ))
        }
        _ => engine.failure(error),
    }
}

/// Starts a container that has stopped.
///
/// # Errors
/// [`ProviderError::SandboxNotFound`] when there is none.
pub async fn start(engine: &Engine, connection: &Connection, name: &str) -> Result<(), ProviderError> {
    let started = connection.docker.start_container(name, None::<StartContainerOptions>);
    started.await.map_err(|error| engine.failure(error))
}

/// Ends everything that runs in a container, and starts it again.
///
/// # Errors
/// [`ProviderError::SandboxNotFound`] when there is none.
pub async fn restart(engine: &Engine, connection: &Connection, name: &str) -> Result<(), ProviderError> {
    let at_once = RestartContainerOptionsBuilder::default().t(0).build();
    let restarted = connection.docker.restart_container(name, Some(at_once));
    restarted.await.map_err(|error| engine.failure(error))
}

/// Removes a container and all it runs and holds. Not an error when there is none.
///
/// # Errors
/// When the engine does not answer, or fails.
pub async fn remove(engine: &Engine, name: &str) -> Result<(), ProviderError> {
    let connection = engine.connect().await?;
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    match connection.docker.remove_container(name, Some(options)).await {
        Ok(()) => Ok(()),
        // Gone already, or being removed by somebody else.
        Err(error) if has_status(&error, 404) || has_status(&error, 409) => Ok(()),
        Err(error) => Err(engine.failure(error)),
    }
}

/// Brings back the container that an earlier process of this server has made.
///
/// # Errors
/// [`ProviderError::SandboxNotFound`] when there is none.
pub async fn recover(engine: &Arc<Engine>, server: &str, id: &str) -> Result<(), ProviderError> {
    let connection = engine.connect().await?;
    let name = name(id);
    let inspected = connection
        .docker
        .inspect_container(&name, None::<InspectContainerOptions>);
    let found = inspected.await.map_err(|error| engine.failure(error))?;
    let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
    if labels.get(SERVER).map(String::as_str) != Some(server) {
        return Err(ProviderError::SandboxNotFound);
    }
    if found.state.and_then(|state| state.running) != Some(true) {
        return start(engine, &connection, &name).await;
    }
    if found.exec_ids.is_some_and(|execs| !execs.is_empty()) {
        // Commands whose server has died; nobody will read what they write.
        launch::kill_all(engine, &name).await?;
    }
    Ok(())
}

/// Removes the containers that earlier processes of this server have made for sandboxes that are not known. Returns how
/// many there were.
///
/// # Errors
/// When the engine does not answer, or fails.
pub async fn remove_orphans(engine: &Engine, maker: &Maker, known: &BTreeSet<String>) -> Result<usize, ProviderError> {
    let connection = engine.connect().await?;
    let filters = HashMap::from([("label".to_owned(), vec![format!("{SERVER}={}", maker.server)])]);
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filters)
        .build();
    let listed = connection.docker.list_containers(Some(options)).await;
    let mut removed = 0;
    for container in listed.map_err(|error| engine.failure(error))? {
        let labels = container.labels.unwrap_or_default();
        let (Some(id), Some(sandbox)) = (container.id, labels.get(SANDBOX)) else {
            continue;
        };
        let of_this_process = labels.get(RUN) == Some(&maker.run);
        if !of_this_process && !known.contains(sandbox) {
            remove(engine, &id).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The memory limit of a container, MiB; 0 when it cannot be told.
pub async fn memory_mb(engine: &Engine, name: &str) -> u64 {
    let Ok(connection) = engine.connect().await else {
        return 0;
    };
    let inspected = connection
        .docker
        .inspect_container(name, None::<InspectContainerOptions>)
        .await;
    let memory = inspected.ok().and_then(|found| found.host_config?.memory);
    memory.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0) / MIB
}

/// Whether there is such a container.
///
/// # Errors
/// [`ProviderError::SandboxNotFound`] when there is none.
pub async fn must_exist(engine: &Engine, connection: &Connection, name: &str) -> Result<(), ProviderError> {
    let inspected = connection
        .docker
        .inspect_container(name, None::<InspectContainerOptions>);
    inspected.await.map(|_| ()).map_err(|error| engine.failure(error))
}
