//! One sandbox, from its creation to its end.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use super::budget::Account;
use super::caller::Holder;
use super::console_log::ConsoleLog;
use super::usage::CpuMeter;
use super::{SandboxError, SandboxId, UserId};
use crate::config::Limits;
use crate::provider::{Provider, SandboxSpec};

/// A provider that could not free a sandbox is asked again after this long, and after twice as long each time.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The longest it is left alone.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// One sandbox.
pub(super) struct Sandbox {
    pub(super) id: SandboxId,
    pub(super) provider_name: String,
    /// `None` when an earlier process had this provider and this one does not.
    provider: Option<Arc<dyn Provider>>,
    pub(super) spec: SandboxSpec,
    pub(super) holder: Holder,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) created_at: SystemTime,
    life: Mutex<Life>,
    /// Cancelled when the sandbox ends, for the commands that run in it.
    pub(super) ended: CancellationToken,
    /// Commands that run now.
    pub(super) running_execs: AtomicUsize,
    /// Bytes of output held for commands that run now.
    pub(super) buffered_output: AtomicUsize,
    /// Bytes of requests for it that are held.
    pub(super) requests: Account,
    /// The last lines its commands wrote.
    pub(super) console: ConsoleLog,
    /// Commands started.
    execs: AtomicU64,
    /// Earlier measurements of its use of processors.
    pub(super) cpu_meter: CpuMeter,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a sandbox is made from.
pub(super) struct Origin {
    pub(super) id: SandboxId,
    pub(super) provider_name: String,
    pub(super) provider: Option<Arc<dyn Provider>>,
    pub(super) spec: SandboxSpec,
    pub(super) holder: Holder,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) created_at: SystemTime,
    pub(super) expires_at: SystemTime,
}

/// The part of a sandbox that changes.
struct Life {
    phase: Phase,
    expires_at: SystemTime,
    /// How long to wait after the next failure to free it.
    retry: Duration,
}

/// Where a sandbox is in its life. It only moves downwards in this list, but for the last two and from [`Phase::Waiting`]
/// to [`Phase::Running`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// The provider is making it.
    Creating,
    /// It can be used until it expires.
    Running,
    /// An earlier process made it, and its provider has not brought it back yet. Says what is missing.
    Waiting(Arc<str>),
    /// An earlier process made it, and it cannot be brought back. Says why.
    Failed(Arc<str>),
    /// Gone for every client; the provider is freeing it.
    Releasing,
    /// Gone for every client; it could not be freed. Tried again at this time.
    ReleaseFailed(Instant),
}

/// State of a sandbox in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    /// Cannot be used yet.
    Creating,
    /// Can be used.
    Running,
    /// Cannot be used, because the server was restarted and it was not brought back.
    Error,
}

impl SandboxState {
    /// Its name in the API.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Error => "error",
        }
    }
}

/// A sandbox as it was when asked for.
#[derive(Debug, Clone)]
pub struct SandboxView {
    /// Its name.
    pub id: SandboxId,
    /// Whether it can be used.
    pub state: SandboxState,
    /// Why it cannot be used, in the state [`SandboxState::Error`].
    pub error: Option<String>,
    /// Name of its provider.
    pub provider: String,
    /// What it is made of.
    pub spec: SandboxSpec,
    /// Who it is attributed to.
    pub owner: Option<UserId>,
    /// Labels.
    pub metadata: BTreeMap<String, String>,
    /// When creation began.
    pub created_at: SystemTime,
    /// When it ceases to exist.
    pub expires_at: SystemTime,
}

impl Sandbox {
    /// A sandbox in its first phase. `stopping` ends what runs in every sandbox.
    pub(super) fn new(origin: Origin, phase: Phase, limits: &Limits, stopping: &CancellationToken) -> Self {
        Self {
            id: origin.id,
            provider_name: origin.provider_name,
            provider: origin.provider,
            spec: origin.spec,
            holder: origin.holder,
            metadata: origin.metadata,
            created_at: origin.created_at,
            life: Mutex::new(Life {
                phase,
                expires_at: origin.expires_at,
                retry: FIRST_RETRY,
            }),
            ended: stopping.child_token(),
            running_execs: AtomicUsize::new(0),
            buffered_output: AtomicUsize::new(0),
            requests: Account::new(limits.max_buffered_output_bytes as u64),
            console: ConsoleLog::new(limits.max_console_log_bytes, limits.max_sandboxes),
            execs: AtomicU64::new(0),
            cpu_meter: CpuMeter::new(),
        }
    }

    /// Where it runs.
    ///
    /// # Errors
    /// [`SandboxError::Unusable`] when this server does not have its provider.
    pub(super) fn provider(&self) -> Result<&dyn Provider, SandboxError> {
        self.provider.as_deref().ok_or_else(|| SandboxError::Unusable {
            id: self.id.clone(),
            reason: no_such_provider(&self.provider_name),
        })
    }

    /// Its provider in counters and events, where few names may occur.
    pub(super) fn provider_label(&self) -> &'static str {
        self.provider.as_ref().map_or("unknown", |provider| provider.name())
    }

    /// Counts a command that starts, and returns its number.
    pub(super) fn next_exec(&self) -> u64 {
        self.execs.fetch_add(1, Ordering::Relaxed)
    }

    /// Commands started.
    pub(super) fn exec_count(&self) -> u64 {
        self.execs.load(Ordering::Relaxed)
    }

    /// A poisoned lock means that a thread panicked while it held it; every update under this lock is a single
    /// assignment, so the data is whole.
    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock()
    }

    /// `None` when it is gone for every client.
    pub(super) fn view(&self, now: SystemTime) -> Option<SandboxView> {
        let state = self.state(now)?;
        let (phase, expires_at) = {
            let life = self.life();
            (life.phase.clone(), life.expires_at)
        };
        let error = match phase {
            Phase::Waiting(reason) | Phase::Failed(reason) => Some(reason.to_string()),
            _ => None,
        };
        Some(SandboxView {
            id: self.id.clone(),
            state,
            error,
            provider: self.provider_name.clone(),
            spec: self.spec.clone(),
            owner: self.holder.owner.clone(),
            metadata: self.metadata.clone(),
            created_at: self.created_at,
            expires_at,
        })
    }

    /// Its state in the API; `None` when it is gone for every client.
    pub(super) fn state(&self, now: SystemTime) -> Option<SandboxState> {
        let life = self.life();
        match life.phase {
            Phase::Creating => Some(SandboxState::Creating),
            Phase::Running | Phase::Waiting(_) | Phase::Failed(_) if now >= life.expires_at => None,
            Phase::Running => Some(SandboxState::Running),
            Phase::Waiting(_) | Phase::Failed(_) => Some(SandboxState::Error),
            Phase::Releasing | Phase::ReleaseFailed(_) => None,
        }
    }

    /// Whether commands and files calls may use it now.
    ///
    /// # Errors
    /// The error that a client gets which uses it now.
    pub(super) fn usable(&self, now: SystemTime) -> Result<(), SandboxError> {
        let life = self.life();
        let id = || self.id.clone();
        match &life.phase {
            Phase::Creating => Err(SandboxError::NotReady(id())),
            _ if now >= life.expires_at => Err(SandboxError::NotFound(id())),
            Phase::Running => Ok(()),
            Phase::Waiting(reason) => Err(SandboxError::Waiting {
                id: id(),
                reason: reason.to_string(),
            }),
            Phase::Failed(reason) => Err(SandboxError::Unusable {
                id: id(),
                reason: reason.to_string(),
            }),
            Phase::Releasing | Phase::ReleaseFailed(_) => Err(SandboxError::NotFound(id())),
        }
    }

    /// Whether it reached its time.
    pub(super) fn is_expired(&self, now: SystemTime) -> bool {
        let life = self.life();
        matches!(life.phase, Phase::Running | Phase::Waiting(_) | Phase::Failed(_)) && now >= life.expires_at
    }

    /// Whether it is time to try again to free it.
    pub(super) fn is_release_due(&self, now: Instant) -> bool {
        matches!(self.life().phase, Phase::ReleaseFailed(at) if now >= at)
    }

    /// Whether its provider is making it, and nobody has ended it meanwhile.
    pub(super) fn is_creating(&self) -> bool {
        self.life().phase == Phase::Creating
    }

    /// Whether its provider has not brought it back yet.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.life().phase, Phase::Waiting(_))
    }

    /// When it ceases to exist.
    pub(super) fn expires_at(&self) -> SystemTime {
        self.life().expires_at
    }

    /// Creation is done: `false` when somebody ended it meanwhile.
    pub(super) fn created(&self) -> bool {
        let mut life = self.life();
        let creating = life.phase == Phase::Creating;
        if creating {
            life.phase = Phase::Running;
        }
        creating
    }

    /// Its provider answered whether it can bring it back: the phase after [`Phase::Waiting`]. `false` when somebody
    /// ended it meanwhile.
    pub(super) fn came_back(&self, phase: Phase) -> bool {
        let mut life = self.life();
        let waiting = matches!(life.phase, Phase::Waiting(_));
        if waiting {
            life.phase = phase;
        }
        waiting
    }

    /// Moves the time at which it expires. One that has expired stays so.
    pub(super) fn extend_to(&self, expires_at: SystemTime, now: SystemTime) {
        let mut life = self.life();
        if life.phase == Phase::Running && now < life.expires_at {
            life.expires_at = expires_at;
        }
    }

    /// Ends it for every client and kills what runs in it. The caller that gets `true` must have it freed; there is none
    /// when its provider is still making it, because whoever waits for the provider does it then.
    pub(super) fn end(&self) -> bool {
        let must_free = {
            let mut life = self.life();
            let must_free = !matches!(life.phase, Phase::Creating | Phase::Releasing);
            life.phase = Phase::Releasing;
            must_free
        };
        self.ended.cancel();
        must_free
    }

    /// It could not be freed now.
    pub(super) fn release_failed(&self) {
        let mut life = self.life();
        life.phase = Phase::ReleaseFailed(Instant::now() + life.retry);
        life.retry = (life.retry * 2).min(LAST_RETRY);
    }
}

/// Why a sandbox of a provider that is not configured cannot be used.
pub(super) fn no_such_provider(name: &str) -> String {
    format!("this server has no provider {name}")
}
