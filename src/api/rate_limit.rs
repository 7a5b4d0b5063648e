//! The rate limit: a token bucket for each client.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::config::{RateLimitBy, RateLimitConfig};
use crate::sandbox::{Caller, TenantId, UserId};

/// Buckets that are kept. When so many clients come within the time in which a bucket fills up, they share
/// [`SHARED_BUCKETS`] from there on: memory stays bounded whoever invents users or addresses.
const MAX_BUCKETS: usize = 65_536;
/// Buckets shared by clients while there are too many of them.
const SHARED_BUCKETS: u64 = 1024;
/// The part of an IPv6 address that tells one client from another: a household or a machine has the rest to itself.
const IPV6_CLIENT_BITS: u32 = 64;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const X_FORWARDED_FOR: &str = "x-forwarded-for";

type Buckets = RateLimiter<Client, DefaultKeyedStateStore<Client>, DefaultClock, StateInformationMiddleware>;

/// The limit of a server; none unless configured. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct RateLimit(Option<Arc<Limiter>>);

struct Limiter {
    buckets: Buckets,
    /// Someone is dropping buckets that are full again.
    cleaning: AtomicBool,
    by: RateLimitBy,
    burst: u32,
    /// Time in which a bucket gets one token.
    period: Duration,
    trusted_proxies: Vec<IpAddr>,
}

/// Whose bucket it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Client {
    Key(String),
    Owner(TenantId, Option<UserId>),
    Address(IpAddr),
    /// One of the buckets that many clients share, by a hash of their names.
    Shared(u64),
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Tokens of a full bucket.
    limit: u32,
    /// Tokens left.
    remaining: u32,
    /// Time until the bucket is full again.
    reset: Duration,
    /// Time until the next token, when there was none.
    wait: Option<Duration>,
}

impl RateLimit {
    /// The limit of a configuration.
    #[must_use]
    pub fn new(config: &RateLimitConfig) -> Self {
        let (Some(rate), Some(burst)) = (
            NonZeroU32::new(config.requests_per_second),
            NonZeroU32::new(config.burst),
        ) else {
            return Self(None);
        };
        let quota = Quota::per_second(rate).allow_burst(burst);
        Self(Some(Arc::new(Limiter {
            buckets: RateLimiter::keyed(quota).with_middleware(),
            cleaning: AtomicBool::new(false),
            by: config.by,
            burst: burst.get(),
            period: quota.replenish_interval(),
            trusted_proxies: config.trusted_proxies.clone(),
        })))
    }

    /// Takes a token from the client's bucket; `None` when there is no limit. `caller` is known when the request has a
    /// valid key, or needs none.
    pub fn check(&self, caller: Option<&Caller>, request: &Request) -> Option<Verdict> {
        let limiter = self.0.as_ref()?;
        let address = || {
            let peer = request.extensions().get::<ConnectInfo<SocketAddr>>()?.0.ip();
            Some(limiter.address(peer, request.headers()))
        };
        limiter.check(caller, address)
    }
}

impl Limiter {
    fn check(&self, caller: Option<&Caller>, address: impl FnOnce() -> Option<IpAddr>) -> Option<Verdict> {
        let client = match (self.by, caller) {
            (RateLimitBy::Key, Some(Caller { key: Some(key), .. })) => Client::Key(key.clone()),
            (RateLimitBy::Owner, Some(caller)) => Client::Owner(caller.tenant.clone(), caller.user.clone()),
            _ => Client::Address(address()?),
        };
        let client = if self.is_crowded() { shared(&client) } else { client };
        Some(match self.buckets.check_key(&client) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                self.verdict(remaining, None)
            }
            Err(not_until) => self.verdict(0, Some(not_until.wait_time_from(self.buckets.clock().now()))),
        })
    }

    fn verdict(&self, remaining: u32, wait: Option<Duration>) -> Verdict {
        Verdict {
            limit: self.burst,
            remaining,
            reset: self.period * self.burst.saturating_sub(remaining),
            wait,
        }
    }

    /// Whether there are too many buckets, also after those that are full again were dropped.
    fn is_crowded(&self) -> bool {
        if self.buckets.len() < MAX_BUCKETS {
            return false;
        }
        // One request cleans; the others that come meanwhile share.
        if self.cleaning.swap(true, Ordering::Acquire) {
            return true;
        }
        self.buckets.retain_recent();
        self.cleaning.store(false, Ordering::Release);
        self.buckets.len() >= MAX_BUCKETS
    }

    /// The client's address: the connection's, or, behind trusted proxies, the last one of `X-Forwarded-For` that none
    /// of them has. What stands before that one is what the client claims.
    fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let forwarded = headers.get_all(X_FORWARDED_FOR);
        let claimed = forwarded
            .iter()
            .rev()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.rsplit(','))
            .map_while(|text| text.trim().parse::<IpAddr>().ok());
        let mut address = peer.to_canonical();
        for further in claimed {
            if !self.trusted_proxies.contains(&address) {
                break;
            }
            address = further.to_canonical();
        }
        match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(whole) => {
                let client = u128::from(whole) & (u128::MAX << (128 - IPV6_CLIENT_BITS));
                IpAddr::V6(Ipv6Addr::from(client))
            }
        }
    }
}

fn shared(client: &Client) -> Client {
    let mut hasher = DefaultHasher::new();
    client.hash(&mut hasher);
    Client::Shared(hasher.finish() % SHARED_BUCKETS)
}

impl Verdict {
    /// Whole seconds until the next request has a chance, when this one had none.
    #[must_use]
    pub fn refused(&self) -> Option<u64> {
        self.wait.map(|wait| whole_seconds(wait).max(1))
    }

    /// Puts the state of the bucket into an answer. `X-RateLimit-Reset` counts seconds from now.
    pub fn describe(&self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, HeaderValue::from(self.limit));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RESET, HeaderValue::from(whole_seconds(self.reset)));
    }
}

/// Seconds, rounded up.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(config: &RateLimitConfig) -> Arc<Limiter> {
        RateLimit::new(config).0.unwrap()
    }

    fn slow(by: RateLimitBy) -> RateLimitConfig {
        RateLimitConfig {
            requests_per_second: 1,
            burst: 2,
            by,
            trusted_proxies: Vec::new(),
        }
    }

    fn caller(key: &str, user: &str) -> Caller {
        Caller {
            key: Some(key.to_owned()),
            user: UserId::parse(user).ok(),
            ..Caller::default()
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "a client may be at no address")]
    fn nowhere() -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, 1]))
    }

    #[test]
    fn a_bucket_holds_the_burst_and_reports_when_the_next_token_comes() {
        let limiter = limiter(&slow(RateLimitBy::Key));
        let ann = caller("a", "ann");
        let first = limiter.check(Some(&ann), nowhere).unwrap();
        assert_eq!((first.limit, first.remaining, first.refused()), (2, 1, None));
        assert_eq!(limiter.check(Some(&ann), nowhere).unwrap().remaining, 0);
        let refused = limiter.check(Some(&ann), nowhere).unwrap();
        assert_eq!((refused.remaining, refused.refused()), (0, Some(1)));
        let mut headers = HeaderMap::new();
        refused.describe(&mut headers);
        assert_eq!(headers[&LIMIT], "2");
        assert_eq!(headers[&REMAINING], "0");
        assert_eq!(headers[&RESET], "2");
    }

    #[test]
    fn clients_are_distinguished_by_key_owner_or_address() {
        let drained = |by, other: &Caller| {
            let limiter = limiter(&slow(by));
            for _ in 0..3 {
                limiter.check(Some(&caller("a", "ann")), nowhere);
            }
            limiter.check(Some(other), nowhere).unwrap().refused().is_some()
        };
        assert!(drained(RateLimitBy::Key, &caller("a", "bob")));
        assert!(!drained(RateLimitBy::Key, &caller("b", "ann")));
        assert!(drained(RateLimitBy::Owner, &caller("b", "ann")));
        assert!(!drained(RateLimitBy::Owner, &caller("a", "bob")));
        assert!(drained(RateLimitBy::Ip, &caller("b", "bob")));
    }

    #[test]
    fn without_a_key_the_address_counts() {
        let limiter = limiter(&slow(RateLimitBy::Key));
        for _ in 0..2 {
            assert!(limiter.check(None, nowhere).unwrap().refused().is_none());
        }
        assert!(limiter.check(None, nowhere).unwrap().refused().is_some());
        let elsewhere = || Some(IpAddr::from([192, 0, 2, 2]));
        assert!(limiter.check(None, elsewhere).unwrap().refused().is_none());
    }

    #[test]
    fn only_a_trusted_proxy_tells_the_address() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut config = slow(RateLimitBy::Ip);
        config.trusted_proxies = vec![ip("10.0.0.1"), ip("10.0.0.2")];
        let limiter = limiter(&config);
        let seen = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(X_FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
            }
            limiter.address(ip(peer), &headers)
        };
        assert_eq!(
            seen("192.0.2.1", &["198.51.100.1"]),
            ip("192.0.2.1"),
            "a client's own header"
        );
        assert_eq!(seen("10.0.0.1", &["198.51.100.1"]), ip("198.51.100.1"));
        assert_eq!(
            seen("10.0.0.1", &["203.0.113.9, 198.51.100.1"]),
            ip("198.51.100.1"),
            "the client claims 203…"
        );
        assert_eq!(
            seen("10.0.0.1", &["198.51.100.1", "10.0.0.2"]),
            ip("198.51.100.1"),
            "two proxies"
        );
        assert_eq!(seen("10.0.0.1", &["nonsense"]), ip("10.0.0.1"));
        assert_eq!(seen("10.0.0.1", &[]), ip("10.0.0.1"));
        assert_eq!(seen("::ffff:10.0.0.1", &["198.51.100.1"]), ip("198.51.100.1"));
        assert_eq!(seen("2001:db8:1:2:3:4:5:6", &[]), ip("2001:db8:1:2::"));
    }

    #[test]
    fn memory_is_bounded_however_many_clients_come() {
        let limiter = limiter(&slow(RateLimitBy::Key));
        for number in 0..MAX_BUCKETS + 5000 {
            limiter.check(Some(&caller(&number.to_string(), "ann")), nowhere);
        }
        let most = MAX_BUCKETS + usize::try_from(SHARED_BUCKETS).unwrap();
        assert!(limiter.buckets.len() <= most, "{}", limiter.buckets.len());
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert!(RateLimit::new(&RateLimitConfig::default()).0.is_none());
    }
}
