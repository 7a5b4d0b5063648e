//! Which web pages may use a server that asks for no API key.
//!
//! Such a server trusts whoever reaches it, and every page that its user opens runs on that user's machine. Two things
//! give a page away: browsers send `Origin` when it is not ours, and `Host` is a name of the page's owner when that
//! owner had the name point to this machine (DNS rebinding).

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

use super::error::ApiError;
use crate::config::Config;

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
            shown(host)
        )));
    }
    let Some(origin) = headers.get(header::ORIGIN).map(|origin| origin.to_str().ok()) else {
        return Ok(());
    };
    let page_host = origin.and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let same = page_host.is_some() && page_host == host;
    let allowed = origin.is_some_and(|origin| config.cors.origins.iter().any(|known| known == origin));
    if same || allowed {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "requests from other web pages need a server with API keys, or their origin in cors.origins",
    ))
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
fn shown(text: &str) -> String {
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
}
