//! What was measured, before anybody chooses how to show it.

use serde_json::{Map, Value, json};

use super::error::BenchError;
use super::machine::Machine;

/// The whole comparison.
#[derive(Debug)]
pub struct Report {
    /// When it was made: the date, UTC.
    pub date: String,
    /// Where it was made.
    pub machine: Machine,
    /// What took part, and its version.
    pub versions: Vec<(String, String)>,
    /// Whether it was a short run.
    pub quick: bool,
    /// The machine's load before and after.
    pub load: [Option<f64>; 2],
    /// One for each thing that was measured.
    pub sections: Vec<Section>,
}

/// One table of the comparison.
#[derive(Debug)]
pub struct Section {
    /// Short name, as in `--only`.
    pub name: &'static str,
    /// What was measured, in a line.
    pub title: &'static str,
    /// How it was measured: what counts, how often, warm or cold.
    pub method: String,
    /// Names of the figures, with their units.
    pub columns: Vec<String>,
    /// One for each competitor.
    pub rows: Vec<Row>,
}

/// The figures of one competitor.
#[derive(Debug)]
pub struct Row {
    /// Name of the competitor.
    pub who: String,
    /// One for each column, or why there are none.
    pub figures: Result<Vec<Option<f64>>, String>,
}

impl Section {
    /// A table without rows.
    pub fn new(name: &'static str, title: &'static str, method: String, columns: &[&str]) -> Self {
        Self {
            name,
            title,
            method,
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds what was found out about one competitor.
    pub fn add(&mut self, who: impl Into<String>, figures: Result<Vec<f64>, BenchError>) {
        self.add_partly(who, figures.map(|figures| figures.into_iter().map(Some).collect()));
    }

    /// The same, where a competitor may lack some of the figures.
    pub fn add_partly(&mut self, who: impl Into<String>, figures: Result<Vec<Option<f64>>, BenchError>) {
        self.rows.push(Row {
            who: who.into(),
            figures: figures.map_err(|error| error.to_string()),
        });
    }

    /// A figure of a competitor, if it was measured.
    pub fn figure(&self, who: &str, column: &str) -> Option<f64> {
        let column = self.columns.iter().position(|name| name == column)?;
        let row = self.rows.iter().find(|row| row.who == who)?;
        row.figures.as_ref().ok()?.get(column).copied().flatten()
    }
}

impl Report {
    /// The section of this name, if that was measured.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The report for programs. A row is an object of its figures by column; one without figures says why as `missing`.
    pub fn to_json(&self) -> Value {
        let versions: Map<String, Value> = self
            .versions
            .iter()
            .map(|(who, version)| (who.clone(), json!(version)))
            .collect();
        json!({
            "date": self.date,
            "machine": self.machine,
            "versions": versions,
            "quick": self.quick,
            "load_before": self.load[0],
            "load_after": self.load[1],
            "sections": self.sections.iter().map(section_json).collect::<Vec<_>>(),
        })
    }
}

fn section_json(section: &Section) -> Value {
    let rows = section.rows.iter().map(|row| {
        let mut object = Map::new();
        object.insert("who".to_owned(), json!(row.who));
        match &row.figures {
            Ok(figures) => {
                let named = section.columns.iter().cloned();
                object.extend(named.zip(figures.iter().map(|figure| json!(figure))));
            }
            Err(reason) => {
                object.insert("missing".to_owned(), json!(reason));
            }
        }
        Value::Object(object)
    });
    json!({
        "name": section.name,
        "title": section.title,
        "method": section.method,
        "rows": rows.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A report with a fast, a slow and an absent competitor.
    pub(crate) fn example() -> Report {
        let mut latency = Section::new(
            "latency",
            "How long one takes",
            "Ten runs.".to_owned(),
            &["p50 ms", "runs"],
        );
        latency.add("wisp <fast>", Ok(vec![2.5, 10.0]));
        latency.add("docker run", Ok(vec![1234.5, 10.0]));
        latency.add("absent", Err(BenchError::Absent("not installed".to_owned())));
        Report {
            date: "2026-11-26".to_owned(),
            machine: Machine::this(),
            versions: vec![("wisp".to_owned(), "0.1.0".to_owned())],
            quick: true,
            load: [Some(0.5), None],
            sections: vec![latency],
        }
    }

    #[test]
    fn programs_find_a_figure_by_competitor_and_column() {
        let json = example().to_json();
        let rows = &json["sections"][0]["rows"];
        assert_eq!(rows[0], json!({"who": "wisp <fast>", "p50 ms": 2.5, "runs": 10.0}));
        assert_eq!(rows[2], json!({"who": "absent", "missing": "not installed"}));
        assert_eq!(json["versions"]["wisp"], "0.1.0");
    }
}
