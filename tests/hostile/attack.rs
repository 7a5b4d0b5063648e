//! What an attack is: how it is done, by how large a sandbox, and what must come of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::bounds;
use crate::scene::Scene;
use crate::server_support::api::Answer;

/// What an attack of many steps says: a word on what happened, or what was wrong.
pub type Verdict = Result<String, String>;
/// An attack of many steps.
pub type Steps = Box<dyn Fn(Arc<Scene>) -> BoxFuture<'static, Verdict> + Send + Sync>;

/// Fails an attack of many steps unless something holds.
#[macro_export]
macro_rules! check {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}

/// How an attack is done.
pub enum How {
    /// By a command of the shell of `base`.
    Shell(Cow<'static, str>),
    /// By `python3 -c` of `python:3.12`.
    Python(&'static str),
    /// By `python3 -c` of `python:3.13`.
    Python313(&'static str),
    /// By the program of `tests/guests/hostile`, with these arguments.
    Guest(&'static str),
    /// By the component of `tests/guests/component`, with these arguments.
    Component(&'static str),
    /// By a program of this WebAssembly file, run in its own image.
    Program(fn() -> Vec<u8>),
    /// By a WebAssembly file that is posted to become an image.
    Module(fn() -> Vec<u8>),
    /// By these bytes on a fresh connection. `{host}`, `{key}` and `{id}` stand for the server's address, a key of the
    /// tenant and a sandbox of it.
    Http(Cow<'static, str>),
    /// By several steps.
    Steps(Steps),
}

/// What must come of an attack, beside that nobody else is harmed.
#[derive(Debug, Clone)]
pub enum Expected {
    /// The deadline ends it.
    TimesOut,
    /// It ends in time or the deadline ends it, in whatever way.
    Contained,
    /// It succeeds and prints this.
    Prints(&'static str),
    /// It ends with a status other than 0.
    Fails,
    /// A limit kills it: 137.
    Killed,
    /// It fails, and standard error says this.
    Says(&'static str),
    /// One of these statuses is answered; 0 is a connection that is closed without an answer.
    Status(&'static [u16]),
    /// All steps went as they should.
    StepsHold,
}

/// The sandbox that attacks.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub memory_mb: u64,
    pub disk_mb: u64,
    pub vcpus: u32,
    /// How many of them attack at once.
    pub sandboxes: u64,
    /// The exec's timeout; [`bounds::attack_time`] when absent.
    pub timeout: Option<Duration>,
    /// Memory beyond that of the sandboxes that the attack may make the server use, MiB: that of a compiler, say.
    pub more_mib: u64,
}

/// One attack.
pub struct Attack {
    pub group: &'static str,
    pub name: &'static str,
    pub how: How,
    pub expected: Expected,
    pub shape: Shape,
}

/// An attack by a sandbox of the usual shape.
pub fn attack(name: &'static str, how: How, expected: Expected) -> Attack {
    Attack {
        group: "",
        name,
        how,
        expected,
        shape: Shape {
            memory_mb: 64,
            disk_mb: 16,
            vcpus: 1,
            sandboxes: 1,
            timeout: None,
            more_mib: 0,
        },
    }
}

/// An attack by a shell command.
pub fn shell(name: &'static str, command: &'static str, expected: Expected) -> Attack {
    attack(name, How::Shell(command.into()), expected)
}

/// An attack by the hostile guest.
pub fn guest(name: &'static str, arguments: &'static str, expected: Expected) -> Attack {
    attack(name, How::Guest(arguments), expected)
}

/// An attack by the hostile component.
pub fn component(name: &'static str, arguments: &'static str, expected: Expected) -> Attack {
    attack(name, How::Component(arguments), expected)
}

/// An attack by a program that stock `python:3.12` runs.
pub fn python(name: &'static str, program: &'static str, expected: Expected) -> Attack {
    attack(name, How::Python(program), expected).memory(192)
}

/// An attack by a program that stock `python:3.13` runs.
pub fn python_3_13(name: &'static str, program: &'static str, expected: Expected) -> Attack {
    attack(name, How::Python313(program), expected).memory(192)
}

/// An attack by bytes on a connection.
pub fn http(name: &'static str, bytes: impl Into<Cow<'static, str>>, statuses: &'static [u16]) -> Attack {
    attack(name, How::Http(bytes.into()), Expected::Status(statuses)).idle()
}

/// An attack by a posted WebAssembly file.
pub fn module(name: &'static str, wasm: fn() -> Vec<u8>, statuses: &'static [u16]) -> Attack {
    attack(name, How::Module(wasm), Expected::Status(statuses))
        .idle()
        .more(512)
}

/// An attack of several steps.
pub fn steps<F>(name: &'static str, steps: fn(Arc<Scene>) -> F) -> Attack
where
    F: Future<Output = Verdict> + Send + 'static,
{
    let steps = move |scene| -> BoxFuture<'static, Verdict> { Box::pin(steps(scene)) };
    attack(name, How::Steps(Box::new(steps)), Expected::StepsHold)
}

impl Attack {
    /// Memory of each sandbox, MiB.
    pub fn memory(mut self, mib: u64) -> Self {
        self.shape.memory_mb = mib;
        self
    }

    /// Disk of each sandbox, MiB.
    pub fn disk(mut self, mib: u64) -> Self {
        self.shape.disk_mb = mib;
        self
    }

    /// Virtual CPUs of each sandbox.
    pub fn vcpus(mut self, number: u32) -> Self {
        self.shape.vcpus = number;
        self
    }

    /// Sandboxes that attack at once.
    pub fn times(mut self, number: u64) -> Self {
        self.shape.sandboxes = number;
        self
    }

    /// The exec's timeout, for attacks that must end by themselves or need a while to begin.
    pub fn within(mut self, seconds: u64) -> Self {
        self.shape.timeout = Some(Duration::from_secs(seconds));
        self
    }

    /// Memory the attack may use beyond that of its sandboxes, MiB.
    pub fn more(mut self, mib: u64) -> Self {
        self.shape.more_mib = mib;
        self
    }

    /// No sandbox attacks: the attack is done from outside.
    fn idle(mut self) -> Self {
        self.shape.sandboxes = 0;
        self
    }

    /// Group and name.
    pub fn full_name(&self) -> String {
        format!("{}: {}", self.group, self.name)
    }

    /// The timeout of its exec.
    pub fn timeout(&self) -> Duration {
        self.shape.timeout.unwrap_or_else(bounds::attack_time)
    }

    /// Private memory that it may make the server use beyond the usual, without the slack, MiB.
    pub fn allowed_mib(&self) -> u64 {
        let each = self.shape.memory_mb + self.shape.disk_mb;
        self.shape.sandboxes * each * 3 / 2 + self.shape.more_mib
    }

    /// The body of the request that makes its sandbox.
    pub fn sandbox(&self, image: &str) -> Value {
        json!({
            "image": image,
            "memory_mb": self.shape.memory_mb,
            "disk_mb": self.shape.disk_mb,
            "vcpus": self.shape.vcpus,
        })
    }
}

impl Expected {
    /// Whether an exec ended as it should.
    pub fn judge_exec(&self, answer: &Answer) -> Verdict {
        let wrong = || {
            let shown: String = answer.body.chars().take(300).collect();
            Err(format!("expected {self:?}, got {} {shown}", answer.status))
        };
        let (exit_code, stdout, stderr) = match answer.status {
            200 | 408 => {
                let ran = answer.ran();
                (ran.exit_code, ran.stdout, ran.stderr)
            }
            _ => (-1, String::new(), String::new()),
        };
        let holds = match self {
            Self::TimesOut => answer.status == 408,
            Self::Contained => matches!(answer.status, 200 | 408),
            Self::Prints(text) => answer.status == 200 && exit_code == 0 && stdout.trim_end() == *text,
            Self::Fails => answer.status == 200 && exit_code != 0,
            Self::Killed => answer.status == 200 && exit_code == 137,
            Self::Says(text) => answer.status == 200 && exit_code != 0 && stderr.contains(text),
            Self::Status(statuses) => statuses.contains(&answer.status),
            Self::StepsHold => false,
        };
        if holds {
            Ok(match answer.status {
                200 => format!("exit {exit_code}"),
                408 => "timeout".to_owned(),
                status => format!("{status}"),
            })
        } else {
            wrong()
        }
    }

    /// Whether a status is one of the expected.
    pub fn judge_status(&self, status: u16, body: &str) -> Verdict {
        match self {
            Self::Status(statuses) if statuses.contains(&status) => Ok(format!("{status}")),
            _ => {
                let shown: String = body.chars().take(300).collect();
                Err(format!("expected {self:?}, got {status} {shown}"))
            }
        }
    }
}
