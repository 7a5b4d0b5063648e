//! Who we are to a registry.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

/// Variables that hold a user name and a password, or a token in its place.
const USER: &str = "WISP_REGISTRY_USER";
const PASSWORD: &str = "WISP_REGISTRY_PASSWORD";
/// Largest configuration of Docker that is read, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A user name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password, or a token in its place.
    pub password: String,
}

/// Docker's configuration file, as far as it matters.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: std::collections::HashMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    /// `user:password` in Base64.
    auth: Option<String>,
}

impl Credentials {
    /// Those for a registry: of the environment, else those that `docker login` has left in `config.json`. Helpers that
    /// Docker may run for passwords are not run.
    #[must_use]
    pub fn find(registry: &str) -> Option<Self> {
        let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let (Some(user), Some(password)) = (named(USER), named(PASSWORD)) {
            return Some(Self { user, password });
        }
        let directory = named("DOCKER_CONFIG").map(PathBuf::from);
        let directory = directory.or_else(|| Some(PathBuf::from(named("HOME")?).join(".docker")))?;
        let file = directory.join("config.json");
        if std::fs::metadata(&file).ok()?.len() > MAX_FILE_BYTES {
            return None;
        }
        Self::in_docker_config(&std::fs::read_to_string(file).ok()?, registry)
    }

    fn in_docker_config(text: &str, registry: &str) -> Option<Self> {
        let config: DockerConfig = serde_json::from_str(text).ok()?;
        let host = |key: &str| {
            let key = key
                .strip_prefix("https://")
                .or_else(|| key.strip_prefix("http://"))
                .unwrap_or(key);
            key.split('/').next().unwrap_or_default().to_owned()
        };
        let (_, found) = config.auths.into_iter().find(|(key, _)| host(key) == registry)?;
        let decoded = BASE64.decode(found.auth?).ok()?;
        let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        Some(Self {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    /// The value of the header `Authorization`.
    pub(crate) fn basic(&self) -> String {
        format!("Basic {}", BASE64.encode(format!("{}:{}", self.user, self.password)))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Credentials of {}", self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_docker_are_found_by_the_registry() {
        let text = r#"{"auths": {"https://r.example/v1/": {"auth": "YTpiOmM="}, "other:5000": {}}, "credsStore": "x"}"#;
        let found = Credentials::in_docker_config(text, "r.example").unwrap();
        assert_eq!((found.user.as_str(), found.password.as_str()), ("a", "b:c"));
        assert_eq!(found.basic(), "Basic YTpiOmM=");
        for registry in ["other:5000", "example", "r.example:5000"] {
            assert!(Credentials::in_docker_config(text, registry).is_none(), "{registry}");
        }
        assert!(!format!("{found:?}").contains("b:c"));
    }
}
