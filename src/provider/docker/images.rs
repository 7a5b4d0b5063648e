//! Images of the engine: looked up by name, pulled when they are missing.

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::{CreateImageOptionsBuilder, ListImagesOptionsBuilder};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::engine::{Engine, has_status};
use crate::provider::docker_config::PullPolicy;
use crate::provider::{ProviderError, PullProgress};

/// Most images that an error names.
const MAX_NAMED: usize = 50;

/// What the engine knows of an image, pulled first if it is missing and the configuration allows that.
///
/// # Errors
/// [`ProviderError::ImageNotFound`] when it is not to be had.
pub async fn find(engine: &Engine, docker: &Docker, image: &str) -> Result<ImageInspect, ProviderError> {
    let reference = check(docker, image).await?;
    match docker.inspect_image(image).await {
        Err(error) if has_status(&error, 404) => {}
        found => return found.map_err(|error| engine.failure(error)),
    }
    if engine.config.pull == PullPolicy::Never {
        return Err(not_found(docker, image, None).await);
    }
    fetch(engine, docker, reference, None).await?;
    docker.inspect_image(image).await.map_err(|error| engine.failure(error))
}

/// Pulls an image.
///
/// # Errors
/// [`ProviderError::ImageNotFound`] when the registry does not have it or cannot be reached.
pub async fn pull(engine: &Engine, image: &str, progress: mpsc::Sender<PullProgress>) -> Result<(), ProviderError> {
    let connection = engine.connect().await?;
    let reference = check(&connection.docker, image).await?;
    fetch(engine, &connection.docker, reference, Some(progress)).await
}

async fn fetch(
    engine: &Engine,
    docker: &Docker,
    reference: Reference<'_>,
    progress: Option<mpsc::Sender<PullProgress>>,
) -> Result<(), ProviderError> {
    let options = CreateImageOptionsBuilder::default()
        .from_image(reference.repository)
        .tag(reference.tag)
        .build();
    let mut steps = docker.create_image(Some(options), None, None);
    while let Some(step) = steps.next().await {
        match step {
            Ok(step) => {
                if let Some(progress) = &progress {
                    // Nobody may be watching any more.
                    let _ = progress.send(to_progress(step)).await;
                }
            }
            Err(Error::DockerResponseServerError { message, .. } | Error::DockerStreamError { error: message }) => {
                return Err(not_found(docker, reference.whole, Some(&message)).await);
            }
            Err(error) => return Err(engine.failure(error)),
        }
    }
    Ok(())
}

fn to_progress(step: CreateImageInfo) -> PullProgress {
    let detail = step.progress_detail.unwrap_or_default();
    let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
    PullProgress {
        status: step.status.unwrap_or_default(),
        part: step.id,
        current: bytes(detail.current),
        total: bytes(detail.total),
    }
}

/// The parts of an image's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reference<'a> {
    whole: &'a str,
    /// The name without tag or digest.
    repository: &'a str,
    /// Tag or digest; without one the engine would pull all tags there are.
    tag: &'a str,
}

/// A name that may stand in the path of a request: nothing in it leads to another one. The engine checks the rest.
fn parse(image: &str) -> Option<Reference<'_>> {
    let fits = |component: &str| {
        component.starts_with(|c: char| c.is_ascii_alphanumeric())
            && component
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-:@".contains(&byte))
    };
    if !image.split('/').all(fits) {
        return None;
    }
    let name = image.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match image.split_once('@') {
        Some((repository, digest)) => (repository, digest),
        None => match image[name..].rfind(':') {
            Some(colon) => (&image[..name + colon], &image[name + colon + 1..]),
            None => (image, "latest"),
        },
    };
    (!repository.is_empty() && !tag.is_empty()).then_some(Reference {
        whole: image,
        repository,
        tag,
    })
}

async fn check<'a>(docker: &Docker, image: &'a str) -> Result<Reference<'a>, ProviderError> {
    match parse(image) {
        Some(reference) => Ok(reference),
        None => Err(not_found(docker, image, Some("that is no name of an image")).await),
    }
}

async fn not_found(docker: &Docker, image: &str, reason: Option<&str>) -> ProviderError {
    let options = ListImagesOptionsBuilder::default().build();
    // A list that cannot be had only makes the message shorter.
    let images = docker.list_images(Some(options)).await.unwrap_or_default();
    let mut available: Vec<String> = images
        .into_iter()
        .flat_map(|image| image.repo_tags)
        .filter(|tag| !tag.starts_with("<none>"))
        .collect();
    available.sort_unstable();
    available.truncate(MAX_NAMED);
    ProviderError::ImageNotFound {
        image: match reason {
            Some(reason) => format!("{image} (not on the Docker Engine, and not to be pulled: {reason})"),
            None => image.to_owned(),
        },
        available,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_repository_and_a_tag() {
        for (image, repository, tag) in [
            ("alpine", "alpine", "latest"),
            ("python:3.12", "python", "3.12"),
            ("host:5000/a/b", "host:5000/a/b", "latest"),
            ("host:5000/a/b:1", "host:5000/a/b", "1"),
            ("a@sha256:00ff", "a", "sha256:00ff"),
        ] {
            let parsed = parse(image).unwrap();
            assert_eq!((parsed.repository, parsed.tag), (repository, tag), "{image}");
        }
    }

    #[test]
    fn a_name_leads_to_no_other_request() {
        for image in [
            "", "..", "../info", "a/../b", "a//b", "/a", "a/", "a?b=c", "a#b", "a%2e", "a b", "é", ":", "@", "a:",
        ] {
            assert_eq!(parse(image), None, "{image}");
        }
    }
}
