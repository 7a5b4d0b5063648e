//! Sleeping takes the time asked for, on either clock, relative or absolute, and no CPU.

use guests::{MONOTONIC, PROCESS_CPU, REALTIME, Until, now, poll};

fn main() {
    let cpu = now(PROCESS_CPU).expect("the time");
    for clock in [MONOTONIC, REALTIME] {
        for absolute in [false, true] {
            let start = now(MONOTONIC).expect("the time");
            let until = if absolute {
                Until::Reached(clock, now(clock).expect("the time") + 30_000_000)
            } else {
                Until::Passed(clock, 30_000_000)
            };
            let events = poll(&[until]).expect("sleeping");
            assert_eq!(
                (events.len(), events[0].index, events[0].kind, events[0].error),
                (1, 0, 0, None)
            );
            let slept = now(MONOTONIC).expect("the time") - start;
            assert!(slept >= 29_000_000, "{until:?} took {slept} ns");
        }
    }
    let spent = now(PROCESS_CPU).expect("the time") - cpu;
    assert!(spent < 60_000_000, "{spent} ns of CPU for sleeping 120 ms");
    assert_eq!(
        poll(&[Until::Reached(MONOTONIC, 0)]).map(|events| events.len()),
        Ok(1),
        "long past"
    );
}
