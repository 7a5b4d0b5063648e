//! `/proc` and `/dev/fd`: files whose contents are made when they are opened.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::errno::Errno;
use super::process::Process;
use super::table::{Control, Pid};
use wisp_vfs::{self as vfs, Fs, MountId, ROOT};

/// The mount of `/proc`.
pub const PROC: MountId = MountId(1);
/// The mount of `/dev/fd`.
pub const DEV_FD: MountId = MountId(2);

/// What a path under a mount names.
#[derive(Debug, Clone)]
pub enum Node {
    /// A directory.
    Directory(Directory),
    /// A file with these contents.
    File(Arc<[u8]>),
    /// A symbolic link that was not to be followed.
    Link(Vec<u8>),
    /// A descriptor of the calling process.
    Descriptor(u32),
}

/// Where a walk under a mount ends.
#[derive(Debug)]
pub enum Found {
    /// There.
    Node(Node),
    /// A link leads to this absolute path of the file system.
    Redirect(Vec<u8>),
}

/// A directory under a mount: which, and where it is.
#[derive(Debug, Clone)]
pub struct Directory {
    /// The file tree that the path leads into.
    pub mount: MountId,
    /// Path below it, without slashes at the ends.
    pub path: Vec<u8>,
}

const ROOT_FILES: [&str; 10] = [
    "cpuinfo",
    "filesystems",
    "loadavg",
    "meminfo",
    "mounts",
    "self",
    "stat",
    "sys",
    "uptime",
    "version",
];
const PROCESS_FILES: [&str; 10] = [
    "cmdline", "comm", "cwd", "environ", "exe", "fd", "mounts", "root", "stat", "status",
];
const SYS_KERNEL_FILES: [&str; 4] = ["hostname", "osrelease", "ostype", "pid_max"];
/// Clock ticks a second in the times of `/proc/<pid>/stat` (`USER_HZ`).
const USER_HZ: u64 = 100;

/// Mounts both. Mounts belong to a live file system, not to the image it began as.
pub fn mount(fs: &Fs) -> Result<(), vfs::PathError> {
    fs.mount(ROOT, b"/proc", PROC)?;
    fs.mount(ROOT, b"/dev/fd", DEV_FD)
}

/// Finds what `rest`, a path below `mount`, names for `process`.
pub fn lookup(process: &Process, mount: MountId, rest: &[u8], follow: bool) -> Result<Found, Errno> {
    let mut names: Vec<&[u8]> = Vec::new();
    let mut end = 0;
    for name in rest.split(|byte| *byte == b'/') {
        end += name.len() + 1;
        let through_link = mount == PROC && matches!(names.as_slice(), [_, b"cwd" | b"root", ..]);
        match name {
            b"" => {}
            // What follows a link is relative to where that leads, `..` included.
            name if through_link => names.push(name),
            b"." => {}
            b".." => {
                if names.pop().is_none() {
                    let parent: &[u8] = if mount == PROC { b"/" } else { b"/dev" };
                    let below = rest.get(end..).unwrap_or_default();
                    return Ok(Found::Redirect([parent, b"/", below].concat()));
                }
            }
            name => names.push(name),
        }
    }
    if mount == DEV_FD {
        return descriptor(process, mount, &names);
    }
    let Some((first, below)) = names.split_first() else {
        return Ok(directory(mount, &names));
    };
    if *first == b"self" && below.is_empty() && !follow {
        return Ok(Found::Node(Node::Link(process.control.pid.to_string().into_bytes())));
    }
    let pid = if *first == b"self" {
        Some(process.control.pid)
    } else {
        parse_number(first)
    };
    if let Some(pid) = pid {
        let control = process.kernel.table.get(pid).ok_or(Errno::Noent)?;
        return of_process(process, &control, pid, below, &names, follow);
    }
    let text = match (*first, below) {
        (b"sys", []) => return Ok(directory(mount, &names)),
        (b"sys", [b"kernel"]) => return Ok(directory(mount, &names)),
        (b"sys", [b"kernel", b"hostname"]) => format!("{}\n", process.kernel.hostname),
        (b"sys", [b"kernel", b"ostype"]) => "Linux\n".to_owned(),
        (b"sys", [b"kernel", b"osrelease"]) => format!("{}\n", super::KERNEL_RELEASE),
        (b"sys", [b"kernel", b"pid_max"]) => "4194304\n".to_owned(),
        (name, []) => root_file(process, name).ok_or(Errno::Noent)?,
        _ => return Err(Errno::Noent),
    };
    Ok(Found::Node(Node::File(text.into_bytes().into())))
}

/// The entries of a directory: name and whether it is a directory.
pub fn entries(process: &Process, directory: &Directory) -> Vec<(Vec<u8>, bool)> {
    let fixed = |names: &[&str], directories: &[&str]| {
        names
            .iter()
            .map(|name| (name.as_bytes().to_vec(), directories.contains(name)))
            .collect::<Vec<_>>()
    };
    let names: Vec<&[u8]> = directory
        .path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
        .collect();
    match (directory.mount, names.as_slice()) {
        (PROC, []) => {
            let mut all = fixed(&ROOT_FILES, &["sys"]);
            all.extend(
                process
                    .kernel
                    .table
                    .live()
                    .iter()
                    .map(|control| (control.pid.to_string().into_bytes(), true)),
            );
            all
        }
        (PROC, [b"sys"]) => fixed(&["kernel"], &["kernel"]),
        (PROC, [b"sys", b"kernel"]) => fixed(&SYS_KERNEL_FILES, &[]),
        (PROC, [_]) => fixed(&PROCESS_FILES, &["fd"]),
        _ => process
            .descriptor_names()
            .map(|fd| (fd.to_string().into_bytes(), false))
            .collect(),
    }
}

fn directory(mount: MountId, names: &[&[u8]]) -> Found {
    Found::Node(Node::Directory(Directory {
        mount,
        path: names.join(&b'/'),
    }))
}

fn descriptor(process: &Process, mount: MountId, names: &[&[u8]]) -> Result<Found, Errno> {
    match names {
        [] => Ok(directory(mount, names)),
        [name] => {
            let number = parse_number(name).ok_or(Errno::Noent)?;
            let fd = process.descriptor_named(number).ok_or(Errno::Noent)?;
            Ok(Found::Node(Node::Descriptor(fd)))
        }
        _ => Err(Errno::Notdir),
    }
}

fn of_process(
    process: &Process,
    control: &Control,
    pid: Pid,
    below: &[&[u8]],
    names: &[&[u8]],
    follow: bool,
) -> Result<Found, Errno> {
    let image = control.image();
    let link = |target: &[u8], rest: &[&[u8]]| {
        if rest.is_empty() && !follow {
            Found::Node(Node::Link(target.to_vec()))
        } else {
            Found::Redirect([target, b"/", &rest.join(&b'/')].concat())
        }
    };
    let contents: Arc<[u8]> = match below {
        [] => return Ok(directory(PROC, names)),
        [b"fd", rest @ ..] if pid == process.control.pid => match rest {
            [] => return Ok(directory(PROC, names)),
            rest => return descriptor(process, PROC, rest),
        },
        [b"cwd", rest @ ..] => return Ok(link(&image.cwd, rest)),
        [b"root", rest @ ..] => return Ok(link(b"/", rest)),
        [b"exe"] => return Ok(link(&image.executable, &[])),
        [b"cmdline"] => image.argv.bytes(),
        [b"environ"] => image.environment.bytes(),
        [b"comm"] => [image.command_name(), b"\n"].concat().into(),
        [b"mounts"] => mounts().into_bytes().into(),
        [b"stat"] => stat_line(process, control).into(),
        [b"status"] => status_text(control).into(),
        _ => return Err(Errno::Noent),
    };
    Ok(Found::Node(Node::File(contents)))
}

fn root_file(process: &Process, name: &[u8]) -> Option<String> {
    let kernel = &process.kernel;
    Some(match name {
        b"cpuinfo" => {
            let mut text = String::new();
            for cpu in 0..kernel.budget.limits().vcpus {
                // A String never refuses to be written to.
                let _ = write!(text, "processor\t: {cpu}\nmodel name\t: WebAssembly\n\n");
            }
            text
        }
        b"filesystems" => "nodev\tproc\n\twisp\n".to_owned(),
        b"loadavg" => format!(
            "0.00 0.00 0.00 1/{} {}\n",
            kernel.table.live().len(),
            process.control.pid
        ),
        b"meminfo" => {
            let total = kernel.budget.limits().memory_bytes / 1024;
            let free = total.saturating_sub(kernel.budget.memory_used() / 1024);
            format!(
                "MemTotal:       {total:8} kB\nMemFree:        {free:8} kB\nMemAvailable:   {free:8} kB\n\
                 Buffers:               0 kB\nCached:                0 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\n"
            )
        }
        b"mounts" => mounts(),
        b"stat" => {
            let ticks = kernel.cpu_ns() * USER_HZ / 1_000_000_000;
            format!(
                "cpu  {ticks} 0 0 0 0 0 0 0 0 0\nprocesses {}\n",
                kernel.table.live().len()
            )
        }
        b"uptime" => {
            let up = kernel.started.elapsed();
            format!("{}.{:02} 0.00\n", up.as_secs(), up.subsec_millis() / 10)
        }
        b"version" => format!("Linux version {} (wisp) #1\n", super::KERNEL_RELEASE),
        _ => return None,
    })
}

fn mounts() -> String {
    "wisp / wisp rw,relatime 0 0\nproc /proc proc rw,relatime 0 0\n".to_owned()
}

/// One line of `/proc/<pid>/stat` (proc(5)): fields that mean nothing here are 0.
fn stat_line(process: &Process, control: &Control) -> Vec<u8> {
    let parent = control.parent.load(Ordering::SeqCst);
    let group = control.group.load(Ordering::SeqCst);
    let ticks = control.cpu_ns.load(Ordering::Relaxed) * USER_HZ / 1_000_000_000;
    let since_boot = control.started.saturating_duration_since(process.kernel.started);
    let started = since_boot.as_millis() as u64 * USER_HZ / 1000;
    let memory = control.memory_bytes.load(Ordering::Relaxed);
    let tail = format!(
        ") R {parent} {group} {group} 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 {started} {memory} {} 0\n",
        memory / 4096
    );
    [
        format!("{} (", control.pid).as_bytes(),
        control.image().command_name(),
        tail.as_bytes(),
    ]
    .concat()
}

fn status_text(control: &Control) -> Vec<u8> {
    let memory = control.memory_bytes.load(Ordering::Relaxed) / 1024;
    let tail = format!(
        "\nState:\tR (running)\nPid:\t{}\nPPid:\t{}\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nVmSize:\t{memory} kB\nVmRSS:\t{memory} kB\nThreads:\t1\n",
        control.pid,
        control.parent.load(Ordering::SeqCst)
    );
    [b"Name:\t", control.image().command_name(), tail.as_bytes()].concat()
}

fn parse_number(name: &[u8]) -> Option<u32> {
    let digits = !name.is_empty() && name.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(name).ok().filter(|_| digits)?.parse().ok()
}
