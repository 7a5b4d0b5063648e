//! Requests of clients, and the checks that turn them into specifications for providers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::caller::Holder;
use super::{Caller, Permit, Quota, SandboxError, UserId};
use crate::config::{Config, Limits};
use crate::duration::GoDuration;
use crate::provider::{Command, ExecSpec, Network, SandboxSpec, Stdin};

/// Most bytes of keys and values of a sandbox's metadata: they are kept for the sandbox's whole life.
const MAX_METADATA_BYTES: usize = 64 << 10;
/// Most bytes of names and values of an environment.
const MAX_ENV_BYTES: usize = 256 << 10;
/// Longest image or provider name, bytes.
const MAX_NAME_BYTES: usize = 256;

/// Largest budget of fuel, units: all whole numbers up to it are exact in every client's JSON (RFC 8259, section 6).
const MAX_FUEL: u64 = 1 << 53;

/// A sandbox as asked for. What is `None` takes the server's default.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// Image name.
    pub image: Option<String>,
    /// Provider name.
    pub provider: Option<String>,
    /// Template whose values hold where this request has none.
    pub template: Option<String>,
    /// Memory, MiB.
    pub memory_mb: Option<u64>,
    /// Processes that may run at the same instant.
    pub vcpus: Option<u32>,
    /// Files beyond the image, MiB.
    pub disk_mb: Option<u64>,
    /// Processor time of all its processes; no limit when `None`.
    pub cpu_time: Option<Duration>,
    /// Time to live.
    pub ttl: Option<Duration>,
    /// Labels.
    pub metadata: BTreeMap<String, String>,
    /// Environment of every command.
    pub env: BTreeMap<String, String>,
    /// What it may reach over the network.
    pub network: Option<Network>,
    /// Who the sandbox is attributed to when the caller is not bound to a user.
    pub owner: Option<UserId>,
}

/// A command as asked for.
#[derive(Debug)]
pub struct ExecRequest {
    /// What to run.
    pub command: Command,
    /// Environment on top of the sandbox's.
    pub env: BTreeMap<String, String>,
    /// Absolute directory to start in.
    pub workdir: Option<String>,
    /// Wall-clock limit; the server's default when `None`.
    pub timeout: Option<Duration>,
    /// Limit of processor time; none when `None`.
    pub cpu_time: Option<Duration>,
    /// Budget of fuel, units; not counted when `None`.
    pub fuel: Option<u64>,
    /// Standard input.
    pub stdin: Stdin,
    /// What the memory of this request is charged to until the command ends.
    pub held: Option<Permit>,
}

impl CreateRequest {
    /// Applies defaults and maxima.
    pub(super) fn specify(&self, config: &Config) -> Result<SandboxSpec, SandboxError> {
        let limits = &config.limits;
        let image = self.image.as_deref().unwrap_or(&config.default_image);
        check_name("image", image)?;
        check_labels(&self.metadata)?;
        check_env(&self.env)?;
        let memory_mb = within(
            "memory_mb",
            self.memory_mb,
            limits.default_memory_mb,
            limits.max_memory_mb,
        )?;
        let disk_mb = within("disk_mb", self.disk_mb, limits.default_disk_mb, limits.max_disk_mb)?;
        let vcpus = within("vcpus", self.vcpus, limits.default_vcpus, limits.max_vcpus)?;
        Ok(SandboxSpec {
            image: image.to_owned(),
            memory_mb,
            vcpus,
            disk_mb,
            cpu_time: cpu_time(self.cpu_time)?,
            env: self.env.clone(),
            network: self.network.unwrap_or_default(),
        })
    }

    /// The time to live, within the maximum of the server and of the owner.
    pub(super) fn lifetime(&self, limits: &Limits, quota: &Quota) -> Result<Duration, SandboxError> {
        bounded_duration("ttl", self.ttl, limits.default_ttl, limits.max_ttl, quota.max_ttl)
    }

    /// Whose the sandbox will be.
    pub(super) fn holder(&self, caller: &Caller) -> Holder {
        Holder {
            tenant: caller.tenant.clone(),
            owner: caller.user.clone().or_else(|| self.owner.clone()),
        }
    }
}

impl ExecRequest {
    /// Applies defaults and maxima, of the server and of the sandbox's owner.
    pub(super) fn specify(self, limits: &Limits, quota: &Quota) -> Result<ExecSpec, SandboxError> {
        let invalid = |message: &str| Err(SandboxError::Invalid(message.to_owned()));
        match &self.command {
            Command::Shell(script) if script.contains('\0') => return invalid("command must not contain a NUL byte"),
            Command::Shell(script) if script.trim().is_empty() => return invalid("command must not be empty"),
            Command::Argv(argv) if argv.first().is_none_or(String::is_empty) => {
                return invalid("command must not be empty");
            }
            Command::Argv(argv) if argv.iter().any(|argument| argument.contains('\0')) => {
                return invalid("command and args must not contain a NUL byte");
            }
            Command::Shell(_) | Command::Argv(_) => {}
        }
        check_env(&self.env)?;
        let timeout = bounded_duration(
            "timeout",
            self.timeout,
            limits.default_exec_timeout,
            limits.max_exec_timeout,
            quota.max_exec_timeout,
        )?;
        Ok(ExecSpec {
            command: self.command,
            env: self.env,
            workdir: self.workdir,
            timeout,
            cpu_time: cpu_time(self.cpu_time)?,
            fuel: fuel(self.fuel)?,
            stdin: self.stdin,
        })
    }
}

/// A limit of processor time, which would let nothing run if it were zero.
fn cpu_time(asked: Option<Duration>) -> Result<Option<Duration>, SandboxError> {
    match asked {
        Some(Duration::ZERO) => Err(SandboxError::Invalid("cpu_time must be longer than 0s".to_owned())),
        asked => Ok(asked),
    }
}

/// A budget of fuel.
fn fuel(asked: Option<u64>) -> Result<Option<u64>, SandboxError> {
    match asked {
        Some(units) if !(1..=MAX_FUEL).contains(&units) => {
            Err(SandboxError::Invalid(format!("fuel must be from 1 to {MAX_FUEL}")))
        }
        asked => Ok(asked),
    }
}

/// A number from 1 to the maximum, or the default.
fn within<T: PartialOrd + Default + std::fmt::Display + Copy>(
    name: &str,
    asked: Option<T>,
    default: T,
    max: T,
) -> Result<T, SandboxError> {
    match asked {
        None => Ok(default),
        Some(value) if value > max => Err(SandboxError::Invalid(format!(
            "{name} is {value}; this server allows at most {max}"
        ))),
        Some(value) if value == T::default() => Err(SandboxError::Invalid(format!("{name} must be at least 1"))),
        Some(value) => Ok(value),
    }
}

/// A duration above zero and up to the server's maximum and the owner's, or the default.
fn bounded_duration(
    name: &str,
    asked: Option<Duration>,
    default: GoDuration,
    max: GoDuration,
    owners_max: Option<Duration>,
) -> Result<Duration, SandboxError> {
    match asked {
        None => Ok(owners_max.map_or(default.0, |own| own.min(default.0))),
        Some(value) if value.is_zero() => Err(SandboxError::Invalid(format!("{name} must be longer than 0s"))),
        Some(value) if value > max.0 => Err(SandboxError::Invalid(format!(
            "{name} is {}; this server allows at most {max}",
            GoDuration(value)
        ))),
        Some(value) => match owners_max.filter(|own| value > *own) {
            Some(own) => Err(SandboxError::LimitReached(format!(
                "{name} is {}; the owner's quota allows at most {}",
                GoDuration(value),
                GoDuration(own)
            ))),
            None => Ok(value),
        },
    }
}

/// An image or provider name: short, and fit to be shown in a message.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), SandboxError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(SandboxError::Invalid(format!(
            "{field} must be 1 to {MAX_NAME_BYTES} bytes without white space or control characters"
        )));
    }
    Ok(())
}

/// Metadata is bounded in total.
fn check_labels(metadata: &BTreeMap<String, String>) -> Result<(), SandboxError> {
    if map_bytes(metadata) > MAX_METADATA_BYTES {
        return Err(SandboxError::Invalid(format!(
            "metadata must not exceed {MAX_METADATA_BYTES} bytes in all"
        )));
    }
    Ok(())
}

/// An environment as `execve` takes it (POSIX, Environment Variables), bounded in total.
fn check_env(env: &BTreeMap<String, String>) -> Result<(), SandboxError> {
    if map_bytes(env) > MAX_ENV_BYTES {
        return Err(SandboxError::Invalid(format!(
            "env must not exceed {MAX_ENV_BYTES} bytes in all"
        )));
    }
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(SandboxError::Invalid(
                "env: a name must not be empty or contain \"=\", and neither name nor value a NUL byte".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Bytes of all keys and values, with something for the bookkeeping of each entry.
pub(super) fn map_bytes(map: &BTreeMap<String, String>) -> usize {
    const PER_ENTRY: usize = 16;
    map.iter().map(|(key, value)| key.len() + value.len() + PER_ENTRY).sum()
}
