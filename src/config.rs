//! Everything a deployer can set, with its default: one struct per section of `wisp.toml`.
//!
//! A value comes from, in rising order: the default, the file, the environment, the command line. The environment
//! variable of `[limits] max_sandboxes` is `WISP_LIMITS_MAX_SANDBOXES`, and so on for every key. A key that nothing
//! reads is an error, so that a misspelt limit is never silently unlimited.

mod keys;
mod load;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::Table;
use utoipa::ToSchema;

pub use keys::{Key, Kind, keys};
pub use load::{LoadedConfig, OTHER_VARIABLES, Origin};

use crate::duration::GoDuration;
use crate::store::Durability;

/// Why the server cannot start with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}: {source}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// Keys or environment variables that nothing reads.
    #[error("configuration: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unknown(Vec<UnknownName>),
    /// A value has the wrong type.
    #[error("configuration: {place}: {reason}")]
    Value {
        /// The key, or the environment variable.
        place: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// Values that contradict each other, or that no server can work with.
    #[error("configuration: {0}")]
    Invalid(String),
}

/// A name that nothing reads, most likely misspelt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownName {
    /// `key` or `environment variable`.
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// The known name most like it.
    pub nearest: Option<String>,
}

impl std::fmt::Display for UnknownName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unknown {} {}", self.what, self.name)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on. Default `127.0.0.1:7423`. An address other machines can reach needs an API key.
    #[schema(value_type = String)]
    pub listen: SocketAddr,
    /// Serve without API keys on an address other machines can reach. Default false: such a server is refused,
    /// because whoever reaches it can run programs on it.
    pub allow_unauthenticated_remote: bool,
    /// Images to install, if they are missing, and load at the start. Default `python:3.12`, which brings `base` along.
    pub images: Vec<String>,
    /// Provider of sandboxes that name none. Default `wasm`.
    pub default_provider: String,
    /// Image of sandboxes that name none. Default `alpine:latest`, which is what the `stacyvm` client asks for.
    pub default_image: String,
    /// `preview_domain` in the answers of the API. Default `localhost`.
    pub preview_domain: String,
    /// Directory of the database and of the files of sandboxes. One server uses it at a time. Default: `wisp` in
    /// `$XDG_STATE_HOME`, else in `~/.local/state`.
    #[schema(value_type = String)]
    pub data_dir: PathBuf,
    /// What an acknowledged change survives: `process` (the end of the server, even by `kill -9`) or `power` (also the
    /// loss of power; each change then waits for the disk). Default `process`.
    pub durability: Durability,
    /// Scope that `GET /metrics` and `GET /metrics/prometheus` need: `read`, `api` or `admin`. They tell how busy the
    /// whole server is, which is no business of one tenant among several. Default `admin`.
    pub metrics_scope: Scope,
    /// Who may use the API.
    pub auth: AuthConfig,
    /// Limits of sandboxes and requests.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7423)),
            allow_unauthenticated_remote: false,
            images: vec!["python:3.12".to_owned()],
            default_provider: "wasm".to_owned(),
            default_image: "alpine:latest".to_owned(),
            preview_domain: "localhost".to_owned(),
            data_dir: default_data_dir(),
            durability: Durability::default(),
            metrics_scope: Scope::Admin,
            auth: AuthConfig::default(),
            limits: Limits::default(),
        }
    }
}

fn default_data_dir() -> PathBuf {
    let named = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    named("XDG_STATE_HOME")
        .or_else(|| Some(named("HOME")?.join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("wisp")
}

/// `[auth]`: with no key at all, authentication is off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// `[[auth.keys]]`. The environment variable `WISP_API_KEYS` adds keys in plain text, separated by commas, with
    /// the scopes `read` and `api`.
    pub keys: Vec<ApiKeyConfig>,
}

/// One API key. Only its digest is ever kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyConfig {
    /// A name for logs.
    pub name: String,
    /// SHA-256 of the key, 64 hexadecimal digits: `printf %s "$KEY" | sha256sum`.
    pub sha256: String,
    /// What the key may do. Default `read` and `api`.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<Scope>,
    /// The only user this key may act for; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What an API key may do. `admin` includes `api`, which includes `read`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look: every GET.
    Read,
    /// Use sandboxes.
    Api,
    /// Change the server: images, quotas.
    Admin,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Api => "api",
            Self::Admin => "admin",
        })
    }
}

/// What happens to a creation for which there is no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdmissionMode {
    /// It is refused.
    #[default]
    Reject,
    /// It waits for its turn.
    Queue,
}

/// `[limits]`: defaults and maxima.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Sandboxes that exist at once. Default 1000.
    pub max_sandboxes: usize,
    /// Sandboxes that exist at once of one owner whose quota says nothing else; 0 is no limit. Default 0.
    pub max_sandboxes_per_owner: usize,
    /// What happens to a creation beyond these limits: `reject` answers 429 at once, `queue` waits for room. Default
    /// `reject`.
    pub admission: AdmissionMode,
    /// How long a creation waits for room, with `admission = "queue"`. Default 30s.
    pub queue_timeout: GoDuration,
    /// Creations that wait at once; further ones are rejected. Default 1000.
    pub max_queued: usize,
    /// Commands that run at once in one sandbox. Default 64.
    pub max_execs_per_sandbox: usize,
    /// Memory of a sandbox that asks for none, MiB. Default 512.
    pub default_memory_mb: u64,
    /// Most memory a sandbox may ask for, MiB. Default 4096.
    pub max_memory_mb: u64,
    /// Virtual CPUs of a sandbox that asks for none. Default 1.
    pub default_vcpus: u32,
    /// Most virtual CPUs a sandbox may ask for. Default 16.
    pub max_vcpus: u32,
    /// Disk of a sandbox that asks for none, MiB. Default 1024.
    pub default_disk_mb: u64,
    /// Most disk a sandbox may ask for, MiB. Default 8192.
    pub max_disk_mb: u64,
    /// Time to live of a sandbox that asks for none. Default 30m.
    pub default_ttl: GoDuration,
    /// Longest time to live. Default 24h.
    pub max_ttl: GoDuration,
    /// Timeout of a command that asks for none. Default 60s.
    pub default_exec_timeout: GoDuration,
    /// Longest timeout of a command. Default 1h.
    pub max_exec_timeout: GoDuration,
    /// Output kept of one command that is not streamed, of stdout and of stderr each, bytes. Default 8 MiB. The
    /// command runs on; the answer says `truncated`.
    pub max_output_bytes: usize,
    /// Output the server holds for all running commands of one sandbox that are not streamed, bytes. Default 64 MiB.
    pub max_buffered_output_bytes: usize,
    /// Console lines the server keeps for `GET /sandboxes/{id}/logs`, of all sandboxes together, bytes; each may have
    /// its share of it, and at most 64 KiB. Default 64 MiB.
    pub max_console_log_bytes: usize,
    /// Connections to `GET /events` at once. Default 256.
    pub max_event_streams: usize,
    /// Templates of one tenant. Default 200.
    pub max_templates_per_tenant: usize,
    /// Largest JSON request, bytes. Default 16 MiB. Larger files go through `PUT /files`, which streams.
    pub max_json_bytes: usize,
    /// Largest file `PUT /files` takes, bytes. Default 4 GiB; the sandbox's disk limit holds as well.
    pub max_upload_bytes: u64,
    /// How long a stopping server lets running commands finish. Default 10s.
    pub shutdown_grace: GoDuration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = |n| GoDuration(Duration::from_secs(n));
        Self {
            max_sandboxes: 1000,
            max_sandboxes_per_owner: 0,
            admission: AdmissionMode::default(),
            queue_timeout: seconds(30),
            max_queued: 1000,
            max_execs_per_sandbox: 64,
            default_memory_mb: 512,
            max_memory_mb: 4096,
            default_vcpus: 1,
            max_vcpus: 16,
            default_disk_mb: 1024,
            max_disk_mb: 8192,
            default_ttl: seconds(30 * 60),
            max_ttl: seconds(24 * 3600),
            default_exec_timeout: seconds(60),
            max_exec_timeout: seconds(3600),
            max_output_bytes: 8 << 20,
            max_buffered_output_bytes: 64 << 20,
            max_console_log_bytes: 64 << 20,
            max_event_streams: 256,
            max_templates_per_tenant: 200,
            max_json_bytes: 16 << 20,
            max_upload_bytes: 4 << 30,
            shutdown_grace: seconds(10),
        }
    }
}

impl Config {
    /// Reads the file, if any, and the environment on top of it. Nothing is checked yet; [`Config::check`] does.
    ///
    /// # Errors
    /// When the file cannot be read, or a key or a value is not understood.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        LoadedConfig::load(file, environment, Table::new()).map(|loaded| loaded.config)
    }

    /// Refuses what cannot work or is dangerous.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] says which value, and what to do.
    pub fn check(&self) -> Result<(), ConfigError> {
        let invalid = |message: String| Err(ConfigError::Invalid(message));
        if !self.listen.ip().is_loopback() && self.auth.keys.is_empty() && !self.allow_unauthenticated_remote {
            return invalid(format!(
                "listening on {} without API keys would let anyone who reaches it run programs; add [[auth.keys]] or \
                 set WISP_API_KEYS, listen on 127.0.0.1, or set allow_unauthenticated_remote = true",
                self.listen
            ));
        }
        for key in &self.auth.keys {
            if decode_sha256(&key.sha256).is_none() {
                return invalid(format!(
                    "auth key \"{}\": sha256 must be 64 hexadecimal digits",
                    key.name
                ));
            }
            if key.scopes.is_empty() {
                return invalid(format!("auth key \"{}\" has no scopes and could do nothing", key.name));
            }
        }
        let limits = &self.limits;
        let pairs = [
            ("memory_mb", limits.default_memory_mb, limits.max_memory_mb),
            ("vcpus", u64::from(limits.default_vcpus), u64::from(limits.max_vcpus)),
            ("disk_mb", limits.default_disk_mb, limits.max_disk_mb),
        ];
        for (name, default, max) in pairs {
            if default == 0 || default > max {
                return invalid(format!(
                    "limits.default_{name} is {default}; it must be from 1 to max_{name}, {max}"
                ));
            }
        }
        let pairs = [
            ("ttl", limits.default_ttl, limits.max_ttl),
            ("exec_timeout", limits.default_exec_timeout, limits.max_exec_timeout),
        ];
        for (name, default, max) in pairs {
            if default.0.is_zero() || default > max {
                return invalid(format!(
                    "limits.default_{name} is {default}; it must be above 0 and at most {max}"
                ));
            }
        }
        Ok(())
    }
}

/// `read` and `api`.
fn default_scopes() -> Vec<Scope> {
    vec![Scope::Read, Scope::Api]
}

/// The 32 bytes that 64 hexadecimal digits stand for.
pub(crate) fn decode_sha256(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 {
        bytes.try_into().ok()
    } else {
        None
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(Some(file.path()), environment)
    }

    #[test]
    fn the_defaults_are_a_valid_configuration() {
        Config::default().check().unwrap();
        assert_eq!(Config::load(None, []).unwrap(), Config::default());
    }

    #[test]
    fn a_remote_address_without_keys_is_refused() {
        let config = load("listen = \"0.0.0.0:7423\"\n", &[]).unwrap();
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("allow_unauthenticated_remote")
        );
        load("listen = \"0.0.0.0:7423\"\nallow_unauthenticated_remote = true\n", &[])
            .unwrap()
            .check()
            .unwrap();
        load("listen = \"0.0.0.0:7423\"\n", &[("WISP_API_KEYS", "secret")])
            .unwrap()
            .check()
            .unwrap();
    }

    #[test]
    fn a_default_above_its_maximum_is_refused() {
        let config = load("[limits]\ndefault_memory_mb = 10\nmax_memory_mb = 5\n", &[]).unwrap();
        assert!(config.check().unwrap_err().to_string().contains("memory_mb"));
    }
}
