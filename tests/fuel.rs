//! Fuel: the same program uses the same each time, and all that an exec starts stops when it is used up.

mod guest_support;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use guest_support::build;
use guest_support::machine::{DISK, Image, Machine, Ran};
use wisp::kernel::{ExecError, ExitStatus, LimitHit, Limits, Runtime};
use wisp::vfs::ROOT;

/// Far more than any of these programs needs.
const PATIENCE: Duration = Duration::from_mins(2);
/// More fuel than any of these programs needs that ends by itself.
const PLENTY: u64 = 1 << 40;
/// Fuel for a program that does not end by itself: some tens of milliseconds of a processor.
const SOME: u64 = 50_000_000;

static IMAGE: LazyLock<Image> = LazyLock::new(|| image(true));

fn image(counts_fuel: bool) -> Image {
    let modules = build::build().unwrap_or_else(|error| panic!("the guest programs cannot be built: {error}"));
    let runtime = Runtime::with_fuel(2, counts_fuel).expect("an engine");
    Image::of(&runtime, &modules.join("hostile.wasm")).expect("the hostile program")
}

fn machine(vcpus: usize) -> Machine {
    let limits = Limits {
        vcpus,
        ..Limits::default()
    };
    IMAGE.machine(limits, DISK).expect("a machine")
}

async fn run(machine: &Machine, arguments: &[&str], fuel: u64) -> Ran {
    let ran = machine
        .run_with_fuel(arguments, PATIENCE, fuel)
        .await
        .expect("starting");
    assert!(!ran.outcome.timed_out, "{arguments:?}: {ran:?}");
    ran
}

/// The fuel that a program needs which ends by itself, on a fresh machine.
async fn count(arguments: &[&str], vcpus: usize) -> u64 {
    let ran = run(&machine(vcpus), arguments, PLENTY).await;
    assert_eq!(ran.outcome.status, ExitStatus::Exited(0), "{arguments:?}: {ran:?}");
    assert_eq!(ran.outcome.limit, None, "{arguments:?}: {ran:?}");
    ran.outcome.fuel_used.expect("a count")
}

/// Runs a program that must not end before its fuel does, and checks that nothing of it is left.
async fn assert_stopped(machine: &Machine, arguments: &[&str], fuel: u64) -> Ran {
    let ran = run(machine, arguments, fuel).await;
    assert_eq!(ran.outcome.status.shell_code(), 137, "{arguments:?}: {ran:?}");
    assert_eq!(ran.outcome.limit, Some(LimitHit::ExecFuel), "{arguments:?}: {ran:?}");
    assert_eq!(ran.outcome.fuel_used, Some(fuel), "{arguments:?}: {ran:?}");
    assert_all_gone(machine).await;
    ran
}

async fn assert_all_gone(machine: &Machine) {
    let start = Instant::now();
    while machine.kernel.budget().processes_used() > 0 {
        assert!(start.elapsed() < PATIENCE, "processes are left");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Programs that end by themselves, of one process or of several that run one after the other.
const IN_TURN: [&str; 4] = ["work", "children-in-turn", "replaced", "work-and-yield"];

#[tokio::test]
async fn same_program_uses_the_same_fuel_each_time() {
    for program in IN_TURN {
        let first = count(&[program], 1).await;
        for vcpus in [1, 2, 1] {
            assert_eq!(count(&[program], vcpus).await, first, "{program}");
        }
    }
}

#[tokio::test]
async fn exec_ends_by_itself_with_the_fuel_it_needs_and_not_with_one_unit_less() {
    for program in IN_TURN {
        let needed = count(&[program], 1).await;
        let ran = run(&machine(1), &[program], needed).await;
        assert_eq!(ran.outcome.status, ExitStatus::Exited(0), "{program}: {ran:?}");
        assert_eq!(
            (ran.outcome.fuel_used, ran.outcome.limit),
            (Some(needed), None),
            "{program}"
        );
        assert_stopped(&machine(1), &[program], needed - 1).await;
    }
}

#[tokio::test]
async fn children_use_the_fuel_of_their_exec() {
    let one = count(&["work"], 1).await;
    // Each of the four children works as much as that, but for what a fork need not do again.
    let four = count(&["children-in-turn"], 1).await;
    assert!(four > 3 * one, "{four} for four children, {one} for one");
    let replaced = count(&["replaced"], 1).await;
    assert!(replaced > one + one / 2, "{replaced} for two programs, {one} for one");
}

#[tokio::test]
async fn processes_at_once_use_their_sum() {
    let needed = count(&["children-at-once"], 1).await;
    for _ in 0..5 {
        assert_eq!(count(&["children-at-once"], 2).await, needed);
    }
    for _ in 0..5 {
        let ran = run(&machine(2), &["children-at-once"], needed).await;
        assert_eq!(ran.outcome.status, ExitStatus::Exited(0), "{ran:?}");
        assert_stopped(&machine(2), &["children-at-once"], needed - 1).await;
    }
}

#[tokio::test]
async fn bulk_memory_uses_a_unit_for_each_byte() {
    let small = count(&["fill-and-copy", "1"], 1).await;
    let large = count(&["fill-and-copy", "5"], 1).await;
    // Eight MiB more are cleared, four filled, and four copied.
    let bytes = 16 << 20;
    assert!(
        (bytes..bytes + bytes / 8).contains(&(large - small)),
        "{small} and {large}"
    );
}

#[tokio::test]
async fn exec_stops_at_the_same_place_each_time() {
    for program in ["say-for-ever", "children-for-ever"] {
        let first = assert_stopped(&machine(1), &[program], SOME).await;
        assert!(first.stdout.lines().count() > 10, "{program}: {first:?}");
        for vcpus in [2, 1] {
            let again = assert_stopped(&machine(vcpus), &[program], SOME).await;
            assert_eq!(again.stdout, first.stdout, "{program}");
        }
        let more = assert_stopped(&machine(1), &[program], 2 * SOME).await;
        assert!(more.stdout.len() > first.stdout.len(), "{program}");
    }
}

#[tokio::test]
async fn fuel_of_a_child_counts_before_its_parent_continues() {
    let reached = |machine: &Machine| machine.kernel.fs().stat_at(ROOT, b"/tmp/reached", true).is_ok();
    let program = ["child-before-work"];
    let needed = count(&program, 1).await;
    let complete = machine(1);
    run(&complete, &program, needed).await;
    assert!(reached(&complete));
    // Less is missing than the child used: a parent that does not know of that would come to its end.
    let missing = count(&["work"], 1).await / 2;
    let cut_off = machine(1);
    assert_stopped(&cut_off, &program, needed - missing).await;
    assert!(!reached(&cut_off));
}

#[tokio::test]
async fn whatever_never_ends_is_stopped() {
    for program in [
        "spin",
        "ignore-signals",
        "fork-bomb",
        "spawn-bomb",
        "pipeline",
        "kill-children",
    ] {
        for vcpus in [1, 2] {
            assert_stopped(&machine(vcpus), &[program], SOME).await;
        }
    }
}

#[tokio::test]
async fn process_that_is_killed_is_charged() {
    let used = count(&["kill-child"], 1).await;
    let without = count(&["work"], 1).await;
    assert!(
        used > 10 * without,
        "{used}, and a program that computes little uses {without}"
    );
}

#[tokio::test]
async fn processes_at_once_share_the_budget_while_they_run() {
    let fuel = 8 * SOME;
    let one = assert_stopped(&machine(1), &["spin"], fuel).await.outcome.cpu_time;
    let many = assert_stopped(&machine(1), &["spinners"], fuel).await.outcome.cpu_time;
    // There are 63 of them, and each alone could use all of it.
    assert!(many < 10 * one, "{many:?} for many, {one:?} for one");
}

#[tokio::test]
async fn background_processes_use_the_fuel_of_their_exec() {
    let machine = machine(1);
    // As much as lasts until the answer, however busy this machine is.
    let ran = run(&machine, &["leave-and-succeed"], 20 * SOME).await;
    assert_eq!(ran.outcome.status, ExitStatus::Exited(0), "{ran:?}");
    assert_eq!(ran.outcome.limit, None, "{ran:?}");
    // Nobody ends it but its fuel.
    assert_all_gone(&machine).await;
}

#[tokio::test]
async fn exec_without_fuel_is_not_counted() {
    let ran = machine(1).run(&["work"], PATIENCE).await.expect("starting");
    assert_eq!(ran.outcome.status, ExitStatus::Exited(0), "{ran:?}");
    assert_eq!(ran.outcome.fuel_used, None);
}

#[tokio::test]
async fn runtime_that_does_not_count_fuel_refuses_it() {
    let machine = image(false).machine(Limits::default(), DISK).expect("a machine");
    let refused = machine.run_with_fuel(&["work"], PATIENCE, PLENTY).await;
    assert_eq!(refused.unwrap_err(), ExecError::FuelNotCounted);
}
