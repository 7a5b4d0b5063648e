//! Checks of `Host`, `Origin` and `Sec-Fetch-Site`: which web pages may use a server without API keys.
//!
//! Such a server trusts whoever reaches it, and every page that its user opens runs on that user's machine. Three things
//! give a page away: browsers send `Origin` with most requests when it is not ours; they send `Sec-Fetch-Site` with
//! every request, also with those that have no `Origin`, such as the one of an `<img>` (W3C Fetch Metadata); and `Host`
//! is a name of the page's owner when that owner had the name point to this machine (DNS rebinding).

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use crate::config::Config;

/// How the page that makes a request stands to this server: `same-origin`, `same-site`, `cross-site`, or `none` for what
/// the user typed.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The layer that refuses two `Host` or two `Origin` headers: which of them holds would be a guess, and a proxy in front
/// may guess otherwise (RFC 9112, section 3.2).
pub async fn refuse_ambiguous(request: Request, next: Next) -> Response {
    for name in [header::HOST, header::ORIGIN] {
        if request.headers().get_all(&name).iter().nth(1).is_some() {
            return ApiError::bad_request(format!("the header {name} is given twice")).into_response();
        }
    }
    next.run(request).await
}

/// Refuses a request that a foreign page may have made.
pub fn check(config: &Config, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(Authority::as_str));
    // Without a Host it is no browser.
    if let Some(host) = host
        && !is_ours(config, host)
    {
        return Err(ApiError::forbidden(format!(
            "this server has no API keys and does not answer to the host name {}; use localhost, add the name to \
             allowed_hosts in its configuration, or make an API key (wisp keys create)",
            excerpt(host)
        )));
    }
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().ok());
    let page = origin.flatten();
    if page.is_some_and(|page| config.cors.origins.iter().any(|known| known == page)) {
        return Ok(());
    }
    let page_host = page.and_then(|page| page.split_once("://")).map(|(_, host)| host);
    let same_host = page_host.is_some() && page_host == host;
    if (origin.is_none() || same_host) && !is_foreign(headers) {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "requests from other web pages need a server with API keys, or their origin in cors.origins",
    ))
}

/// Whether a browser says that another site made the request. What is no browser says nothing.
fn is_foreign(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    sites.any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// Whether a `Host` is one that only this machine's user can have meant. Behind an address that other machines reach,
/// also any IP address and any name without a dot: a stranger can have neither point here.
fn is_ours(config: &Config, host: &str) -> bool {
    let Ok(host) = host.parse::<Authority>() else {
        return false;
    };
    let name = host.host().trim_end_matches('.').to_ascii_lowercase();
    let reachable = !config.listen.ip().is_loopback();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let local = match address {
        Ok(address) => address.is_loopback() || reachable,
        Err(_) => name == "localhost" || name.ends_with(".localhost") || (reachable && !name.contains('.')),
    };
    local
        || config
            .allowed_hosts
            .iter()
            .any(|known| known.eq_ignore_ascii_case(&name))
}

/// A client's text, fit for a message.
fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn request(config: &Config, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        check(config, &Uri::from_static("/api/v1/sandboxes"), &headers).is_ok()
    }

    #[test]
    fn names_of_this_machine_are_answered_to_and_others_are_not() {
        let config = Config {
            allowed_hosts: vec!["wisp.example".to_owned()],
            ..Config::default()
        };
        for host in [
            "localhost",
            "localhost:7423",
            "LocalHost:80",
            "app.localhost:1",
            "127.0.0.1:7423",
            "127.1.2.3",
            "[::1]:7423",
            "wisp.example",
            "WISP.example:443",
        ] {
            assert!(request(&config, host, None), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:7423",
            "localhost.evil.example",
            "10.0.0.1",
            "wisp",
            "127.0.0.1.evil.example",
            "notlocalhost",
            "[::2]",
            "a b",
        ] {
            assert!(!request(&config, host, None), "{host}");
        }
    }

    #[test]
    fn a_server_that_others_reach_answers_to_what_no_stranger_can_own() {
        let config = Config {
            listen: "0.0.0.0:7423".parse().unwrap(),
            ..Config::default()
        };
        for (host, answered) in [
            ("10.0.0.1:7423", true),
            ("wisp:7423", true),
            ("localhost", true),
            ("evil.example", false),
        ] {
            assert_eq!(request(&config, host, None), answered, "{host}");
        }
    }

    #[test]
    fn pages_of_our_own_and_of_the_configuration_may_call() {
        let mut config = Config::default();
        config.cors.origins = vec!["https://app.example".to_owned()];
        for (origin, may) in [
            ("http://localhost:7423", true),
            ("https://app.example", true),
            ("https://app.example.evil.example", false),
            ("http://localhost:8000", false),
            ("null", false),
        ] {
            assert_eq!(request(&config, "localhost:7423", Some(origin)), may, "{origin}");
        }
    }

    #[test]
    fn requests_that_a_browser_marks_as_foreign_are_refused() {
        let mut config = Config::default();
        config.cors.origins = vec!["https://app.example".to_owned()];
        for (site, origin, may) in [
            ("none", None, true),
            ("same-origin", None, true),
            ("same-origin", Some("http://localhost:7423"), true),
            ("same-site", None, false),
            ("cross-site", None, false),
            ("cross-site", Some("http://localhost:7423"), false),
            ("cross-site", Some("https://app.example"), true),
            ("cross-site", Some("https://other.example"), false),
            ("Cross-Site", None, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("localhost:7423"));
            headers.insert(SEC_FETCH_SITE, HeaderValue::from_static(site));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            let checked = check(&config, &Uri::from_static("/api/v1/sandboxes"), &headers);
            assert_eq!(checked.is_ok(), may, "{site} {origin:?}");
        }
    }
}
