//! Does an attack and measures what it does to others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::attack::{Attack, Expected, How, Verdict};
use crate::bounds::Bounds;
use crate::probe::{Latencies, Probe};
use crate::scene::{Scene, Stage, TOKIO};
use crate::server_support::api::{Answer, Sandbox, answer};

/// An attack that takes longer has taken the server away.
pub const LONGEST: Duration = Duration::from_secs(30);
/// How long the probes watch at least.
const SHORTEST: Duration = Duration::from_millis(120);
/// How often memory is looked at.
const SAMPLE_PAUSE: Duration = Duration::from_millis(20);
/// How often the server's threads are looked at to see whether work goes on, and with what pause. A thread that wants the
/// processor counts even where others have it.
const LOOKS: usize = 6;
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// How often memory is looked at while it comes back.
const BACK_PAUSE: Duration = Duration::from_millis(100);

/// What an attack did.
#[derive(Debug)]
pub struct Figures {
    pub outcome: Verdict,
    /// How late the latest answer was.
    pub overshoot: Option<Duration>,
    pub bystander: Latencies,
    pub health: Latencies,
    /// How long its work went on after its last answer and the end of its sandboxes.
    pub work_over: Duration,
    /// Private memory before, at the peak and after, KiB.
    pub memory: [u64; 3],
    pub took: Duration,
    /// Whether the server's log tells of a panic.
    pub panicked: bool,
}

/// What came of the attack itself.
pub struct Outcome {
    verdict: Verdict,
    overshoot: Option<Duration>,
}

impl Outcome {
    fn of(verdict: Verdict) -> Self {
        Self {
            verdict,
            overshoot: None,
        }
    }
}

/// Does an attack on the current server.
pub fn measure(stage: &Stage, attack: &Attack) -> Figures {
    let bounds = Bounds::get();
    let scene = stage.scene();
    let before = scene.private_kib();
    let peak = Peak::watch(&scene);
    let health = Probe::of_health(scene.address);
    let bystander = Probe::of_bystander(scene.address, &scene.key_b, scene.bystander.clone());
    // The probes are under way.
    std::thread::sleep(Duration::from_millis(20));
    let started = Instant::now();
    let outcome = TOKIO.block_on(async {
        let doing = tokio::spawn(act(Arc::clone(&scene), attack));
        match tokio::time::timeout(LONGEST, doing).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Outcome::of(Err(panic.to_string())),
            Err(_) => Outcome::of(Err(format!("no answer within {LONGEST:?}"))),
        }
    });
    let took = started.elapsed();
    std::thread::sleep(SHORTEST.saturating_sub(took));
    let (bystander, health) = (bystander.stop(), health.stop());
    // Bytes on a connection start no work that could go on.
    let work_over = match attack.how {
        How::Http(_) => Duration::ZERO,
        _ => until_quiet(&scene, bounds.work_over * 2),
    };
    let after = until_given_back(&scene, before + (bounds.kept_mib << 10), bounds.back_within);
    Figures {
        outcome: outcome.verdict,
        overshoot: outcome.overshoot,
        bystander,
        health,
        work_over,
        memory: [before, peak.stop(), after],
        took,
        panicked: scene.log().contains("panicked"),
    }
}

/// The attack itself. Boxed futures of tables live as long as the program, an attack as long as its trial: what is
/// needed of it is taken before anything waits.
pub fn act(scene: Arc<Scene>, attack: &Attack) -> impl Future<Output = Outcome> + Send + 'static {
    let (image, command) = match &attack.how {
        How::Shell(command) => ("base", json!({"command": command})),
        How::Python(program) => ("python:3.12", python(program)),
        How::Python313(program) => ("python:3.13", python(program)),
        How::Guest(arguments) => ("hostile", program("/usr/bin/hostile", arguments)),
        How::Component(arguments) => ("component", program("/usr/bin/tool", arguments)),
        _ => ("", json!(null)),
    };
    let (sandbox, expected, timeout) = (attack.sandbox(image), attack.expected.clone(), attack.timeout());
    let sandboxes = attack.shape.sandboxes;
    let steps = match &attack.how {
        How::Steps(steps) => Some(steps(Arc::clone(&scene))),
        _ => None,
    };
    let bytes = match &attack.how {
        How::Http(request) => scene.fill_in(request).into_bytes(),
        How::Program(wasm) | How::Module(wasm) => wasm(),
        _ => Vec::new(),
    };
    let (is_http, is_module) = (matches!(attack.how, How::Http(_)), matches!(attack.how, How::Module(_)));
    async move {
        if let Some(steps) = steps {
            return Outcome::of(steps.await);
        }
        if is_http {
            let text = scene.raw(&bytes).await;
            return Outcome::of(expected.judge_status(status_of(&text), &text));
        }
        if is_module {
            let answer = import(&scene, bytes).await;
            // What became an image must not stay for the next attack.
            if answer.status == 201 {
                scene.admin.delete("/images/attack").await;
            }
            return Outcome::of(expected.judge_status(answer.status, &answer.body));
        }
        if bytes.is_empty() {
            return execs(&scene, sandbox, command, timeout, sandboxes, &expected).await;
        }
        let imported = import(&scene, bytes).await;
        if imported.status != 201 {
            return Outcome::of(Err(format!("not imported: {imported:?}")));
        }
        let mut sandbox = sandbox;
        sandbox["image"] = json!("attack");
        let command = json!({"command": "/usr/bin/attack", "mode": "argv"});
        let outcome = execs(&scene, sandbox, command, timeout, sandboxes, &expected).await;
        scene.admin.delete("/images/attack").await;
        outcome
    }
}

/// A command that runs a program with arguments that have no spaces.
fn program(path: &str, arguments: &str) -> serde_json::Value {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    json!({"command": path, "args": arguments, "mode": "argv"})
}

fn python(program: &str) -> serde_json::Value {
    json!({"command": "python3", "args": ["-c", program], "mode": "argv"})
}

async fn import(scene: &Scene, wasm: Vec<u8>) -> Answer {
    let path = "/images?name=attack&program=/usr/bin/attack&replace=true";
    scene.admin.post(path, wasm).await
}

/// The status of a raw answer; 0 for none.
fn status_of(answer: &str) -> u16 {
    let digits = answer
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..))
        .and_then(|rest| rest.get(..3));
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Runs a command in some sandboxes at once and destroys them.
async fn execs(
    scene: &Scene,
    sandbox: serde_json::Value,
    mut command: serde_json::Value,
    timeout: Duration,
    sandboxes: u64,
    expected: &Expected,
) -> Outcome {
    command["timeout"] = json!(format!("{}ms", timeout.as_millis()));
    let mut made = Vec::new();
    for _ in 0..sandboxes {
        made.push(scene.sandbox(sandbox.clone()).await);
    }
    let running: Vec<_> = made
        .iter()
        .map(|Sandbox { api, path }| {
            let request = api.request(reqwest::Method::POST, &format!("{path}/exec"));
            tokio::spawn(answer(request.body(command.to_string())))
        })
        .collect();
    let mut verdict = Ok(String::new());
    let mut overshoot = None;
    for exec in running {
        match exec.await {
            Ok(answer) => {
                if answer.status == 408 {
                    overshoot = overshoot.max(Some(answer.elapsed.saturating_sub(timeout)));
                }
                if verdict.is_ok() {
                    verdict = expected.judge_exec(&answer);
                }
            }
            Err(panic) => verdict = Err(panic.to_string()),
        }
    }
    for sandbox in made {
        let destroyed = scene.a.delete(&sandbox.path).await;
        if destroyed.status != 200 && verdict.is_ok() {
            verdict = Err(format!("not destroyed: {destroyed:?}"));
        }
    }
    Outcome { verdict, overshoot }
}

/// How long it takes until no thread of the server works. One that is seen at work once is one that clears up.
fn until_quiet(scene: &Scene, patience: Duration) -> Duration {
    let started = Instant::now();
    loop {
        let begun = started.elapsed();
        let mut busy = 0;
        for _ in 0..LOOKS {
            busy += usize::from(scene.is_busy());
            std::thread::sleep(LOOK_PAUSE);
        }
        if busy <= 1 || begun > patience {
            return begun;
        }
    }
}

/// Private memory once it is down to `bound` KiB, or after some time.
pub fn until_given_back(scene: &Scene, bound: u64, patience: Duration) -> u64 {
    let started = Instant::now();
    loop {
        let used = scene.private_kib();
        if used <= bound || started.elapsed() > patience {
            return used;
        }
        std::thread::sleep(BACK_PAUSE);
    }
}

/// Watches the server's private memory.
struct Peak {
    stop: Arc<AtomicBool>,
    highest: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Peak {
    fn watch(scene: &Arc<Scene>) -> Self {
        let (stop, highest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (scene, stopped, seen) = (Arc::clone(scene), Arc::clone(&stop), Arc::clone(&highest));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                seen.fetch_max(scene.private_kib(), Ordering::Relaxed);
                std::thread::sleep(SAMPLE_PAUSE);
            }
        });
        Self { stop, highest, thread }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a watch does not panic");
        self.highest.load(Ordering::Relaxed)
    }
}

impl Figures {
    /// Memory at the peak beyond that before, MiB.
    pub fn peak_mib(&self) -> u64 {
        self.memory[1].saturating_sub(self.memory[0]) >> 10
    }

    /// Memory that stayed, MiB.
    pub fn kept_mib(&self) -> u64 {
        self.memory[2].saturating_sub(self.memory[0]) >> 10
    }

    /// Whether the attack was contained, and if not, all that was wrong.
    pub fn verdict(&self, attack: &Attack) -> Result<(), String> {
        let bounds = Bounds::get();
        let mut wrong = Vec::new();
        if let Err(what) = &self.outcome {
            wrong.push(what.clone());
        }
        for (who, latencies) in [("bystander", &self.bystander), ("/health", &self.health)] {
            if let Some(what) = &latencies.wrong {
                wrong.push(format!("{who} got a wrong answer: {what}"));
            }
        }
        let mut within = |what: &str, time: Duration, bound: Duration| {
            if time > bound {
                wrong.push(format!("{what} {time:.0?}, over {bound:?}"));
            }
        };
        within("bystander p99", self.bystander.quantile(0.99), bounds.bystander_p99);
        within("bystander max", self.bystander.max(), bounds.bystander_max);
        within("/health max", self.health.max(), bounds.health_max);
        within("overshoot", self.overshoot.unwrap_or_default(), bounds.overshoot);
        within("its work went on for", self.work_over, bounds.work_over);
        let allowed = attack.allowed_mib() + bounds.peak_slack_mib;
        if self.peak_mib() > allowed {
            wrong.push(format!("memory grew by {} MiB, over {allowed}", self.peak_mib()));
        }
        if self.kept_mib() > bounds.kept_mib {
            wrong.push(format!("{} MiB stayed, over {}", self.kept_mib(), bounds.kept_mib));
        }
        if self.panicked {
            wrong.push("the server panicked".to_owned());
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("; "))
        }
    }
}
