//! What the wall around guests costs: a server with worker processes against one whose guests run in the server.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Job, Measure, Setting, progress, rate};
use crate::competitors::{BASE, PRINT_42};
use crate::effort::Effort;
use crate::error::BenchError;
use crate::report::Section;
use crate::server::{Sandbox, Server};
use crate::statistics::{Series, count, milliseconds};

/// Tenants that share the server, by the row.
const TENANTS: [usize; 2] = [1, 100];
/// Clients at once while throughput is measured.
const CLIENTS: usize = 16;
/// The Python that is measured.
const IMAGE: &str = "python:3.13";
/// Rounds in which each server has its turn, so that what else the machine does falls on all of them.
const ROUNDS: usize = 5;

/// One server of the comparison.
struct Contender {
    isolation: &'static str,
    tenants: usize,
    server: Arc<Server>,
    /// A sandbox of each of its tenants with [`BASE`], and one with [`IMAGE`].
    base: Vec<Sandbox>,
    python: Vec<Sandbox>,
    /// Growth for each idle sandbox, KiB.
    idle: f64,
    times: Times,
}

/// What was measured of one server in all rounds.
#[derive(Default)]
struct Times {
    echo: Vec<Duration>,
    python: Vec<Duration>,
    /// Commands a second.
    rates: Vec<f64>,
}

pub(super) async fn measure(setting: &Setting<'_>) -> Section {
    let effort = setting.effort;
    let method = format!(
        "Servers with isolation none and tenant, alive at once, in turns in {ROUNDS} rounds; their tenants share the \
         sandboxes evenly. echo: echo hi in {BASE}; Python: the program of latency with {IMAGE}; POST /exec, connection \
         kept, {} runs each. Throughput: echo by {CLIENTS} clients. Idle: growth of Private_Dirty of server and workers by \
         {} sandboxes that nothing has run in.",
        effort.runs, effort.idle,
    );
    let columns = ["echo p50 ms", "Python p50 ms", "a second", "idle KiB each"];
    let mut section = Section::new(
        Measure::Wall.name(),
        "what the wall around guests costs",
        method,
        &columns,
    );
    match contenders(&section, effort).await {
        Ok(contenders) => {
            for contender in contenders {
                let (name, figures) = contender.into_row();
                section.add(name, figures);
            }
        }
        Err(error) => section.add("all", Err(error)),
    }
    section
}

async fn contenders(section: &Section, effort: &Effort) -> Result<Vec<Contender>, BenchError> {
    let mut contenders = Vec::new();
    for isolation in ["none", "tenant"] {
        for tenants in TENANTS {
            progress(section, &format!("idle, isolation {isolation}, tenants {tenants}"));
            contenders.push(Contender::start(isolation, tenants, effort).await?);
        }
    }
    for round in 1..=ROUNDS {
        for contender in &mut contenders {
            let (isolation, tenants) = (contender.isolation, contender.tenants);
            progress(
                section,
                &format!("round {round}, isolation {isolation}, tenants {tenants}"),
            );
            contender.have_a_turn(effort).await?;
        }
    }
    Ok(contenders)
}

impl Contender {
    async fn start(isolation: &'static str, tenants: usize, effort: &Effort) -> Result<Self, BenchError> {
        let server = Arc::new(Server::start_with(&[BASE, IMAGE], effort.idle + 2 * tenants, isolation, tenants).await?);
        // The first sandbox takes what all share.
        let first = server.create_for(0, BASE).await?;
        let before = server.private_dirty()?;
        for number in 0..effort.idle {
            server.create_for(number % tenants, BASE).await?;
        }
        let grown = server.private_dirty()?.saturating_sub(before);
        let idle = count(usize::try_from(grown >> 10).unwrap_or(usize::MAX)) / count(effort.idle);
        first.destroy().await?;
        let (mut base, mut python) = (Vec::new(), Vec::new());
        for tenant in 0..tenants {
            base.push(server.create_for(tenant, BASE).await?);
            python.push(server.create_for(tenant, IMAGE).await?);
        }
        Ok(Self {
            isolation,
            tenants,
            server,
            base,
            python,
            idle,
            times: Times::default(),
        })
    }

    /// One round on this server. Its tenants have their turns one after the other, each often enough to be warm.
    async fn have_a_turn(&mut self, effort: &Effort) -> Result<(), BenchError> {
        let runs = (effort.runs / ROUNDS / self.tenants).max(2);
        let echo = json!({"command": "echo hi"});
        let python = json!({"command": format!("python3 -c '{PRINT_42}'")});
        for tenant in 0..self.tenants {
            series(&self.base[tenant], &echo, "hi\n", runs, &mut self.times.echo).await?;
            series(&self.python[tenant], &python, "42\n", runs, &mut self.times.python).await?;
        }
        let job = |client: usize| -> Job {
            let sandbox = self.base[client % self.base.len()].clone();
            Box::new(move || {
                let sandbox = sandbox.clone();
                let request = json!({"command": "echo hi"});
                Box::pin(async move { sandbox.output(&request).await.map(drop) })
            })
        };
        let rate = rate(CLIENTS, effort.busy_for, job).await?;
        self.times.rates.push(rate);
        Ok(())
    }

    fn into_row(self) -> (String, Result<Vec<f64>, BenchError>) {
        // Held until the end, so that all servers live while one is measured.
        drop(self.server);
        let plural = if self.tenants == 1 { "" } else { "s" };
        let name = format!("wisp, isolation {}, {} tenant{plural}", self.isolation, self.tenants);
        let median = |times| Series::new(times).map(|series| milliseconds(series.percentile(50)));
        let mut rates = self.times.rates;
        rates.sort_by(f64::total_cmp);
        let rate = rates.get(rates.len() / 2).copied().unwrap_or_default();
        let figures = median(self.times.echo)
            .and_then(|echo| median(self.times.python).map(|python| vec![echo, python, rate, self.idle]));
        (name, figures)
    }
}

/// Runs a command one time after the other. The first run opens the sandbox and does not count.
async fn series(
    sandbox: &Sandbox,
    request: &Value,
    expected: &str,
    runs: usize,
    times: &mut Vec<Duration>,
) -> Result<(), BenchError> {
    for run in 0..=runs {
        let (said, took) = sandbox.output(request).await?;
        if said != expected {
            return Err(BenchError::Unexpected(format!("{said:?}")));
        }
        if run > 0 {
            times.push(took);
        }
    }
    Ok(())
}
