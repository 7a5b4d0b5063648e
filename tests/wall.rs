//! The wall around workers, tried from inside: a process that has confined itself as a worker does tries what hostile native
//! code would, and nothing of it works.
//!
//! The test program starts itself again, as a worker is started, with `WISP_WALL_ROLE=confined`: what that process says is
//! what this one checks.

#![expect(unsafe_code, reason = "hostile native code makes system calls as it likes")]

use std::ffi::CString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use wisp::worker::protocol::Assignment;
use wisp::worker::{Compartment, SandboxDirs, confine, limit_data};

/// The user that the hostile process becomes when the tests run as root.
const UID: u32 = 2_000_000_001;

/// Address space for data that the hostile process may have, bytes, and what it tries to fill.
const MEMORY: u64 = 256 << 20;
const TOO_MUCH: usize = 512 << 20;

fn main() -> ExitCode {
    if std::env::var_os("WISP_WALL_ROLE").is_some() {
        return hostile();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = arguments.iter().find(|argument| !argument.starts_with('-'));
    if arguments.iter().any(|argument| argument == "--list") {
        print("hostile_native_code_in_a_worker_reaches_nothing: test\n");
        return ExitCode::SUCCESS;
    }
    let name = "hostile_native_code_in_a_worker_reaches_nothing";
    if named.is_some_and(|named| !name.contains(named.as_str())) {
        print("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out\n");
        return ExitCode::SUCCESS;
    }
    print("\nrunning 1 test\n");
    hostile_native_code_in_a_worker_reaches_nothing();
    print(&format!(
        "test {name} ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n"
    ));
    ExitCode::SUCCESS
}

fn print(text: &str) {
    io::stdout().write_all(text.as_bytes()).expect("standard output");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the hostile process is told to try itself on.
struct Targets {
    /// A directory of another compartment, with a file `secret`.
    neighbour: PathBuf,
    tcp: u16,
    udp: u16,
    unix: PathBuf,
    parent: i32,
}

fn hostile_native_code_in_a_worker_reaches_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let dirs = SandboxDirs::new(place.path().to_owned(), is_root());
    let (own, _) = dirs.open(&Compartment::of_tenant("a")).expect("a compartment");
    let (neighbour, _) = dirs.open(&Compartment::of_tenant("b")).expect("a compartment");
    if is_root() {
        std::os::unix::fs::chown(&own, Some(UID), Some(UID)).expect("a directory of its own");
    }
    fs::write(own.join("mine"), "mine").expect("a file");
    if is_root() {
        std::os::unix::fs::chown(own.join("mine"), Some(UID), Some(UID)).expect("a file of its own");
    }
    // Even what everybody may read is out of reach.
    fs::write(neighbour.join("secret"), "secret").expect("a file");
    let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&neighbour, open_to_all).expect("permissions");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let unix = place.path().join("socket");
    let _unix = UnixListener::bind(&unix).expect("a socket");
    let try_as = |role: &str| {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env_clear()
            .env("WISP_WALL_ROLE", role)
            .env("OWN", &own)
            .env("NEIGHBOUR", &neighbour)
            .env("TCP", tcp.local_addr().expect("an address").port().to_string())
            .env("UDP", udp.local_addr().expect("an address").port().to_string())
            .env("UNIX", &unix)
            .env("PARENT", std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        if role == "confined" {
            // From outside, as the server does it.
            limit_data(child.id(), None, MEMORY).expect("its memory is bounded");
        }
        // It begins when its standard input ends.
        drop(child.stdin.take());
        let child = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        let complained = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{}\n{said}{complained}", child.status);
        said
    };
    let said = try_as("confined");
    let worked = attempts_that("WORKED", &said);
    assert!(worked.is_empty(), "{worked:#?}\nof\n{said}");
    let failed = attempts_that("failed", &said);
    assert!(
        said.contains("own files work"),
        "the wall keeps a worker from its own files:\n{said}"
    );
    assert!(fs::read(neighbour.join("secret")).expect("it is still there") == b"secret");
    if is_root() {
        // The same without the wall: most of it works, so that it is the wall that the attempts fail at.
        let free = try_as("free");
        let worked = attempts_that("WORKED", &free);
        assert!(
            worked.len() >= 40,
            "only {} of {} work without the wall:\n{free}",
            worked.len(),
            failed.len()
        );
    }
}

/// What was tried and ended so.
fn attempts_that<'a>(ended: &str, said: &'a str) -> Vec<&'a str> {
    said.lines()
        .filter_map(|line| line.strip_prefix(ended)?.strip_prefix(' '))
        .collect()
}

fn hostile() -> ExitCode {
    let var = |name: &str| std::env::var(name).expect("told by the parent");
    let mut nothing = String::new();
    io::stdin().read_to_string(&mut nothing).expect("standard input ends");
    let parent: u32 = var("PARENT").parse().expect("a number");
    let targets = Targets {
        neighbour: var("NEIGHBOUR").into(),
        tcp: var("TCP").parse().expect("a port"),
        udp: var("UDP").parse().expect("a port"),
        unix: var("UNIX").into(),
        parent: parent.cast_signed(),
    };
    let assignment = Assignment {
        directory: var("OWN"),
        uid: is_root().then_some(UID),
        fsync: false,
        guest_threads: 1,
    };
    let is_free = var("WISP_WALL_ROLE") == "free";
    if is_free {
        std::env::set_current_dir(&assignment.directory).expect("a directory");
    } else {
        let words = confine(&assignment, parent).expect("it is confined");
        print(&format!("confined by {}\n", words.join(", ")));
    }
    for (what, worked) in attempts(&targets, is_free) {
        print(&format!("{} {what}\n", if worked { "WORKED" } else { "failed" }));
    }
    let own = fs::read("mine").is_ok_and(|bytes| bytes == b"mine")
        && fs::write("new", "x").is_ok()
        && fs::rename("new", "newer").is_ok()
        && fs::create_dir("sb_x").is_ok()
        && fs::remove_file("newer").is_ok()
        && std::thread::spawn(|| 1).join().is_ok();
    if own {
        print("own files work\n");
    }
    ExitCode::SUCCESS
}

/// Whether there is memory of this size to write to.
fn fills_memory(bytes: usize) -> bool {
    const PIECE: usize = 16 << 20;
    let (rights, kind) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    for _ in 0..bytes / PIECE {
        // SAFETY: a new mapping, which nobody else uses, is written to within its bounds.
        unsafe {
            let piece = libc::mmap(std::ptr::null_mut(), PIECE, rights, kind, -1, 0);
            if piece == libc::MAP_FAILED {
                return false;
            }
            std::ptr::write_bytes(piece.cast::<u8>(), 1, PIECE);
        }
    }
    true
}

/// A system call's success.
fn call(number: libc::c_long, arguments: [usize; 6]) -> bool {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    // SAFETY: it is hostile on purpose; each is expected to fail before it does anything, and the process ends soon.
    unsafe { libc::syscall(number, first, second, third, fourth, fifth, sixth) >= 0 }
}

/// Whether a system call makes another program of a process: of a child where there can be one, else of this one.
fn succeeds_as(number: libc::c_long, arguments: [usize; 6]) -> bool {
    // SAFETY: the child makes one system call and ends.
    let child = unsafe { libc::fork() };
    if child <= 0 {
        call(number, arguments);
        if child == 0 {
            std::process::exit(77);
        }
        return false;
    }
    let mut status = 0;
    // SAFETY: `status` is a place for it.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    status == 0
}

fn text(text: &Path) -> CString {
    CString::new(text.to_str().expect("a path in UTF-8")).expect("no NUL")
}

fn attempts(targets: &Targets, is_free: bool) -> Vec<(String, bool)> {
    let mut all: Vec<(String, bool)> = Vec::new();
    let mut note = |what: &str, worked: bool| all.push((what.to_owned(), worked));
    // Files.
    let secret = targets.neighbour.join("secret");
    note("read a neighbour's file", fs::read(&secret).is_ok());
    note("write a neighbour's file", fs::write(&secret, "x").is_ok());
    note(
        "create a file at a neighbour's",
        fs::write(targets.neighbour.join("new"), "x").is_ok(),
    );
    note("list a neighbour's directory", fs::read_dir(&targets.neighbour).is_ok());
    note("list the directory of all compartments", fs::read_dir("..").is_ok());
    note("link a neighbour's file", fs::hard_link(&secret, "linked").is_ok());
    let _ = std::os::unix::fs::symlink(&secret, "link");
    note("read a neighbour's file through a link", fs::read("link").is_ok());
    note(
        "rename a neighbour's file",
        fs::rename(&secret, targets.neighbour.join("renamed")).is_ok(),
    );
    note(
        "remove a neighbour's file",
        fs::remove_file(targets.neighbour.join("renamed")).is_ok(),
    );
    let _ = fs::write(&secret, "x");
    for path in [
        "/etc/passwd",
        "/etc/shadow",
        "/proc/version",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/dev/null",
    ] {
        note(&format!("open {path}"), fs::File::open(path).is_ok());
    }
    let elsewhere = std::env::temp_dir().join(format!("wisp-wall-{}", std::process::id()));
    note("write to /tmp", fs::write(&elsewhere, "x").is_ok());
    let _ = fs::remove_file(elsewhere);
    note("list /", fs::read_dir("/").is_ok());
    let parent = targets.parent;
    for file in ["environ", "maps", "mem", "fd", "cmdline"] {
        note(
            &format!("open the server's /proc/…/{file}"),
            fs::File::open(format!("/proc/{parent}/{file}")).is_ok(),
        );
    }
    note(
        "read through /proc/self/root",
        fs::read("/proc/self/root/etc/passwd").is_ok(),
    );
    let root = CString::new("/").expect("no NUL");
    note(
        "chroot",
        call(libc::SYS_chroot, [root.as_ptr() as usize, 0, 0, 0, 0, 0]),
    );
    note(
        "chdir to /",
        call(libc::SYS_chdir, [root.as_ptr() as usize, 0, 0, 0, 0, 0]),
    );
    note(
        "chmod",
        call(
            libc::SYS_fchmodat,
            [
                libc::AT_FDCWD.cast_unsigned() as usize,
                text(&secret).as_ptr() as usize,
                0o777,
                0,
                0,
                0,
            ],
        ),
    );
    note("open_by_handle_at", call(libc::SYS_open_by_handle_at, [0; 6]));
    // The network.
    note(
        "connect over TCP",
        std::net::TcpStream::connect(("127.0.0.1", targets.tcp)).is_ok(),
    );
    note("listen over TCP", TcpListener::bind("127.0.0.1:0").is_ok());
    note(
        "send over UDP",
        UdpSocket::bind("127.0.0.1:0").is_ok_and(|socket| socket.send_to(b"x", ("127.0.0.1", targets.udp)).is_ok()),
    );
    note(
        "connect to a Unix socket",
        std::os::unix::net::UnixStream::connect(&targets.unix).is_ok(),
    );
    note("a socket pair", std::os::unix::net::UnixStream::pair().is_ok());
    note(
        "a raw socket",
        call(
            libc::SYS_socket,
            [libc::AF_PACKET as usize, libc::SOCK_RAW as usize, 0, 0, 0, 0],
        ),
    );
    note(
        "a netlink socket",
        call(
            libc::SYS_socket,
            [libc::AF_NETLINK as usize, libc::SOCK_RAW as usize, 0, 0, 0, 0],
        ),
    );
    // Programs and processes.
    // Children are waited for: a process that is traced would stop when it is told of their end.
    note("start a program", Command::new("/bin/true").status().is_ok());
    let program = CString::new("/bin/true").expect("no NUL");
    let path = program.as_ptr() as usize;
    note("execve", succeeds_as(libc::SYS_execve, [path, 0, 0, 0, 0, 0]));
    let here = libc::AT_FDCWD.cast_unsigned() as usize;
    note("execveat", succeeds_as(libc::SYS_execveat, [here, path, 0, 0, 0, 0]));
    // SAFETY: it is expected to fail; a child that came to be would be hostile as well, and ends.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        std::process::exit(0);
    }
    if forked > 0 {
        let mut status = 0;
        // SAFETY: `status` is a place for it.
        unsafe { libc::waitpid(forked, &raw mut status, 0) };
    }
    note("fork", forked > 0);
    let parent = parent.cast_unsigned() as usize;
    note("signal the server", call(libc::SYS_kill, [parent, 0, 0, 0, 0, 0]));
    note(
        "kill all processes of its user",
        call(libc::SYS_kill, [usize::MAX, 0, 0, 0, 0, 0]),
    );
    note(
        "signal a thread of the server",
        call(libc::SYS_tgkill, [parent, parent, 0, 0, 0, 0]),
    );
    note(
        "queue a signal for the server",
        call(libc::SYS_rt_sigqueueinfo, [parent, 0, 0, 0, 0, 0]),
    );
    note("pidfd_open", call(libc::SYS_pidfd_open, [parent, 0, 0, 0, 0, 0]));
    // It would stop the test.
    note(
        "ptrace",
        !is_free && call(libc::SYS_ptrace, [libc::PTRACE_ATTACH as usize, parent, 0, 0, 0, 0]),
    );
    note(
        "trace itself",
        call(libc::SYS_ptrace, [libc::PTRACE_TRACEME as usize, 0, 0, 0, 0, 0]),
    );
    note(
        "process_vm_readv",
        call(libc::SYS_process_vm_readv, [parent, 0, 0, 0, 0, 0]),
    );
    note(
        "prlimit of the server",
        call(libc::SYS_prlimit64, [parent, libc::RLIMIT_NOFILE as usize, 0, 0, 0, 0]),
    );
    // Rights.
    note("setuid", call(libc::SYS_setuid, [0; 6]));
    note("setresuid", call(libc::SYS_setresuid, [0; 6]));
    note("setgroups", call(libc::SYS_setgroups, [0; 6]));
    note("capset", call(libc::SYS_capset, [0; 6]));
    note(
        "unshare users",
        call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0, 0]),
    );
    note(
        "unshare mounts",
        call(libc::SYS_unshare, [libc::CLONE_NEWNS as usize, 0, 0, 0, 0, 0]),
    );
    note("setns", call(libc::SYS_setns, [0; 6]));
    note("mount", call(libc::SYS_mount, [0; 6]));
    note("bpf", call(libc::SYS_bpf, [0; 6]));
    note("io_uring_setup", call(libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]));
    note("userfaultfd", call(libc::SYS_userfaultfd, [0; 6]));
    note("perf_event_open", call(libc::SYS_perf_event_open, [0; 6]));
    note("keyctl", call(libc::SYS_keyctl, [0; 6]));
    note(
        "add a filter of system calls",
        call(libc::SYS_seccomp, [1, 0, 0, 0, 0, 0]),
    );
    note(
        "more open files",
        call(libc::SYS_setrlimit, [libc::RLIMIT_NOFILE as usize, 0, 0, 0, 0, 0]),
    );
    // Memory.
    note("exhaust memory", fills_memory(TOO_MUCH));
    let infinite = [libc::RLIM_INFINITY, libc::RLIM_INFINITY];
    let data = libc::RLIMIT_DATA as usize;
    note(
        "raise the limit of its memory",
        call(libc::SYS_setrlimit, [data, infinite.as_ptr() as usize, 0, 0, 0, 0]),
    );
    note(
        "raise the limit of its memory by another call",
        call(libc::SYS_prlimit64, [0, data, infinite.as_ptr() as usize, 0, 0, 0]),
    );
    let code = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC).cast_unsigned() as usize;
    let private = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).cast_unsigned() as usize;
    note(
        "map memory that can be run",
        call(libc::SYS_mmap, [0, 4096, code, private, usize::MAX, 0]),
    );
    note(
        "become undumpable or traceable",
        call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as usize, 1, 0, 0, 0, 0]),
    );
    let mut environment = String::new();
    let inherited = fs::File::open("/proc/self/environ").and_then(|mut file| file.read_to_string(&mut environment));
    let _ = inherited;
    all
}
