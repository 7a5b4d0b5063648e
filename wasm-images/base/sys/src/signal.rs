//! Signals: their names, sending them, and what happens when one arrives.

use std::io;

use crate::{Pid, check, imports};

/// A signal number from 1 to 31, with Linux's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u32);

/// Names without `SIG`, at the index of their number (signal(7), x86).
const NAMES: [&str; 32] = [
    "EXIT", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
    "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH",
    "IO", "PWR", "SYS",
];

impl Signal {
    /// Interrupt.
    pub const INT: Self = Self(2);
    /// Kill, which cannot be caught.
    pub const KILL: Self = Self(9);
    /// Write to a pipe nobody reads.
    pub const PIPE: Self = Self(13);
    /// Termination, what `kill` sends.
    pub const TERM: Self = Self(15);
    /// A child ended.
    pub const CHLD: Self = Self(17);

    /// The signal of this number, when there is one.
    pub fn from_number(number: u32) -> Option<Self> {
        (1..32).contains(&number).then_some(Self(number))
    }

    /// The signal of this name, in any case, with or without `SIG`, or of this number in decimal.
    pub fn from_name(name: &str) -> Option<Self> {
        if let Ok(number) = name.parse() {
            return Self::from_number(number);
        }
        let upper = name.to_ascii_uppercase();
        let short = match upper.strip_prefix("SIG").unwrap_or(&upper) {
            "CLD" => "CHLD",
            "IOT" => "ABRT",
            "POLL" => "IO",
            short => short,
        };
        Self::all().find(|signal| signal.name() == short)
    }

    /// Every signal, by number.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..32).map(Self)
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Its name without `SIG`.
    pub fn name(self) -> &'static str {
        NAMES.get(self.0 as usize).copied().unwrap_or("?")
    }
}

/// What happens when a signal arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The signal's own action, most often the end of the process.
    Default,
    /// Nothing; children inherit it.
    Ignore,
    /// It is recorded for [`sigpending`], and a call that blocks returns [`io::ErrorKind::Interrupted`].
    Catch,
}

/// Sends a signal: to a process (`pid` > 0), the own process group (0), the group `-pid` (< -1) or every other process
/// (-1). `None` only tests whether there is such a process.
#[allow(unsafe_code)]
pub fn kill(pid: Pid, signal: Option<Signal>) -> io::Result<()> {
    // SAFETY: takes numbers only, which the kernel checks.
    check(unsafe { imports::kill(pid, signal.map_or(0, Signal::number)) })
}

/// Sets what happens when `signal` arrives at this process.
#[allow(unsafe_code)]
pub fn sigaction(signal: Signal, disposition: Disposition) -> io::Result<()> {
    let disposition = match disposition {
        Disposition::Default => wisp_abi::DEFAULT,
        Disposition::Ignore => wisp_abi::IGNORE,
        Disposition::Catch => wisp_abi::CATCH,
    };
    // SAFETY: takes numbers only, which the kernel checks.
    check(unsafe { imports::sigaction(signal.number(), disposition) })
}

/// Signals that arrived and were caught.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PendingSignals(u32);

impl Iterator for PendingSignals {
    type Item = Signal;

    fn next(&mut self) -> Option<Signal> {
        let number = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        Signal::from_number(number)
    }
}

/// Takes the caught signals recorded since the last call.
#[allow(unsafe_code)]
pub fn sigpending() -> io::Result<PendingSignals> {
    let mut bits = 0;
    // SAFETY: `bits` outlives the call.
    check(unsafe { imports::sigpending(&raw mut bits) })?;
    Ok(PendingSignals(bits & !1))
}

#[cfg(test)]
mod tests {
    use super::{PendingSignals, Signal};

    #[test]
    fn signal_is_found_by_number_short_name_and_long_name() {
        for name in ["15", "TERM", "term", "SIGTERM", "sigterm"] {
            assert_eq!(Signal::from_name(name), Some(Signal::TERM), "{name}");
        }
        for name in ["0", "32", "EXIT", "", "SIG"] {
            assert_eq!(Signal::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn pending_signals_are_given_in_order_of_number() {
        let numbers: Vec<u32> = PendingSignals(1 << 15 | 1 << 2 | 1 << 31).map(Signal::number).collect();
        assert_eq!(numbers, [2, 15, 31]);
    }
}
