//! wisp over HTTP, commands in shell mode: what a client gets.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{BASE, Ran, Runner};
use crate::error::BenchError;
use crate::server::{Sandbox, Server};

/// Sandboxes of one image, used in turn, so that many clients do not share one.
pub struct Wisp {
    sandboxes: Vec<Sandbox>,
    next: AtomicUsize,
}

impl Wisp {
    /// Creates sandboxes on a server.
    pub async fn over(server: &Server, provider: &str, image: &str, count: usize) -> Result<Self, BenchError> {
        let mut sandboxes = Vec::new();
        for _ in 0..count {
            sandboxes.push(server.create(provider, image).await?);
        }
        Ok(Self {
            sandboxes,
            next: AtomicUsize::new(0),
        })
    }

    async fn command(&self, request: &Value) -> Result<Ran, BenchError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.sandboxes.len();
        let (stdout, elapsed) = self.sandboxes[turn].output(request).await?;
        Ok(Ran { stdout, elapsed })
    }
}

#[async_trait]
impl Runner for Wisp {
    async fn run(&self, program: &str) -> Result<Ran, BenchError> {
        self.command(&shell_command(program)).await
    }
}

/// The same in a script that the sandbox's shell runs: it is more than the one simple command that needs no shell.
pub struct InScript(pub Wisp);

#[async_trait]
impl Runner for InScript {
    async fn run(&self, program: &str) -> Result<Ran, BenchError> {
        let mut request = shell_command(program);
        if let Some(Value::String(command)) = request.get_mut("command") {
            command.insert_str(0, ":; ");
        }
        self.0.command(&request).await
    }
}

/// The image that has a shell and no Python.
pub struct Base(Wisp);

impl Base {
    /// Creates sandboxes on a server.
    pub async fn over(server: &Server, count: usize) -> Result<Self, BenchError> {
        Wisp::over(server, "wasm", BASE, count).await.map(Self)
    }
}

#[async_trait]
impl Runner for Base {
    async fn run(&self, _program: &str) -> Result<Ran, BenchError> {
        Err(BenchError::Absent("the image base has no Python".to_owned()))
    }

    async fn answer(&self) -> Result<Ran, BenchError> {
        self.0.command(&json!({"command": "echo $((40 + 2))"})).await
    }
}

/// The request that runs a Python program in shell mode.
pub fn shell_command(program: &str) -> Value {
    json!({"command": format!("python3 -c '{}'", program.replace('\'', r"'\''"))})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_passes_a_program_on_as_it_is() {
        let program = "print('a', \"b\", '$HOME `date` \\\\')\n";
        let command = shell_command(program)["command"].as_str().unwrap().to_owned();
        let ran = std::process::Command::new("sh")
            .args(["-c", &command.replacen("python3 -c", "printf %s", 1)])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(ran.stdout).unwrap(), program);
    }
}
