//! The list of all keys of `wisp.toml`, read off the structs of [`Config`]: a key's documentation is the doc comment of
//! its field, so the two cannot disagree.

use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, Object, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::Config;

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

/// What the value of a key looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Integer,
    /// A number.
    Float,
    /// `true` or `false`.
    Boolean,
    /// Text, in quotes; also durations, addresses, paths and named choices.
    Text,
    /// A list of texts or numbers. In an environment variable: separated by commas.
    List,
    /// A list of tables, or a table with names of the deployer's choice: no environment variable can hold it.
    Tables,
    /// A table whose keys follow in the list.
    Section,
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

/// Every key, in the order of the fields; a section comes before its keys.
pub fn keys() -> Vec<Key> {
    let mut named = Vec::new();
    Config::schemas(&mut named);
    let mut keys = Vec::new();
    if let RefOr::T(Schema::Object(config)) = Config::schema() {
        gather(&config, "", &named, &mut keys);
    }
    keys
}

type Named = [(String, RefOr<Schema>)];

fn gather(table: &Object, prefix: &str, named: &Named, keys: &mut Vec<Key>) {
    for (name, field) in &table.properties {
        let path = format!("{prefix}{name}");
        let (doc, schema) = resolved(field, named);
        let kind = schema.map_or(Kind::Text, kind_of);
        let section_prefix = format!("{path}.");
        keys.push(Key { path, doc, kind });
        if let (Kind::Section, Some(Schema::Object(section))) = (kind, schema) {
            gather(section, &section_prefix, named, keys);
        }
    }
}

/// The documentation of a field and the schema of its type, which may be named elsewhere.
fn resolved<'a>(field: &'a RefOr<Schema>, named: &'a Named) -> (String, Option<&'a Schema>) {
    match field {
        RefOr::Ref(reference) => (reference.description.clone(), find(reference, named)),
        RefOr::T(schema) => {
            let (doc, alternatives) = match schema {
                Schema::Object(object) => return (object.description.clone().unwrap_or_default(), Some(schema)),
                Schema::Array(array) => return (array.description.clone().unwrap_or_default(), Some(schema)),
                Schema::OneOf(one) => (&one.description, &one.items),
                Schema::AllOf(all) => (&all.description, &all.items),
                Schema::AnyOf(any) => (&any.description, &any.items),
                _ => return (String::new(), None),
            };
            // An optional field is "null or a …".
            let mut references = alternatives.iter().filter_map(|item| match item {
                RefOr::Ref(reference) => Some(reference),
                RefOr::T(_) => None,
            });
            let reference = references.next();
            let own = doc.clone().filter(|doc| !doc.is_empty());
            let doc = own.or_else(|| reference.map(|reference| reference.description.clone()));
            let schema = reference.and_then(|reference| find(reference, named));
            (doc.unwrap_or_default(), schema)
        }
    }
}

fn find<'a>(reference: &Ref, named: &'a Named) -> Option<&'a Schema> {
    let wanted = reference.ref_location.rsplit('/').next()?;
    named.iter().find_map(|(name, schema)| match schema {
        RefOr::T(schema) if name == wanted => Some(schema),
        _ => None,
    })
}

fn kind_of(schema: &Schema) -> Kind {
    match schema {
        Schema::Array(array) => match &array.items {
            ArrayItems::RefOrSchema(item) if is_plain(item) => Kind::List,
            _ => Kind::Tables,
        },
        Schema::Object(object) => match type_of(&object.schema_type) {
            Some(Type::Integer) => Kind::Integer,
            Some(Type::Number) => Kind::Float,
            Some(Type::Boolean) => Kind::Boolean,
            Some(Type::Object) if is_map(object) => Kind::Tables,
            Some(Type::Object) => Kind::Section,
            _ => Kind::Text,
        },
        _ => Kind::Text,
    }
}

fn is_map(object: &Object) -> bool {
    let named_by_the_deployer = !matches!(
        object.additional_properties.as_deref(),
        None | Some(AdditionalProperties::FreeForm(false))
    );
    object.properties.is_empty() && named_by_the_deployer
}

fn is_plain(item: &RefOr<Schema>) -> bool {
    matches!(item, RefOr::T(Schema::Object(object)) if type_of(&object.schema_type) != Some(&Type::Object))
}

/// The type itself; an optional field has the type "null" as well.
fn type_of(schema_type: &SchemaType) -> Option<&Type> {
    match schema_type {
        SchemaType::Type(one) => Some(one),
        SchemaType::Array(several) => several.iter().find(|one| **one != Type::Null),
        SchemaType::AnyValue => None,
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
