//! Counters and histograms of the server, without names of sandboxes, owners or tenants.
//!
//! Labels have few values: providers, and the enums below.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What became of a request for a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CreateOutcome {
    /// It was made.
    Ok,
    /// The runtime failed.
    Error,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommandOutcome {
    /// With status 0.
    Ok,
    /// With another status.
    Nonzero,
    /// It passed its timeout.
    Timeout,
    /// Its sandbox ended, or the server stopped.
    Killed,
    /// Nobody waited for its end.
    Cancelled,
    /// The runtime lost it or could not start it.
    Error,
}

impl CreateOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

impl CommandOutcome {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Nonzero,
        Self::Timeout,
        Self::Killed,
        Self::Cancelled,
        Self::Error,
    ];

    /// Its name in answers and labels.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Nonzero => "nonzero",
            Self::Timeout => "timeout",
            Self::Killed => "killed",
            Self::Cancelled => "cancelled",
            Self::Error => "error",
        }
    }
}

/// Why a request was refused though nothing was wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// A quota of its owner.
    Quota,
    /// The server is full.
    Capacity,
    /// Too many requests.
    Rate,
    /// The sandbox runs as many commands as it may.
    Commands,
}

impl Rejection {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Quota, Self::Capacity, Self::Rate, Self::Commands];

    /// Its name in answers and labels.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Quota => "quota",
            Self::Capacity => "capacity",
            Self::Rate => "rate",
            Self::Commands => "commands",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProvider {
    provider: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CreateLabels {
    provider: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    provider: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectionLabels {
    reason: &'static str,
}

/// How long something took, by provider.
#[derive(Debug, Clone)]
struct Latency {
    histogram: Family<OfProvider, Histogram, fn() -> Histogram>,
    /// Of all together: a histogram does not tell its sum to Rust.
    nanoseconds: Family<OfProvider, Counter>,
}

impl Latency {
    fn new(histogram: fn() -> Histogram) -> Self {
        Self {
            histogram: Family::new_with_constructor(histogram),
            nanoseconds: Family::default(),
        }
    }

    fn observe(&self, provider: &'static str, time: Duration) {
        let labels = OfProvider { provider };
        self.histogram.get_or_create(&labels).observe(time.as_secs_f64());
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.get_or_create(&labels).inc_by(nanoseconds);
    }

    fn total(&self, provider: &'static str) -> Duration {
        let nanoseconds = self.nanoseconds.get(&OfProvider { provider });
        Duration::from_nanos(nanoseconds.map_or(0, |nanoseconds| nanoseconds.get()))
    }
}

/// Counts since the server started. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    creates: Family<CreateLabels, Counter>,
    create_time: Latency,
    commands: Family<CommandLabels, Counter>,
    command_time: Latency,
    destroys: Family<OfProvider, Counter>,
    /// Sandboxes that ended, of all providers.
    ended: Counter,
    rejections: Family<RejectionLabels, Counter>,
    bytes_in: Counter,
    bytes_out: Counter,
}

/// How often something was done on a provider, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationCount {
    /// Times it went well.
    pub succeeded: u64,
    /// Times it did not.
    pub failed: u64,
    /// Times it was measured.
    pub measured: u64,
    /// Time of these in all.
    pub time: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        // A warm create takes 10 µs, a pull of an image minutes; 15 buckets from 10 µs to 47 minutes.
        let create: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_01, 4.0, 15));
        // A command takes from 300 µs to hours; 14 buckets from 100 µs to 1.9 hours.
        let command: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_1, 4.0, 14));
        Self {
            creates: Family::default(),
            create_time: Latency::new(create),
            commands: Family::default(),
            command_time: Latency::new(command),
            destroys: Family::default(),
            ended: Counter::default(),
            rejections: Family::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
        }
    }
}

impl Metrics {
    /// Counts a sandbox that was asked for.
    pub(super) fn created(&self, provider: &'static str, outcome: CreateOutcome, time: Duration) {
        self.creates
            .get_or_create(&CreateLabels {
                provider,
                outcome: outcome.label(),
            })
            .inc();
        if outcome == CreateOutcome::Ok {
            self.create_time.observe(provider, time);
        }
    }

    /// Counts a sandbox that ended.
    pub(super) fn destroyed(&self, provider: &'static str) {
        self.destroys.get_or_create(&OfProvider { provider }).inc();
        self.ended.inc();
    }

    /// Sandboxes that ended.
    pub(super) fn sandboxes_ended(&self) -> u64 {
        self.ended.get()
    }

    /// Counts a command that ended.
    pub(super) fn command_ended(&self, provider: &'static str, outcome: CommandOutcome, time: Duration) {
        self.commands
            .get_or_create(&CommandLabels {
                provider,
                outcome: outcome.label(),
            })
            .inc();
        self.command_time.observe(provider, time);
    }

    /// Counts a request that was refused because of a limit.
    pub fn rejected(&self, reason: Rejection) {
        self.rejections
            .get_or_create(&RejectionLabels { reason: reason.label() })
            .inc();
    }

    /// Counts bytes that went into sandboxes: files and standard input.
    pub(super) fn received(&self, bytes: u64) {
        self.bytes_in.inc_by(bytes);
    }

    /// Counts bytes that came out of sandboxes: files and output of commands.
    pub(super) fn sent(&self, bytes: u64) {
        self.bytes_out.inc_by(bytes);
    }

    /// Bytes that went into sandboxes.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.get()
    }

    /// Bytes that came out of sandboxes.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.get()
    }

    /// How many requests were refused for this reason.
    #[must_use]
    pub fn rejections(&self, reason: Rejection) -> u64 {
        self.rejections
            .get(&RejectionLabels { reason: reason.label() })
            .map_or(0, |count| count.get())
    }

    /// Sandboxes asked for on a provider.
    #[must_use]
    pub fn creates(&self, provider: &'static str) -> OperationCount {
        let count = |outcome: CreateOutcome| {
            self.creates
                .get(&CreateLabels {
                    provider,
                    outcome: outcome.label(),
                })
                .map_or(0, |count| count.get())
        };
        let succeeded = count(CreateOutcome::Ok);
        OperationCount {
            succeeded,
            failed: count(CreateOutcome::Error),
            measured: succeeded,
            time: self.create_time.total(provider),
        }
    }

    /// How many commands on a provider ended so.
    #[must_use]
    pub fn commands_that(&self, provider: &'static str, outcome: CommandOutcome) -> u64 {
        self.commands
            .get(&CommandLabels {
                provider,
                outcome: outcome.label(),
            })
            .map_or(0, |count| count.get())
    }

    /// Commands run on a provider; one that ended by itself went well, whatever its status.
    #[must_use]
    pub fn commands(&self, provider: &'static str) -> OperationCount {
        let (mut succeeded, mut failed) = (0, 0);
        for outcome in CommandOutcome::ALL {
            let count = self.commands_that(provider, outcome);
            match outcome {
                CommandOutcome::Ok | CommandOutcome::Nonzero => succeeded += count,
                _ => failed += count,
            }
        }
        OperationCount {
            succeeded,
            failed,
            measured: succeeded + failed,
            time: self.command_time.total(provider),
        }
    }

    /// Puts all of it into a registry, for an exposition in the format of `OpenMetrics`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("creates", "Sandboxes asked for, by outcome", self.creates.clone());
        registry.register_with_unit(
            "create",
            "Time to make a sandbox",
            Unit::Seconds,
            self.create_time.histogram.clone(),
        );
        registry.register("destroys", "Sandboxes destroyed or expired", self.destroys.clone());
        registry.register("execs", "Commands that ended, by outcome", self.commands.clone());
        registry.register_with_unit(
            "exec",
            "Time from the start of a command to its end",
            Unit::Seconds,
            self.command_time.histogram.clone(),
        );
        registry.register(
            "rejected",
            "Requests refused because of a limit",
            self.rejections.clone(),
        );
        registry.register_with_unit(
            "received",
            "Files and input that went into sandboxes",
            Unit::Bytes,
            self.bytes_in.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Files and output that came out of sandboxes",
            Unit::Bytes,
            self.bytes_out.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_counted_once() {
        let metrics = Metrics::default();
        let second = Duration::from_secs(1);
        metrics.created("wasm", CreateOutcome::Ok, second);
        metrics.created("wasm", CreateOutcome::Error, second);
        metrics.command_ended("wasm", CommandOutcome::Nonzero, second);
        metrics.command_ended("wasm", CommandOutcome::Timeout, second);
        metrics.rejected(Rejection::Quota);
        metrics.received(5);
        let creates = metrics.creates("wasm");
        assert_eq!((creates.succeeded, creates.failed, creates.measured), (1, 1, 1));
        let commands = metrics.commands("wasm");
        assert_eq!((commands.succeeded, commands.failed, commands.measured), (1, 1, 2));
        assert_eq!(metrics.commands("docker").measured, 0);
        assert_eq!(metrics.rejections(Rejection::Quota), 1);
        assert_eq!(metrics.rejections(Rejection::Rate), 0);
        assert_eq!((metrics.bytes_in(), metrics.bytes_out()), (5, 0));

        let mut registry = Registry::with_prefix("wisp");
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("wisp_execs_total{provider=\"wasm\",outcome=\"timeout\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("wisp_exec_seconds_count{provider=\"wasm\"} 2\n"),
            "{text}"
        );
        assert!(text.contains("wisp_received_bytes_total 5\n"), "{text}");
    }
}
