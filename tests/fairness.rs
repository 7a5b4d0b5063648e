//! Hostile programs beside an honest one: none of them keeps its neighbours from running. Each attack has the guest threads
//! to itself, which is why these are no tests of `limits.rs`.

#![allow(clippy::print_stdout, reason = "the measured times are worth reading")]

mod guest_support;

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use guest_support::build;
use guest_support::machine::{Capture, DISK, Image, Machine};
use tokio::time::sleep;
use wisp::kernel::{Limits, Runtime, Stream};
use wisp::vfs;

/// How long a program of another sandbox may be kept from running.
const GAP: Duration = Duration::from_millis(250);
/// Far more than a program that ends by itself needs.
const PATIENCE: Duration = Duration::from_mins(1);

/// The image of the hostile program, compiled once.
static IMAGE: LazyLock<Image> = LazyLock::new(|| {
    let modules = build::build().unwrap_or_else(|error| panic!("the guest programs cannot be built: {error}"));
    let runtime = Runtime::new(2).expect("an engine");
    Image::of(&runtime, &modules.join("hostile.wasm")).expect("the hostile program")
});

/// Held by the test that runs.
static ALONE: Mutex<()> = Mutex::new(());

/// The longest that a thread of the host was kept from running meanwhile, when it slept for 5 ms at a time: how busy the
/// machine is with other things.
struct HostGap {
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<Duration>,
}

impl HostGap {
    fn measure() -> Self {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                let before = Instant::now();
                std::thread::sleep(Duration::from_millis(5));
                longest = longest.max(before.elapsed());
            }
            longest
        });
        Self { stop, thread }
    }

    fn longest(self) -> Duration {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().expect("measuring")
    }
}

/// Waits until an attack is over.
async fn ended(machine: &Machine) {
    let budget = machine.kernel.budget();
    let start = Instant::now();
    while budget.processes_used() > 0 || budget.memory_used() > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "the attack goes on");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Runs an attack on two machines, which suffices to occupy every guest thread, and beside them a program that sleeps for
/// 5 ms at a time. That one must not be kept waiting.
async fn assert_others_run(attack: &str) {
    let limits = Limits {
        memory_bytes: 2 << 30,
        ..Limits::default()
    };
    let disk = vfs::Limits {
        max_bytes: 1 << 30,
        max_inodes: 1 << 20,
    };
    let machines: Vec<Machine> = (0..2)
        .map(|_| IMAGE.machine(limits, disk).expect("a machine"))
        .collect();
    let mut running = Vec::new();
    for machine in &machines {
        let output = Arc::new(Capture::default());
        running.push(machine.start(&[attack], Arc::clone(&output) as _).expect("starting"));
        let start = Instant::now();
        while output.text(Stream::Stdout) != "ready\n" {
            assert!(
                start.elapsed() < PATIENCE,
                "{attack} is not ready: {}",
                output.text(Stream::Stderr)
            );
            sleep(Duration::from_millis(10)).await;
        }
    }
    let bystander = IMAGE.machine(Limits::default(), DISK).expect("a machine");
    let host = HostGap::measure();
    let ran = bystander.run(&["ticks"], PATIENCE).await.expect("starting");
    let host = host.longest();
    let longest: u64 = ran.stdout.trim().parse().unwrap_or_else(|_| panic!("{ran:?}"));
    let longest = Duration::from_millis(longest);
    println!("{attack}: another sandbox waited {longest:?} at most, a thread of the host {host:?}");
    assert!(longest < GAP + host, "{attack}: another sandbox waited {longest:?}");
    drop(running);
    for machine in &machines {
        ended(machine).await;
    }
}

/// Runs a test when no other one runs.
fn alone(test: impl Future<Output = ()>) {
    // A test that failed has nothing to leave in disorder.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build();
    tokio.expect("a runtime").block_on(test);
}

#[test]
fn filling_a_large_memory_lets_others_run() {
    alone(assert_others_run("fill-memory"));
}

#[test]
fn moving_a_large_memory_lets_others_run() {
    alone(assert_others_run("copy-memory"));
}

#[test]
fn forking_a_large_process_lets_others_run() {
    alone(assert_others_run("fork-large"));
}

#[test]
fn polling_a_file_of_many_pieces_lets_others_run() {
    alone(assert_others_run("poll-chunks"));
}

#[test]
fn listing_a_large_directory_lets_others_run() {
    alone(assert_others_run("list-large"));
}
