//! Yielding succeeds.

use guests::call;

fn main() {
    for _ in 0..1000 {
        assert_eq!(call!(preview1::sched_yield()), Ok(()));
    }
}
