//! A judge of program submissions: runs a solution on each test in a sandbox of its own and says what came of it.
//!
//! `cargo run --example judge -- solution.py` judges a program that should print the sum of the numbers it reads.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program may print")]

use std::time::Duration;

use wisp::{Engine, Error, LimitHit};

/// What came of one test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is right.
    Accepted,
    /// The answer is wrong.
    WrongAnswer,
    /// It used more processor time than it may.
    TimeLimit,
    /// It wrote more than it may.
    OutputLimit,
    /// It ended with an error, such as for want of memory.
    RuntimeError,
}

/// One test.
pub struct Test {
    /// What the program reads.
    pub input: &'static str,
    /// What it should write, white space at the ends aside.
    pub expected: &'static str,
}

/// Judges a solution in Python on all tests at once. Each test has a sandbox of its own, so that no run sees another's
/// files, and processor time instead of the clock on the wall decides, so that a busy judge is a fair one.
pub async fn judge(engine: &Engine, solution: &str, tests: &[Test]) -> Result<Vec<Verdict>, Error> {
    let runs = tests.iter().map(|test| async move {
        let sandbox = engine.sandbox("python:3.13").memory_mb(64).disk_mb(1).create().await?;
        sandbox.write_file("/work/solution.py", solution.to_owned()).await?;
        let output = sandbox
            .command("python3")
            .arg("/work/solution.py")
            .stdin(test.input)
            .cpu_time(Duration::from_secs(2))
            .timeout(Duration::from_secs(60))
            .max_output(1 << 20)
            .output()
            .await?;
        let answer = String::from_utf8_lossy(&output.stdout);
        Ok(match () {
            () if output.exit.limit == Some(LimitHit::ExecCpuTime) || output.exit.timed_out => Verdict::TimeLimit,
            () if output.truncated => Verdict::OutputLimit,
            () if !output.success() => Verdict::RuntimeError,
            () if answer.trim() == test.expected => Verdict::Accepted,
            () => Verdict::WrongAnswer,
        })
    });
    futures_util::future::try_join_all(runs).await
}

/// The tests of a problem: print the sum of the numbers.
pub const SUM: [Test; 3] = [
    Test {
        input: "1 2 3\n",
        expected: "6",
    },
    Test {
        input: "",
        expected: "0",
    },
    Test {
        input: "-5 5\n10 20\n",
        expected: "30",
    },
];

#[allow(dead_code, reason = "the tests call `judge`")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let solution = match std::env::args().nth(1) {
        Some(file) => std::fs::read_to_string(file)?,
        None => "import sys; print(sum(map(int, sys.stdin.read().split())))".to_owned(),
    };
    let engine = Engine::new()?;
    println!("{:?}", judge(&engine, &solution, &SUM).await?);
    Ok(())
}
