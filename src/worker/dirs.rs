//! Where the files of sandboxes are kept: a directory for each, in that of the compartment whose workers may touch it.
//!
//! ```text
//! sandboxes/t-1b2c…/sb_…/   the sandboxes of one tenant; the directory belongs to the tenant's own user
//! sandboxes/s-sb_…/sb_…/    with a compartment for each sandbox
//! sandboxes/sb_…/           without workers
//! ```
//!
//! A server that isolates otherwise than the one before moves a sandbox to where it belongs when it brings it back.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::vfs::remove_durable;

/// First of the users that compartments belong to: above what systemd and containers hand out, below what is no user.
const FIRST_UID: u32 = 2_000_000_000;
/// How many users there are.
const UIDS: u32 = 100_000_000;

/// Who shares a worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Compartment(String);

impl Compartment {
    /// The sandboxes of a tenant.
    #[must_use]
    pub fn of_tenant(tenant: &str) -> Self {
        // A tenant's name may hold what no file name may.
        let digest = Sha256::digest(tenant.as_bytes());
        Self(format!("t-{}", hex::encode(&digest[..16])))
    }

    /// One sandbox alone.
    #[must_use]
    pub fn of_sandbox(id: &str) -> Self {
        Self(format!("s-{id}"))
    }

    /// Its directory's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    fn is_name(name: &str) -> bool {
        name.starts_with("t-") || name.starts_with("s-")
    }
}

/// The directory of all sandboxes' directories.
pub struct SandboxDirs {
    root: PathBuf,
    /// Whether compartments get users of their own.
    has_users: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where sandboxes of an earlier server are: the name of the compartment's directory, empty for none.
    found: HashMap<String, String>,
    /// The next user that may be free.
    next_uid: u32,
}

impl SandboxDirs {
    /// The directories below `root`. With `has_users`, which only root may ask for, each compartment's directory belongs
    /// to a user of its own.
    #[must_use]
    pub fn new(root: PathBuf, has_users: bool) -> Self {
        Self {
            root,
            has_users,
            state: Mutex::default(),
        }
    }

    /// Looks where the sandboxes of an earlier server are, and removes those that are not `known`. Returns how many that
    /// were.
    ///
    /// # Errors
    /// When a directory cannot be read or removed.
    pub fn take_over(&self, known: &BTreeSet<String>) -> io::Result<usize> {
        let mut removed = 0;
        let mut found = HashMap::new();
        let mut next_uid = 0;
        let mut look = |directory: &Path, compartment: &str, removed: &mut usize| -> io::Result<bool> {
            let mut empty = true;
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                let name = entry.file_name();
                match name.to_str() {
                    Some(name) if compartment.is_empty() && Compartment::is_name(name) => {}
                    Some(name) if known.contains(name) => {
                        empty = false;
                        found.insert(name.to_owned(), compartment.to_owned());
                    }
                    _ => {
                        remove_durable(&entry.path())?;
                        *removed += 1;
                    }
                }
            }
            Ok(empty)
        };
        look(&self.root, "", &mut removed)?;
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| Compartment::is_name(name)) else {
                continue;
            };
            if look(&entry.path(), name, &mut removed)? {
                fs::remove_dir(entry.path())?;
                continue;
            }
            let uid = entry.metadata()?.uid();
            if (FIRST_UID..FIRST_UID + UIDS).contains(&uid) {
                next_uid = next_uid.max(uid - FIRST_UID + 1);
            }
        }
        let mut state = self.state();
        state.found = found;
        state.next_uid = next_uid % UIDS;
        Ok(removed)
    }

    /// Moves what earlier servers kept of all sandboxes out of their compartments, for a server without workers.
    ///
    /// # Errors
    /// When something cannot be moved.
    pub fn leave_compartments(&self) -> io::Result<()> {
        for compartment in fs::read_dir(&self.root)? {
            let compartment = compartment?;
            if !compartment.file_name().to_str().is_some_and(Compartment::is_name) {
                continue;
            }
            for sandbox in fs::read_dir(compartment.path())? {
                let sandbox = sandbox?;
                let to = self.root.join(sandbox.file_name());
                fs::rename(sandbox.path(), &to)?;
                if self.has_users {
                    give(&to, 0)?;
                }
            }
            fs::remove_dir(compartment.path())?;
        }
        Ok(())
    }

    /// Makes the directory of a compartment unless it is there. Returns it, and the user it belongs to.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(&self, compartment: &Compartment) -> io::Result<(PathBuf, Option<u32>)> {
        let path = self.root.join(compartment.name());
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if !self.has_users {
            return Ok((path, None));
        }
        let owner = fs::metadata(&path)?.uid();
        if (FIRST_UID..FIRST_UID + UIDS).contains(&owner) {
            return Ok((path, Some(owner)));
        }
        let uid = {
            let mut state = self.state();
            let uid = FIRST_UID + state.next_uid;
            state.next_uid = (state.next_uid + 1) % UIDS;
            uid
        };
        for entry in fs::read_dir(&path)? {
            give(&entry?.path(), uid)?;
        }
        chown(&path, Some(uid), Some(uid))?;
        Ok((path, Some(uid)))
    }

    /// Moves what an earlier server kept of a sandbox into its compartment. Says whether there was something.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn bring(&self, id: &str, compartment: &Compartment) -> io::Result<bool> {
        let Some(now) = self.state().found.get(id).cloned() else {
            return Ok(false);
        };
        let wanted = compartment.name();
        if now != wanted {
            let (directory, uid) = self.open(compartment)?;
            let from = self.root.join(&now).join(id);
            let to = directory.join(id);
            fs::rename(&from, &to)?;
            if let Some(uid) = uid {
                give(&to, uid)?;
            }
            self.state().found.insert(id.to_owned(), wanted.to_owned());
            // The last to leave; that others are still there is no error.
            let _ = fs::remove_dir(self.root.join(&now));
        }
        Ok(true)
    }

    /// Removes what is kept of a sandbox, and its compartment's directory when that is empty.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, id: &str, compartment: &Compartment) -> io::Result<()> {
        let directory = self.root.join(compartment.name());
        remove_durable(&directory.join(id))?;
        if *compartment == Compartment::of_sandbox(id) {
            // Nobody else comes here. That it is not there is no error.
            let _ = fs::remove_dir(directory);
        }
        self.state().found.remove(id);
        Ok(())
    }

    /// Removes what an earlier server kept of a sandbox, wherever that is.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_anywhere(&self, id: &str) -> io::Result<()> {
        let found = self.state().found.get(id).cloned();
        if let Some(compartment) = found {
            remove_durable(&self.root.join(compartment).join(id))?;
            self.state().found.remove(id);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every update is complete before anything that could panic.
        self.state.lock()
    }
}

/// Gives a sandbox's directory and what is in it to a user. Links are not followed.
fn give(path: &Path, uid: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            std::os::unix::fs::lchown(entry?.path(), Some(uid), Some(uid))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(root: &Path, place: &str) {
        let directory = root.join(place);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("journal"), "x").unwrap();
    }

    #[test]
    fn sandboxes_are_found_wherever_an_earlier_server_kept_them() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        let tenant = Compartment::of_tenant("ann/../x");
        sandbox(root, "sb_flat");
        sandbox(root, &format!("{}/sb_in", tenant.name()));
        sandbox(root, &format!("{}/sb_orphan", tenant.name()));
        sandbox(root, "sb_gone");
        sandbox(root, "s-sb_only/sb_old");
        let dirs = SandboxDirs::new(root.to_owned(), false);
        let known = ["sb_flat", "sb_in"].map(str::to_owned).into();
        assert_eq!(dirs.take_over(&known).unwrap(), 3);
        assert!(!root.join("s-sb_only").exists());
        assert!(dirs.bring("sb_flat", &tenant).unwrap());
        assert!(root.join(tenant.name()).join("sb_flat/journal").exists());
        let alone = Compartment::of_sandbox("sb_in");
        assert!(dirs.bring("sb_in", &alone).unwrap());
        assert!(root.join("s-sb_in/sb_in/journal").exists());
        assert!(!dirs.bring("sb_gone", &tenant).unwrap());
        dirs.remove("sb_in", &alone).unwrap();
        dirs.leave_compartments().unwrap();
        assert!(root.join("sb_flat/journal").exists());
        assert_eq!(fs::read_dir(root).unwrap().count(), 1);
    }
}
