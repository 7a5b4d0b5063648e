//! Python in Docker containers, by the `docker` program, as a script would use it.

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::process::Command;

use super::{Ran, Runner, process};
use crate::error::BenchError;

/// Label of every container made here, with the number of this process.
const LABEL: &str = "wisp.bench";

/// A Docker Engine, an image with Python, and a running container of it.
pub struct Docker {
    image: String,
    version: String,
    container: String,
}

/// `docker exec` in the running container.
pub struct Exec(pub Arc<Docker>);

/// `docker run --rm`: a container for each program.
pub struct Run(pub Arc<Docker>);

impl Docker {
    /// Starts a container of an image that the engine already has.
    pub async fn find(image: &str) -> Result<Self, BenchError> {
        let absent = |what: &str| {
            let what = what.to_owned();
            move |error: BenchError| BenchError::Absent(format!("{what}: {error}"))
        };
        let engine = docker(["version", "--format", "{{.Server.Version}}"])
            .await
            .map_err(absent("no Docker Engine"))?;
        // `docker run` would fetch a missing image in the middle of a measurement.
        docker(["image", "inspect", "--format", "{{.Id}}", image])
            .await
            .map_err(absent(&format!(
                "the engine has no image {image} (docker pull {image})"
            )))?;
        let mut docker_of_image = Self {
            image: image.to_owned(),
            version: String::new(),
            container: String::new(),
        };
        docker_of_image.container = docker_of_image.start("import time; time.sleep(86400)").await?;
        let python = [
            "exec",
            &docker_of_image.container,
            "python3",
            "-I",
            "-c",
            "import sys; print(sys.version.split()[0])",
        ];
        let python = docker(python).await.map_err(absent(&format!("no Python in {image}")))?;
        docker_of_image.version = format!("Docker {}, {image} with Python {}", engine.trim(), python.trim());
        Ok(docker_of_image)
    }

    /// The image.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Versions of the engine and of Python in the image.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Starts a container that runs a Python program, and returns its id.
    pub async fn start(&self, program: &str) -> Result<String, BenchError> {
        let label = own_label();
        let container = docker([
            "run",
            "--detach",
            "--rm",
            "--network",
            "none",
            "--label",
            &label,
            &self.image,
            "python3",
            "-I",
            "-c",
            program,
        ]);
        Ok(container.await?.trim().to_owned())
    }

    /// Kills and removes a container.
    pub async fn remove(&self, container: &str) -> Result<(), BenchError> {
        docker(["rm", "--force", container]).await.map(|_| ())
    }

    /// The process of a container, as this machine numbers it.
    pub async fn process(&self, container: &str) -> Result<u32, BenchError> {
        let pid = docker(["inspect", "--format", "{{.State.Pid}}", container]).await?;
        let pid = pid.trim();
        pid.parse()
            .map_err(|_| BenchError::Unexpected(format!("{pid:?} is no process number")))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        remove_labelled(&own_label());
    }
}

#[async_trait]
impl Runner for Exec {
    async fn run(&self, program: &str) -> Result<Ran, BenchError> {
        let mut command = Command::new("docker");
        command.args(["exec", &self.0.container, "python3", "-I", "-c", program]);
        process::run(&mut command).await
    }
}

#[async_trait]
impl Runner for Run {
    async fn run(&self, program: &str) -> Result<Ran, BenchError> {
        let mut command = Command::new("docker");
        command.args([
            "run",
            "--rm",
            "--network",
            "none",
            "--label",
            &own_label(),
            &self.0.image,
        ]);
        command.args(["python3", "-I", "-c", program]);
        process::run(&mut command).await
    }
}

fn own_label() -> String {
    format!("{LABEL}={}", std::process::id())
}

async fn docker<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<String, BenchError> {
    process::run(Command::new("docker").args(arguments))
        .await
        .map(|ran| ran.stdout)
}

/// Removes all containers with a label. Where there is no engine there are none.
pub fn remove_labelled(label: &str) {
    let docker = |arguments: &[&str]| {
        let mut command = std::process::Command::new("docker");
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            // A second Ctrl-C is not to stop the tidying up.
            .process_group(0);
        command.output()
    };
    let filter = format!("label={label}");
    let Ok(listed) = docker(&["ps", "--all", "--quiet", "--filter", &filter]) else {
        return;
    };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let containers: Vec<&str> = listed.split_whitespace().collect();
    if !containers.is_empty() {
        let mut arguments = vec!["rm", "--force"];
        arguments.extend(containers);
        // Nobody is left to tell; `docker ps` shows what stayed.
        let _ = docker(&arguments);
    }
}
