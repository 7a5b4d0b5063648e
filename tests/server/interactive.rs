//! Commands that are fed while they run: `wisp exec -i` and `wisp run`.

use std::process::Output;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::images;
use crate::setting::Setting;
use crate::wisp_command::{assert_ended, command, stderr, wisp};

/// Much more than any command here takes, and much less than one that waits for ever.
const SOON: Duration = Duration::from_secs(20);

/// A `wisp` that runs, and the ends of its pipes.
struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the wisp program starts");
        Self {
            stdin: child.stdin.take().expect("a pipe"),
            stdout: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
        }
    }

    async fn write(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).await.expect("it reads");
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let reading = self.stdout.read_line(&mut line);
        tokio::time::timeout(SOON, reading)
            .await
            .expect("a line, soon")
            .expect("a line");
        line
    }

    /// Waits for its end without ending its input.
    async fn end(mut self) -> Output {
        let stdin = self.stdin;
        let status = tokio::time::timeout(SOON, self.child.wait()).await;
        status.expect("it ends soon").expect("a status");
        drop(stdin);
        self.child.wait_with_output().await.expect("its end")
    }
}

/// `wisp exec -i` in a fresh sandbox.
async fn exec(setting: &Setting, arguments: &[&str]) -> Command {
    let sandbox = setting.sandbox().await;
    let id = sandbox.path.rsplit('/').next().expect("an id");
    let server = setting.server.url().trim_end_matches("/api/v1");
    command(&[&["exec", "--server", server, "-i", id], arguments].concat())
}

async fn assert_echoes(mut running: Running) {
    for line in ["one\n", "two\n"] {
        running.write(line).await;
        assert_eq!(running.line().await, line);
    }
    drop(running.stdin);
    let output = running.child.wait_with_output().await.expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[tokio::test]
async fn exec_passes_input_on_as_it_comes() {
    let setting = Setting::shared().await;
    assert_echoes(Running::start(exec(&setting, &["--", "cat"]).await)).await;
}

#[tokio::test]
async fn run_passes_input_on_as_it_comes() {
    images::install();
    assert_echoes(Running::start(command(&["run", "base", "--", "cat"]))).await;
}

#[tokio::test]
async fn a_command_that_reads_nothing_ends_although_its_input_does_not() {
    let setting = Setting::shared().await;
    let commands = [
        exec(&setting, &["-c", "exit 7"]).await,
        command(&["run", "base", "-c", "exit 7"]),
    ];
    for command in commands {
        let ended = Running::start(command).end().await;
        assert_eq!(ended.status.code(), Some(7), "{}", stderr(&ended));
    }
}

#[tokio::test]
async fn every_byte_of_a_large_input_arrives() {
    let setting = Setting::shared().await;
    let input: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let program = "import sys; data = sys.stdin.buffer.read(); \
        print(len(data), all(data[n] == n % 251 for n in range(0, len(data), 97)))";
    let sandbox = setting.sandbox().await;
    let id = sandbox.path.rsplit('/').next().expect("an id");
    let server = setting.server.url().trim_end_matches("/api/v1");
    let arguments = ["exec", "--server", server, "-i", id, "--", "python3", "-c", program];
    assert_ended(&wisp(&arguments, &input).await, 0, "3000000 True\n");
    let arguments = ["run", "python:3.12", "--", "python3", "-c", program];
    assert_ended(&wisp(&arguments, &input).await, 0, "3000000 True\n");
}

#[tokio::test]
async fn ctrl_c_reaches_the_command() {
    let setting = Setting::shared().await;
    let mut running = Running::start(exec(&setting, &["-c", "echo ready; sleep 1000"]).await);
    assert_eq!(running.line().await, "ready\n");
    let pid = running.child.id().expect("it runs").to_string();
    let sent = Command::new("kill")
        .args(["-INT", &pid])
        .status()
        .await
        .expect("kill starts");
    assert!(sent.success());
    let started = Instant::now();
    let ended = running.end().await;
    assert_eq!(ended.status.code(), Some(130), "{}", stderr(&ended));
    assert!(started.elapsed() < SOON);
}

#[tokio::test]
async fn ctrl_c_ends_a_command_that_takes_no_input() {
    let setting = Setting::shared().await;
    let mut running = Running::start(exec(&setting, &["-c", "echo ready; exec sleep 1000"]).await);
    assert_eq!(running.line().await, "ready\n");
    // More than fits into anything between here and the command.
    let flood = vec![b'x'; 64 << 20];
    let flooding = tokio::time::timeout(Duration::from_secs(2), running.stdin.write_all(&flood)).await;
    assert!(flooding.is_err(), "somebody read it all");
    let pid = running.child.id().expect("it runs").to_string();
    Command::new("kill")
        .args(["-INT", &pid])
        .status()
        .await
        .expect("kill starts");
    let ended = running.end().await;
    assert_eq!(ended.status.code(), Some(130), "{}", stderr(&ended));
}

#[tokio::test]
async fn refusals_of_the_server_are_printed_as_it_words_them() {
    let setting = Setting::shared().await;
    let server = setting.server.url().trim_end_matches("/api/v1");
    let nowhere = wisp(
        &["exec", "--server", server, "-i", "sb_aaaaaaaaaaaaaaaa", "-c", "true"],
        "",
    )
    .await;
    assert_ended(&nowhere, 1, "");
    assert!(stderr(&nowhere).contains("not found"), "{}", stderr(&nowhere));
    let mut long = exec(&setting, &["--timeout", "1000h", "-c", "true"]).await;
    let refused = crate::wisp_command::finish(&mut long, "").await;
    assert_ended(&refused, 1, "");
    assert!(stderr(&refused).contains("timeout"), "{}", stderr(&refused));
}
