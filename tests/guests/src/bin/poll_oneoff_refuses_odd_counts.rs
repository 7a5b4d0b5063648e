//! No subscription at all, more than 1024, or one of an unknown kind is `inval`.

use guests::{Errno, MONOTONIC, Until, address, call, poll};

fn main() {
    assert_eq!(poll(&[]), Err(Errno::INVAL));
    let many = vec![Until::Passed(MONOTONIC, 0); 1024];
    assert_eq!(poll(&many).map(|events| events.len()), Ok(1024));
    let too_many = vec![Until::Passed(MONOTONIC, 0); 1025];
    assert_eq!(poll(&too_many), Err(Errno::INVAL));
    let mut subscription = [0u8; 48];
    subscription[8] = 3;
    let (mut event, mut count) = ([0u8; 32], 0u32);
    let (input, output, out) = (
        address(subscription.as_ptr()),
        address(event.as_mut_ptr()),
        address(&raw mut count),
    );
    assert_eq!(call!(preview1::poll_oneoff(input, output, 1, out)), Err(Errno::INVAL));
    assert_eq!(
        call!(preview1::poll_oneoff(input, output, u32::MAX, out)),
        Err(Errno::INVAL)
    );
}
