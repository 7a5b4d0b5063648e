//! The page at `/docs` in a browser: it shows every route of the description.

mod server_support;

use std::path::Path;
use std::process::Command;

use server_support::api::Api;
use server_support::python::run;
use server_support::server::Server;

/// The picture of the page that the documentation shows; `WISP_RECORD=1` takes it anew.
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/images/api-docs.png");

/// Opens a page without a window, as root too (`--no-sandbox`), and without what a browser asks of its maker's hosts.
fn browser(profile: &Path) -> Command {
    let mut command = Command::new("chromium");
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        // Its own clock, which goes on when the page waits for nothing.
        .args(["--virtual-time-budget=5000", "--window-size=1160,760"])
        .arg(format!("--user-data-dir={}", profile.display()));
    command
}

#[tokio::test]
async fn the_page_shows_every_route_in_a_browser() {
    let server = Server::start("127.0.0.1:0", &[]);
    let document = Api::new(server.url(), None).get("/openapi.json").await.json();
    let ids: Vec<String> = document["paths"]
        .as_object()
        .expect("paths")
        .values()
        .flat_map(|item| item.as_object().expect("operations").values())
        .map(|operation| operation["operationId"].as_str().expect("an id").to_owned())
        .collect();
    assert!(ids.len() > 20, "{ids:?}");

    let page = format!(
        "{}/docs",
        server.url().strip_suffix("/api/v1").expect("the API's prefix")
    );
    let profile = tempfile::tempdir().expect("a directory");
    let shown = run(browser(profile.path()).arg("--dump-dom").arg(&page));
    for id in &ids {
        assert!(shown.contains(&format!("id=\"{id}\"")), "{id} is not shown:\n{shown}");
    }
    let rendered = format!("data-rendered=\"{}\"", ids.len());
    assert!(shown.contains(&rendered), "{rendered} is not in the page:\n{shown}");

    if std::env::var_os("WISP_RECORD").is_some() {
        run(browser(profile.path())
            .arg(format!("--screenshot={PICTURE}"))
            .arg(&page));
    }
}
