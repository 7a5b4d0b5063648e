//! Charges a store's linear memory and tables to the sandbox's budget as they grow.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::ResourceLimiter;

use super::budget::{Charge, OverBudget};
use super::table::Control;

/// Host bytes of one table element.
const TABLE_ELEMENT_BYTES: u64 = 8;
/// Elements one table may have: well above what compilers emit, far below what would hurt the host.
pub const MAX_TABLE_ELEMENTS: usize = 1 << 18;

/// Tables one module may have.
pub const MAX_TABLES: usize = 4;

/// How many of each a store may have.
#[derive(Debug, Clone, Copy)]
struct Counts {
    instances: usize,
    tables: usize,
    memories: usize,
}

/// A module is one instance.
const OF_MODULE: Counts = Counts {
    instances: 1,
    tables: MAX_TABLES,
    memories: 1,
};

/// The limiter of one store: what it grants is charged, and given back when the store is dropped.
pub struct MemoryLimiter {
    charge: Charge,
    /// Told how large the linear memory is.
    control: Arc<Control>,
    counts: Counts,
    /// Bytes of all linear memories.
    memory_bytes: u64,
    /// Whether a growth was refused, which explains a trap that follows.
    refused: bool,
}

impl MemoryLimiter {
    /// Adds growth to `charge`, which may hold the process's fixed overhead already.
    pub fn new(charge: Charge, control: Arc<Control>) -> Self {
        Self {
            charge,
            control,
            counts: OF_MODULE,
            memory_bytes: 0,
            refused: false,
        }
    }

    /// Lets the store have more instances and tables than a module may; it still has one memory.
    pub fn allow(&mut self, instances: usize, tables: usize) {
        self.counts = Counts {
            instances,
            tables,
            ..self.counts
        };
    }

    /// Charges `bytes` of host memory that the process may use beside its linear memory.
    pub fn charge(&mut self, bytes: u64) -> Result<(), OverBudget> {
        self.charge.grow(bytes)
    }

    /// Whether a growth was refused so far.
    pub fn refused(&self) -> bool {
        self.refused
    }

    fn grant(&mut self, bytes: u64) -> bool {
        let granted = self.charge.grow(bytes).is_ok();
        self.refused |= !granted;
        granted
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let granted = self.grant(more);
        if granted {
            self.memory_bytes += more;
            self.control.memory_bytes.store(self.memory_bytes, Ordering::Relaxed);
        }
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > MAX_TABLE_ELEMENTS {
            self.refused = true;
            return Ok(false);
        }
        Ok(self.grant(desired.saturating_sub(current) as u64 * TABLE_ELEMENT_BYTES))
    }

    fn instances(&self) -> usize {
        self.counts.instances
    }

    fn tables(&self) -> usize {
        self.counts.tables
    }

    fn memories(&self) -> usize {
        self.counts.memories
    }
}
