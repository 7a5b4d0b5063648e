//! CPU time grows while the process computes.

use guests::{MONOTONIC, PROCESS_CPU, now, sleep};

fn main() {
    let start = now(MONOTONIC).expect("the time");
    while now(MONOTONIC).expect("the time") < start + 50_000_000 {}
    let spent = now(PROCESS_CPU).expect("the time");
    assert!(spent > 5_000_000, "{spent} ns after computing for 50 ms");
    sleep(50);
    let after = now(PROCESS_CPU).expect("the time");
    assert!(after - spent < 40_000_000, "{} ns for sleeping 50 ms", after - spent);
}
