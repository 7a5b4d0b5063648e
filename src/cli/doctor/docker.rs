//! Checks the provider `docker`: the engine, whether this user may use it, and its runtimes.

use std::time::Duration;

use bollard::Docker;

use super::Check;

const GROUP: &str = "docker";
/// An engine that takes longer is as good as none.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn checks() -> Vec<Check> {
    let docker = match Docker::connect_with_defaults() {
        Ok(docker) => docker,
        Err(error) => return vec![unreachable_engine(&error.to_string())],
    };
    let asked = tokio::time::timeout(TIMEOUT, async { (docker.version().await, docker.info().await) });
    let (version, info) = match asked.await {
        Ok((Ok(version), Ok(info))) => (version, info),
        Ok((Err(error), _) | (_, Err(error))) => return vec![unreachable_engine(&causes(&error))],
        Err(_) => return vec![unreachable_engine("the engine does not answer")],
    };
    let version = version.version.unwrap_or_else(|| "unknown version".to_owned());
    let mut runtimes: Vec<String> = info.runtimes.unwrap_or_default().into_keys().collect();
    runtimes.sort();
    let stronger: Vec<&str> = runtimes
        .iter()
        .map(String::as_str)
        .filter(|name| name.starts_with("runsc") || name.starts_with("kata"))
        .collect();
    let runtime = if stronger.is_empty() {
        Check::warning(
            GROUP,
            "runtimes",
            format!("{}: containers share the host's kernel", runtimes.join(", ")),
            "install gVisor (runsc) or Kata Containers to run untrusted programs",
        )
    } else {
        Check::ok(GROUP, "runtimes", runtimes.join(", "))
    };
    vec![Check::ok(GROUP, "engine", format!("Docker Engine {version}")), runtime]
}

/// The error and what caused it: the engine's client gives the reason only at the end.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text.push_str(&format!(": {reason}"));
        }
        cause = error.source();
    }
    text
}

fn unreachable_engine(reason: &str) -> Check {
    let fix = if reason.contains("ermission denied") {
        "usermod -aG docker USER for the user wisp runs as, and log in again; members of that group are as good as root"
    } else {
        "apt-get install docker.io && systemctl start docker, or set DOCKER_HOST; the wasm provider works without"
    };
    Check::missing(GROUP, "engine", reason, fix)
}
