//! The connection to the engine: made when it is first needed, kept from then on.

use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};

use crate::provider::ProviderError;
use crate::provider::docker_config::DockerConfig;

/// How long the engine may take to begin its answer.
const ANSWER_TIME: Duration = Duration::from_secs(120);

/// A Docker Engine that may be there or not.
pub struct Engine {
    /// How to use it.
    pub config: DockerConfig,
    connection: RwLock<Option<Arc<Connection>>>,
}

/// An engine that has answered.
pub struct Connection {
    /// Its client, which opens a connection for each request, and so outlives a restart of the engine.
    pub docker: Docker,
    /// Processors of its machine.
    pub cpus: u32,
    /// The runtimes it has.
    pub runtimes: Vec<String>,
}

impl Engine {
    /// An engine that is not connected to yet.
    pub fn new(config: DockerConfig) -> Self {
        Self {
            config,
            connection: RwLock::new(None),
        }
    }

    /// The engine, connected to if need be.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`] when it does not answer.
    pub async fn connect(&self) -> Result<Arc<Connection>, ProviderError> {
        if let Some(connection) = &*self.connection.read() {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(self.open().await.map_err(|error| self.unreachable(&error))?);
        *self.connection.write() = Some(Arc::clone(&connection));
        Ok(connection)
    }

    async fn open(&self) -> Result<Connection, Error> {
        let seconds = ANSWER_TIME.as_secs();
        let host = &self.config.host;
        let docker = if host.starts_with("unix://") {
            Docker::connect_with_unix(host, seconds, API_DEFAULT_VERSION)?
        } else {
            Docker::connect_with_http(host, seconds, API_DEFAULT_VERSION)?
        };
        let docker = docker.negotiate_version().await?;
        let info = docker.info().await?;
        Ok(Connection {
            docker,
            cpus: info
                .ncpu
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or(1)
                .max(1),
            runtimes: info.runtimes.unwrap_or_default().into_keys().collect(),
        })
    }

    /// Whether it answers, and can make sandboxes.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`] says what is missing.
    pub async fn health(&self) -> Result<(), ProviderError> {
        let connection = self.connect().await?;
        connection
            .docker
            .ping()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let runtime = &self.config.runtime;
        if !runtime.is_empty() && !connection.runtimes.contains(runtime) {
            let mut runtimes = connection.runtimes.clone();
            runtimes.sort_unstable();
            // An engine that was given the runtime meanwhile is asked anew.
            *self.connection.write() = None;
            return Err(ProviderError::Unavailable(format!(
                "the Docker Engine has no runtime {runtime}, which docker.runtime asks for; it has {}",
                runtimes.join(", ")
            )));
        }
        Ok(())
    }

    /// What an error of the engine means for a sandbox.
    pub fn failure(&self, error: Error) -> ProviderError {
        match error {
            Error::DockerResponseServerError {
                status_code: 404,
                message,
            } if message.contains("No such container") || message.contains("No such exec") => {
                ProviderError::SandboxNotFound
            }
            // What the engine calls a bad parameter came with the request.
            Error::DockerResponseServerError {
                status_code: 400,
                message,
            } => {
                tracing::warn!(message, "the Docker Engine refuses a parameter");
                ProviderError::Invalid("the Docker Engine refuses a value of this request".to_owned())
            }
            error @ (Error::DockerResponseServerError { .. }
            | Error::DockerStreamError { .. }
            | Error::JsonDataError { .. }
            | Error::JsonSerdeError { .. }
            | Error::HttpHeaderNotFoundError(_)) => ProviderError::Internal(format!("Docker Engine: {error}")),
            error => self.unreachable(&error),
        }
    }

    fn unreachable(&self, error: &Error) -> ProviderError {
        // The outer errors only say that there is an inner one.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let cause = match error {
            Error::SocketNotFoundError(_) => "there is no such socket".to_owned(),
            _ => cause.to_string(),
        };
        ProviderError::Unavailable(format!(
            "the Docker Engine at {} cannot be reached ({cause}); start it, or set docker.host",
            self.config.host
        ))
    }
}

/// Whether the engine answered with this status.
pub fn has_status(error: &Error, status: u16) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code, .. } if *status_code == status)
}
