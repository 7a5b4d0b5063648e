//! Loads the configuration from the defaults, the file, the environment and the command line; the later ones win.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::keys::{Key, keys};
use super::{ApiKeyConfig, Config, ConfigError, UnknownName, default_scopes, default_tenant};
use crate::settings::Kind;

/// API keys in plain text, separated by commas.
const PLAIN_KEYS: &str = "WISP_API_KEYS";

/// Variables that start with `WISP_` and set no key. Any other that sets no key either is taken for a misspelt one.
pub const OTHER_VARIABLES: [&str; 14] = [
    PLAIN_KEYS,
    // The command line; a test holds them against its definition.
    "WISP_API_KEY",
    "WISP_CONFIG",
    "WISP_SERVER",
    "WISP_USER_ID",
    // Credentials for a registry of images, which no file of ours should hold.
    "WISP_REGISTRY_PASSWORD",
    "WISP_REGISTRY_USER",
    // The image store and the recipes' builders.
    "WISP_BUILD_DIR",
    "WISP_CACHE_DIR",
    "WISP_IMAGES_DIR",
    "WISP_OUT",
    "WISP_WASI_SYSROOT",
    // Tests: one case of many, and recording what is found.
    "WISP_CASE",
    "WISP_RECORD",
];

/// Prefix of variables that only tests read.
const TEST_PREFIX: &str = "WISP_TEST_";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It was built in.
    Default,
    /// This file has it.
    File(PathBuf),
    /// This environment variable has it.
    Environment(String),
    /// An option of the command line has it.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "from {}", path.display()),
            Self::Environment(name) => write!(f, "from {name}"),
            Self::CommandLine => f.write_str("from the command line"),
        }
    }
}

/// A configuration and where its values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedConfig {
    /// The values.
    pub config: Config,
    /// The origin of each key that is not at its default, by the key's path.
    pub origins: BTreeMap<String, Origin>,
}

impl LoadedConfig {
    /// Reads all sources. `command_line` holds the keys that options set. Nothing is checked yet:
    /// [`Config::check`] does.
    ///
    /// # Errors
    /// When the file cannot be read, or a key or a value is not understood.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        command_line: Table,
    ) -> Result<Self, ConfigError> {
        let keys = keys();
        let mut sources = Sources::default();
        let mut unknown = Vec::new();
        if let Some(path) = file {
            let table = read_table(path)?;
            unknown_keys(&table, "", &keys, &mut unknown);
            sources.add(table, "", &keys, &Origin::File(path.to_owned()));
        }
        let mut plain_keys = Vec::new();
        for (name, text) in environment {
            if name == PLAIN_KEYS {
                plain_keys.extend(items(&text).map(str::to_owned));
            } else if let Some(key) = keys.iter().find(|key| key.variable().as_ref() == Some(&name)) {
                sources.set(&key.path, value_of(key.kind, &text), Origin::Environment(name));
            } else if name.starts_with("WISP_")
                && !name.starts_with(TEST_PREFIX)
                && !OTHER_VARIABLES.contains(&name.as_str())
            {
                unknown.push(unknown_variable(name, &keys));
            }
        }
        if !unknown.is_empty() {
            return Err(ConfigError::Unknown(unknown));
        }
        sources.add(command_line, "", &keys, &Origin::CommandLine);
        let mut config = sources.config()?;
        for (index, key) in plain_keys.iter().enumerate() {
            config.auth.keys.push(ApiKeyConfig {
                name: format!("{PLAIN_KEYS}[{index}]"),
                sha256: hex::encode(Sha256::digest(key.as_bytes())),
                scopes: default_scopes(),
                tenant: default_tenant(),
                user: None,
            });
        }
        Ok(Self {
            config,
            origins: sources.origins,
        })
    }

    /// Where the value of a key comes from.
    pub fn origin(&self, path: &str) -> &Origin {
        self.origins.get(path).unwrap_or(&Origin::Default)
    }
}

/// The values found so far; a later one replaces an earlier one.
#[derive(Default)]
struct Sources {
    table: Table,
    origins: BTreeMap<String, Origin>,
}

impl Sources {
    /// Takes over every key of a table. What is not a key of ours is taken too; reading the whole refuses it.
    fn add(&mut self, table: Table, prefix: &str, keys: &[Key], origin: &Origin) {
        for (name, value) in table {
            let path = format!("{prefix}{name}");
            let is_section = keys.iter().any(|key| key.path == path && key.kind == Kind::Section);
            match value {
                Value::Table(section) if is_section => self.add(section, &format!("{path}."), keys, origin),
                value => self.set(&path, value, origin.clone()),
            }
        }
    }

    fn set(&mut self, path: &str, value: Value, origin: Origin) {
        let mut table = &mut self.table;
        let mut rest = path;
        while let Some((section, inner)) = rest.split_once('.') {
            let entry = table
                .entry(section.to_owned())
                .or_insert_with(|| Value::Table(Table::new()));
            // A value where a section belongs; reading the whole refuses it.
            let Value::Table(inner_table) = entry else { return };
            (table, rest) = (inner_table, inner);
        }
        table.insert(rest.to_owned(), value);
        self.origins.insert(path.to_owned(), origin);
    }

    fn config(&self) -> Result<Config, ConfigError> {
        serde_path_to_error::deserialize(Value::Table(self.table.clone())).map_err(|error| {
            let path = error.path().to_string();
            // An item of a list has its list's origin.
            let origin = self.origins.iter().find(|(known, _)| path.starts_with(known.as_str()));
            let place = match origin {
                Some((_, Origin::Environment(name))) => name.clone(),
                Some((_, origin)) => format!("{path} ({origin})"),
                None => path,
            };
            let reason = error.into_inner().to_string();
            ConfigError::Value {
                place,
                reason: reason.lines().next().unwrap_or_default().to_owned(),
            }
        })
    }
}

/// The file as a TOML table.
fn read_table(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    text.parse().map_err(|source| ConfigError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// The items of a list in an environment variable.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// The text of an environment variable as a value. One that does not fit its key stays text, and is refused with the
/// name of the variable.
fn value_of(kind: Kind, text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    match kind {
        Kind::Integer => text.parse().map_or_else(|_| as_text(), Value::Integer),
        Kind::Boolean => text.parse().map_or_else(|_| as_text(), Value::Boolean),
        Kind::List => Value::Array(items(text).map(|item| Value::String(item.to_owned())).collect()),
        Kind::Text | Kind::Tables | Kind::Section => as_text(),
    }
}

/// Adds the keys of a table that nothing reads.
fn unknown_keys(table: &Table, prefix: &str, keys: &[Key], unknown: &mut Vec<UnknownName>) {
    for (name, value) in table {
        let path = format!("{prefix}{name}");
        match keys.iter().find(|key| key.path == path) {
            Some(key) if key.kind == Kind::Section => {
                if let Value::Table(section) = value {
                    unknown_keys(section, &format!("{path}."), keys, unknown);
                }
            }
            Some(_) => {}
            None => {
                let candidates = keys.iter().map(|key| (key.path.as_str(), key.name()));
                let nearest = nearest((&path, name), candidates);
                unknown.push(UnknownName {
                    what: "key",
                    name: path,
                    nearest,
                });
            }
        }
    }
}

fn unknown_variable(name: String, keys: &[Key]) -> UnknownName {
    let variables: Vec<String> = keys.iter().filter_map(Key::variable).collect();
    let candidates = variables.iter().map(String::as_str).chain(OTHER_VARIABLES);
    let nearest = nearest((&name, &name), candidates.map(|candidate| (candidate, candidate)));
    UnknownName {
        what: "environment variable",
        name,
        nearest,
    }
}

/// The candidate most like a name, if one is: by the whole path, or by the last component, which may be in the wrong
/// section.
fn nearest<'a>((path, name): (&str, &str), candidates: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    /// Of the letters of the shorter name, one in this many may differ.
    const LETTERS_PER_MISTAKE: usize = 3;
    candidates
        .filter_map(|(candidate_path, candidate_name)| {
            let whole = strsim::damerau_levenshtein(path, candidate_path);
            let misplaced = strsim::damerau_levenshtein(name, candidate_name) + 1;
            let distance = whole.min(misplaced);
            let allowed = name.len().min(candidate_name.len()) / LETTERS_PER_MISTAKE + 1;
            (distance <= allowed).then_some((distance, candidate_path))
        })
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn load(toml: &str, environment: &[(&str, &str)]) -> Result<LoadedConfig, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        LoadedConfig::load(Some(file.path()), environment, Table::new())
    }

    fn refusal(toml: &str, environment: &[(&str, &str)]) -> String {
        load(toml, environment).unwrap_err().to_string()
    }

    #[test]
    fn sources_win_in_their_order_and_are_remembered() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "listen = \"127.0.0.1:1\"\n[limits]\nmax_sandboxes = 5\nmax_vcpus = 3\ndefault_ttl = \"1m\"\n",
        )
        .unwrap();
        let environment = [
            ("WISP_LISTEN".to_owned(), "127.0.0.1:2".to_owned()),
            ("WISP_LIMITS_MAX_SANDBOXES".to_owned(), "6".to_owned()),
            ("WISP_SERVER".to_owned(), "http://other".to_owned()),
            ("PATH".to_owned(), "/bin".to_owned()),
        ];
        let command_line: Table = "listen = \"127.0.0.1:3\"".parse().unwrap();
        let loaded = LoadedConfig::load(Some(file.path()), environment, command_line).unwrap();
        assert_eq!(loaded.config.listen.port(), 3);
        assert_eq!(loaded.config.limits.max_sandboxes, 6);
        assert_eq!(loaded.config.limits.default_ttl.0, Duration::from_secs(60));
        assert_eq!(*loaded.origin("listen"), Origin::CommandLine);
        let variable = Origin::Environment("WISP_LIMITS_MAX_SANDBOXES".to_owned());
        assert_eq!(*loaded.origin("limits.max_sandboxes"), variable);
        assert_eq!(*loaded.origin("limits.max_vcpus"), Origin::File(file.path().to_owned()));
        assert_eq!(*loaded.origin("limits.max_ttl"), Origin::Default);
    }

    #[test]
    fn an_unknown_key_is_an_error_with_the_nearest_name() {
        for (toml, said) in [
            (
                "[limits]\nmax_sandboxen = 5\n",
                "unknown key limits.max_sandboxen; did you mean limits.max_sandboxes?",
            ),
            ("lisen = \"x\"\n", "unknown key lisen; did you mean listen?"),
            (
                "max_sandboxes = 5\n",
                "unknown key max_sandboxes; did you mean limits.max_sandboxes?",
            ),
            ("[limit]\nmax_vcpus = 1\n", "unknown key limit; did you mean limits?"),
            ("zzzzzzzz = 1\n", "unknown key zzzzzzzz"),
        ] {
            assert_eq!(refusal(toml, &[]), format!("configuration: {said}"));
        }
    }

    #[test]
    fn all_unknown_names_are_told_at_once() {
        let message = refusal("lisen = 1\n[limits]\nmax_vcpu = 1\n", &[("WISP_LISTN", "x")]);
        for name in ["lisen", "limits.max_vcpu;", "WISP_LISTN"] {
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn a_misspelt_variable_is_an_error_with_the_nearest_name() {
        assert_eq!(
            refusal("", &[("WISP_LIMITS_MAX_SANDBOXEN", "5")]),
            "configuration: unknown environment variable WISP_LIMITS_MAX_SANDBOXEN; did you mean \
             WISP_LIMITS_MAX_SANDBOXES?"
        );
        assert!(refusal("", &[("WISP_API_KEYZ", "5")]).contains("did you mean WISP_API_KEY"));
        let others = OTHER_VARIABLES.map(|name| (name, ""));
        load("", &others).unwrap();
        load("", &[("WISP_TEST_ANYTHING", "1"), ("WISPY", "1")]).unwrap();
    }

    #[test]
    fn a_wrong_value_is_an_error_that_says_where_it_is() {
        let message = refusal("", &[("WISP_LIMITS_MAX_SANDBOXES", "many")]);
        assert!(
            message.contains("WISP_LIMITS_MAX_SANDBOXES") && message.contains("many"),
            "{message}"
        );
        for (toml, place) in [
            ("[limits]\nmax_ttl = \"banana\"\n", "limits.max_ttl"),
            ("[limits]\nmax_sandboxes = -1\n", "limits.max_sandboxes"),
            ("limits = 5\n", "limits"),
            ("listen = \"x\"\n", "listen"),
            ("durability = \"none\"\n", "durability"),
            ("images = [1]\n", "images"),
            ("[[auth.keys]]\nname = 1\n", "auth.keys"),
            ("[[auth.keys]]\nnam = \"a\"\n", "auth.keys"),
        ] {
            let message = refusal(toml, &[]);
            assert!(message.contains(place), "{toml}: {message}");
        }
    }

    #[test]
    fn a_list_in_a_variable_is_separated_by_commas() {
        let loaded = load("", &[("WISP_IMAGES", "base, python:3.12")]).unwrap();
        assert_eq!(loaded.config.images, ["base", "python:3.12"]);
        assert!(load("", &[("WISP_IMAGES", "")]).unwrap().config.images.is_empty());
    }

    #[test]
    fn a_boolean_in_a_variable_is_true_or_false() {
        let loaded = load("", &[("WISP_ALLOW_UNAUTHENTICATED_REMOTE", "true")]).unwrap();
        assert!(loaded.config.allow_unauthenticated_remote);
        assert!(load("", &[("WISP_ALLOW_UNAUTHENTICATED_REMOTE", "yes")]).is_err());
    }

    #[test]
    fn keys_are_kept_as_digests_only() {
        let config = load("", &[("WISP_API_KEYS", "one, two")]).unwrap().config;
        assert_eq!(config.auth.keys.len(), 2);
        assert_eq!(config.auth.keys[0].sha256, hex::encode(Sha256::digest(b"one")));
        assert!(!format!("{config:?}").contains("\"one\""));
    }
}
