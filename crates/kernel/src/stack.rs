//! Charges the native stack that a process uses. Compiled code needs one, deep recursion touches up to 8 MiB of it, and
//! its pages stay until the process ends.
//!
//! wasmtime makes the stacks and tells nobody how much of one is in use, so the system is asked which of its pages are
//! there.

use std::sync::Arc;

use super::budget::{Budget, Charge, OverBudget};

/// Bytes of stack that every process may use: they are part of its fixed charge.
const FREE: usize = 64 << 10;
/// Bytes that are charged at a time. A frame that is larger than a page touches each of its pages, so a stretch of this
/// size of which nothing is there is the end.
const STEP: usize = 64 << 10;
/// Bytes that a guest can reach below the start of its stack: [`super::runtime::WASM_STACK_BYTES`] and some of what is
/// there for host functions. All of it is part of the stack's mapping.
const REACH: usize = super::runtime::WASM_STACK_BYTES + (1 << 20);
/// Execution time after which it is worth asking again, nanoseconds: little can be touched in less.
const INTERVAL: u64 = 50_000;

/// How much of its stack a process has used so far.
#[derive(Debug, Default)]
pub struct StackMeter {
    /// Where the stack starts; 0 if that is not known yet.
    top: usize,
    /// Everything from here up is charged.
    low: usize,
    /// Execution time since the last look, nanoseconds.
    unseen: u64,
    charge: Option<Charge>,
}

impl StackMeter {
    /// Charges for what was touched of the stack that starts at `top`, after the process has executed for `spent`
    /// nanoseconds more.
    pub fn settle(&mut self, budget: &Arc<Budget>, top: usize, spent: u64) -> Result<(), OverBudget> {
        self.unseen = self.unseen.saturating_add(spent);
        if top == 0 || self.unseen < INTERVAL {
            return Ok(());
        }
        self.unseen = 0;
        let page = rustix::param::page_size();
        if self.top != top {
            // Another program runs in the process now, on another stack.
            self.charge = None;
            self.top = top;
            self.low = (top & !(page - 1)) - FREE;
        }
        let end = (self.top & !(page - 1)) - REACH;
        while self.low - STEP >= end && is_touched(self.low - STEP, page) {
            match &mut self.charge {
                Some(charge) => charge.grow(STEP as u64)?,
                None => self.charge = Some(budget.charge(STEP as u64)?),
            }
            self.low -= STEP;
        }
        Ok(())
    }
}

/// Whether any page of the step from `start` on is in memory.
fn is_touched(start: usize, page: usize) -> bool {
    let mut present = [0u8; STEP / 4096];
    // SAFETY: the call reads no memory of ours but tells which of these pages are there, whatever they are; `present` has
    // a byte for each, as no page is smaller than 4 KiB.
    #[expect(unsafe_code, reason = "there is no safe call that tells")]
    let result = unsafe {
        libc::mincore(
            std::ptr::without_provenance_mut(start & !(page - 1)),
            STEP,
            present.as_mut_ptr(),
        )
    };
    result == 0 && present.iter().any(|byte| byte & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::super::budget::Limits;
    use super::*;

    #[test]
    fn what_was_touched_is_charged_down_to_the_end() {
        let budget = Budget::new(Limits {
            memory_bytes: 16 << 20,
            ..Limits::default()
        });
        let mut mapping = memmap2::MmapMut::map_anon(REACH + (2 << 20)).unwrap();
        let len = mapping.len();
        let top = mapping.as_ptr().addr() + len - 100;
        let mut meter = StackMeter::default();
        meter.settle(&budget, 0, INTERVAL).unwrap();
        mapping[len - FREE..].fill(1);
        meter.settle(&budget, top, INTERVAL).unwrap();
        assert_eq!(budget.memory_used(), 0, "that much is free");
        mapping[len - (3 << 20)..].fill(1);
        meter.settle(&budget, top, INTERVAL - 1).unwrap();
        assert_eq!(budget.memory_used(), 0, "too soon to look");
        meter.settle(&budget, top, 1).unwrap();
        let charged = budget.memory_used();
        assert!((2 << 20..4 << 20).contains(&charged), "{charged}");
        mapping.fill(1);
        meter.settle(&budget, top, INTERVAL).unwrap();
        assert!(budget.memory_used() <= REACH as u64);
        meter.settle(&budget, top - 100_000, INTERVAL).unwrap();
        drop(meter);
        assert_eq!(budget.memory_used(), 0);
    }
}
