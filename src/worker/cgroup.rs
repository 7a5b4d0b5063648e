//! A cgroup for each worker, where one is delegated to the server: version 2, with the controllers `memory` and `pids`.
//!
//! A cgroup is delegated when the server may make others below it, as under systemd with `Delegate=yes`. A cgroup that has
//! processes cannot hand its controllers down, so the server moves itself into a child first: that is done only when it is
//! alone in its cgroup.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Threads and processes of a worker.
const MAX_TASKS: &str = "4096";
/// The child that the server itself moves to.
const OF_SERVER: &str = "wisp-server";
/// How the names of workers' cgroups begin; the process number follows.
const OF_WORKER: &str = "wisp-worker-";
/// How often, and with what pause, the removal of a cgroup is tried again whose worker is not gone yet.
const REMOVALS: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(100);

/// The cgroup that was delegated to this server.
#[derive(Debug, Clone)]
pub struct Delegated {
    directory: PathBuf,
}

/// The cgroup of one worker. Dropping it removes it, once the worker is gone.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
}

impl Delegated {
    /// Takes over the cgroup this process is in, if it is delegated.
    #[must_use]
    pub fn take_over() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let directory = own_directory(&mounts, &own)?;
        match Self::prepare(&directory, std::process::id()) {
            Ok(delegated) => Some(delegated),
            Err(error) => {
                tracing::debug!(directory = %directory.display(), %error, "no cgroup is delegated to this server");
                None
            }
        }
    }

    /// Whether this system has what [`Delegated::take_over`] needs, whoever may use it.
    #[must_use]
    pub fn is_possible() -> bool {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let (mounts, own) = (
            read(Path::new("/proc/self/mountinfo")),
            read(Path::new("/proc/self/cgroup")),
        );
        own_directory(&mounts, &own)
            .is_some_and(|directory| has_controllers(&read(&directory.join("cgroup.controllers"))))
    }

    /// Moves process `pid`, the only one of the cgroup, to a child, so that others can be made beside it.
    fn prepare(directory: &Path, pid: u32) -> io::Result<Self> {
        let lacks = |what: &str| io::Error::new(io::ErrorKind::Unsupported, what.to_owned());
        let controllers = fs::read_to_string(directory.join("cgroup.controllers"))?;
        if !has_controllers(&controllers) {
            return Err(lacks("it has not the controllers memory and pids"));
        }
        let processes = fs::read_to_string(directory.join("cgroup.procs"))?;
        let mut processes = processes.split_whitespace();
        if processes.next() != Some(pid.to_string().as_str()) || processes.next().is_some() {
            return Err(lacks("there are other processes in it"));
        }
        let child = directory.join(OF_SERVER);
        match fs::create_dir(&child) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::write(child.join("cgroup.procs"), pid.to_string())?;
        if let Err(error) = fs::write(directory.join("cgroup.subtree_control"), "+memory +pids") {
            // Back to where it was; that it cannot go back changes nothing for it.
            let _ = fs::write(directory.join("cgroup.procs"), pid.to_string());
            let _ = fs::remove_dir(child);
            return Err(error);
        }
        remove_left_over(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// Makes a cgroup for a worker and moves it there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn add(&self, pid: u32) -> io::Result<Cgroup> {
        let directory = self.directory.join(format!("{OF_WORKER}{pid}"));
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let cgroup = Cgroup { directory };
        cgroup.write("pids.max", MAX_TASKS)?;
        // All of a worker goes when it is out of memory; half of one would be of no use.
        cgroup.write("memory.oom.group", "1")?;
        cgroup.write("cgroup.procs", &pid.to_string())?;
        Ok(cgroup)
    }
}

impl Cgroup {
    /// Bounds its memory, swap included.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_memory(&self, bytes: u64) -> io::Result<()> {
        // A machine without swap has no such file.
        match self.write("memory.swap.max", "0") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.write("memory.max", &bytes.to_string())
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        // Not created: what the system does not know it does not hold.
        let file = fs::OpenOptions::new().write(true).open(self.directory.join(file))?;
        io::Write::write_all(&mut &file, value.as_bytes())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if fs::remove_dir(&self.directory).is_ok() {
            return;
        }
        // The worker was killed a moment ago, and is not gone yet.
        let directory = std::mem::take(&mut self.directory);
        let removing = move || {
            for _ in 0..REMOVALS {
                std::thread::sleep(REMOVAL_PAUSE);
                if fs::remove_dir(&directory).is_ok() {
                    return;
                }
            }
            tracing::warn!(directory = %directory.display(), "a worker's cgroup cannot be removed");
        };
        // Without a thread it stays until the next server takes the cgroup over.
        let _ = std::thread::Builder::new().spawn(removing);
    }
}

/// Removes what an earlier server has left, whose workers are gone.
fn remove_left_over(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(OF_WORKER) {
            // One that has processes is somebody else's.
            let _ = fs::remove_dir(entry.path());
        }
    }
    Ok(())
}

fn has_controllers(names: &str) -> bool {
    let has = |wanted: &str| names.split_whitespace().any(|name| name == wanted);
    has("memory") && has("pids")
}

/// The directory of the cgroup a process is in, by its `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn own_directory(mounts: &str, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        if kind.split_whitespace().next() != Some("cgroup2") {
            return None;
        }
        let mut fields = place.split_whitespace().skip(3);
        let (root, mount) = (fields.next()?, fields.next()?);
        // In a container, a part of the hierarchy may be mounted.
        let below = Path::new(path).strip_prefix(root).ok()?;
        Some(Path::new(mount).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "24 1 0:22 / /sys rw - sysfs sysfs rw\n\
                          30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
                          31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

    #[test]
    fn own_cgroup_is_found() {
        let own = "4:memory:/\n0::/system.slice/wisp.service\n";
        let expected = Path::new("/sys/fs/cgroup/unified/system.slice/wisp.service");
        assert_eq!(own_directory(MOUNTS, own).as_deref(), Some(expected));
        assert_eq!(own_directory(MOUNTS, "4:memory:/\n"), None, "version 1 alone");
        assert_eq!(own_directory("", own), None, "not mounted");
        let part = "30 24 0:26 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(
            own_directory(part, "0::/elsewhere\n"),
            None,
            "not within what is mounted"
        );
        assert_eq!(
            own_directory(part, "0::/docker/ab\n").as_deref(),
            Some(Path::new("/sys/fs/cgroup"))
        );
    }

    /// A directory with the files of a cgroup.
    fn imitation(controllers: &str, processes: &str) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("cgroup.controllers"), controllers).unwrap();
        fs::write(place.path().join("cgroup.procs"), processes).unwrap();
        fs::write(place.path().join("cgroup.subtree_control"), "").unwrap();
        place
    }

    #[test]
    fn cgroup_with_other_processes_or_without_controllers_is_left_alone() {
        for (controllers, processes) in [
            ("cpu memory pids\n", "7\n8\n"),
            ("cpu memory pids\n", "8\n"),
            ("cpu memory pids\n", ""),
            ("cpu pids\n", "7\n"),
            ("", "7\n"),
        ] {
            let place = imitation(controllers, processes);
            assert!(
                Delegated::prepare(place.path(), 7).is_err(),
                "{controllers:?} {processes:?}"
            );
            assert!(!place.path().join(OF_SERVER).exists());
        }
    }

    #[test]
    fn server_moves_to_a_child_and_hands_controllers_down() {
        let place = imitation("cpu memory pids\n", "7\n");
        Delegated::prepare(place.path(), 7).unwrap();
        let read = |file: &str| fs::read_to_string(place.path().join(file)).unwrap();
        assert_eq!(read("wisp-server/cgroup.procs"), "7");
        assert_eq!(read("cgroup.subtree_control"), "+memory +pids");
    }

    #[test]
    fn cgroups_are_removed_when_their_workers_are_gone() {
        let place = imitation("memory pids\n", "7\n");
        fs::create_dir(place.path().join("wisp-worker-5")).unwrap();
        Delegated::prepare(place.path(), 7).unwrap();
        assert!(
            !place.path().join("wisp-worker-5").exists(),
            "an earlier server left it"
        );
        // A directory with something in it cannot be removed, as a cgroup with a process in it.
        let directory = place.path().join("wisp-worker-9");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("process"), "").unwrap();
        drop(Cgroup {
            directory: directory.clone(),
        });
        assert!(directory.exists());
        fs::remove_file(directory.join("process")).unwrap();
        for _ in 0..REMOVALS {
            if !directory.exists() {
                return;
            }
            std::thread::sleep(REMOVAL_PAUSE);
        }
        panic!("it is still there");
    }

    #[test]
    fn cgroup_whose_files_are_missing_is_an_error() {
        let place = imitation("memory pids\n", "7\n");
        let delegated = Delegated::prepare(place.path(), 7).unwrap();
        assert!(delegated.add(9).is_err());
        assert!(!place.path().join("wisp-worker-9").exists(), "nothing is left of it");
    }
}
