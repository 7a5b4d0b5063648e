//! Hostile programs against the kernel's limits: each is stopped, in time, and nothing else is harmed.

#![allow(clippy::print_stdout, reason = "the measured times are worth reading")]

mod guest_support;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use guest_support::build;
use guest_support::machine::{Capture, DISK, Image, Machine, Ran};
use tokio::time::sleep;
use wisp::kernel::{ExecError, ExecRequest, ExitStatus, Input, LimitHit, Limits, OutputSink, Runtime, Stream};
use wisp::vfs;

/// How late after its deadline an exec may be answered on an idle machine.
const LATENESS: Duration = Duration::from_millis(50);
/// What a busy machine that builds and tests at the same time may add to it.
const NOISE: Duration = Duration::from_millis(150);
/// Far more than a program that ends by itself needs.
const PATIENCE: Duration = Duration::from_mins(1);

/// The image of the hostile program, compiled once. Its engine serves every test, as one server serves every sandbox.
static IMAGE: LazyLock<Image> = LazyLock::new(|| {
    let modules = build::build().unwrap_or_else(|error| panic!("the guest programs cannot be built: {error}"));
    let runtime = Runtime::new(2).expect("an engine");
    Image::of(&runtime, &modules.join("hostile.wasm")).expect("the hostile program")
});

fn machine() -> Machine {
    machine_with(Limits::default())
}

fn machine_with(limits: Limits) -> Machine {
    IMAGE.machine(limits, DISK).expect("a machine")
}

async fn run(machine: &Machine, attack: &str, timeout: Duration) -> Ran {
    machine.run(&[attack], timeout).await.expect("starting the attack")
}

/// Runs an attack that checks a limit itself and then ends.
async fn assert_holds(machine: &Machine, attack: &str) {
    let ran = run(machine, attack, PATIENCE).await;
    assert_eq!(ran.outcome.status, ExitStatus::Exited(0), "{attack}: {ran:?}");
    assert_all_given_back(machine).await;
}

/// Runs an attack that only a deadline ends, and returns what it left.
async fn assert_stopped_in_time(machine: &Machine, attack: &str) -> Ran {
    let timeout = Duration::from_millis(300);
    let ran = run(machine, attack, timeout).await;
    assert!(ran.outcome.timed_out, "{attack}: {ran:?}");
    let late = ran.outcome.duration.saturating_sub(timeout);
    println!("{attack}: answered {late:?} after its deadline");
    assert!(
        late < LATENESS + NOISE,
        "{attack} was answered {late:?} after its deadline"
    );
    assert_all_given_back(machine).await;
    ran
}

/// All processes are gone soon, and their memory with them.
async fn assert_all_given_back(machine: &Machine) {
    let budget = machine.kernel.budget();
    let start = Instant::now();
    while budget.processes_used() > 0 || budget.memory_used() > 0 {
        let (processes, bytes) = (budget.processes_used(), budget.memory_used());
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{processes} processes and {bytes} bytes are left"
        );
        sleep(Duration::from_millis(2)).await;
    }
}

/// Another sandbox still works, and answers without delay.
async fn assert_others_unharmed() {
    let start = Instant::now();
    let ran = run(&machine(), "say", PATIENCE).await;
    assert_eq!(
        (ran.outcome.status, ran.stdout.as_str()),
        (ExitStatus::Exited(0), "said\n")
    );
    let took = start.elapsed();
    println!("another sandbox answered in {took:?}");
    assert!(took < Duration::from_secs(1), "another sandbox took {took:?}");
}

#[tokio::test]
async fn a_busy_loop_is_stopped_at_the_deadline() {
    assert_stopped_in_time(&machine(), "spin").await;
}

#[tokio::test]
async fn a_sleeping_process_is_stopped_at_the_deadline() {
    assert_stopped_in_time(&machine(), "sleep").await;
}

#[tokio::test]
async fn a_blocked_read_is_stopped_at_the_deadline() {
    assert_stopped_in_time(&machine(), "read").await;
}

#[tokio::test]
async fn a_tree_of_sleeping_processes_is_stopped_at_the_deadline() {
    let ran = assert_stopped_in_time(&machine(), "sleeping-tree").await;
    assert_eq!(ran.stdout, "grown\n");
}

#[tokio::test]
async fn a_fork_bomb_is_stopped_at_the_deadline() {
    for vcpus in [1, 2] {
        assert_stopped_in_time(
            &machine_with(Limits {
                vcpus,
                ..Limits::default()
            }),
            "fork-bomb",
        )
        .await;
    }
    assert_others_unharmed().await;
}

#[tokio::test]
async fn a_bomb_of_process_groups_is_stopped_at_the_deadline() {
    for vcpus in [1, 2] {
        assert_stopped_in_time(
            &machine_with(Limits {
                vcpus,
                ..Limits::default()
            }),
            "spawn-bomb",
        )
        .await;
    }
}

#[tokio::test]
async fn output_before_the_deadline_is_kept() {
    let ran = assert_stopped_in_time(&machine(), "say-and-spin").await;
    assert_eq!(ran.stdout, "said before\n");
}

#[tokio::test]
async fn a_flood_of_output_is_stopped_at_the_deadline() {
    let ran = assert_stopped_in_time(&machine(), "flood").await;
    assert!(!ran.stdout.is_empty());
}

#[tokio::test]
async fn a_memory_bomb_gets_137_and_a_line_on_stderr() {
    let machine = machine_with(Limits {
        memory_bytes: 64 << 20,
        ..Limits::default()
    });
    let ran = run(&machine, "memory-bomb", PATIENCE).await;
    assert_eq!(ran.outcome.status.shell_code(), 137, "{ran:?}");
    assert!(ran.stderr.contains("memory limit of 64 MiB reached"), "{ran:?}");
    assert_all_given_back(&machine).await;
    assert_others_unharmed().await;
}

#[tokio::test]
async fn many_memory_bombs_together_stay_in_the_limit() {
    let machine = machine_with(Limits {
        memory_bytes: 64 << 20,
        ..Limits::default()
    });
    assert_holds(&machine, "memory-bombs").await;
    assert_others_unharmed().await;
}

#[tokio::test]
async fn the_65th_process_is_refused() {
    let machine = machine();
    let ran = run(&machine, "processes", PATIENCE).await;
    assert_eq!(ran.outcome.status, ExitStatus::Exited(0), "{ran:?}");
    machine.kernel.shut_down();
    assert_all_given_back(&machine).await;
}

#[tokio::test]
async fn the_257th_descriptor_is_refused() {
    assert_holds(&machine(), "descriptors").await;
}

#[tokio::test]
async fn a_full_disk_is_enospc() {
    assert_holds(&machine(), "fill-disk").await;
}

#[tokio::test]
async fn inodes_are_limited() {
    let limits = vfs::Limits {
        max_inodes: 300,
        ..DISK
    };
    let machine = IMAGE.machine(Limits::default(), limits).expect("a machine");
    assert_holds(&machine, "fill-inodes").await;
}

#[tokio::test]
async fn a_process_finds_no_traces_of_those_before_it() {
    // More of them than there are warm slots, and each slot several times, whatever other tests do meanwhile.
    for _ in 0..50 {
        let machines: Vec<Machine> = (0..8).map(|_| machine()).collect();
        let runs = machines.iter().map(|machine| run(machine, "traces", PATIENCE));
        for ran in futures_util::future::join_all(runs).await {
            assert_eq!(ran.outcome.status, ExitStatus::Exited(0), "{ran:?}");
        }
    }
}

#[tokio::test]
async fn more_processes_than_warm_slots_run_at_once() {
    let output = Arc::new(Capture::default());
    let machines: Vec<Machine> = (0..4).map(|_| machine()).collect();
    let held: Vec<_> = machines
        .iter()
        .flat_map(|machine| (0..40).map(|_| machine.start(&["sleep"], Arc::clone(&output) as _)))
        .collect();
    assert!(held.iter().all(Result::is_ok));
    let running = || machines.iter().map(|machine| machine.kernel.budget().processes_used());
    assert_eq!(running().sum::<usize>(), 160);
    // They sleep rather than having failed.
    sleep(Duration::from_millis(300)).await;
    assert_eq!(running().sum::<usize>(), 160);
    assert_others_unharmed().await;
    drop(held);
    for machine in &machines {
        assert_all_given_back(machine).await;
    }
}

#[tokio::test]
async fn pipes_are_charged() {
    let machine = machine_with(Limits {
        memory_bytes: 8 << 20,
        ..Limits::default()
    });
    assert_holds(&machine, "pipes").await;
}

#[tokio::test]
async fn arguments_held_through_proc_are_charged() {
    let machine = machine_with(Limits {
        memory_bytes: 32 << 20,
        ..Limits::default()
    });
    assert_holds(&machine, "hold-arguments").await;
}

#[tokio::test]
async fn listings_of_removed_directories_are_charged() {
    let machine = machine_with(Limits {
        memory_bytes: 8 << 20,
        ..Limits::default()
    });
    assert_holds(&machine, "hold-listings").await;
}

#[tokio::test]
async fn deep_recursion_ends_the_process_alone() {
    let machine = machine();
    let ran = run(&machine, "recurse", PATIENCE).await;
    assert!(matches!(ran.outcome.status, ExitStatus::Killed(_)), "{ran:?}");
    assert!(ran.stderr.contains("killed: "), "{ran:?}");
    assert_all_given_back(&machine).await;
    assert_others_unharmed().await;
}

#[tokio::test]
async fn arguments_are_limited() {
    assert_holds(&machine(), "many-arguments").await;
}

#[tokio::test]
async fn spawn_requests_that_lie_are_refused() {
    assert_holds(&machine(), "lying-requests").await;
}

#[tokio::test]
async fn requests_to_search_without_end_are_refused() {
    // The guest itself checks what each is answered with; copying a terabyte would take it minutes.
    let ran = run(&machine(), "long-requests", Duration::from_secs(10)).await;
    assert_eq!(ran.outcome.status, ExitStatus::Exited(0), "{ran:?}");
}

#[tokio::test]
async fn a_search_through_links_is_stopped_at_the_deadline() {
    let machine = machine();
    let searching = assert_stopped_in_time(&machine, "long-search");
    let others = async {
        sleep(Duration::from_millis(100)).await;
        assert_others_unharmed().await;
    };
    tokio::join!(searching, others);
}

#[tokio::test]
async fn a_command_is_killed_when_its_cpu_time_is_used_up() {
    let machine = machine();
    let cpu_time = Duration::from_millis(200);
    let ran = machine
        .run_within(&["spin"], PATIENCE, cpu_time)
        .await
        .expect("starting");
    assert_eq!(ran.outcome.status.shell_code(), 137, "{ran:?}");
    assert_eq!(ran.outcome.limit, Some(LimitHit::ExecCpuTime), "{ran:?}");
    assert!(ran.outcome.cpu_time >= cpu_time, "{ran:?}");
    assert!(ran.outcome.duration >= cpu_time, "{ran:?}");
    assert_all_given_back(&machine).await;
    // Waiting costs none of it, and another command has its own.
    let ran = machine
        .run_within(&["say"], PATIENCE, cpu_time)
        .await
        .expect("starting");
    assert_eq!(
        (ran.outcome.status, ran.outcome.limit),
        (ExitStatus::Exited(0), None),
        "{ran:?}"
    );
    let ran = machine
        .run_within(&["sleep"], 2 * cpu_time, cpu_time)
        .await
        .expect("starting");
    assert!(ran.outcome.timed_out && ran.outcome.limit.is_none(), "{ran:?}");
}

#[tokio::test]
async fn background_processes_use_the_cpu_time_of_their_command() {
    let machine = machine();
    let cpu_time = Duration::from_millis(300);
    let ran = machine
        .run_within(&["background"], PATIENCE, cpu_time)
        .await
        .expect("starting");
    assert_eq!(ran.outcome.status, ExitStatus::Exited(0), "{ran:?}");
    // Nobody ends it but its limit.
    assert_all_given_back(&machine).await;
}

#[tokio::test]
async fn a_sandbox_runs_nothing_more_when_its_cpu_time_is_used_up() {
    let machine = machine_with(Limits {
        cpu_time: Some(Duration::from_millis(200)),
        ..Limits::default()
    });
    let ran = run(&machine, "background", PATIENCE).await;
    assert_eq!(ran.outcome.status, ExitStatus::Exited(0), "{ran:?}");
    let ran = run(&machine, "spin", PATIENCE).await;
    assert_eq!(ran.outcome.status.shell_code(), 137, "{ran:?}");
    assert_eq!(ran.outcome.limit, Some(LimitHit::SandboxCpuTime), "{ran:?}");
    assert_all_given_back(&machine).await;
    let refused = machine.start(&["say"], Arc::new(Capture::default()));
    assert!(matches!(refused, Err(ExecError::LimitReached(_))));
}

#[tokio::test]
async fn native_stacks_are_charged() {
    let machine = machine();
    let output = Arc::new(Capture::default());
    let exec = machine
        .start(&["native-stacks"], Arc::clone(&output) as _)
        .expect("starting");
    let start = Instant::now();
    while output.text(Stream::Stdout).len() < 20 * "deep\n".len() {
        assert!(start.elapsed() < PATIENCE, "{}", output.text(Stream::Stderr));
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(50)).await;
    let used = machine.kernel.budget().memory_used() >> 20;
    println!("20 deep native stacks: {used} MiB charged");
    // Each is 3 MiB at least, and the linear memory less than 2.
    assert!(used > 20 * 4, "{used} MiB");
    drop(exec);
    assert_all_given_back(&machine).await;
}

#[tokio::test]
async fn a_native_stack_beyond_the_memory_limit_ends_its_process() {
    let machine = machine_with(Limits {
        memory_bytes: 4 << 20,
        ..Limits::default()
    });
    let ran = run(&machine, "native-stack", PATIENCE).await;
    assert_eq!(ran.outcome.status.shell_code(), 137, "{ran:?}");
    assert!(ran.stderr.contains("memory limit of 4 MiB reached"), "{ran:?}");
    assert_all_given_back(&machine).await;
}

#[tokio::test]
async fn standard_input_is_charged_until_it_is_read() {
    let machine = machine_with(Limits {
        memory_bytes: 16 << 20,
        ..Limits::default()
    });
    // It searches for far longer than this test looks, and reads nothing meanwhile.
    make_long_way(&machine);
    let with_input = |len: usize| ExecRequest {
        stdin: Input::Bytes(vec![0; len].into()),
        ..searching("/tmp".to_owned(), ["0"; 1000].join(":"))
    };
    let refused = machine.kernel.exec(with_input(17 << 20));
    assert!(matches!(refused, Err(ExecError::LimitReached(_))));
    let held = machine.kernel.exec(with_input(8 << 20)).expect("there is room");
    assert!(machine.kernel.budget().memory_used() > 8 << 20);
    drop(held);
    assert_all_given_back(&machine).await;
}

/// Makes `/tmp/0` a directory that takes as long to find as any: 39 links with long targets lead there.
fn make_long_way(machine: &Machine) {
    let fs = machine.kernel.fs();
    for link in 0..39 {
        let target = format!("{}{}", "./".repeat(2000), link + 1);
        fs.symlink(target.as_bytes(), vfs::ROOT, format!("/tmp/{link}").as_bytes())
            .expect("a link");
    }
    fs.mkdir(vfs::ROOT, b"/tmp/39", 0o755).expect("a directory");
}

/// A request to start a program that is nowhere in this `PATH`.
fn searching(cwd: String, path: String) -> ExecRequest {
    ExecRequest {
        path: Vec::new(),
        argv: vec![b"nothing".to_vec()],
        environment: vec![format!("PATH={path}").into_bytes()],
        cwd: cwd.into_bytes(),
        stdin: Input::default(),
        output: Arc::new(Capture::default()),
        cpu_time: None,
        fuel: None,
        simple_command: None,
    }
}

#[tokio::test]
async fn an_exec_searches_on_a_guest_thread_until_its_deadline() {
    let machine = machine();
    make_long_way(&machine);
    let timeout = Duration::from_millis(300);
    let start = Instant::now();
    let request = searching("/tmp".to_owned(), ["0"; 1000].join(":"));
    let mut exec = machine.kernel.exec(request).expect("a process for it");
    let called = start.elapsed();
    assert!(called < timeout / 2, "the caller's thread was busy for {called:?}");
    exec.started(timeout).await.expect("no answer before the deadline");
    assert!(exec.wait(timeout).await.timed_out);
    let late = start.elapsed().saturating_sub(timeout);
    assert!(late < LATENESS + NOISE, "answered {late:?} after the deadline");
    assert_all_given_back(&machine).await;
    // One that is given up ends as well.
    let request = searching("/tmp".to_owned(), ["0"; 1000].join(":"));
    drop(machine.kernel.exec(request).expect("a process for it"));
    assert_all_given_back(&machine).await;
}

#[tokio::test]
async fn an_exec_with_a_path_too_long_to_search_is_not_runnable() {
    let machine = machine();
    for path in [":".repeat(2000), format!("/{}", "a".repeat(100_000))] {
        let request = searching(format!("/{}", "./".repeat(2000)), path);
        let mut exec = machine.kernel.exec(request).expect("a process for it");
        let refused = exec.started(PATIENCE).await.expect_err("it is not searched");
        assert!(
            matches!(refused, ExecError::NotRunnable { exit_code: 126, .. }),
            "{refused:?}"
        );
    }
    assert_all_given_back(&machine).await;
}

#[tokio::test]
async fn random_calls_harm_nobody() {
    assert_holds(&machine(), "random-calls").await;
    assert_others_unharmed().await;
}

#[tokio::test]
async fn an_exec_beyond_a_limit_is_refused() {
    let machine = machine_with(Limits {
        processes: 1,
        ..Limits::default()
    });
    let running = machine
        .start(&["sleep"], Arc::new(Capture::default()))
        .expect("starting the first");
    let refused = machine.start(&["sleep"], Arc::new(Capture::default()));
    assert!(matches!(refused, Err(ExecError::LimitReached(_))));
    drop(running);
    assert_all_given_back(&machine).await;
    let machine = machine_with(Limits {
        memory_bytes: 100 << 10,
        ..Limits::default()
    });
    let refused = machine.start(&["sleep"], Arc::new(Capture::default()));
    assert!(matches!(refused, Err(ExecError::LimitReached(_))));
    assert_all_given_back(&machine).await;
}

#[tokio::test]
async fn thousands_of_zombies_are_bounded() {
    assert_holds(&machine(), "zombies").await;
}

#[tokio::test]
async fn deep_directories_can_be_removed() {
    let machine = machine();
    assert_holds(&machine, "deep-directories").await;
    machine
        .kernel
        .fs()
        .remove_all(vfs::ROOT, b"/tmp/d")
        .expect("removing them");
}

#[tokio::test]
async fn a_fork_bomb_does_not_starve_another_sandbox() {
    // With two virtual CPUs it can keep every guest thread busy.
    for vcpus in [1, 2] {
        let bombed = machine_with(Limits {
            vcpus,
            ..Limits::default()
        });
        let output = Arc::new(Capture::default());
        let bomb = bombed.start(&["fork-bomb"], output).expect("starting the bomb");
        sleep(Duration::from_millis(200)).await;
        for _ in 0..5 {
            assert_others_unharmed().await;
        }
        drop(bomb);
        assert_all_given_back(&bombed).await;
    }
}

#[tokio::test]
async fn dropping_an_exec_kills_its_processes() {
    for attack in ["spin", "sleeping-tree", "spawn-bomb"] {
        let machine = machine();
        let output = Arc::new(Capture::default());
        let exec = machine.start(&[attack], output).expect("starting the attack");
        sleep(Duration::from_millis(50)).await;
        assert!(machine.kernel.budget().processes_used() > 0);
        drop(exec);
        assert_all_given_back(&machine).await;
    }
}

#[tokio::test]
async fn a_client_that_takes_no_output_does_not_hold_the_answer() {
    let machine = machine();
    let exec = machine.start(&["flood"], Arc::new(Stuck)).expect("starting the attack");
    let outcome = exec.wait(Duration::from_millis(300)).await;
    assert!(outcome.timed_out);
    assert!(
        outcome.duration < Duration::from_millis(300) + LATENESS + NOISE,
        "{outcome:?}"
    );
    assert_all_given_back(&machine).await;
}

/// Never takes what is written.
struct Stuck;

#[async_trait::async_trait]
impl OutputSink for Stuck {
    async fn write(&self, _: Stream, _: bytes::Bytes) {
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn a_background_process_does_not_hold_the_answer() {
    let machine = machine();
    let output = Arc::new(Capture::default());
    let exec = machine
        .start(&["background"], Arc::clone(&output) as _)
        .expect("starting");
    let outcome = exec.wait(PATIENCE).await;
    assert_eq!(outcome.status, ExitStatus::Exited(0));
    assert!(outcome.duration < Duration::from_secs(2), "{outcome:?}");
    assert_eq!(output.text(Stream::Stdout), "started\n");
    machine.kernel.shut_down();
    assert_all_given_back(&machine).await;
}
