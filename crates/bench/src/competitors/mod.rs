//! Who takes part: everything that runs a Python program apart from its caller.

pub mod docker;
pub mod native;
pub mod peer;
mod process;
mod wisp;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::error::BenchError;
use super::server::Server;
use ::wisp::image::ImageStore;
use docker::Docker;
use native::Native;
use peer::Peer;
use wisp::Base;
pub use wisp::shell_command;
pub use wisp::{InScript, Wisp};

/// The smallest program with an answer.
pub const PRINT_42: &str = "print(40 + 2)";
/// What the measured program prints.
pub const ANSWER: &str = "42\n";
/// The image with the shell and tools, under every other.
pub const BASE: &str = "base";
/// Name in the tables of a native Python that cannot say its version.
const NO_NATIVE: &str = "native python3";
/// Sandboxes over which the clients of one competitor are spread.
const SANDBOXES: usize = 32;
/// The distribution's own. The one that comes first on the `PATH` may be a wrapper that takes longer than Python itself.
const DISTRIBUTIONS_PYTHON: &str = "/usr/bin/python3";

/// Runs Python programs, each in an interpreter of its own.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Runs a program as `python3 -c PROGRAM` does.
    async fn run(&self, program: &str) -> Result<Ran, BenchError>;

    /// Prints 42, in the way that is natural here.
    async fn answer(&self) -> Result<Ran, BenchError> {
        self.run(PRINT_42).await
    }
}

/// What a program did.
#[derive(Debug)]
pub struct Ran {
    /// What it wrote to standard output.
    pub stdout: String,
    /// From asking for it until its output was there.
    pub elapsed: Duration,
}

impl Ran {
    /// How long it took, if it printed what it should.
    pub fn checked(&self, expected: &str) -> Result<Duration, BenchError> {
        if self.stdout == expected {
            Ok(self.elapsed)
        } else {
            let printed = format!("a program printed {:?}, not {expected:?}", self.stdout);
            Err(BenchError::Unexpected(printed))
        }
    }
}

/// One who takes part, or would.
#[derive(Clone)]
pub struct Competitor {
    /// Its name in the tables.
    pub name: String,
    /// What it is exactly, or why it takes no part.
    pub version: String,
    /// Absent when it takes no part.
    pub runner: Option<Arc<dyn Runner>>,
}

impl Competitor {
    fn present(name: impl Into<String>, version: impl Into<String>, runner: impl Runner + 'static) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            runner: Some(Arc::new(runner)),
        }
    }

    fn absent(name: impl Into<String>, reason: &BenchError) -> Self {
        Self {
            name: name.into(),
            version: reason.to_string(),
            runner: None,
        }
    }

    /// What runs its programs.
    pub fn runner(&self) -> Result<Arc<dyn Runner>, BenchError> {
        self.runner
            .clone()
            .ok_or_else(|| BenchError::Absent(self.version.clone()))
    }
}

/// An installed image that brings Python.
#[derive(Debug, Clone)]
pub struct PythonImage {
    /// Its name.
    pub name: String,
    /// Version of its Python.
    pub version: String,
}

/// All who take part, and the server they are compared with.
pub struct Field {
    /// Serves every installed image.
    pub server: Server,
    /// The installed images with Python.
    pub images: Vec<PythonImage>,
    /// Whoever runs Python programs; the images come first, over HTTP.
    pub pythons: Vec<Competitor>,
    /// The image without Python, which prints 42 as well.
    pub base: Competitor,
    /// Programs that run Python as a process of this machine.
    natives: Vec<Result<Native, BenchError>>,
    /// The Docker Engine, with a container of its own.
    docker: Result<Arc<Docker>, BenchError>,
    /// Python packages with sandboxes of their own.
    peers: Vec<Result<Arc<Peer>, BenchError>>,
}

/// What the caller chose to compare with.
pub struct Choice {
    /// Native interpreters; empty for the distribution's.
    pub natives: Vec<PathBuf>,
    /// The interpreter whose packages are searched for peers.
    pub peers: Option<PathBuf>,
    /// The image for Docker.
    pub docker_image: String,
}

impl Field {
    /// Finds out who can take part and gets them ready.
    ///
    /// # Errors
    /// When wisp itself cannot: no image with Python is installed, or its server does not start.
    pub async fn assemble(choice: &Choice, max_sandboxes: usize) -> anyhow::Result<Self> {
        let images = python_images()?;
        if images.is_empty() {
            anyhow::bail!("no image with Python is installed: cargo run --release -p wisp-image-build -- python:3.13");
        }
        let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
        let server = Server::start(&names, max_sandboxes).await?;
        let mut pythons = Vec::new();
        for image in &images {
            let runner = Wisp::over(&server, "wasm", &image.name, SANDBOXES).await?;
            pythons.push(Competitor::present(
                format!("wisp {}", image.name),
                &image.version,
                runner,
            ));
        }
        let base = match Base::over(&server, SANDBOXES).await {
            Ok(base) => Competitor::present("wisp base (echo)", env!("CARGO_PKG_VERSION"), base),
            Err(error) => Competitor::absent("wisp base (echo)", &error),
        };
        let mut natives = Vec::new();
        for program in native_programs(choice) {
            natives.push(Native::find(&program).await);
        }
        pythons.extend(natives.iter().map(|native| match native {
            Ok(native) => Competitor::present(native.name(), native.version(), native.clone()),
            Err(error) => Competitor::absent(NO_NATIVE, error),
        }));
        let docker = Docker::find(&choice.docker_image).await.map(Arc::new);
        pythons.extend(dockers(&docker, &server).await);
        let mut peers = Vec::new();
        for package in peer::PACKAGES {
            let peer = Peer::start(choice.peers.as_deref(), package).await.map(Arc::new);
            pythons.push(match &peer {
                Ok(peer) => Competitor::present(package.name, peer.version(), Arc::clone(peer)),
                Err(error) => Competitor::absent(package.name, error),
            });
            peers.push(peer);
        }
        Ok(Self {
            server,
            images,
            pythons,
            base,
            natives,
            docker,
            peers,
        })
    }

    /// The Docker Engine, or why it takes no part.
    pub fn docker(&self) -> Result<&Docker, BenchError> {
        present(&self.docker).map(Arc::as_ref)
    }

    /// The peers by name, each with itself or why it takes no part.
    pub fn peers(&self) -> impl Iterator<Item = (&'static str, Result<&Peer, BenchError>)> {
        let names = peer::PACKAGES.iter().map(|package| package.name);
        names.zip(self.peers.iter().map(|peer| present(peer).map(Arc::as_ref)))
    }

    /// The native interpreters by name, each with itself or why it takes no part.
    pub fn natives(&self) -> impl Iterator<Item = (String, Result<&Native, BenchError>)> {
        self.natives.iter().map(|native| {
            let name = native.as_ref().map_or_else(|_| NO_NATIVE.to_owned(), Native::name);
            (name, present(native))
        })
    }

    /// Who prints 42: all of them.
    pub fn all(&self) -> impl Iterator<Item = &Competitor> {
        let (images, others) = self.pythons.split_at(self.images.len());
        images.iter().chain([&self.base]).chain(others)
    }

    /// Who is who, exactly.
    pub fn versions(&self) -> Vec<(String, String)> {
        self.all()
            .map(|competitor| (competitor.name.clone(), competitor.version.clone()))
            .collect()
    }
}

/// The same reason again, for another table.
fn present<T>(found: &Result<T, BenchError>) -> Result<&T, BenchError> {
    found.as_ref().map_err(|error| BenchError::Absent(error.to_string()))
}

/// The installed images that bring a `python3`.
fn python_images() -> anyhow::Result<Vec<PythonImage>> {
    let images = ImageStore::open_default()?.list()?;
    let with_python = images
        .into_iter()
        .filter(|image| image.programs.iter().any(|program| program.ends_with("/python3")));
    Ok(with_python
        .map(|image| PythonImage {
            name: image.name,
            version: image.version,
        })
        .collect())
}

fn native_programs(choice: &Choice) -> Vec<PathBuf> {
    if !choice.natives.is_empty() {
        return choice.natives.clone();
    }
    let distributions = PathBuf::from(DISTRIBUTIONS_PYTHON);
    let found = distributions.exists();
    vec![if found { distributions } else { PathBuf::from("python3") }]
}

/// The three ways to have Docker run Python.
async fn dockers(docker: &Result<Arc<Docker>, BenchError>, server: &Server) -> Vec<Competitor> {
    const EXEC: &str = "docker exec";
    const RUN: &str = "docker run";
    const PROVIDER: &str = "wisp, docker provider";
    let docker = match docker {
        Ok(docker) => docker,
        Err(error) => return [EXEC, RUN, PROVIDER].map(|name| Competitor::absent(name, error)).into(),
    };
    let version = docker.version();
    let provider = match Wisp::over(server, "docker", docker.image(), 1).await {
        Ok(runner) => Competitor::present(PROVIDER, version, runner),
        Err(error) => Competitor::absent(PROVIDER, &error),
    };
    vec![
        Competitor::present(EXEC, version, docker::Exec(Arc::clone(docker))),
        Competitor::present(RUN, version, docker::Run(Arc::clone(docker))),
        provider,
    ]
}
