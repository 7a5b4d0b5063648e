//! `[docker]`: the section of the configuration about the Docker Engine.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `[docker]`: sandboxes as containers of a Docker Engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DockerConfig {
    /// Offer the provider `docker`. It connects when it is first needed, so an engine that is not there costs nothing.
    /// Default true.
    pub enabled: bool,
    /// Where the engine listens: `unix:///path` or `tcp://host:port`, the latter without encryption. Default
    /// `unix:///var/run/docker.sock`.
    pub host: String,
    /// Runtime of the containers, such as `runc`, `runsc` (gVisor) or `kata`; the engine must have it. Default: the
    /// engine's own default.
    pub runtime: String,
    /// User that everything in a sandbox runs as: `UID`, `UID:GID`, or a name the image knows. Default: the image's
    /// own user, or 1000:1000 for an image that would run as root; that user gets the directories in which root would
    /// usually work (`/`, `/root`, `/home`, `/opt`, `/srv`, `/usr/local` and the image's working directory).
    pub user: String,
    /// Most processes and threads of a sandbox. Default 256.
    pub pids_limit: u32,
    /// Network of sandboxes that ask for `"network": "public"`; all others have none. Default `bridge`.
    pub network: String,
    /// What to do about an image that the engine does not have: `missing` pulls it, `never` refuses it. Default
    /// `missing`.
    pub pull: PullPolicy,
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            host: "unix:///var/run/docker.sock".to_owned(),
            runtime: String::new(),
            user: String::new(),
            pids_limit: 256,
            network: "bridge".to_owned(),
            pull: PullPolicy::default(),
        }
    }
}

/// When images are pulled from their registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// When the engine does not have them.
    #[default]
    Missing,
    /// Only when an administrator asks for it.
    Never,
}
