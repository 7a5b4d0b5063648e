//! The list of all keys of `wisp.toml`, from the declarations of its sections.

use super::Config;
use crate::settings::{Field, Kind, Setting as _};

/// One key of `wisp.toml`, or one section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// With its sections: `limits.max_sandboxes`.
    pub path: String,
    /// The doc comment of its field.
    pub doc: String,
    /// What its value looks like.
    pub kind: Kind,
}

impl Key {
    /// The environment variable that sets the key, if one can.
    pub fn variable(&self) -> Option<String> {
        let settable = !matches!(self.kind, Kind::Section | Kind::Tables);
        settable.then(|| format!("WISP_{}", self.path.replace('.', "_").to_ascii_uppercase()))
    }

    /// The last component of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or(&self.path)
    }

    /// The path of the section it is in; empty for a key outside all sections.
    pub fn section(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }
}

/// Every key, in the order of the declarations; a section comes before its keys.
pub fn keys() -> Vec<Key> {
    let mut keys = Vec::new();
    gather(Config::FIELDS, "", &mut keys);
    keys
}

fn gather(fields: &[Field], prefix: &str, keys: &mut Vec<Key>) {
    for field in fields {
        let path = format!("{prefix}{}", field.name);
        let inner_prefix = format!("{path}.");
        let lines: Vec<&str> = field.doc.lines().map(str::trim).collect();
        keys.push(Key {
            path,
            doc: lines.join("\n"),
            kind: field.kind,
        });
        gather(field.fields, &inner_prefix, keys);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_is_documented_with_its_default() {
        for key in keys() {
            assert!(!key.doc.trim().is_empty(), "{} has no doc comment", key.path);
            let says_default = key.doc.contains("efault");
            let has_default = !matches!(key.kind, Kind::Section | Kind::Tables);
            assert!(
                says_default || !has_default,
                "the doc comment of {} does not tell its default",
                key.path
            );
        }
    }

    #[test]
    fn every_field_of_the_configuration_is_a_key() {
        let all: BTreeSet<String> = keys().into_iter().map(|key| key.path).collect();
        let defaults = toml::Table::try_from(Config::default()).unwrap();
        for (name, value) in &defaults {
            assert!(all.contains(name), "{name}");
            for inner in value.as_table().into_iter().flatten().map(|(inner, _)| inner) {
                assert!(all.contains(&format!("{name}.{inner}")), "{name}.{inner}");
            }
        }
    }

    #[test]
    fn a_variable_names_one_key() {
        let variables: Vec<String> = keys().iter().filter_map(Key::variable).collect();
        let different: BTreeSet<&String> = variables.iter().collect();
        assert_eq!(variables.len(), different.len(), "{variables:?}");
        assert!(variables.contains(&"WISP_LIMITS_MAX_SANDBOXES".to_owned()));
    }

    #[test]
    fn kinds_are_read_off_the_types() {
        let kind = |path: &str| keys().into_iter().find(|key| key.path == path).unwrap().kind;
        assert_eq!(kind("listen"), Kind::Text);
        assert_eq!(kind("allow_unauthenticated_remote"), Kind::Boolean);
        assert_eq!(kind("images"), Kind::List);
        assert_eq!(kind("durability"), Kind::Text);
        assert_eq!(kind("auth"), Kind::Section);
        assert_eq!(kind("auth.keys"), Kind::Tables);
        assert_eq!(kind("limits.max_sandboxes"), Kind::Integer);
        assert_eq!(kind("limits.max_ttl"), Kind::Text);
    }
}
