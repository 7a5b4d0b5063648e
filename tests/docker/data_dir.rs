//! What stays when a server is gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::docker;

/// The data directory of one server after another. When dropped, it goes with the containers that belong to them: a test
/// that fails leaves none behind.
pub struct DataDir(tempfile::TempDir);

impl DataDir {
    /// An empty one.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a data directory"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Names of the containers that belong to its servers.
    pub fn containers(&self) -> BTreeSet<String> {
        let id = fs::read_to_string(self.server_id()).expect("the server's id");
        let label = format!("label=wisp.server={}", id.trim());
        let listed = docker(&["ps", "--all", "--format", "{{.Names}}", "--filter", &label]);
        listed.lines().map(str::to_owned).collect()
    }

    /// The file that says which server it belongs to.
    fn server_id(&self) -> PathBuf {
        self.path().join("server-id")
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // There is none where no server has ever run.
        if self.server_id().exists() {
            for container in self.containers() {
                docker(&["rm", "--force", &container]);
            }
        }
    }
}
