//! `/docs`: a page that shows the description of the API and tries its routes. It is all here: no other site is asked.

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use super::router::AppState;

const PAGE: &str = include_str!("docs/index.html");
const SCRIPT: &str = include_str!("docs/docs.js");
const STYLE: &str = include_str!("docs/docs.css");

/// What the page may load and reach: itself and the API beside it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and its parts. They are open: nothing in them is secret.
pub fn router() -> Router<AppState> {
    Router::new()
        .route("/docs", get(|| async { asset("text/html; charset=utf-8", PAGE) }))
        .route(
            "/docs/docs.js",
            get(|| async { asset("text/javascript; charset=utf-8", SCRIPT) }),
        )
        .route(
            "/docs/docs.css",
            get(|| async { asset("text/css; charset=utf-8", STYLE) }),
        )
        .route("/docs/", get(|| async { Redirect::permanent("/docs") }))
        .route("/api/v1/docs", get(|| async { Redirect::permanent("/docs") }))
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A newer server may have a newer page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use crate::api::tests::TestServer;

    #[tokio::test]
    async fn the_page_and_all_it_names_are_served_without_a_key() {
        let server = TestServer::start().await;
        let get = async |path: &str| server.http.get(format!("{}{path}", server.base)).send().await.unwrap();
        let page = get("/docs").await;
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
        let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        let text = page.text().await.unwrap();
        for (quoted, attribute) in [("src=\"", "script"), ("href=\"", "style")] {
            for rest in text.split(quoted).skip(1) {
                let address = rest.split('"').next().unwrap();
                if address.starts_with('/') {
                    assert_eq!(get(address).await.status(), 200, "{attribute} {address}");
                } else {
                    assert!(
                        address.starts_with(['#']) || address == "data:,",
                        "{address} is elsewhere"
                    );
                }
            }
        }
        for path in ["/docs/", "/api/v1/docs"] {
            assert_eq!(get(path).await.url().path(), "/docs");
        }
    }
}
