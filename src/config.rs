//! Everything a deployer can set, with its default: one struct per section of `wisp.toml`.
//!
//! A value comes from, in rising order: the default, the file, the environment, the command line. The environment
//! variable of `[limits] max_sandboxes` is `WISP_LIMITS_MAX_SANDBOXES`, and so on for every key. A key that nothing
//! reads is an error, so that a misspelt limit is never silently unlimited.

mod keys;
mod load;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::Table;

pub use keys::{Key, keys};
pub use load::{LoadedConfig, OTHER_VARIABLES, Origin};

use crate::duration::GoDuration;
use crate::image::PublicKey;
use crate::provider::DockerConfig;
use crate::scope::Scope;
use crate::settings::{Kind, Setting, section};
use crate::store::Durability;

/// Why the server cannot start with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
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

section! {
    /// The whole configuration.
    pub struct Config {
        /// Address and port to listen on. Default `127.0.0.1:7423`. An address other machines can reach needs an API
        /// key.
        pub listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 7423)),
        /// Serve without API keys on an address other machines can reach. Default false: such a server is refused,
        /// because anyone who reaches it can run programs on it.
        pub allow_unauthenticated_remote: bool = false,
        /// Images to install, if they are missing, and load at the start, in this order. Default `python:3.13` and
        /// `python:3.12`, which bring `base` along.
        pub images: Vec<String> = vec!["python:3.13".to_owned(), "python:3.12".to_owned()],
        /// Provider of sandboxes that name none. Default `wasm`.
        pub default_provider: String = "wasm".to_owned(),
        /// Image of sandboxes that name none. Default `alpine:latest`, which is what the `stacyvm` client asks for.
        pub default_image: String = "alpine:latest".to_owned(),
        /// `preview_domain` in the answers of the API. Default `localhost`.
        pub preview_domain: String = "localhost".to_owned(),
        /// Directory of the database and of the files of sandboxes. One server uses it at a time. Default: `wisp` in
        /// `$XDG_STATE_HOME`, else in `~/.local/state`.
        pub data_dir: PathBuf = default_data_dir(),
        /// What an acknowledged change survives: `process` (the end of the server, even by `kill -9`) or `power` (also
        /// the loss of power; each change then waits for the disk). Default `process`.
        pub durability: Durability = Durability::default(),
        /// Who shares a worker process, the second wall around what runs in sandboxes of the provider `wasm`: `tenant`
        /// (the sandboxes of one tenant), `sandbox` (each has its own), or `none` (there are no workers; sandboxes run in the
        /// server itself). Default `tenant`.
        pub isolation: Isolation = Isolation::default(),
        /// Whether execs may have a budget of `fuel` (provider `wasm`). Each image is then compiled a second time, with
        /// code that counts, when it is installed or first loaded; a worker loads both. Default false.
        pub fuel: bool = false,
        /// Scope that `GET /metrics` and `GET /metrics/prometheus` need: `read`, `api` or `admin`. They show how busy
        /// the whole server is, which is no business of one tenant among several. Default `admin`.
        pub metrics_scope: Scope = Scope::Admin,
        /// Host names, beside those of this machine, that a server without API keys answers to: the names under which a
        /// proxy in front of it is reached. Default none. With API keys the name does not matter.
        pub allowed_hosts: Vec<String> = Vec::new(),
        /// Who may use the API.
        pub auth: AuthConfig = AuthConfig::default(),
        /// Web pages that may use the API.
        pub cors: CorsConfig = CorsConfig::default(),
        /// How often clients may call.
        pub rate_limit: RateLimitConfig = RateLimitConfig::default(),
        /// Limits of sandboxes and requests.
        pub limits: Limits = Limits::default(),
        /// Where images come from.
        pub registry: RegistryConfig = RegistryConfig::default(),
        /// The provider `docker`.
        pub docker: DockerConfig = DockerConfig::default(),
    }
}

/// Who shares a worker process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// There are no workers.
    None,
    /// The sandboxes of one tenant.
    #[default]
    Tenant,
    /// Each sandbox has a worker of its own.
    Sandbox,
}

// Named choices are texts.
impl Setting for Durability {}
impl Setting for Isolation {}
impl Setting for Scope {}
impl Setting for RateLimitBy {}
impl Setting for AdmissionMode {}

/// A duration of a whole number of seconds.
fn seconds(count: u64) -> GoDuration {
    GoDuration(Duration::from_secs(count))
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

section! {
    /// `[auth]`: with no key at all, here or in the database (`wisp keys create`, `POST /keys`), authentication is off.
    /// It is on from the moment the first key is made, and stays on when all are revoked.
    pub struct AuthConfig {
        /// Require an API key even when there is none yet, so that nobody can use the server before one is made.
        /// Default false.
        pub required: bool = false,
        /// `[[auth.keys]]`. The environment variable `WISP_API_KEYS` adds keys in plain text, separated by commas, with
        /// the scopes `read` and `api`.
        pub keys: Vec<ApiKeyConfig> = Vec::new(),
    }
}

/// One API key. Only its digest is ever kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyConfig {
    /// A name for logs.
    pub name: String,
    /// SHA-256 of the key, 64 hexadecimal digits: `printf %s "$KEY" | sha256sum`.
    pub sha256: String,
    /// What the key may do. Default `read` and `api`.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<Scope>,
    /// Whose sandboxes, templates and quotas the key sees. Default `default`.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// The only user this key may act for; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl Setting for ApiKeyConfig {
    const KIND: Kind = Kind::Section;
}

impl ApiKeyConfig {
    /// The bytes of `sha256`; `None` when it is no SHA-256 in hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(&self.sha256, &mut bytes).ok()?;
        Some(bytes)
    }
}

section! {
    /// `[cors]`: web pages of other origins that may use the API from a browser.
    pub struct CorsConfig {
        /// Their origins, exactly as a browser sends them (`https://app.example.com`), or `*` for any page, which needs
        /// a server with API keys. Default none.
        pub origins: Vec<String> = Vec::new(),
    }
}

impl CorsConfig {
    /// Whether any page may use the API.
    #[must_use]
    pub fn allows_all(&self) -> bool {
        self.origins.iter().any(|origin| origin == "*")
    }
}

section! {
    /// `[registry]`: where images come from, and who may make machine code for this server. Credentials are in the variables
    /// `WISP_REGISTRY_USER` and `WISP_REGISTRY_PASSWORD`, else in Docker's configuration file.
    pub struct RegistryConfig {
        /// An OCI registry and the path of its images, such as `registry.example/wisp`. `POST /images/pull` fetches images
        /// from there, and so does `wisp images pull` for a name that says no registry. Default none.
        pub address: Option<String> = None,
        /// Speak HTTP without TLS. Default false; with a registry on this machine it is always so.
        pub plain_http: bool = false,
        /// Public keys, as `wisp images keygen` prints them. Machine code in an image that one of them has signed is run as
        /// it is; modules of other images are compiled when they are installed. Default none.
        pub trusted_keys: Vec<String> = Vec::new(),
    }
}

impl RegistryConfig {
    /// The trusted keys, read.
    ///
    /// # Errors
    /// When one is not a key.
    pub fn keys(&self) -> Result<Vec<PublicKey>, ConfigError> {
        let keys = self.trusted_keys.iter().map(|text| text.parse());
        keys.collect::<Result<_, _>>()
            .map_err(|error| ConfigError::Invalid(format!("registry.trusted_keys: {error}")))
    }
}

section! {
    /// `[rate_limit]`: a token bucket for each client. A request over the limit is a 429 that says when to come again.
    pub struct RateLimitConfig {
        /// Requests a second of one client in the long run. Default 0: no limit.
        pub requests_per_second: u32 = 0,
        /// Requests that may come at once after a pause. Default 100.
        pub burst: u32 = 100,
        /// What one client is: `key` (an API key), `owner` (a user within a tenant; the tenant when no user is named)
        /// or `ip` (an address; the first 64 bits of an IPv6 one). Requests without a valid key count by address.
        /// Default `key`.
        pub by: RateLimitBy = RateLimitBy::default(),
        /// Addresses of proxies in front of the server, whose `X-Forwarded-For` names the client's address. Default
        /// none: the header is not believed.
        pub trusted_proxies: Vec<IpAddr> = Vec::new(),
    }
}

/// What requests are counted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateLimitBy {
    /// The API key.
    #[default]
    Key,
    /// The tenant and, if one is named, the user.
    Owner,
    /// The client's address.
    Ip,
}

/// What happens to a creation for which there is no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdmissionMode {
    /// It is refused.
    #[default]
    Reject,
    /// It waits for its turn.
    Queue,
}

section! {
    /// `[limits]`: defaults and maxima.
    pub struct Limits {
        /// Sandboxes that exist at once. Default 1000.
        pub max_sandboxes: usize = 1000,
        /// Sandboxes that exist at once of one owner whose quota says nothing else; 0 is no limit. Default 250. A
        /// sandbox without an owner counts for its tenant only.
        pub max_sandboxes_per_owner: usize = 250,
        /// How much of what the server shares one tenant may hold, percent of what it holds and what is free together:
        /// of memory and disk of sandboxes, of transfers, event streams, waiting creations and imports, and, on a
        /// server with API keys, of requests at once. At 75, one tenant alone may hold three quarters of all there is,
        /// and further tenants always find room. 100 is no share. Default 75.
        pub tenant_share_percent: u8 = 75,
        /// Memory of all sandboxes together, as they asked for it, MiB; 0 is no limit. Default: the memory of the
        /// machine, or of the server's control group, times `overcommit`, and at least enough for eight sandboxes of
        /// the default size.
        pub max_total_memory_mb: Option<u64> = None,
        /// Disk of all sandboxes together, as they asked for it, MiB; 0 is no limit. Default: the size of the file
        /// system of `data_dir` times `overcommit`, and at least enough for eight sandboxes of the default size.
        pub max_total_disk_mb: Option<u64> = None,
        /// How many times the machine's memory and disk may be promised to sandboxes. Most use little of what they ask
        /// for; `memory_reserve_mb` holds when they do not. Default 32.
        pub overcommit: u32 = 32,
        /// Available memory of the machine, or of the server's control group, below which new sandboxes and commands
        /// are refused with 503, MiB; 0 never refuses. Default: a sixteenth of the memory, at most 1024.
        pub memory_reserve_mb: Option<u64> = None,
        /// Metadata and environments of all sandboxes together, bytes; 0 is no limit. One sandbox
        /// may have 64 KiB of metadata and 256 KiB of environment. Default 256 MiB.
        pub max_label_bytes: u64 = 256 << 20,
        /// What happens to a creation beyond these limits: `reject` answers 429 at once, `queue` waits for room.
        /// Default `reject`.
        pub admission: AdmissionMode = AdmissionMode::default(),
        /// How long a creation waits for room, with `admission = "queue"`. Default 30s.
        pub queue_timeout: GoDuration = seconds(30),
        /// Creations that wait at once; further ones are rejected. Default 1000.
        pub max_queued: usize = 1000,
        /// Worker processes at once, with `isolation` other than `none`. A tenant, or a sandbox, that needs one more
        /// gets the place of one in which nothing runs; when something runs in all, its command is a 503. Default 256.
        pub max_workers: usize = 256,
        /// Commands that run at once in one sandbox. Default 64.
        pub max_execs_per_sandbox: usize = 64,
        /// Memory of a sandbox that asks for none, MiB. Default 512.
        pub default_memory_mb: u64 = 512,
        /// Most memory a sandbox may ask for, MiB. Default 4096.
        pub max_memory_mb: u64 = 4096,
        /// Virtual CPUs of a sandbox that asks for none. Default 1.
        pub default_vcpus: u32 = 1,
        /// Most virtual CPUs a sandbox may ask for. Default 16.
        pub max_vcpus: u32 = 16,
        /// Disk of a sandbox that asks for none, MiB. Default 1024.
        pub default_disk_mb: u64 = 1024,
        /// Most disk a sandbox may ask for, MiB. Default 8192.
        pub max_disk_mb: u64 = 8192,
        /// Time to live of a sandbox that asks for none. Default 30m.
        pub default_ttl: GoDuration = seconds(30 * 60),
        /// Longest time to live. Default 24h.
        pub max_ttl: GoDuration = seconds(24 * 3600),
        /// Timeout of a command that asks for none. Default 60s.
        pub default_exec_timeout: GoDuration = seconds(60),
        /// Longest timeout of a command. Default 1h.
        pub max_exec_timeout: GoDuration = seconds(3600),
        /// Output kept of one command that is not streamed, of stdout and of stderr each, bytes. Default 8 MiB. The
        /// command runs on; the answer says `truncated`.
        pub max_output_bytes: usize = 8 << 20,
        /// Output the server holds for the commands of one sandbox that are not streamed, until clients have read it,
        /// bytes; and, counted apart, requests for one sandbox that are on their way. Default 64 MiB.
        pub max_buffered_output_bytes: usize = 64 << 20,
        /// Memory for request bodies, standard input and output that is not streamed, from when it comes until it is
        /// used or read, of all clients together, bytes; 0 is no limit. A request over it is a 503, one over its
        /// tenant's share a 429; output over it is cut as at `max_output_bytes`. Default 512 MiB.
        pub max_transfer_bytes: u64 = 512 << 20,
        /// Console lines the server keeps for `GET /sandboxes/{id}/logs`, of all sandboxes together, bytes; each may
        /// have its share of it, and at most 64 KiB. Default 64 MiB.
        pub max_console_log_bytes: usize = 64 << 20,
        /// Connections to `GET /events` at once. Default 256.
        pub max_event_streams: usize = 256,
        /// Templates of one tenant. Default 200.
        pub max_templates_per_tenant: usize = 200,
        /// Largest JSON request, bytes. Default 16 MiB. Larger files go through `PUT /files`, which streams.
        pub max_json_bytes: usize = 16 << 20,
        /// Largest file `PUT /files` takes, bytes, and largest archive `PUT /files/archive` does, before and after
        /// decompression. Default 4 GiB; the sandbox's disk limit holds as well.
        pub max_upload_bytes: u64 = 4 << 30,
        /// Connections at once. A further one takes the place of the one that has been without a request for longest,
        /// and waits while there is none. Default 8192.
        pub max_connections: usize = 8192,
        /// Connections at once from one address (the first 64 bits of an IPv6 one), but for those in
        /// `rate_limit.trusted_proxies`; 0 is seven eighths of `max_connections`. Default 0.
        pub max_connections_per_address: usize = 0,
        /// How long a client may take to send the head of a request, and how long a connection stays open without one.
        /// Default 60s.
        pub header_timeout: GoDuration = seconds(60),
        /// How long a client that sends a body may pause. A whole JSON body may take ten times as long. Default 30s.
        pub body_timeout: GoDuration = seconds(30),
        /// How long a client may leave an answer unread before its connection is closed. Default 30s.
        pub write_timeout: GoDuration = seconds(30),
        /// Largest WebAssembly file that `POST /images` takes, bytes. Default 256 MiB.
        pub max_image_bytes: u64 = 256 << 20,
        /// Memory that compiling one such file may use, MiB. Default 2048.
        pub compile_memory_mb: u64 = 2048,
        /// How long compiling one such file may take. Default 2m.
        pub compile_timeout: GoDuration = seconds(2 * 60),
        /// How long a stopping server lets running commands finish. Default 10s.
        pub shutdown_grace: GoDuration = seconds(10),
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

    /// Refuses what is dangerous without authentication. `authenticated` tells whether requests need an API key; keys
    /// are in the database as well, so this is asked once it is open.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] says which value, and what to do.
    pub fn check_exposure(&self, authenticated: bool) -> Result<(), ConfigError> {
        let invalid = |message: String| Err(ConfigError::Invalid(message));
        if authenticated {
            return Ok(());
        }
        if !self.listen.ip().is_loopback() && !self.allow_unauthenticated_remote {
            return invalid(format!(
                "listening on {} without API keys would let anyone who reaches it run programs; make a \
                 key first (wisp keys create), add [[auth.keys]], set WISP_API_KEYS, listen on 127.0.0.1, or set \
                 allow_unauthenticated_remote = true",
                self.listen
            ));
        }
        if self.cors.allows_all() {
            return invalid(
                "cors.origins = [\"*\"] without API keys would let every web page run programs; name the origins, or \
                 add a key"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Refuses what cannot work, whatever keys there are.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] says which value, and what to do.
    pub fn check(&self) -> Result<(), ConfigError> {
        let invalid = |message: String| Err(ConfigError::Invalid(message));
        for key in &self.auth.keys {
            if key.digest().is_none() {
                return invalid(format!(
                    "auth key \"{}\": sha256 must be 64 hexadecimal digits",
                    key.name
                ));
            }
            if key.scopes.is_empty() {
                return invalid(format!("auth key \"{}\" has no scopes and could do nothing", key.name));
            }
            if key.user.is_some() && key.scopes.contains(&Scope::Admin) {
                return invalid(format!(
                    "auth key \"{}\": a key with the scope admin changes the whole server and cannot be bound to a user",
                    key.name
                ));
            }
        }
        if let Some(origin) = self.cors.origins.iter().find(|origin| !is_origin(origin)) {
            return invalid(format!(
                "cors.origins: \"{origin}\" is no origin; write it as a browser sends it: scheme://host or \
                 scheme://host:port, in lower case, without a path"
            ));
        }
        self.registry.keys()?;
        if self.rate_limit.burst == 0 {
            return invalid("rate_limit.burst is 0, so that no request would pass; it must be at least 1".to_owned());
        }
        let limits = &self.limits;
        let times = [limits.header_timeout, limits.body_timeout, limits.write_timeout];
        if limits.max_connections == 0 || times.iter().any(|time| time.0.is_zero()) {
            return invalid(
                "limits.max_connections, header_timeout, body_timeout and write_timeout must be above 0".to_owned(),
            );
        }
        if limits.max_workers == 0 {
            return invalid("limits.max_workers is 0, so that no command would run; it must be at least 1".to_owned());
        }
        if !(1..=100).contains(&limits.tenant_share_percent) {
            return invalid("limits.tenant_share_percent must be from 1 to 100".to_owned());
        }
        if limits.overcommit == 0 {
            return invalid("limits.overcommit is 0, so that no sandbox would fit; it must be at least 1".to_owned());
        }
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

fn default_tenant() -> String {
    "default".to_owned()
}

/// Whether a text is `*` or an origin as browsers send it (RFC 6454, section 6.2).
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else {
        return text == "*";
    };
    !scheme.is_empty()
        && !host.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
        && !host.contains(['/', '?', '#', '@', '*'])
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
        let message = config.check_exposure(false).unwrap_err().to_string();
        assert!(message.contains("allow_unauthenticated_remote"), "{message}");
        assert!(message.contains("wisp keys create"), "{message}");
        config.check_exposure(true).unwrap();
        load("listen = \"0.0.0.0:7423\"\nallow_unauthenticated_remote = true\n", &[])
            .unwrap()
            .check_exposure(false)
            .unwrap();
    }

    #[test]
    fn every_page_may_use_a_server_with_keys_only() {
        let config = load("[cors]\norigins = [\"*\"]\n", &[]).unwrap();
        config.check().unwrap();
        let message = config.check_exposure(false).unwrap_err().to_string();
        assert!(message.contains("cors.origins"), "{message}");
        config.check_exposure(true).unwrap();
    }

    #[test]
    fn an_origin_is_written_as_browsers_send_it() {
        for good in ["*", "https://app.example", "http://localhost:3000", "http://[::1]:3000"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "",
            "app.example",
            "https://",
            "https://app.example/",
            "https://App.example",
            "null",
            "https://*.example",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
        let config = load("[cors]\norigins = [\"https://app.example/\"]\n", &[]).unwrap();
        assert!(config.check().unwrap_err().to_string().contains("https://app.example/"));
    }

    #[test]
    fn an_admin_key_is_bound_to_no_user() {
        let digest = "0".repeat(64);
        let keys = format!("[[auth.keys]]\nname = \"a\"\nsha256 = \"{digest}\"\nscopes = [\"admin\"]\nuser = \"u\"\n");
        assert!(load(&keys, &[]).unwrap().check().is_err());
    }

    #[test]
    fn a_default_above_its_maximum_is_refused() {
        let config = load("[limits]\ndefault_memory_mb = 10\nmax_memory_mb = 5\n", &[]).unwrap();
        assert!(config.check().unwrap_err().to_string().contains("memory_mb"));
    }
}
