//! How the providers are. Whoever asks never waits long: a check that takes its time goes on in the background, and the
//! answer is what the last one found.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::manager::guarded;
use crate::provider::{Provider, ProviderError};

/// A provider that does not answer a health check in this time is unhealthy.
pub(super) const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long whoever asks waits for a check that runs. A healthy engine answers in a few milliseconds.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long the last result is reported while a newer check is still running.
const MEMORY: Duration = Duration::from_secs(30);

/// What a health check found.
#[derive(Debug)]
pub struct Checked {
    /// Why the provider cannot create sandboxes, if so.
    pub health: Result<(), ProviderError>,
    /// How long the check took.
    pub latency: Duration,
    /// When the check ended.
    pub at: SystemTime,
}

/// The health checks of one provider, of which one runs at a time.
pub(super) struct HealthChecks {
    provider: Arc<dyn Provider>,
    /// How long a check may take.
    timeout: Duration,
    /// What the last check found.
    last: watch::Sender<Option<Arc<Checked>>>,
    /// When the check that runs began.
    running: Mutex<Option<Instant>>,
}

impl HealthChecks {
    pub(super) fn new(provider: Arc<dyn Provider>) -> Arc<Self> {
        Self::with_timeout(provider, HEALTH_TIMEOUT)
    }

    fn with_timeout(provider: Arc<dyn Provider>, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            provider,
            timeout,
            last: watch::Sender::new(None),
            running: Mutex::new(None),
        })
    }

    pub(super) fn provider(&self) -> &Arc<dyn Provider> {
        &self.provider
    }

    /// How the provider is: what a check finds that begins now, or has begun; when that takes too long, what the last
    /// one found, if it is not long ago.
    pub(super) async fn current(self: &Arc<Self>) -> Arc<Checked> {
        let mut last = self.last.subscribe();
        let since = self.begin();
        // The sender lives as long as this.
        let _ = tokio::time::timeout(PATIENCE.saturating_sub(since.elapsed()), last.changed()).await;
        let known = last.borrow().clone();
        known
            .filter(|checked| checked.at.elapsed().is_ok_and(|age| age < MEMORY))
            .unwrap_or_else(|| Arc::new(Checked::without_answer(since.elapsed())))
    }

    /// What the check that runs now finds, however long it takes.
    pub(super) async fn awaited(self: &Arc<Self>) -> Arc<Checked> {
        let mut last = self.last.subscribe();
        let since = self.begin();
        // As above.
        let _ = last.changed().await;
        let known = last.borrow().clone();
        known.unwrap_or_else(|| Arc::new(Checked::without_answer(since.elapsed())))
    }

    /// Begins a check, unless one runs. Returns when it began.
    fn begin(self: &Arc<Self>) -> Instant {
        let mut running = self.running.lock();
        if let Some(since) = *running {
            return since;
        }
        let since = Instant::now();
        *running = Some(since);
        let checks = Arc::clone(self);
        tokio::spawn(async move {
            let checked = checks.check(since).await;
            // Under the lock, so that a later check does not end before this one is told.
            let mut running = checks.running.lock();
            *running = None;
            checks.last.send_replace(Some(Arc::new(checked)));
        });
        since
    }

    async fn check(&self, since: Instant) -> Checked {
        match tokio::time::timeout(self.timeout, guarded(self.provider.health())).await {
            Ok(health) => Checked {
                health,
                latency: since.elapsed(),
                at: SystemTime::now(),
            },
            Err(_) => Checked::without_answer(since.elapsed()),
        }
    }
}

impl Checked {
    fn without_answer(latency: Duration) -> Self {
        Self {
            health: Err(ProviderError::Unavailable("no answer to the health check".to_owned())),
            latency,
            at: SystemTime::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::provider::fake::FakeProvider;

    const SHORT_TIMEOUT: Duration = Duration::from_millis(700);

    fn checks() -> (Arc<FakeProvider>, Arc<HealthChecks>) {
        let provider = Arc::new(FakeProvider::default());
        let checks = HealthChecks::with_timeout(Arc::clone(&provider) as Arc<dyn Provider>, SHORT_TIMEOUT);
        (provider, checks)
    }

    #[tokio::test]
    async fn a_provider_that_answers_is_as_it_is_now() {
        let (provider, checks) = checks();
        for away in [false, true, false] {
            provider.away.store(away, Ordering::SeqCst);
            assert_eq!(checks.current().await.health.is_err(), away);
            assert_eq!(checks.awaited().await.health.is_err(), away);
        }
    }

    #[tokio::test]
    async fn one_that_hangs_is_as_it_was_until_its_check_times_out() {
        let (provider, checks) = checks();
        assert!(checks.current().await.health.is_ok());
        provider.hangs.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        assert!(checks.current().await.health.is_ok(), "it may only be slow");
        assert!(begun.elapsed() < SHORT_TIMEOUT);
        assert!(checks.awaited().await.health.is_err());
        assert!(begun.elapsed() >= SHORT_TIMEOUT);
        assert!(checks.current().await.health.is_err(), "the last check timed out");
    }

    #[tokio::test]
    async fn one_that_hangs_from_the_start_is_not_healthy() {
        let (provider, checks) = checks();
        provider.hangs.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        assert!(checks.current().await.health.is_err());
        assert!(begun.elapsed() < SHORT_TIMEOUT);
    }

    #[tokio::test]
    async fn a_check_that_panics_is_followed_by_others() {
        let (provider, checks) = checks();
        provider.panics.store(true, Ordering::SeqCst);
        assert!(checks.current().await.health.is_err());
        provider.panics.store(false, Ordering::SeqCst);
        assert!(checks.current().await.health.is_ok());
    }
}
