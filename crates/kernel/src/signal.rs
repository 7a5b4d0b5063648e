//! Signals: numbers, what they do by default, and the state each process keeps.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use tokio::sync::Notify;

use super::errno::Errno;

/// One more than the largest signal number.
pub const COUNT: u32 = 32;
/// Ends a process, always.
pub const KILL: u32 = 9;
/// Sent to a writer whose pipe has no reader.
pub const PIPE: u32 = 13;
/// What a module that trapped died of.
pub const ABORT: u32 = 6;
/// What a module that left its memory died of.
pub const SEGV: u32 = 11;
/// What a timer sends.
pub const ALARM: u32 = 14;
const STOP: u32 = 19;
/// Signals whose default is to do nothing here: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH. Processes are never stopped.
const HARMLESS: [u32; 8] = [17, 18, STOP, 20, 21, 22, 23, 28];

/// What a process does on a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Disposition {
    /// The signal's own default.
    Default = 0,
    /// Nothing.
    Ignore = 1,
    /// Recorded until the process asks.
    Catch = 2,
}

impl Disposition {
    fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Default),
            1 => Some(Self::Ignore),
            2 => Some(Self::Catch),
            _ => None,
        }
    }
}

/// The signal state of one process.
#[derive(Debug, Default)]
pub struct Signals {
    dispositions: [AtomicU8; COUNT as usize],
    /// Caught signals not yet asked for, bit n for signal n.
    pending: AtomicU32,
    /// The signal that ended the process; 0 while it lives.
    fatal: AtomicU32,
    /// Signalled when a caught signal was recorded.
    caught: Notify,
    /// Signalled once, when `fatal` is set.
    died: Notify,
}

impl Signals {
    /// State of a new process that ignores the signals in `ignored` (bit n = signal n).
    pub fn ignoring(ignored: u32) -> Self {
        let signals = Self::default();
        for number in (1..COUNT).filter(|number| ignored & (1 << number) != 0) {
            signals.ignore(number);
        }
        signals
    }

    /// Ignores a signal from now on.
    pub fn ignore(&self, signal: u32) {
        if let Some(cell) = self.dispositions.get(signal as usize) {
            cell.store(Disposition::Ignore as u8, Ordering::Relaxed);
        }
    }

    /// The ignored signals, bit n for signal n: they stay ignored in programs this one starts.
    pub fn ignored(&self) -> u32 {
        (1..COUNT)
            .filter(|number| self.disposition(*number) == Disposition::Ignore)
            .fold(0, |set, n| set | 1 << n)
    }

    /// Gets ready for another program in the same process: caught signals fall back to their default and recorded
    /// ones are forgotten, since what would have handled them is gone.
    pub fn forget_caught(&self) {
        for cell in &self.dispositions {
            let (caught, default) = (Disposition::Catch as u8, Disposition::Default as u8);
            // Another value is left as it is.
            let _ = cell.compare_exchange(caught, default, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.pending.store(0, Ordering::SeqCst);
    }

    /// What happens on `signal`.
    pub fn disposition(&self, signal: u32) -> Disposition {
        self.dispositions
            .get(signal as usize)
            .and_then(|cell| Disposition::from_number(cell.load(Ordering::Relaxed)))
            .unwrap_or(Disposition::Default)
    }

    /// Sets what happens on `signal`; `disposition` is the number of the ABI.
    pub fn set_disposition(&self, signal: u32, disposition: u32) -> Result<(), Errno> {
        let disposition = u8::try_from(disposition)
            .ok()
            .and_then(Disposition::from_number)
            .ok_or(Errno::Inval)?;
        if signal == 0 || signal >= COUNT || signal == KILL || signal == STOP {
            return Err(Errno::Inval);
        }
        self.dispositions[signal as usize].store(disposition as u8, Ordering::Relaxed);
        Ok(())
    }

    /// Delivers a signal.
    pub fn deliver(&self, signal: u32) {
        let disposition = if signal == KILL {
            Disposition::Default
        } else {
            self.disposition(signal)
        };
        match disposition {
            Disposition::Ignore => {}
            Disposition::Catch => {
                self.pending.fetch_or(1 << signal, Ordering::SeqCst);
                self.caught.notify_waiters();
            }
            Disposition::Default if HARMLESS.contains(&signal) => {}
            Disposition::Default => {
                let _ = self
                    .fatal
                    .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
                // A stored permit: the process's task may not be waiting yet.
                self.died.notify_one();
            }
        }
    }

    /// Takes the caught signals.
    pub fn take_pending(&self) -> u32 {
        self.pending.swap(0, Ordering::SeqCst)
    }

    /// The signal that ends the process, if one came.
    pub fn fatal_now(&self) -> Option<u8> {
        match self.fatal.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal as u8),
        }
    }

    /// Completes with the signal that ends the process. Only the process's own task may wait here.
    pub async fn fatal(&self) -> u32 {
        loop {
            match self.fatal.load(Ordering::SeqCst) {
                0 => self.died.notified().await,
                signal => return signal,
            }
        }
    }

    /// Completes when a caught signal waits to be taken.
    pub async fn interrupted(&self) {
        loop {
            let caught = self.caught.notified();
            tokio::pin!(caught);
            caught.as_mut().enable();
            if self.pending.load(Ordering::SeqCst) != 0 {
                return;
            }
            caught.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kill_cannot_be_caught_or_ignored() {
        let signals = Signals::default();
        assert_eq!(signals.set_disposition(KILL, 1), Err(Errno::Inval));
        assert_eq!(signals.set_disposition(15, 3), Err(Errno::Inval));
        assert_eq!(signals.set_disposition(40, 1), Err(Errno::Inval));
    }

    #[test]
    fn a_caught_signal_is_pending_until_taken_and_an_ignored_one_is_lost() {
        let signals = Signals::ignoring(1 << 15);
        signals.set_disposition(2, 2).unwrap();
        signals.deliver(2);
        signals.deliver(15);
        signals.deliver(17);
        assert_eq!(signals.take_pending(), 1 << 2);
        assert_eq!(signals.take_pending(), 0);
        assert_eq!(signals.ignored(), 1 << 15);
    }

    #[tokio::test]
    async fn a_deadly_signal_is_seen_even_if_it_came_before_the_wait() {
        let signals = Signals::default();
        signals.deliver(15);
        assert_eq!(signals.fatal().await, 15);
    }
}
