//! Charges a store's linear memory and tables to the sandbox's budget as they grow.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::ResourceLimiter;

use super::budget::Charge;
use super::table::Control;

/// Host bytes of one table element.
const TABLE_ELEMENT_BYTES: u64 = 8;
/// Elements one table may have: well above what compilers emit, far below what would hurt the host.
pub const MAX_TABLE_ELEMENTS: usize = 1 << 18;

/// Tables one module may have.
pub const MAX_TABLES: usize = 4;

/// The limiter of one store: what it grants is charged, and given back when the store is dropped.
pub struct MemoryLimiter {
    charge: Charge,
    /// Told how large the linear memory is.
    control: Arc<Control>,
    /// Whether a growth was refused, which explains a trap that follows.
    refused: bool,
}

impl MemoryLimiter {
    /// Adds growth to `charge`, which may hold the process's fixed overhead already.
    pub fn new(charge: Charge, control: Arc<Control>) -> Self {
        Self {
            charge,
            control,
            refused: false,
        }
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
        let granted = self.grant(desired.saturating_sub(current) as u64);
        if granted {
            self.control.memory_bytes.store(desired as u64, Ordering::Relaxed);
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
        1
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        1
    }
}
