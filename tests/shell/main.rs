//! Snippets of the kind coding agents send, run in a sandbox of image `base` and compared with what this machine's bash
//! and coreutils printed when the fixtures were recorded.
//!
//! ```text
//! cargo test --test shell                              compare
//! WISP_CASE=sed/ cargo test --test shell               only cases whose name contains this, with their standard error
//! WISP_RECORD=1 cargo test --test shell                run the real bash and write what it prints into the fixtures
//! ```
//! The fixtures are `tests/fixtures/shell/*.txt` (their form: [`case_file`]); cases that differ are listed with their
//! reason in `differences.md` there.

#![allow(clippy::print_stderr, reason = "a test reports to the person who runs it")]

mod case_file;
mod differences;
mod recorder;
mod report;
mod sandbox;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use case_file::CaseFile;
use differences::Differences;
use futures_util::{StreamExt, TryStreamExt, stream};
use report::Report;
use sandbox::Sandboxes;

/// Fewest cases the suite may have.
const LEAST_CASES: usize = 250;
/// Cases in flight at once. Most of them wait for a child or a sleep at any moment.
const PARALLEL_CASES: usize = 8;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/shell")
}

#[test]
fn snippets_print_and_exit_as_in_bash() -> Result<()> {
    let mut files = CaseFile::read_all(&fixtures())?;
    if std::env::var_os("WISP_RECORD").is_some() {
        for file in &mut files {
            recorder::record(file).with_context(|| format!("recording {}", file.topic))?;
            file.write()?;
        }
        eprintln!(
            "recorded {} cases",
            files.iter().map(|file| file.cases.len()).sum::<usize>()
        );
        return Ok(());
    }

    let filter = std::env::var("WISP_CASE").ok();
    let mut cases = Vec::new();
    for file in &files {
        for case in &file.cases {
            let name = format!("{}/{}", file.topic, case.name);
            let recorded = case
                .recorded
                .clone()
                .with_context(|| format!("{name} has not been recorded"))?;
            if filter.as_ref().is_none_or(|wanted| name.contains(wanted.as_str())) {
                cases.push((name, case.script.clone(), recorded));
            }
        }
    }
    ensure!(
        filter.is_some() || cases.len() >= LEAST_CASES,
        "only {} cases",
        cases.len()
    );

    let sandboxes = Sandboxes::of_base_image()?;
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let runs = stream::iter(cases).map(|(name, script, recorded)| {
        let sandboxes = &sandboxes;
        async move {
            let run = sandboxes.run(&script).await.with_context(|| name.clone())?;
            anyhow::Ok((name, recorded, run))
        }
    });
    let mut runs: Vec<_> = tokio.block_on(runs.buffer_unordered(PARALLEL_CASES).try_collect())?;
    runs.sort_by(|(a, ..), (b, ..)| a.cmp(b));

    let mut report = Report::new(Differences::read(&fixtures())?, filter.is_some());
    for (name, recorded, run) in runs {
        report.add(&name, &recorded, &run);
    }
    report.finish()
}

#[test]
fn fixture_files_are_in_the_form_the_recorder_writes() -> Result<()> {
    for file in CaseFile::read_all(&fixtures())? {
        let text = std::fs::read_to_string(&file.path)?;
        ensure!(file.render() == text, "{}: record it again", file.path.display());
    }
    Ok(())
}
