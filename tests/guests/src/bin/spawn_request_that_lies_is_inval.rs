//! A request cut short, with lengths beyond its end, or with unknown flags is `inval`; too large is `2big`.

use guests::{BAD_ADDRESS, Errno, Start, address, call, spawn_request};

fn main() {
    let good = Start::program("/usr/bin/x").argument("argument").encode();
    for len in 0..good.len() {
        assert_eq!(spawn_request(&good[..len]), Err(Errno::INVAL), "cut to {len} bytes");
    }
    for at in (0..good.len() - 4).step_by(4) {
        let mut request = good.clone();
        request[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(spawn_request(&request).is_err(), "a wild number at {at}");
    }
    let mut start = Start::program("/usr/bin/x");
    start.flags = 2;
    assert_eq!(start.spawn(), Err(Errno::INVAL), "flags");
    let mut start = Start::program("/usr/bin/x");
    start.argv.clear();
    assert_eq!(start.spawn(), Err(Errno::INVAL), "no argument 0");
    let mut start = Start::program("/usr/bin/x");
    start.cwd = b"tmp".to_vec();
    assert_eq!(start.spawn(), Err(Errno::INVAL), "a relative directory");
    assert_eq!(
        Start::program("/usr/bin/x").argument(b"a\0b").spawn(),
        Err(Errno::INVAL),
        "NUL"
    );
    assert_eq!(
        Start::program("/usr/bin/x").argument(vec![b'a'; 3 << 20]).spawn(),
        Err(Errno::TOO_BIG)
    );
    let mut pid = 0u32;
    let out = address(&raw mut pid);
    assert_eq!(call!(wisp::spawn(BAD_ADDRESS, 64, out)), Err(Errno::FAULT));
    assert_eq!(call!(wisp::spawn(0, u32::MAX, out)), Err(Errno::FAULT));
}
