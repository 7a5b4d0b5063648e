//! The figures of all attacks, as a table.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::attack::Attack;
use crate::bounds::is_strict;
use crate::measure::Figures;

/// One attack's figures.
struct Row {
    group: &'static str,
    name: String,
    outcome: String,
    contained: bool,
    fault: Option<&'static str>,
    p50: Duration,
    p99: Duration,
    max: Duration,
    health: Duration,
    overshoot: Option<Duration>,
    work_over: Duration,
    peak_mib: u64,
    allowed_mib: u64,
    kept_mib: u64,
    took: Duration,
}

/// All figures so far.
#[derive(Default)]
pub struct Record(Mutex<Vec<Row>>);

impl Record {
    /// Adds an attack.
    pub fn add(&self, attack: &Attack, figures: &Figures, verdict: &Result<(), String>, fault: Option<&'static str>) {
        let outcome = match (verdict, &figures.outcome) {
            (Err(what), _) => what.clone(),
            (Ok(()), outcome) => outcome.clone().unwrap_or_default(),
        };
        let row = Row {
            group: attack.group,
            name: attack.name.to_owned(),
            outcome,
            contained: verdict.is_ok(),
            fault,
            p50: figures.bystander.quantile(0.5),
            p99: figures.bystander.quantile(0.99),
            max: figures.bystander.max(),
            health: figures.health.max(),
            overshoot: figures.overshoot,
            work_over: figures.work_over,
            peak_mib: figures.peak_mib(),
            allowed_mib: attack.allowed_mib(),
            kept_mib: figures.kept_mib(),
            took: figures.took,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    }

    /// Prints the counts by group.
    pub fn print(&self) {
        println!("{}", self.groups());
    }

    /// The counts by group, and a line for each attack.
    pub fn to_markdown(&self) -> String {
        format!("{}\n{}", self.groups(), self.attacks())
    }

    fn groups(&self) -> String {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut groups: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        for row in rows.iter() {
            groups.entry(row.group).or_default().push(row);
        }
        let all: Vec<&Row> = rows.iter().collect();
        let form = if is_strict() { "idle machine" } else { "busy machine" };
        let mut table = format!(
            "Attacks ({form}; milliseconds, MiB; \"worst\" is over the attacks of the group)\n\n\
             | group | attacks | contained | bystander p50 | p99, worst | max, worst | /health max | overshoot | \
             work over after | private memory, most |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        );
        for (name, rows) in groups {
            table.push_str(&total(name, &rows));
        }
        table.push_str(&total("all", &all));
        table
    }

    fn attacks(&self) -> String {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = "| attack | outcome | p50 | p99 | max | /health | overshoot | work over | memory (allowed) | \
             kept | took |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
        for row in rows.iter() {
            let known = row.fault.map(|fault| format!(" (known: {fault})")).unwrap_or_default();
            table.push_str(&format!(
                "| {}: {} | {}{known} | {} | {} | {} | {} | {} | {} | {} ({}) | {} | {} |\n",
                row.group,
                row.name,
                row.outcome.replace('|', "\\|").replace('\n', " "),
                milliseconds(row.p50),
                milliseconds(row.p99),
                milliseconds(row.max),
                milliseconds(row.health),
                row.overshoot.map_or("-".to_owned(), milliseconds),
                milliseconds(row.work_over),
                row.peak_mib,
                row.allowed_mib,
                row.kept_mib,
                milliseconds(row.took),
            ));
        }
        table
    }
}

fn total(name: &str, rows: &[&Row]) -> String {
    let worst = |of: fn(&Row) -> Duration| milliseconds(rows.iter().map(|row| of(row)).max().unwrap_or_default());
    let mut medians: Vec<Duration> = rows.iter().map(|row| row.p50).collect();
    medians.sort_unstable();
    format!(
        "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        rows.len(),
        rows.iter().filter(|row| row.contained).count(),
        milliseconds(medians.get(medians.len() / 2).copied().unwrap_or_default()),
        worst(|row| row.p99),
        worst(|row| row.max),
        worst(|row| row.health),
        worst(|row| row.overshoot.unwrap_or_default()),
        worst(|row| row.work_over),
        rows.iter().map(|row| row.peak_mib).max().unwrap_or_default(),
    )
}

fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 {
        format!("{milliseconds:.1}")
    } else {
        format!("{milliseconds:.0}")
    }
}
