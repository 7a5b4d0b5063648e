//! Lists that may be long.

use std::collections::BTreeSet;

use reqwest::Url;
use serde_json::{Value, json};

use super::TestServer;
use crate::config::Limits;

/// The names in a list, and the address of the next page.
async fn page(server: &TestServer, url: &str, name: &str) -> (Vec<String>, Option<String>) {
    let response = server.http.get(format!("{}{url}", server.base)).send().await.unwrap();
    assert_eq!(response.status(), 200, "{url}");
    let next = response.headers().get("link").map(|link| {
        let link = link.to_str().unwrap();
        let target = link.strip_prefix('<').unwrap();
        target.strip_suffix(">; rel=\"next\"").unwrap().to_owned()
    });
    let list: Vec<Value> = response.json().await.unwrap();
    (
        list.iter()
            .map(|item| item[name].as_str().unwrap().to_owned())
            .collect(),
        next,
    )
}

/// All names, page by page, as a client that follows the links sees them.
async fn all_pages(server: &TestServer, first: &str, name: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut next = Some(first.to_owned());
    while let Some(url) = next {
        let (names, following) = page(server, &url, name).await;
        pages.push(names);
        next = following;
        assert!(pages.len() < 100, "the pages do not end");
    }
    pages
}

#[tokio::test]
async fn sandboxes_come_all_at_once_or_in_pages() {
    let server = TestServer::start().await;
    let mut made = Vec::new();
    for _ in 0..25 {
        made.push(server.sandbox().await.rsplit('/').next().unwrap().to_owned());
    }
    let (whole, next) = page(&server, "/api/v1/sandboxes", "id").await;
    assert_eq!((&whole, next), (&made, None), "oldest first");
    let pages = all_pages(&server, "/api/v1/sandboxes?limit=10", "id").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    let mut sorted = made.clone();
    sorted.sort();
    assert_eq!(pages.concat(), sorted, "in the order of ids");
    // The cursor need not exist any more.
    let (first, next) = page(&server, "/api/v1/sandboxes?limit=5", "id").await;
    server.delete(&format!("/sandboxes/{}", first[4])).await;
    let (second, _) = page(&server, &next.unwrap(), "id").await;
    assert_eq!(second, sorted[5..10]);
    for query in ["limit=0", "limit=1001", "limit=x", "after=banana"] {
        server
            .get(&format!("/sandboxes?{query}"))
            .await
            .assert_error(400, "bad_request");
    }
    let (rest, next) = page(&server, &format!("/api/v1/sandboxes?after={}", sorted[22]), "id").await;
    assert_eq!((rest.len(), next), (2, None));
}

#[tokio::test]
async fn list_of_sandboxes_with_much_metadata_comes_whole() {
    let server = TestServer::with_limits(Limits {
        max_label_bytes: 0,
        ..Limits::default()
    })
    .await;
    let mut ids = BTreeSet::new();
    for _ in 0..30 {
        let body = json!({"metadata": {"a": "\u{1}".repeat(60_000)}}).to_string();
        ids.insert(
            server.post("/sandboxes", body).await.json()["id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let list = server.get("/sandboxes").await.json();
    let listed: BTreeSet<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|view| view["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, ids);
    assert!(list[29]["metadata"]["a"] == json!("\u{1}".repeat(60_000)));
}

#[tokio::test]
async fn directory_comes_all_at_once_or_in_pages() {
    let server = TestServer::start().await;
    let sandbox = server.sandbox().await;
    let names: Vec<String> = (0..2500).map(|n| format!("é {n:04}&")).collect();
    for name in &names {
        let body = json!({"path": format!("/d/{name}"), "content": ""}).to_string();
        assert_eq!(server.post(&format!("{sandbox}/files"), body).await.status, 200);
    }
    let list = format!("/api/v1{sandbox}/files/list?path=/d");
    let (whole, next) = page(&server, &list, "name").await;
    assert_eq!((whole == names, next), (true, None));
    let pages = all_pages(&server, &format!("{list}&limit=700"), "name").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [700, 700, 700, 400]);
    assert!(pages.concat() == names);
    let mut url = Url::parse(&format!("{}{list}", server.base)).unwrap();
    url.query_pairs_mut().append_pair("after", &names[2497]);
    let rest: Vec<Value> = server.http.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(rest.len(), 2);
    for query in ["limit=0", "limit=1001"] {
        let path = format!("{sandbox}/files/list?path=/d&{query}");
        server.get(&path).await.assert_error(400, "bad_request");
    }
    server
        .get(&format!("{sandbox}/files/list?path=/none"))
        .await
        .assert_error(404, "not_found");
}
