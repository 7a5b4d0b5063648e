//! Warm slots: the memory, the table and the stack of a process that has ended, kept for the next one.
//!
//! Mapping and unmapping them for each process, and faulting their pages in again, is a good part of what a short command
//! costs. A slot keeps its mappings, and [`KEPT_MEMORY`] of its memory as pages that wasmtime resets in place. There are few
//! slots: a process that finds none free gets memory of its own, so that nobody can use them up for the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use wasmtime::{Config, Enabled, Engine, PoolingAllocationConfig};
#[cfg(feature = "compiler")]
use wasmtime::{Instance, Module, Store};

use super::limiter::{MAX_TABLE_ELEMENTS, MAX_TABLES};

/// Processes that have a slot at the same time. Without a compiler there is no module to clear slots with: then there are
/// few, so that what they keep is little.
const SLOTS: u32 = if cfg!(feature = "compiler") { 64 } else { 4 };
/// Slots beyond those: a process gives its claim back a moment before wasmtime has taken its memory back.
const SPARE_SLOTS: u32 = SLOTS;
/// Bytes of a slot's memory that stay resident, at most: what a Python program of one line writes to.
const KEPT_MEMORY: usize = 1 << 20;
/// Bytes of a slot's tables that stay resident.
const KEPT_TABLE: usize = 16 << 10;
/// Bytes of a slot's stack that stay resident.
const KEPT_STACK: usize = 16 << 10;
/// Bytes of a slot's memory at most: all that a 32-bit memory can have, but for a page.
const SLOT_MEMORY: usize = 0xffff << 16;
/// A module with a memory of one page, and nothing else: it clears a slot. With as large a memory as there can be, making
/// it writable in all slots at once would go beyond `RLIMIT_DATA`.
#[cfg(feature = "compiler")]
const CLEARING_MODULE: &[u8] = b"\0asm\x01\0\0\0\x05\x03\x01\0\x01\x07\x0a\x01\x06memory\x02\0";

/// The slots, and the engine whose stores use them.
pub struct Pool {
    engine: Engine,
    #[cfg(feature = "compiler")]
    clearing: Module,
    free: Arc<AtomicU32>,
    /// Whether a process has had a slot since the slots were last cleared.
    used: AtomicBool,
}

/// The right to have one instance in the pool. Given back on drop.
#[derive(Debug)]
pub struct Slot(Arc<AtomicU32>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Pool {
    /// A pool for modules compiled with `config`.
    ///
    /// # Errors
    /// When the addresses for it are not to be had: half a TiB of them.
    pub fn new(mut config: Config) -> wasmtime::Result<Self> {
        let total = SLOTS + SPARE_SLOTS;
        let tables = u32::try_from(MAX_TABLES)?;
        let mut slots = PoolingAllocationConfig::new();
        slots
            .total_core_instances(total)
            .total_memories(total)
            .max_memory_size(SLOT_MEMORY)
            .total_stacks(total)
            .total_tables(total * tables)
            .max_tables_per_module(tables)
            .table_elements(MAX_TABLE_ELEMENTS)
            // The most recently used slot is the warmest; a slot never used is taken only when there is no other.
            .max_unused_warm_slots(0)
            .linear_memory_keep_resident(KEPT_MEMORY)
            .table_keep_resident(KEPT_TABLE)
            .async_stack_keep_resident(KEPT_STACK)
            .pagemap_scan(Enabled::Auto);
        config
            .allocation_strategy(slots)
            // A stack goes from one sandbox to another; and without this its pages would never be given back.
            .async_stack_zeroing(true);
        // It compiles nothing but the clearing module, and must start no threads for that: see `Runtime::without_threads`.
        #[cfg(feature = "compiler")]
        config.parallel_compilation(false);
        let engine = Engine::new(&config)?;
        Ok(Self {
            #[cfg(feature = "compiler")]
            clearing: Module::new(&engine, CLEARING_MODULE)?,
            engine,
            free: Arc::new(AtomicU32::new(SLOTS)),
            used: AtomicBool::new(false),
        })
    }

    /// The engine for modules whose instances are to have slots.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// A slot, if one is free.
    pub fn claim(&self) -> Option<Slot> {
        let claimed = self
            .free
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(1));
        claimed.ok()?;
        self.used.store(true, Ordering::SeqCst);
        Some(Slot(Arc::clone(&self.free)))
    }

    /// Gives the memory that free slots keep back to the system, if any was used since the last time.
    #[cfg(not(feature = "compiler"))]
    #[expect(clippy::unused_self, reason = "as the other one")]
    pub fn clear(&self) {}

    /// Gives the memory that free slots keep back to the system, if any was used since the last time.
    #[cfg(feature = "compiler")]
    pub fn clear(&self) {
        if !self.used.swap(false, Ordering::SeqCst) {
            return;
        }
        // All at once, or the same slot would be cleared again and again. Processes that start meanwhile go without.
        let claims: Vec<Slot> = std::iter::from_fn(|| self.claim()).collect();
        self.used.store(false, Ordering::SeqCst);
        let cleared = (0..claims.len() + SPARE_SLOTS as usize).map_while(|_| self.clear_one().ok());
        let cleared: Vec<Store<()>> = cleared.collect();
        drop(cleared);
        drop(claims);
    }

    /// Takes the next slot and empties it. The slot is free again when the store is dropped.
    #[cfg(feature = "compiler")]
    fn clear_one(&self) -> wasmtime::Result<Store<()>> {
        let mut store = Store::new(&self.engine, ());
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = Instance::new(&mut store, &self.clearing, &[])?;
        if let Some(memory) = instance.get_memory(&mut store, "memory") {
            let start = memory.data_ptr(&store);
            // SAFETY: `start..start + SLOT_MEMORY` is reserved for this slot, which nobody else has. It is an anonymous
            // private mapping (the module has no data): what the instance can reach is all zeros, so that dropping its pages
            // changes nothing, and what lies behind is out of reach of all until the memory grows, when it has to be zeros.
            #[expect(unsafe_code, reason = "there is no safe call that drops pages and keeps the mapping")]
            let _ = unsafe { rustix::mm::madvise(start.cast(), SLOT_MEMORY, rustix::mm::Advice::LinuxDontNeed) };
        }
        Ok(store)
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::Memory;

    use super::*;
    use crate::runtime::config;

    fn pool() -> Pool {
        Pool::new(config()).unwrap()
    }

    /// A process with nothing but 16 pages of memory, in a slot.
    fn process(pool: &Pool) -> (Store<Option<Slot>>, Memory) {
        let wasm = b"\0asm\x01\0\0\0\x05\x03\x01\0\x10\x07\x0a\x01\x06memory\x02\0";
        let module = Module::new(pool.engine(), wasm).unwrap();
        let mut store = Store::new(pool.engine(), pool.claim());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        (store, memory)
    }

    /// How many of the pages from `start` are in memory.
    fn resident(start: *const u8, pages: usize) -> usize {
        let mut present = vec![0u8; pages];
        let len = pages * rustix::param::page_size();
        // SAFETY: the pool keeps these addresses, and `present` has a byte for each page.
        #[expect(unsafe_code, reason = "there is no safe call that tells")]
        let result = unsafe { libc::mincore(start.cast_mut().cast(), len, present.as_mut_ptr()) };
        assert_eq!(result, 0);
        present.into_iter().filter(|byte| byte & 1 == 1).count()
    }

    #[test]
    fn slots_are_limited_and_given_back() {
        let pool = pool();
        for _ in 0..3 {
            let slots: Vec<Slot> = std::iter::from_fn(|| pool.claim()).collect();
            assert_eq!(slots.len(), SLOTS as usize);
        }
    }

    #[test]
    fn a_slot_keeps_its_pages_until_the_pool_is_cleared() {
        let pool = pool();
        let (mut store, memory) = process(&pool);
        let (start, pages) = (
            memory.data_ptr(&store),
            memory.data_size(&store) / rustix::param::page_size(),
        );
        memory.data_mut(&mut store).fill(1);
        drop(store);
        assert_eq!(resident(start, pages), pages);
        let (store, memory) = process(&pool);
        assert_eq!(memory.data_ptr(&store), start, "the warmest slot comes first");
        assert!(memory.data(&store).iter().all(|byte| *byte == 0));
        drop(store);
        pool.clear();
        assert_eq!(resident(start, pages), 0);
        // What had no processes since is not cleared again, and goes on to work.
        pool.clear();
        let (store, memory) = process(&pool);
        assert!(memory.data(&store).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn clearing_leaves_running_processes_alone() {
        let pool = pool();
        let (mut store, memory) = process(&pool);
        memory.data_mut(&mut store).fill(1);
        pool.clear();
        assert!(memory.data(&store).iter().all(|byte| *byte == 1));
    }
}
