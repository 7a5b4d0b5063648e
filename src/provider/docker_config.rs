//! `[docker]`: the section of the configuration about the Docker Engine.

use serde::{Deserialize, Serialize};

use crate::settings::{Setting, section};

section! {
    /// `[docker]`: sandboxes as containers of a Docker Engine.
    pub struct DockerConfig {
        /// Offer the provider `docker`. It connects when it is first needed, so an engine that is not there costs
        /// nothing. Default true.
        pub enabled: bool = true,
        /// Where the engine listens: `unix:///path` or `tcp://host:port`, the latter without encryption. Default
        /// `unix:///var/run/docker.sock`.
        pub host: String = "unix:///var/run/docker.sock".to_owned(),
        /// Runtime of the containers, such as `runc`, `runsc` (gVisor) or `kata`; the engine must have it. Default: the
        /// engine's own default.
        pub runtime: String = String::new(),
        /// User that everything in a sandbox runs as: `UID`, `UID:GID`, or a name the image knows. Default: the image's
        /// own user, or 1000:1000 for an image that would run as root; that user gets the directories in which root
        /// would usually work (`/`, `/root`, `/home`, `/opt`, `/srv`, `/usr/local` and the image's working directory).
        pub user: String = String::new(),
        /// Most processes and threads of a sandbox. Default 256.
        pub pids_limit: u32 = 256,
        /// Network of sandboxes that ask for `"network": "public"`; all others have none. Default `bridge`.
        pub network: String = "bridge".to_owned(),
        /// What to do about an image that the engine does not have: `missing` pulls it, `never` refuses it. Default
        /// `missing`.
        pub pull: PullPolicy = PullPolicy::default(),
    }
}

/// When images are pulled from their registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// When the engine does not have them.
    #[default]
    Missing,
    /// Only when an administrator asks for it.
    Never,
}

impl Setting for PullPolicy {}
