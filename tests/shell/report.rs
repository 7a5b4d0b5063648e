//! Counts cases and explains those that differ.

use std::fmt::Write;

use anyhow::{Result, bail};

use super::case_file::Outcome;
use super::differences::Differences;
use super::sandbox::Run;

/// Least part of all cases that must equal bash, in percent.
const LEAST_EQUAL_PERCENT: usize = 95;
/// Most lines of standard error shown of a case.
const STDERR_LINES: usize = 8;

/// The result so far.
pub struct Report {
    known: Differences,
    /// Whether only some cases run, so that nothing can be said of the whole.
    partial: bool,
    seen: Vec<String>,
    equal: usize,
    problems: Vec<String>,
}

impl Report {
    /// Nothing has run yet.
    pub fn new(known: Differences, partial: bool) -> Self {
        Self {
            known,
            partial,
            seen: Vec::new(),
            equal: 0,
            problems: Vec::new(),
        }
    }

    /// Compares one case.
    pub fn add(&mut self, name: &str, recorded: &Outcome, run: &Run) {
        self.seen.push(name.to_owned());
        let same = !run.timed_out && run.outcome == *recorded;
        self.equal += usize::from(same);
        let known = self.known.reasons.get(name);
        match (same, known) {
            (true, None) if !self.partial => {}
            (true, Some(_)) => self
                .problems
                .push(format!("{name} is listed as different, but no longer differs")),
            (true, None) => eprintln!("{name}: equal\n{}", stderr(run)),
            (false, Some(reason)) if self.partial => eprintln!("{}known: {reason}\n", explain(name, recorded, run)),
            (false, Some(_)) => {}
            (false, None) => self.problems.push(explain(name, recorded, run)),
        }
    }

    /// Prints the count. An error when something is not as the list says or too much differs.
    pub fn finish(mut self) -> Result<()> {
        let total = self.seen.len();
        if !self.partial {
            let unknown = self.known.reasons.keys().filter(|name| !self.seen.contains(name));
            self.problems
                .extend(unknown.map(|name| format!("{name} is listed as different, but there is no such case")));
            if self.equal * 100 < total * LEAST_EQUAL_PERCENT {
                self.problems
                    .push(format!("fewer than {LEAST_EQUAL_PERCENT} % of the cases are equal"));
            }
        }
        for problem in &self.problems {
            eprintln!("{problem}");
        }
        eprintln!("{} of {total} cases print and exit as in bash", self.equal);
        if !self.problems.is_empty() {
            bail!("{} problems", self.problems.len());
        }
        Ok(())
    }
}

/// Both outcomes of a case side by side.
fn explain(name: &str, recorded: &Outcome, run: &Run) -> String {
    let mut text = format!("=== {name}\n");
    let (want, got): (Vec<_>, Vec<_>) = (recorded.stdout.lines().collect(), run.outcome.stdout.lines().collect());
    let start = want.iter().zip(&got).take_while(|(want, got)| want == got).count();
    let rest = want[start..].iter().rev().zip(got[start..].iter().rev());
    let end = rest.take_while(|(want, got)| want == got).count();
    let mut add = |mark: char, lines: &[&str]| lines.iter().for_each(|line| text.push_str(&format!("{mark} {line}\n")));
    add(' ', &want[..start]);
    add('-', &want[start..want.len() - end]);
    add('+', &got[start..got.len() - end]);
    add(' ', &want[want.len() - end..]);
    if want == got && recorded.stdout != run.outcome.stdout {
        text.push_str("the last newline differs\n");
    }
    // Writing into a string cannot fail.
    if run.timed_out {
        let _ = writeln!(text, "status: expected {}, but it did not end in time", recorded.status);
    } else if recorded.status != run.outcome.status {
        let _ = writeln!(text, "status: expected {}, got {}", recorded.status, run.outcome.status);
    }
    text.push_str(&stderr(run));
    text
}

fn stderr(run: &Run) -> String {
    run.stderr
        .lines()
        .take(STDERR_LINES)
        .map(|line| format!("stderr: {line}\n"))
        .collect()
}
