//! The timer that sends a process ALRM, POSIX's `ITIMER_REAL`.

use parking_lot::{Mutex, MutexGuard};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::signal::{self, Signals};

/// Shortest time between two signals of one timer. Sending them costs the host a little that nobody is charged for.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Longest time until a signal: some ten years, which the host's clocks can still count.
const MAX_TIME: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// When a timer sends signals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Time until the next signal. Zero: there is none.
    pub value: Duration,
    /// Time between signals after that. Zero: there are none.
    pub interval: Duration,
}

/// A process's timer. It stops when dropped.
#[derive(Debug, Default)]
pub struct Timer {
    shared: Arc<Shared>,
    /// What sends the signals, from the first schedule on.
    task: OnceLock<AbortHandle>,
}

/// What the timer and its task have in common.
#[derive(Debug, Default)]
struct Shared {
    due: Mutex<Option<Due>>,
    /// Signalled when `due` was set.
    changed: Notify,
}

/// When the next signal is due.
#[derive(Debug, Clone, Copy)]
struct Due {
    next: Instant,
    interval: Duration,
}

impl Timer {
    /// What is left of its schedule.
    pub fn schedule(&self) -> Schedule {
        let left = |due: Due| Schedule {
            // A signal that is due is still to come.
            value: due
                .next
                .saturating_duration_since(Instant::now())
                .max(Duration::from_micros(1)),
            interval: due.interval,
        };
        self.shared.due().map(left).unwrap_or_default()
    }

    /// Sends ALRM by a new schedule instead of the old one. Must be called on a tokio runtime.
    pub fn set(&self, schedule: Schedule, signals: &Arc<Signals>) {
        let due = (!schedule.value.is_zero()).then(|| Due {
            next: Instant::now() + schedule.value.min(MAX_TIME),
            interval: match schedule.interval {
                Duration::ZERO => Duration::ZERO,
                interval => interval.clamp(MIN_INTERVAL, MAX_TIME),
            },
        });
        *self.shared.due() = due;
        self.shared.changed.notify_one();
        self.task.get_or_init(|| {
            let ringing = ring(Arc::clone(&self.shared), Arc::clone(signals));
            tokio::spawn(ringing).abort_handle()
        });
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Shared {
    fn due(&self) -> MutexGuard<'_, Option<Due>> {
        self.due.lock()
    }

    /// Takes the signal that is due by now, if one is.
    fn take_due(&self) -> bool {
        let (mut due, now) = (self.due(), Instant::now());
        let Some(Due { next, interval }) = due.filter(|due| due.next <= now) else {
            return false;
        };
        *due = (!interval.is_zero()).then(|| Due {
            // Signals that nobody had time to send are left out.
            next: (next + interval).max(now),
            interval,
        });
        true
    }
}

/// Sends the signals.
async fn ring(shared: Arc<Shared>, signals: Arc<Signals>) {
    loop {
        let next = shared.due().map(|due| due.next);
        let passed = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.changed.notified() => {}
            () = passed => {}
        }
        if shared.take_due() {
            signals.deliver(signal::ALARM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught() -> Arc<Signals> {
        let signals = Arc::new(Signals::default());
        signals.set_disposition(signal::ALARM, 2).unwrap();
        signals
    }

    fn once(milliseconds: u64) -> Schedule {
        Schedule {
            value: Duration::from_millis(milliseconds),
            interval: Duration::ZERO,
        }
    }

    /// Waits for the signal.
    async fn arrival(signals: &Signals) {
        while signals.take_pending() != 1 << signal::ALARM {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn it_sends_one_signal_when_its_time_has_come() {
        let (timer, signals) = (Timer::default(), caught());
        let started = Instant::now();
        timer.set(once(100), &signals);
        let left = timer.schedule();
        assert!(left.value <= once(100).value && left.interval.is_zero(), "{left:?}");
        arrival(&signals).await;
        assert!(started.elapsed() >= once(100).value);
        assert_eq!(timer.schedule(), Schedule::default());
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(signals.take_pending(), 0);
    }

    #[tokio::test]
    async fn it_sends_signals_again_and_again_but_not_too_often() {
        let (timer, signals) = (Timer::default(), caught());
        let schedule = |interval| Schedule {
            value: Duration::from_millis(1),
            interval,
        };
        let started = Instant::now();
        timer.set(schedule(Duration::from_nanos(1)), &signals);
        for _ in 0..5 {
            arrival(&signals).await;
        }
        assert!(started.elapsed() >= 4 * MIN_INTERVAL);
        timer.set(schedule(Duration::from_secs(2)), &signals);
        assert_eq!(timer.schedule().interval, Duration::from_secs(2));
    }

    #[tokio::test]
    async fn another_schedule_takes_the_place_of_the_last_and_zero_of_any() {
        let (timer, signals) = (Timer::default(), caught());
        timer.set(once(60), &signals);
        timer.set(once(3_600_000), &signals);
        tokio::time::sleep(Duration::from_millis(120)).await;
        assert_eq!(signals.take_pending(), 0);
        assert!(timer.schedule().value > Duration::from_secs(3000));
        timer.set(once(60), &signals);
        timer.set(once(0), &signals);
        tokio::time::sleep(Duration::from_millis(120)).await;
        assert_eq!(signals.take_pending(), 0);
        assert_eq!(timer.schedule(), Schedule::default());
    }

    #[tokio::test]
    async fn it_is_gone_with_its_process_and_may_be_set_to_any_time() {
        let (timer, signals) = (Timer::default(), caught());
        let endless = Schedule {
            value: Duration::MAX,
            interval: Duration::MAX,
        };
        timer.set(endless, &signals);
        assert_eq!(timer.schedule().interval, MAX_TIME);
        let shared = Arc::downgrade(&timer.shared);
        drop(timer);
        tokio::task::yield_now().await;
        assert!(shared.upgrade().is_none(), "its task has ended");
    }
}
