//! Keys, scopes and users.

use super::{TestServer, answer};
use crate::config::{ApiKeyConfig, AuthConfig, Config};
use crate::scope::Scope;
use sha2::{Digest as _, Sha256};

pub(super) fn key(text: &str, scopes: &[Scope], user: Option<&str>) -> ApiKeyConfig {
    ApiKeyConfig {
        name: text.to_owned(),
        sha256: hex::encode(Sha256::digest(text)),
        scopes: scopes.to_vec(),
        tenant: "default".to_owned(),
        user: user.map(str::to_owned),
    }
}

async fn guarded() -> TestServer {
    let keys = vec![
        key("all", &[Scope::Read, Scope::Api], None),
        key("looks", &[Scope::Read], None),
        key("anns", &[Scope::Api], Some("ann")),
    ];
    TestServer::with(Config {
        auth: AuthConfig { keys, required: false },
        ..Config::default()
    })
    .await
}

#[tokio::test]
async fn without_a_known_key_every_route_but_health_is_closed() {
    let server = guarded().await;
    for path in ["/health", "/live", "/ready"] {
        assert_eq!(server.get(path).await.status, 200);
    }
    for (method, path) in [
        ("GET", "/version"),
        ("POST", "/sandboxes"),
        ("GET", "/sandboxes"),
        ("DELETE", "/sandboxes"),
        ("GET", "/sandboxes/sb_1"),
        ("DELETE", "/sandboxes/sb_1"),
        ("POST", "/sandboxes/sb_1/extend"),
        ("POST", "/sandboxes/sb_1/exec"),
        ("POST", "/sandboxes/sb_1/files"),
        ("PUT", "/sandboxes/sb_1/files"),
        ("GET", "/sandboxes/sb_1/files"),
        ("DELETE", "/sandboxes/sb_1/files"),
        ("GET", "/sandboxes/sb_1/files/list"),
        ("GET", "/sandboxes/sb_1/files/stat"),
        ("GET", "/sandboxes/sb_1/files/glob"),
        ("POST", "/sandboxes/sb_1/files/move"),
        ("POST", "/sandboxes/sb_1/files/chmod"),
        ("GET", "/providers"),
        ("GET", "/providers/wasm"),
        ("POST", "/providers/test"),
        ("GET", "/images"),
        ("GET", "/images/x"),
        ("DELETE", "/images/x"),
        ("POST", "/images/pull"),
    ] {
        answer(server.request(method, path))
            .await
            .assert_error(401, "unauthorized");
        let wrong = server.request(method, path).header("X-API-Key", "al");
        answer(wrong).await.assert_error(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_key_opens_by_either_header() {
    let server = guarded().await;
    for (name, value) in [
        ("X-API-Key", "all"),
        ("Authorization", "Bearer all"),
        ("Authorization", "bearer all"),
    ] {
        assert_eq!(
            answer(server.request("GET", "/sandboxes").header(name, value))
                .await
                .status,
            200
        );
    }
    let basic = server.request("GET", "/sandboxes").header("Authorization", "Basic all");
    answer(basic).await.assert_error(401, "unauthorized");
}

#[tokio::test]
async fn a_key_without_the_scope_is_forbidden() {
    let server = guarded().await;
    let looks = |method, path| server.request(method, path).header("X-API-Key", "looks");
    assert_eq!(answer(looks("GET", "/sandboxes")).await.status, 200);
    answer(looks("POST", "/sandboxes").body("{}"))
        .await
        .assert_error(403, "forbidden");
}

#[tokio::test]
async fn a_key_of_one_user_acts_for_no_other() {
    let server = guarded().await;
    let anns = |method, path: &str| server.request(method, path).header("X-API-Key", "anns");
    let created = answer(anns("POST", "/sandboxes").body(r#"{"owner_id":"bob"}"#))
        .await
        .json();
    assert_eq!(created["owner_id"], "ann");
    answer(anns("GET", "/sandboxes").header("X-User-ID", "bob"))
        .await
        .assert_error(403, "forbidden");
    let others = answer(
        server
            .request("POST", "/sandboxes")
            .header("X-API-Key", "all")
            .body("{}"),
    )
    .await
    .json();
    let path = format!("/sandboxes/{}", others["id"].as_str().unwrap());
    answer(anns("GET", &path)).await.assert_error(404, "not_found");
}

#[tokio::test]
async fn a_user_sees_only_its_own_sandboxes() {
    let server = TestServer::start().await;
    let as_user = |user: &'static str, method, path: &str| server.request(method, path).header("X-User-ID", user);
    let created = answer(as_user(" ann ", "POST", "/sandboxes").body(r#"{"owner_id":"bob"}"#))
        .await
        .json();
    assert_eq!(created["owner_id"], "ann", "the header wins");
    let path = format!("/sandboxes/{}", created["id"].as_str().unwrap());
    assert_eq!(answer(as_user("ann", "GET", &path)).await.status, 200);
    answer(as_user("bob", "GET", &path))
        .await
        .assert_error(404, "not_found");
    let exec = as_user("bob", "POST", &format!("{path}/exec")).body(r#"{"command":"echo"}"#);
    answer(exec).await.assert_error(404, "not_found");
    assert_eq!(answer(as_user("bob", "GET", "/sandboxes")).await.text, "[]");
    assert_eq!(answer(as_user("bob", "DELETE", &path)).await.status, 200);
    assert_eq!(
        server.get(&path).await.status,
        200,
        "another user's DELETE changes nothing"
    );
    assert_eq!(server.delete(&path).await.status, 200);
    server.get(&path).await.assert_error(404, "not_found");
}

#[tokio::test]
async fn a_malformed_user_id_is_a_bad_request() {
    let server = TestServer::start().await;
    for user in ["", "a b", "a/b", "a\\b", &"x".repeat(129)] {
        let request = server.request("GET", "/sandboxes").header("X-User-ID", user);
        answer(request).await.assert_error(400, "bad_request");
    }
}

#[tokio::test]
async fn a_foreign_web_page_cannot_use_a_server_without_keys() {
    let server = TestServer::start().await;
    let from = |origin: &str| server.request("POST", "/sandboxes").header("Origin", origin).body("{}");
    answer(from("https://evil.example"))
        .await
        .assert_error(403, "forbidden");
    answer(from("null")).await.assert_error(403, "forbidden");
    assert_eq!(answer(from(&server.base)).await.status, 201);
}

#[tokio::test]
async fn request_that_a_browser_marks_as_cross_site_is_refused() {
    let mut config = Config::default();
    config.cors.origins = vec!["https://app.example".to_owned()];
    let server = TestServer::with(config).await;
    let sandbox = server.sandbox().await;
    let from = |path: &str, site: &str| server.request("GET", path).header("Sec-Fetch-Site", site);
    for path in [
        "/sandboxes",
        "/sandboxes/sb_aaaaaaaaaaaaaaaa",
        &format!("{sandbox}/exec/ws"),
    ] {
        for site in ["cross-site", "same-site"] {
            super::answer(from(path, site)).await.assert_error(403, "forbidden");
        }
    }
    for site in ["same-origin", "none"] {
        assert_eq!(super::answer(from("/sandboxes", site)).await.status, 200, "{site}");
    }
    let named = from("/sandboxes", "cross-site").header("Origin", "https://app.example");
    assert_eq!(super::answer(named).await.status, 200);
    // A link on another page may lead to the documentation.
    let docs = server
        .http
        .get(format!("{}/docs", server.base))
        .header("Sec-Fetch-Site", "cross-site");
    assert_eq!(super::answer(docs).await.status, 200);
}
