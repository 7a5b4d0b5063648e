//! The monotonic clock never goes back, the wall clock is in this century, and unknown clocks are `inval`.

use guests::{Errno, MONOTONIC, PROCESS_CPU, REALTIME, address, call, now, sleep};

fn main() {
    let mut last = now(MONOTONIC).expect("the time");
    for _ in 0..100 {
        let time = now(MONOTONIC).expect("the time");
        assert!(time >= last);
        last = time;
    }
    sleep(3);
    assert!(now(MONOTONIC).expect("the time") >= last + 3_000_000);
    let seconds = now(REALTIME).expect("the time") / 1_000_000_000;
    assert!((1_700_000_000..4_102_444_800).contains(&seconds), "{seconds}");
    assert!(now(PROCESS_CPU).is_ok());
    let mut resolution = 0u64;
    for clock in 0..4 {
        assert_eq!(
            call!(preview1::clock_res_get(clock, address(&raw mut resolution))),
            Ok(())
        );
        assert!(resolution > 0);
    }
    for clock in [4, u32::MAX] {
        assert_eq!(now(clock), Err(Errno::INVAL));
        assert_eq!(
            call!(preview1::clock_res_get(clock, address(&raw mut resolution))),
            Err(Errno::INVAL)
        );
    }
}
