//! What an attack may do to others.

use std::time::Duration;

/// The bounds in force.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of the bystander's answers, the 99th percentile.
    pub bystander_p99: Duration,
    /// Of the bystander's answers, the latest.
    pub bystander_max: Duration,
    /// Of `/health` on an open connection, the latest.
    pub health_max: Duration,
    /// How late the answer of an exec may be after its deadline.
    pub overshoot: Duration,
    /// How long after the end of the attack its work may go on.
    pub work_over: Duration,
    /// Private memory beyond 1.5 times what the attack's sandboxes may use, MiB.
    pub peak_slack_mib: u64,
    /// Private memory that may stay after the attack, MiB.
    pub kept_mib: u64,
    /// How long the memory may take to come back.
    pub back_within: Duration,
}

/// On an idle machine, release build: what `THREAT_MODEL.md` promises.
const STRICT: Bounds = Bounds {
    bystander_p99: Duration::from_millis(50),
    bystander_max: Duration::from_millis(250),
    health_max: Duration::from_millis(50),
    overshoot: Duration::from_millis(50),
    work_over: Duration::from_millis(250),
    peak_slack_mib: 32,
    kept_mib: 32,
    back_within: Duration::from_secs(30),
};

/// On a machine that builds at the same time, with a development build, whose own code is some ten times as slow. A
/// process there waits for a processor for up to half a second; what a fault does is seconds.
const BUSY: Bounds = Bounds {
    bystander_p99: Duration::from_millis(2000),
    bystander_max: Duration::from_millis(3000),
    health_max: Duration::from_millis(2000),
    overshoot: Duration::from_millis(1500),
    work_over: Duration::from_millis(2500),
    peak_slack_mib: 96,
    kept_mib: 64,
    back_within: Duration::from_secs(10),
};

impl Bounds {
    /// Those in force.
    pub fn get() -> Self {
        if is_strict() { STRICT } else { BUSY }
    }
}

/// Whether the bounds of an idle machine hold.
pub fn is_strict() -> bool {
    std::env::var_os("HOSTILE_STRICT").is_some_and(|value| value == "1")
}

/// How long an attack without an end of its own goes on.
pub fn attack_time() -> Duration {
    std::env::var("HOSTILE_SECONDS")
        .ok()
        .map_or(Duration::from_millis(300), |text| {
            Duration::from_secs_f64(text.parse().expect("HOSTILE_SECONDS is a number"))
        })
}
