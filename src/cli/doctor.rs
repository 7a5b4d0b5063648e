//! `wisp doctor`: checks what each provider needs on this machine, and says how to get what is missing.

#[cfg(feature = "docker")]
mod docker;
mod machine;
mod server;
mod wasm;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::ServeArgs;
#[cfg(feature = "docker")]
use docker::checks as docker_checks;

/// Arguments of `wisp doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// The configuration to look at.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// It works without, but worse.
    Warning,
    /// What it belongs to cannot work.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What it belongs to: `server`, `machine`, or the name of a provider.
    group: &'static str,
    /// What was looked at.
    name: String,
    status: Status,
    /// What the check found, in a few words.
    found: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Check {
    fn ok(group: &'static str, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            group,
            name: name.into(),
            status: Status::Ok,
            found: found.into(),
            fix: None,
        }
    }

    fn warning(group: &'static str, name: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            status: Status::Warning,
            fix: Some(fix.into()),
            ..Self::ok(group, name, found)
        }
    }

    fn missing(group: &'static str, name: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            status: Status::Missing,
            ..Self::warning(group, name, found, fix)
        }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether `wisp serve` would start and its default provider work.
    usable: bool,
    default_provider: String,
    checks: Vec<Check>,
}

impl Report {
    fn new(default_provider: String, checks: Vec<Check>) -> Self {
        let needed = |group: &str| group == server::GROUP || group == default_provider;
        let usable = !checks
            .iter()
            .any(|check| check.status == Status::Missing && needed(check.group));
        Self {
            usable,
            default_provider,
            checks,
        }
    }
}

/// This build has no provider that needs an engine.
#[cfg(not(feature = "docker"))]
fn docker_checks() -> std::future::Ready<Vec<Check>> {
    std::future::ready(Vec::new())
}

impl DoctorArgs {
    /// Runs all checks and prints what they found.
    ///
    /// # Errors
    /// When standard output cannot be written. What is found wrong is the exit code.
    pub async fn run(&self) -> anyhow::Result<ExitCode> {
        let (config, mut checks) = server::checks(&self.serve);
        checks.extend(machine::checks());
        checks.extend(wasm::checks(&config));
        checks.extend(docker_checks().await);
        let report = Report::new(config.default_provider, checks);
        let text = if self.json {
            serde_json::to_string_pretty(&report)? + "\n"
        } else {
            rendered(&report)
        };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(if report.usable {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn rendered(report: &Report) -> String {
    let mut text = String::new();
    let mut group = "";
    for check in &report.checks {
        if check.group != group {
            group = check.group;
            let note = if group == report.default_provider {
                " (default provider)"
            } else {
                ""
            };
            text.push_str(&format!("{group}{note}\n"));
        }
        let mark = match check.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Missing => "MISSING",
        };
        text.push_str(&format!("  {mark:<8} {}: {}\n", check.name, check.found));
        if let Some(fix) = &check.fix {
            text.push_str(&format!("           → {fix}\n"));
        }
    }
    let can = if report.usable {
        "can work"
    } else {
        "cannot work: see MISSING above"
    };
    let provider = &report.default_provider;
    text.push_str(&format!("\nwisp serve with its default provider, {provider}, {can}.\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_default_provider_needs_makes_the_server_unusable() {
        let lacking = |group| Check::missing(group, "a thing", "is not there", "get it");
        let fine = Check::ok("machine", "another", "is there");
        let usable = |checks: Vec<Check>| Report::new("wasm".to_owned(), checks).usable;
        assert!(usable(vec![fine.clone()]));
        assert!(usable(vec![fine.clone(), lacking("docker")]));
        assert!(!usable(vec![fine.clone(), lacking("wasm")]));
        assert!(!usable(vec![fine, lacking(server::GROUP)]));
        assert!(usable(vec![Check::warning(
            "wasm",
            "a thing",
            "is slow",
            "buy another"
        )]));
    }

    #[test]
    fn what_is_missing_is_told_with_what_mends_it() {
        let checks = vec![
            Check::ok("machine", "memory", "8 GiB"),
            Check::missing("wasm", "npm", "not found", "apt-get install npm"),
        ];
        let text = rendered(&Report::new("wasm".to_owned(), checks));
        assert!(text.contains("  ok       memory: 8 GiB\n"), "{text}");
        assert!(
            text.contains("wasm (default provider)\n  MISSING  npm: not found\n"),
            "{text}"
        );
        assert!(text.contains("→ apt-get install npm\n"), "{text}");
        assert!(text.contains("cannot work"), "{text}");
    }
}
