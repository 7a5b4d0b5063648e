//! Images that are pulled and removed over the API.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{TestServer, answer};
use crate::config::{AuthConfig, Config};
use crate::provider::fake::FakeProvider;
use crate::sandbox::{ImageCatalog, ImageCatalogError, ImageDescription};
use crate::scope::Scope;

/// `python:3.12` on top of `alpine:latest`, until the provider removes them.
struct Installed(Arc<FakeProvider>);

#[async_trait]
impl ImageCatalog for Installed {
    async fn list(&self) -> Result<Vec<ImageDescription>, ImageCatalogError> {
        let removed = self.0.removed_images.lock();
        let images = [("alpine:latest", None), ("python:3.12", Some("alpine"))];
        let images = images.into_iter().filter(|(name, _)| !removed.contains(*name));
        Ok(images.map(|(name, parent)| image(name, parent)).collect())
    }

    async fn get(&self, name: &str) -> Result<Option<ImageDescription>, ImageCatalogError> {
        Ok(self
            .list()
            .await?
            .into_iter()
            .find(|image| image.names().iter().any(|known| known == name)))
    }
}

fn image(name: &str, parent: Option<&str>) -> ImageDescription {
    ImageDescription {
        name: name.to_owned(),
        aliases: vec![format!("my-{name}")],
        parent: parent.map(str::to_owned),
        version: "1".to_owned(),
        provider: "wasm".to_owned(),
        size_bytes: 1,
        digest: "sha256:00".to_owned(),
        provenance: String::new(),
        licence: "MIT".to_owned(),
        capabilities: Vec::new(),
        known_limits: Vec::new(),
    }
}

async fn server() -> TestServer {
    TestServer::with_images(Config::default(), |provider| Arc::new(Installed(provider))).await
}

impl TestServer {
    /// The lines of a pull.
    async fn pulled(&self, body: &'static str) -> Vec<Value> {
        let pulled = self.post("/images/pull", body).await;
        assert_eq!(pulled.status, 200, "{pulled:?}");
        assert!(pulled.text.ends_with('\n'), "{pulled:?}");
        let lines = pulled.text.lines();
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn audited(&self) -> Vec<(String, String)> {
        let trail = self.get("/audit").await.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let entries = trail.as_array().unwrap().iter();
        entries
            .map(|entry| (text(&entry["action"]), text(&entry["target"])))
            .collect()
    }
}

#[tokio::test]
async fn a_pull_reports_its_steps_and_then_its_end() {
    let server = server().await;
    let step = |image: &str| json!({"status": format!("pulling {image}"), "part": "layer", "current": 1, "total": 2});
    assert_eq!(
        server.pulled(r#"{"image":"python:3.12","provider":""}"#).await,
        [step("python:3.12"), json!({"type": "done", "image": "python:3.12"})]
    );
    assert_eq!(
        server.pulled(r#"{"image":"broken"}"#).await,
        [
            step("broken"),
            json!({"type": "error", "code": "unavailable", "message": "the registry is away"})
        ]
    );
    let panicked = server.pulled(r#"{"image":"panic"}"#).await;
    assert_eq!(panicked[1]["code"], "provider_error", "{panicked:?}");
    let audited = server.audited().await;
    assert_eq!(audited[2], ("image.pull".to_owned(), "python:3.12".to_owned()));
}

#[tokio::test]
async fn a_pull_of_an_image_that_is_there_is_done_at_once() {
    let server = server().await;
    assert_eq!(
        server.pulled(r#"{"image":"alpine:latest","provider":"wasm"}"#).await,
        [json!({"type": "done", "image": "alpine:latest"})]
    );
}

#[tokio::test]
async fn a_pull_that_cannot_begin_is_an_error_and_no_stream() {
    let server = server().await;
    for (body, status, code) in [
        (r#"{"image":"nothing"}"#, 404, "not_found"),
        (r#"{"image":"alpine:latest","provider":"mars"}"#, 404, "not_found"),
        (r#"{"image":""}"#, 400, "bad_request"),
        (r#"{"image":"a b"}"#, 400, "bad_request"),
        (r#"{"image":7}"#, 400, "bad_request"),
        ("{}", 400, "bad_request"),
        ("", 400, "bad_request"),
    ] {
        server.post("/images/pull", body).await.assert_error(status, code);
    }
    server.provider.away.store(true, std::sync::atomic::Ordering::SeqCst);
    let away = server.post("/images/pull", r#"{"image":"alpine:latest"}"#).await;
    away.assert_error(503, "unavailable");
}

#[tokio::test]
async fn a_pull_keeps_no_server_from_stopping() {
    let mut server = server().await;
    let request = server.request("POST", "/images/pull").body(r#"{"image":"slow"}"#);
    let mut pull = request.send().await.unwrap();
    assert!(pull.chunk().await.unwrap().is_some());
    server.stop.take().unwrap().send(()).unwrap();
    let last: Value = serde_json::from_str(&pull.text().await.unwrap()).unwrap();
    assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!("unavailable")));
    server.ended.await.unwrap();
}

#[tokio::test]
async fn an_image_that_nothing_uses_is_removed() {
    let server = server().await;
    let removed = server.delete("/images/my-python:3.12").await;
    assert_eq!(
        (removed.status, removed.text.as_str()),
        (200, r#"{"status":"deleted"}"#)
    );
    server.get("/images/python:3.12").await.assert_error(404, "not_found");
    let again = server.delete("/images/python:3.12").await;
    again.assert_error(404, "not_found");
    assert_eq!(
        server.audited().await,
        [("image.delete".to_owned(), "python:3.12".to_owned())]
    );
    assert_eq!(server.delete("/images/alpine:latest").await.status, 200);
}

#[tokio::test]
async fn an_image_that_sandboxes_use_stays_until_they_are_gone() {
    let server = server().await;
    let sandbox = server.sandbox_with(r#"{"image":"python:3.12"}"#).await;
    let refused = server.delete("/images/my-python:3.12").await;
    refused.assert_error(409, "conflict");
    assert!(server.audited().await.is_empty());
    server.delete(&sandbox).await;
    assert_eq!(server.delete("/images/my-python:3.12").await.status, 200);
}

#[tokio::test]
async fn an_image_that_another_builds_on_stays() {
    let server = server().await;
    let refused = server.delete("/images/alpine:latest").await;
    refused.assert_error(409, "conflict");
    assert!(refused.text.contains("python:3.12"), "{refused:?}");
    assert!(server.provider.removed_images.lock().is_empty());
}

#[tokio::test]
async fn only_administrators_change_images() {
    let server = TestServer::with(Config {
        auth: AuthConfig {
            keys: vec![super::auth::key("works", &[Scope::Api], None)],
            required: true,
        },
        ..Config::default()
    })
    .await;
    for (method, path) in [("POST", "/images/pull"), ("DELETE", "/images/python:3.12")] {
        let request = server.request(method, path).header("X-API-Key", "works");
        let answered = answer(request.body(r#"{"image":"python:3.12"}"#)).await;
        answered.assert_error(403, "forbidden");
    }
}
