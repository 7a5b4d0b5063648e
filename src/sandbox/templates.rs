//! Requests for sandboxes kept under a name. Each belongs to a tenant; all users of the tenant share them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Caller, CreateRequest, Quota, SandboxError, SandboxManager, SandboxView};
use crate::duration::GoDuration;
use crate::provider::Network;
use crate::store::{Added, TemplateRow};

/// Longest name, characters.
const MAX_NAME_CHARS: usize = 128;
/// Most bytes of a template: a tenant's whole list is answered at once.
const MAX_TEMPLATE_BYTES: usize = 64 << 10;

/// The name of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateName(String);

impl TemplateName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`SandboxError::Invalid`] says which texts are names.
    pub fn parse(text: &str) -> Result<Self, SandboxError> {
        let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != '\\';
        let count = text.chars().take(MAX_NAME_CHARS + 1).count();
        // A URL's path cannot hold the last two.
        if !(1..=MAX_NAME_CHARS).contains(&count) || !text.chars().all(allowed) || text == "." || text == ".." {
            return Err(SandboxError::Invalid(format!(
                "a template's name has 1 to {MAX_NAME_CHARS} characters, without white space, control characters or \
                 path separators"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

/// What sandboxes made from a template are like, as it was asked for. What is `None` takes the server's default when a
/// sandbox is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TemplateSpec {
    /// Image name.
    pub image: String,
    /// Provider name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Memory, MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// Processes that may run at the same instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// Files beyond the image, MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<u64>,
    /// Time to live, as the client wrote it: it is answered the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// What it may reach over the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Labels.
    pub metadata: BTreeMap<String, String>,
    /// Environment of every command.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// A template that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its name, unique within its tenant.
    pub name: String,
    /// What sandboxes made from it are like.
    pub spec: TemplateSpec,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it last changed.
    pub updated_at: SystemTime,
}

/// What came of saving a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// It is new.
    New(Template),
    /// There was the very same already.
    Unchanged(Template),
}

impl TemplateSpec {
    fn ttl(&self) -> Result<Option<Duration>, SandboxError> {
        let parsed = self.ttl.as_deref().map(GoDuration::parse).transpose();
        parsed
            .map(|ttl| ttl.map(|ttl| ttl.0))
            .map_err(|error| SandboxError::Invalid(format!("ttl: {error}")))
    }

    /// The request with this template's values where it has none of its own. Labels and environment are joined.
    fn below(self, request: CreateRequest) -> Result<CreateRequest, SandboxError> {
        let ttl = self.ttl()?;
        let (mut metadata, mut env) = (self.metadata, self.env);
        metadata.extend(request.metadata);
        env.extend(request.env);
        Ok(CreateRequest {
            image: request.image.or(Some(self.image)),
            provider: request.provider.or(self.provider),
            template: None,
            memory_mb: request.memory_mb.or(self.memory_mb),
            vcpus: request.vcpus.or(self.vcpus),
            disk_mb: request.disk_mb.or(self.disk_mb),
            cpu_time: request.cpu_time,
            ttl: request.ttl.or(ttl),
            metadata,
            env,
            network: request.network.or(self.network),
            owner: request.owner,
        })
    }

    fn parse(row: TemplateRow) -> Option<Template> {
        match serde_json::from_str(&row.body) {
            Ok(spec) => Some(Template {
                name: row.name,
                spec,
                created_at: row.created_at,
                updated_at: row.updated_at,
            }),
            Err(error) => {
                tracing::error!(template = row.name, %error, "the record of a template is damaged; save it again");
                None
            }
        }
    }
}

impl SandboxManager {
    /// Keeps a template. One of the same name is left as it is.
    ///
    /// # Errors
    /// A value out of range, an unknown provider, [`SandboxError::TemplateExists`], a tenant that has all it may have,
    /// a failing store.
    pub async fn save_template(
        &self,
        caller: &Caller,
        name: &TemplateName,
        spec: TemplateSpec,
    ) -> Result<Saved, SandboxError> {
        let body = self.checked(&spec)?;
        let (tenant, name) = place(caller, name);
        let max = self.shared.config.limits.max_templates_per_tenant;
        let exists = || SandboxError::TemplateExists(name.clone());
        match self.shared.store.add_template(tenant, name.clone(), body, max).await? {
            Added::New(row) => TemplateSpec::parse(row).map(Saved::New).ok_or_else(exists),
            Added::Exists(row) => TemplateSpec::parse(row)
                .filter(|template| template.spec == spec)
                .map(Saved::Unchanged)
                .ok_or_else(exists),
            Added::Full => Err(SandboxError::LimitReached(format!(
                "a tenant keeps at most {max} templates; delete one"
            ))),
        }
    }

    /// Replaces a template.
    ///
    /// # Errors
    /// A value out of range, an unknown provider, [`SandboxError::TemplateNotFound`], a failing store.
    pub async fn update_template(
        &self,
        caller: &Caller,
        name: &TemplateName,
        spec: TemplateSpec,
    ) -> Result<Template, SandboxError> {
        let body = self.checked(&spec)?;
        let (tenant, name) = place(caller, name);
        let row = self.shared.store.update_template(tenant, name.clone(), body).await?;
        row.and_then(TemplateSpec::parse)
            .ok_or(SandboxError::TemplateNotFound(name))
    }

    /// One template.
    ///
    /// # Errors
    /// [`SandboxError::TemplateNotFound`], a failing store.
    pub async fn template(&self, caller: &Caller, name: &TemplateName) -> Result<Template, SandboxError> {
        let (tenant, name) = place(caller, name);
        let row = self.shared.store.template(tenant, name.clone()).await?;
        row.and_then(TemplateSpec::parse)
            .ok_or(SandboxError::TemplateNotFound(name))
    }

    /// All templates of the caller's tenant, by name.
    ///
    /// # Errors
    /// A failing store.
    pub async fn templates(&self, caller: &Caller) -> Result<Vec<Template>, SandboxError> {
        let rows = self.shared.store.templates(caller.tenant.to_string()).await?;
        Ok(rows.into_iter().filter_map(TemplateSpec::parse).collect())
    }

    /// Removes a template. Sandboxes made from it stay.
    ///
    /// # Errors
    /// [`SandboxError::TemplateNotFound`], a failing store.
    pub async fn delete_template(&self, caller: &Caller, name: &TemplateName) -> Result<(), SandboxError> {
        let (tenant, name) = place(caller, name);
        if self.shared.store.delete_template(tenant, name.clone()).await? {
            Ok(())
        } else {
            Err(SandboxError::TemplateNotFound(name))
        }
    }

    /// Makes a sandbox from a template; what the request says itself counts more.
    ///
    /// # Errors
    /// [`SandboxError::TemplateNotFound`], and all of [`SandboxManager::create`].
    pub async fn spawn(
        &self,
        caller: &Caller,
        name: &TemplateName,
        request: CreateRequest,
    ) -> Result<SandboxView, SandboxError> {
        let template = self.template(caller, name).await?;
        self.create(caller, template.spec.below(request)?).await
    }

    /// The request with the values of the template it names, if it names one.
    pub(super) async fn with_template(
        &self,
        caller: &Caller,
        mut request: CreateRequest,
    ) -> Result<CreateRequest, SandboxError> {
        let Some(name) = request.template.take() else {
            return Ok(request);
        };
        let template = self.template(caller, &TemplateName::parse(&name)?).await?;
        // StacyVM's clients name the default image in every request, also when they leave the choice to a template.
        request.image = request.image.filter(|image| *image != self.shared.config.default_image);
        template.spec.below(request)
    }

    /// The text a template is kept as, once it is known that sandboxes can be made from it.
    fn checked(&self, spec: &TemplateSpec) -> Result<String, SandboxError> {
        let request = spec.clone().below(CreateRequest::default())?;
        self.providers().resolve(request.provider.as_deref())?;
        request.specify(&self.shared.config)?;
        request.lifetime(&self.shared.config.limits, &Quota::default())?;
        let body = serde_json::to_string(spec)
            .ok()
            .filter(|body| body.len() <= MAX_TEMPLATE_BYTES);
        body.ok_or_else(|| {
            SandboxError::Invalid(format!(
                "a template must not exceed {MAX_TEMPLATE_BYTES} bytes in all; shorten metadata or env"
            ))
        })
    }
}

/// Where a caller's template is kept.
fn place(caller: &Caller, name: &TemplateName) -> (String, String) {
    (caller.tenant.to_string(), name.0.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_fit_into_a_path() {
        for name in ["small", "a.b:c", "é", "...", &"x".repeat(128)] {
            assert!(TemplateName::parse(name).is_ok(), "{name:?}");
        }
        for name in ["", ".", "..", "a b", "a/b", "a\\b", "a\u{0}", "a\n", &"x".repeat(129)] {
            assert!(TemplateName::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_a_request_says_itself_counts_more() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            owned.collect()
        };
        let template = TemplateSpec {
            image: "python:3.12".to_owned(),
            memory_mb: Some(128),
            vcpus: Some(2),
            ttl: Some("5m".to_owned()),
            metadata: labels(&[("a", "template"), ("b", "template")]),
            env: labels(&[("COLOUR", "red"), ("SIZE", "s")]),
            ..TemplateSpec::default()
        };
        let request = CreateRequest {
            memory_mb: Some(256),
            metadata: labels(&[("b", "request")]),
            env: labels(&[("SIZE", "l")]),
            ..CreateRequest::default()
        };
        let joined = template.below(request).unwrap();
        assert_eq!(joined.image.as_deref(), Some("python:3.12"));
        assert_eq!((joined.memory_mb, joined.vcpus), (Some(256), Some(2)));
        assert_eq!(joined.ttl, Some(Duration::from_secs(300)));
        assert_eq!(joined.metadata, labels(&[("a", "template"), ("b", "request")]));
        assert_eq!(joined.env, labels(&[("COLOUR", "red"), ("SIZE", "l")]));
    }
}
