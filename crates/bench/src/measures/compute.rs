//! Ten computing programs against native Python.

use std::time::Duration;

use super::{Measure, Setting, progress};
use crate::competitors::Competitor;
use crate::error::BenchError;
use crate::programs::{PROGRAMS, Program};
use crate::report::Section;
use crate::statistics::{geometric_mean, milliseconds};

/// Column of the geometric mean of a competitor's times over native Python's.
const RATIO: &str = "x native";

/// What one competitor took for each program, and what each program computed.
#[derive(Default)]
struct Times {
    best: Vec<Duration>,
    results: Vec<String>,
}

pub(super) async fn measure(setting: &Setting<'_>) -> Section {
    let repeats = setting.effort.repeats;
    let method = format!(
        "Milliseconds that each program takes by its own clock, without the interpreter's start; the best of {repeats}, \
         the competitors taking turns. All must compute the same. \"{RATIO}\": geometric mean of the ratios to the first \
         native Python that is there.",
    );
    let columns: Vec<&str> = PROGRAMS.iter().map(|program| program.name).chain([RATIO]).collect();
    let mut section = Section::new(Measure::Compute.name(), "computing, milliseconds", method, &columns);
    let all = measured(&section, &setting.field.pythons, repeats).await;
    let present = || {
        all.iter()
            .filter_map(|(name, times)| Some((name, times.as_ref().ok()?)))
    };
    let native = present()
        .find(|(name, _)| name.starts_with("native"))
        .map(|(_, times)| times.best.clone());
    let expected = present()
        .next()
        .map(|(_, times)| times.results.clone())
        .unwrap_or_default();
    for (name, times) in all {
        let figures = times.and_then(|times| {
            if times.results == expected {
                Ok(figures(&times.best, native.as_deref()))
            } else {
                let difference = format!("it computes {:?}, the first {expected:?}", times.results);
                Err(BenchError::Unexpected(difference))
            }
        });
        section.add_partly(name, figures);
    }
    section
}

/// All competitors run a program before any runs the next, so that a noisy minute hits all of them.
async fn measured(
    section: &Section,
    competitors: &[Competitor],
    repeats: usize,
) -> Vec<(String, Result<Times, BenchError>)> {
    let mut all: Vec<_> = competitors
        .iter()
        .map(|competitor| (competitor, competitor.runner().map(|_| Times::default())))
        .collect();
    for program in &PROGRAMS {
        progress(section, program.name);
        let mut bests = vec![Duration::MAX; all.len()];
        for round in 0..repeats {
            for ((competitor, times), best) in all.iter_mut().zip(&mut bests) {
                let Ok(measured) = times else { continue };
                match once(competitor, program).await {
                    Ok((result, took)) => {
                        *best = took.min(*best);
                        if round == 0 {
                            measured.results.push(result);
                        }
                    }
                    Err(error) => *times = Err(error),
                }
            }
        }
        for ((_, times), best) in all.iter_mut().zip(bests) {
            if let Ok(times) = times {
                times.best.push(best);
            }
        }
    }
    all.into_iter()
        .map(|(competitor, times)| (competitor.name.clone(), times))
        .collect()
}

/// Runs a program, which prints its result and how many seconds it took.
async fn once(competitor: &Competitor, program: &Program) -> Result<(String, Duration), BenchError> {
    let stdout = competitor.runner()?.run(&program.timed()).await?.stdout;
    let (result, seconds) = stdout.trim().split_once(' ').unwrap_or_default();
    let seconds = seconds
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds {
        Some(seconds) => Ok((result.to_owned(), seconds)),
        None => Err(BenchError::Unexpected(format!("{} printed {stdout:?}", program.name))),
    }
}

fn figures(times: &[Duration], native: Option<&[Duration]>) -> Vec<Option<f64>> {
    let mut figures: Vec<Option<f64>> = times.iter().map(|time| Some(milliseconds(*time))).collect();
    figures.push(native.and_then(|native| {
        let pairs = times.iter().zip(native);
        let ratios: Vec<f64> = pairs
            .map(|(own, native)| own.as_secs_f64() / native.as_secs_f64())
            .collect();
        geometric_mean(&ratios)
    }));
    figures
}
