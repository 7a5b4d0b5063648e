//! The client of a registry.

use parking_lot::Mutex;
use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use reqwest::redirect::Policy;
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::io::ReaderStream;
use wisp_image::{
    Artifact, ArtifactSource, BlobDigest, Descriptor, Digest, EMPTY_JSON, ImageError, MAX_MANIFEST_BYTES, Progress,
    Step,
};

use super::auth::Challenge;
use super::credentials::Credentials;
use super::reference::{Reference, Version};

/// Header with the digest of a manifest.
const CONTENT_DIGEST: &str = "docker-content-digest";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the registry may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one image may take in all.
const TOTAL_TIMEOUT: Duration = Duration::from_hours(1);
/// Most redirects of one request.
const MAX_REDIRECTS: usize = 5;
/// Most bytes of a token's answer.
const MAX_TOKEN_BYTES: u64 = 64 << 10;
/// Most bytes of an error's answer.
const MAX_ERROR_BYTES: u64 = 4 << 10;
/// Most characters of an error's answer that are shown.
const MAX_SHOWN_CHARS: usize = 200;

/// How a registry is talked to.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Without TLS. With a registry on this machine it is always so.
    pub plain_http: bool,
    /// Name and password for the registry; `None` to ask without.
    pub credentials: Option<Credentials>,
}

/// One image in a registry.
pub struct Registry {
    reference: Reference,
    base: Url,
    http: Client,
    settings: Settings,
    /// The value of the header `Authorization` that the registry has last accepted.
    authorization: Mutex<Option<String>>,
    deadline: Instant,
    runtime: Handle,
}

/// The answer of whoever makes tokens.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// Gets ready for one image. Nothing is sent yet. Methods block, and must not be called where others wait.
    ///
    /// # Errors
    /// When the reference makes no address.
    pub fn new(reference: Reference, settings: Settings, runtime: Handle) -> Result<Self, ImageError> {
        super::set_up_tls();
        let scheme = if settings.plain_http || is_loopback(&reference.registry) {
            "http"
        } else {
            "https"
        };
        let base = format!("{scheme}://{}/v2/{}/", reference.registry, reference.repository);
        let base = Url::parse(&base).map_err(|error| failed(&reference, error.to_string()))?;
        let redirects = Policy::custom(|attempt| {
            let is_downgrade =
                attempt.url().scheme() != "https" && attempt.previous().iter().any(|before| before.scheme() == "https");
            if attempt.previous().len() > MAX_REDIRECTS || is_downgrade {
                attempt.stop()
            } else {
                attempt.follow()
            }
        });
        let http = Client::builder()
            .user_agent(concat!("wisp/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(redirects)
            // Blobs are compressed, and their digests are those of the compressed bytes.
            .build()
            .map_err(|error| failed(&reference, error.to_string()))?;
        Ok(Self {
            reference,
            base,
            http,
            settings,
            authorization: Mutex::default(),
            deadline: Instant::now() + TOTAL_TIMEOUT,
            runtime,
        })
    }

    /// Sends an image. The registry has it under its name once all of it is there.
    ///
    /// # Errors
    /// What the registry said, or that it said nothing.
    pub fn push(&self, artifact: &Artifact, progress: &dyn Progress) -> Result<(), ImageError> {
        let what = self.reference.to_string();
        self.wait(async {
            for blob in artifact.blobs() {
                let digest = blob.descriptor.digest;
                progress.step(&what, Step::Push, &digest.to_string());
                let file = blob.open().map_err(|error| self.failed(error.to_string()))?;
                self.push_blob(digest, blob.descriptor.size, file).await?;
            }
            // Before the image, so that nobody gets it without.
            if let Some(signature) = artifact.signature()? {
                let file = spooled(EMPTY_JSON).map_err(|error| self.failed(error.to_string()))?;
                let digest = BlobDigest(Digest::of(EMPTY_JSON));
                self.push_blob(digest, EMPTY_JSON.len() as u64, file).await?;
                let tag = self.reference.with_tag(signature_tag(artifact.digest()));
                self.push_manifest(&tag.version, signature).await?;
            }
            progress.step(&what, Step::Push, "manifest");
            self.push_manifest(&self.reference.version, artifact.manifest().to_vec())
                .await
        })?;
        progress.done(&what);
        Ok(())
    }

    async fn push_blob(&self, digest: BlobDigest, size: u64, file: File) -> Result<(), ImageError> {
        let blob = self.url(&format!("blobs/{digest}"))?;
        let there = self.send(|| self.http.request(Method::HEAD, blob.clone())).await?;
        if there.status() == StatusCode::OK {
            return Ok(());
        }
        let uploads = self.url("blobs/uploads/")?;
        let begun = self
            .send(|| self.http.post(uploads.clone()).header(CONTENT_LENGTH, 0))
            .await?;
        let begun = self.expect(begun, &[StatusCode::ACCEPTED]).await?;
        let location = begun.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.and_then(|location| begun.url().join(location).ok());
        let mut location = location.ok_or_else(|| self.failed("it does not say where a blob goes".to_owned()))?;
        // The blob and our credentials go to the registry and nowhere else.
        if location.origin() != self.base.origin() {
            return Err(self.failed(format!("it wants a blob sent to another host, {location}")));
        }
        location.query_pairs_mut().append_pair("digest", &digest.to_string());
        let body = Body::wrap_stream(ReaderStream::with_capacity(tokio::fs::File::from_std(file), 256 << 10));
        let mut request = self.http.put(location).header(CONTENT_LENGTH, size);
        request = request.header(CONTENT_TYPE, "application/octet-stream");
        let sent = self.authorized(request).body(body).send().await;
        let sent = sent.map_err(|error| self.failed(innermost(&error)))?;
        self.expect(sent, &[StatusCode::CREATED]).await.map(drop)
    }

    async fn push_manifest(&self, version: &Version, bytes: Vec<u8>) -> Result<(), ImageError> {
        let url = self.url(&format!("manifests/{}", version.path()))?;
        let request = || {
            self.http
                .put(url.clone())
                .header(CONTENT_TYPE, MANIFEST)
                .body(bytes.clone())
        };
        let sent = self.send(request).await?;
        self.expect(sent, &[StatusCode::CREATED]).await.map(drop)
    }

    /// A manifest, if there is one.
    async fn pull_manifest(&self, version: &Version) -> Result<Option<Vec<u8>>, ImageError> {
        let url = self.url(&format!("manifests/{}", version.path()))?;
        let answer = self
            .send(|| self.http.get(url.clone()).header(ACCEPT, MANIFEST))
            .await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = self.expect(answer, &[StatusCode::OK]).await?;
        // What a tag means only the registry knows; that it sends what it says it sends can be checked.
        let said = answer
            .headers()
            .get(CONTENT_DIGEST)
            .and_then(|value| value.to_str().ok());
        let said = said.and_then(|text| BlobDigest::try_from(text.to_owned()).ok());
        let bytes = self.read(answer, MAX_MANIFEST_BYTES).await?;
        let wanted = match version {
            Version::Digest(digest) => Some(*digest),
            Version::Tag(_) => said,
        };
        if let Some(wanted) = wanted
            && Digest::of(&bytes) != wanted.0
        {
            return Err(self.failed(format!("the manifest it sends is not {wanted}: it was changed")));
        }
        Ok(Some(bytes))
    }

    async fn pull_blob(&self, descriptor: &Descriptor, into: &mut File) -> Result<(), ImageError> {
        let url = self.url(&format!("blobs/{}", descriptor.digest))?;
        let answer = self.send(|| self.http.get(url.clone())).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Err(self.failed(format!("it has no blob {}: the image is not whole", descriptor.digest)));
        }
        let answer = self.expect(answer, &[StatusCode::OK]).await?;
        let (mut received, wanted) = (0_u64, descriptor.size);
        let mut chunks = answer.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                let (digest, why) = (descriptor.digest, innermost(&error));
                self.failed(format!(
                    "it stopped after {received} of {wanted} bytes of blob {digest} ({why})"
                ))
            })?;
            received += chunk.len() as u64;
            if received > wanted {
                return Err(self.failed(format!("blob {} is larger than the manifest says", descriptor.digest)));
            }
            // Blocks for as long as the page cache takes; this thread is for that.
            into.write_all(&chunk).map_err(|error| self.failed(error.to_string()))?;
        }
        Ok(())
    }

    /// Sends a request, and once more with what the registry wants to see.
    async fn send(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, ImageError> {
        let sent = self.authorized(request()).send().await;
        let answer = sent.map_err(|error| self.failed(innermost(&error)))?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let header = answer
            .headers()
            .get(WWW_AUTHENTICATE)
            .and_then(|value| value.to_str().ok());
        let challenge = header.and_then(Challenge::parse);
        let value = match (challenge, &self.settings.credentials) {
            (Some(Challenge::Basic), Some(credentials)) => credentials.basic(),
            (Some(Challenge::Bearer { realm, service, scope }), _) => {
                self.token(&realm, service.as_deref(), scope.as_deref()).await?
            }
            _ => return self.expect(answer, &[]).await,
        };
        *self.authorization.lock() = Some(value);
        let sent = self.authorized(request()).send().await;
        sent.map_err(|error| self.failed(innermost(&error)))
    }

    /// Gets a token from where the registry says. Credentials go there only over TLS, or where there is none anyway.
    async fn token(&self, realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<String, ImageError> {
        let mut url = Url::parse(realm).map_err(|_| self.failed("its realm is no address".to_owned()))?;
        if url.scheme() != "https" && url.scheme() != self.base.scheme() {
            return Err(self.failed("it wants credentials sent without TLS".to_owned()));
        }
        for (name, value) in [("service", service), ("scope", scope)] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let mut request = self.http.get(url);
        if let Some(credentials) = &self.settings.credentials {
            request = request.header(AUTHORIZATION, credentials.basic());
        }
        let sent = request.send().await.map_err(|error| self.failed(innermost(&error)))?;
        let answer = self.expect(sent, &[StatusCode::OK]).await?;
        let bytes = self.read(answer, MAX_TOKEN_BYTES).await?;
        let token: Option<Token> = serde_json::from_slice(&bytes).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        let token = token.ok_or_else(|| self.failed("it gives no token".to_owned()))?;
        Ok(format!("Bearer {token}"))
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &*self.authorization.lock() {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        }
    }

    /// Reads an answer that has one of these states, or says what it is instead.
    async fn expect(&self, answer: Response, states: &[StatusCode]) -> Result<Response, ImageError> {
        let status = answer.status();
        if states.contains(&status) {
            return Ok(answer);
        }
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "; set WISP_REGISTRY_USER and WISP_REGISTRY_PASSWORD, or log in with docker"
            }
            _ => "",
        };
        let said = self.read(answer, MAX_ERROR_BYTES).await.unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let shown: String = said.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_CHARS).collect();
        Err(self.failed(format!("it answers {status}{hint} {shown}")))
    }

    /// Reads a body of bounded size.
    async fn read(&self, mut answer: Response, most: u64) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.failed(innermost(&error)))? {
            if (bytes.len() + chunk.len()) as u64 > most {
                return Err(self.failed(format!("it sends more than {most} bytes where few belong")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn url(&self, path: &str) -> Result<Url, ImageError> {
        self.base.join(path).map_err(|error| self.failed(error.to_string()))
    }

    fn failed(&self, reason: String) -> ImageError {
        failed(&self.reference, reason)
    }

    /// Waits for a conversation with the registry, as long as there is time.
    fn wait<T>(&self, conversation: impl Future<Output = Result<T, ImageError>>) -> Result<T, ImageError> {
        let bounded = async { tokio::time::timeout_at(self.deadline, conversation).await };
        let ended = self.runtime.block_on(bounded);
        ended.unwrap_or_else(|_| Err(self.failed(format!("it took more than {} s", TOTAL_TIMEOUT.as_secs()))))
    }
}

impl ArtifactSource for Registry {
    fn manifest(&mut self) -> Result<Vec<u8>, ImageError> {
        let found = self.wait(self.pull_manifest(&self.reference.version))?;
        found.ok_or_else(|| ImageError::NotInRegistry(self.reference.to_string()))
    }

    fn signature(&mut self, manifest: Digest) -> Result<Option<Vec<u8>>, ImageError> {
        self.wait(self.pull_manifest(&Version::Tag(signature_tag(BlobDigest(manifest)))))
    }

    fn blob(&mut self, descriptor: &Descriptor, into: &mut File) -> Result<(), ImageError> {
        self.wait(self.pull_blob(descriptor, into))
    }
}

/// The tag that the signature of a manifest has: registries before version 1.1 of the specification cannot be asked what
/// refers to a manifest.
fn signature_tag(manifest: BlobDigest) -> String {
    format!("sha256-{}.sig", manifest.0)
}

fn failed(reference: &Reference, reason: String) -> ImageError {
    ImageError::Registry {
        image: reference.to_string(),
        reason,
    }
}

/// Whether a host is this machine. A name other than `localhost` may mean any.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// reqwest's own message only repeats the URL; the reason is at the end of the chain.
fn innermost(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(next) = source.source() {
        source = next;
    }
    source.to_string()
}

/// A file without a name that holds these bytes.
fn spooled(bytes: &[u8]) -> std::io::Result<File> {
    use std::io::Seek as _;
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_addresses_of_this_machine_go_without_tls() {
        for here in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.0.0.1",
            "[::1]:5000",
        ] {
            assert!(is_loopback(here), "{here}");
        }
        for other in [
            "r.example",
            "localhost.example",
            "10.0.0.1:5000",
            "[fe80::1]:5000",
            "127.0.0.1.example:80",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
