//! The list of cases known to differ from bash, each with its reason: `differences.md`, whose entries are lines
//! ``- `topic/case`: reason``.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Known differences.
pub struct Differences {
    /// Reasons by case.
    pub reasons: BTreeMap<String, String>,
}

impl Differences {
    /// Reads the list of a fixture directory.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("differences.md");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut reasons = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("- `")) {
            let entry = line.strip_prefix("- `").and_then(|rest| rest.split_once("`: "));
            let (case, reason) = entry.with_context(|| format!("not of the form - `topic/case`: reason: {line}"))?;
            ensure!(!reason.trim().is_empty(), "{case} is listed without a reason");
            ensure!(
                reasons.insert(case.to_owned(), reason.to_owned()).is_none(),
                "{case} is listed twice"
            );
        }
        Ok(Self { reasons })
    }
}
