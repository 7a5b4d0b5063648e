//! Checks whether the server could start: its configuration, its address, its data directory.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;

use super::super::ServeArgs;
use super::Check;
use crate::config::Config;
use crate::store::{DataDir, DataDirError};

pub(super) const GROUP: &str = "server";

/// The configuration, or the defaults when it is refused, and what was found.
pub(super) fn checks(args: &ServeArgs) -> (Config, Vec<Check>) {
    let loaded = args
        .load()
        .and_then(|loaded| loaded.config.check().map(|()| loaded.config));
    let (config, configuration) = match loaded {
        Ok(config) => (
            config,
            Check::ok(GROUP, "configuration", "valid; `wisp config show` prints it"),
        ),
        Err(error) => {
            let fix = "correct it; `wisp config show` prints every key with its default";
            (
                Config::default(),
                Check::missing(GROUP, "configuration", error.to_string(), fix),
            )
        }
    };
    let checks = vec![configuration, data_dir(&config.data_dir), address(&config)];
    (config, checks)
}

fn data_dir(path: &Path) -> Check {
    let name = format!("data_dir {}", path.display());
    let fix = "let this user write there, or set data_dir (WISP_DATA_DIR) to a directory of its own";
    if path.exists() {
        return match DataDir::open(path) {
            Ok(_) => Check::ok(GROUP, name, "can be used"),
            Err(DataDirError::InUse(_)) => Check::ok(GROUP, name, "in use by a server that runs"),
            Err(error) => Check::missing(GROUP, name, error.to_string(), fix),
        };
    }
    let parent = path.ancestors().find(|ancestor| ancestor.exists());
    match parent {
        Some(parent) if is_writable(parent) => Check::ok(GROUP, name, "is made at the first start"),
        Some(parent) => {
            let found = format!("does not exist, and this user may not write to {}", parent.display());
            Check::missing(GROUP, name, found, fix)
        }
        None => Check::missing(GROUP, name, "does not exist", fix),
    }
}

fn is_writable(dir: &Path) -> bool {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

fn address(config: &Config) -> Check {
    let name = format!("address {}", config.listen);
    match TcpListener::bind(config.listen) {
        Ok(_) => Check::ok(GROUP, name, "is free"),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Check::warning(
            GROUP,
            name,
            "is taken, by a wisp that runs or by another program",
            "`wisp list` shows whether that is wisp; otherwise choose another address with --listen",
        ),
        Err(error) => Check::missing(
            GROUP,
            name,
            error.to_string(),
            "choose an address of this machine, and a port above 1023 unless this user may use lower ones",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Status;

    #[test]
    fn a_data_dir_is_fine_when_it_can_be_made_or_is_in_use() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        assert_eq!(data_dir(&path).status, Status::Ok);
        assert!(!path.exists(), "looking makes nothing");
        let _used = DataDir::open(&path).unwrap();
        let check = data_dir(&path);
        assert_eq!(check.status, Status::Ok);
        assert!(check.found.contains("in use"), "{check:?}");
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(data_dir(&file).status, Status::Missing);
    }

    #[test]
    fn a_taken_address_is_a_warning() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config {
            listen: taken.local_addr().unwrap(),
            ..Config::default()
        };
        assert_eq!(address(&config).status, Status::Warning);
        drop(taken);
        assert_eq!(address(&config).status, Status::Ok);
    }
}
