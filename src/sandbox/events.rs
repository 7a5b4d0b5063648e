//! Events of sandboxes, sent to all listeners.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast;

use super::{Caller, SandboxId, TenantId, UserId};

/// Events that may wait for a listener; one that is further behind misses some and is told so.
const QUEUE: usize = 1024;
/// Events kept for listeners that come back.
const HISTORY: usize = 1024;

/// Something that happened to a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Grows with every event, also over restarts: microseconds since 1970, or one more than the last. It tells nobody
    /// how much happens on the server.
    pub id: u64,
    /// When it happened.
    pub at: SystemTime,
    /// To which sandbox.
    pub sandbox: SandboxId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Who it is attributed to.
    pub owner: Option<UserId>,
    /// Name of its provider.
    pub provider: &'static str,
    /// What happened to it.
    pub kind: EventKind,
}

/// What happened to a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// It can be used from now on.
    Created {
        /// Image it is made of.
        image: String,
    },
    /// A command ended by itself or was killed.
    ExecCompleted {
        /// As a shell's `$?`.
        exit_code: i32,
        /// How long it ran.
        duration: Duration,
    },
    /// A command passed its timeout.
    ExecTimeout {
        /// How long it ran.
        duration: Duration,
    },
    /// The runtime lost a command, or nobody waited for its end.
    ExecFailed {
        /// Which of the two.
        reason: &'static str,
    },
    /// A client destroyed it.
    Destroyed,
    /// Its time was over.
    Expired,
    /// It cannot be used any more, or could not be made.
    Error,
}

/// Where events go.
#[derive(Debug)]
pub struct EventBus {
    sender: broadcast::Sender<Arc<Event>>,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    last_id: u64,
    events: VecDeque<Arc<Event>>,
    total: u64,
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// An event.
    Event(Arc<Event>),
    /// The listener was too slow and missed events here.
    Lagged,
}

/// The events one caller sees, from some moment on.
pub struct EventStream {
    caller: Caller,
    missed: VecDeque<Arc<Event>>,
    receiver: broadcast::Receiver<Arc<Event>>,
}

impl Default for EventBus {
    fn default() -> Self {
        Self {
            sender: broadcast::Sender::new(QUEUE),
            recent: Mutex::default(),
        }
    }
}

impl EventBus {
    /// Tells an event; its `id` and time are given here.
    pub(super) fn publish(&self, mut event: Event) {
        let mut recent = self.recent.lock();
        let micros = event.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(micros.as_micros()).unwrap_or(u64::MAX);
        event.id = micros.max(recent.last_id.saturating_add(1));
        recent.last_id = event.id;
        recent.total += 1;
        let event = Arc::new(event);
        if recent.events.len() == HISTORY {
            recent.events.pop_front();
        }
        recent.events.push_back(Arc::clone(&event));
        // An error only says that nobody listens. Sent under the lock, so that all hear the same order.
        let _ = self.sender.send(event);
    }

    /// The events the caller sees: those kept that came after `last`, then all that come. `None` when `max` listen
    /// already.
    #[must_use]
    pub fn subscribe(&self, caller: Caller, last: Option<u64>, max: usize) -> Option<EventStream> {
        let recent = self.recent.lock();
        // Listeners are added only under this lock, so that there are never more.
        if self.sender.receiver_count() >= max {
            return None;
        }
        let missed = match last {
            None => VecDeque::new(),
            Some(last) => recent
                .events
                .iter()
                .filter(|event| event.id > last && sees(&caller, event))
                .cloned()
                .collect(),
        };
        Some(EventStream {
            caller,
            missed,
            receiver: self.sender.subscribe(),
        })
    }

    /// Events told since the server started.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.recent.lock().total
    }

    /// How many listen now.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }
}

impl EventStream {
    /// Waits for the next event; `None` when there will be none. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Heard> {
        if let Some(event) = self.missed.pop_front() {
            return Some(Heard::Event(event));
        }
        loop {
            match self.receiver.recv().await {
                Ok(event) if sees(&self.caller, &event) => return Some(Heard::Event(event)),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return Some(Heard::Lagged),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

fn sees(caller: &Caller, event: &Event) -> bool {
    caller.sees_of(&event.tenant, event.owner.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(tenant: &str, owner: Option<&str>) -> Event {
        Event {
            id: 0,
            at: SystemTime::now(),
            sandbox: SandboxId::parse("sb_1").unwrap(),
            tenant: TenantId::parse(tenant).unwrap(),
            owner: owner.map(|owner| UserId::parse(owner).unwrap()),
            provider: "wasm",
            kind: EventKind::Destroyed,
        }
    }

    fn caller(tenant: &str, user: Option<&str>) -> Caller {
        Caller {
            tenant: TenantId::parse(tenant).unwrap(),
            user: user.map(|user| UserId::parse(user).unwrap()),
            ..Caller::default()
        }
    }

    fn listen(bus: &EventBus, caller: Caller, last: Option<u64>) -> EventStream {
        bus.subscribe(caller, last, 9).unwrap()
    }

    async fn next(stream: &mut EventStream) -> Arc<Event> {
        match stream.next().await {
            Some(Heard::Event(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_listener_hears_only_its_tenant_and_user() {
        let bus = EventBus::default();
        let mut a = listen(&bus, caller("a", None), None);
        let mut alice = listen(&bus, caller("a", Some("alice")), None);
        let mut admin = listen(
            &bus,
            Caller {
                all_tenants: true,
                ..caller("z", None)
            },
            None,
        );
        bus.publish(event("b", Some("alice")));
        bus.publish(event("a", None));
        bus.publish(event("a", Some("alice")));
        assert_eq!(next(&mut a).await.owner, None);
        assert_eq!(next(&mut a).await.owner.as_ref().unwrap().as_str(), "alice");
        assert_eq!(next(&mut alice).await.tenant.as_str(), "a");
        assert_eq!(next(&mut admin).await.tenant.as_str(), "b");
        assert_eq!(bus.total(), 3);
    }

    #[tokio::test]
    async fn a_reconnecting_listener_gets_missed_events() {
        let bus = EventBus::default();
        for _ in 0..3 {
            bus.publish(event("a", None));
            bus.publish(event("b", None));
        }
        let mut all = listen(&bus, caller("a", None), Some(0));
        let first = next(&mut all).await;
        let mut rest = listen(&bus, caller("a", None), Some(first.id));
        bus.publish(event("a", None));
        let mut last = first.id;
        for _ in 0..3 {
            let event = next(&mut rest).await;
            assert_eq!(event.tenant.as_str(), "a");
            assert!(event.id > last);
            last = event.id;
        }
    }

    #[tokio::test]
    async fn a_slow_listener_gets_a_lagged_event() {
        let bus = EventBus::default();
        let mut slow = listen(&bus, caller("a", None), None);
        for _ in 0..=QUEUE {
            bus.publish(event("a", None));
        }
        assert_eq!(slow.next().await, Some(Heard::Lagged));
        next(&mut slow).await;
    }

    #[test]
    fn so_many_may_listen() {
        let bus = EventBus::default();
        let first = bus.subscribe(caller("a", None), None, 2).unwrap();
        let _second = bus.subscribe(caller("a", None), None, 2).unwrap();
        assert!(bus.subscribe(caller("a", None), None, 2).is_none());
        drop(first);
        assert!(bus.subscribe(caller("a", None), None, 2).is_some());
    }
}
