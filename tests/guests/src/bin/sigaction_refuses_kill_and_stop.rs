//! Signals 9 and 19 cannot be changed; numbers and dispositions that are not there are `inval`.

use guests::{CATCH, DEFAULT, Errno, IGNORE, sigaction};

fn main() {
    for signal in [0, 9, 19, 32, u32::MAX] {
        for disposition in [DEFAULT, IGNORE, CATCH] {
            assert_eq!(sigaction(signal, disposition), Err(Errno::INVAL), "signal {signal}");
        }
    }
    for disposition in [3, 255, 256, u32::MAX] {
        assert_eq!(
            sigaction(15, disposition),
            Err(Errno::INVAL),
            "disposition {disposition}"
        );
    }
    for signal in (1..32).filter(|signal| ![9, 19].contains(signal)) {
        assert_eq!(sigaction(signal, CATCH), Ok(()), "signal {signal}");
    }
}
