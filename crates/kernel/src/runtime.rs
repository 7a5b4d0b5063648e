//! The engine all sandboxes share: wasmtime, its clock ticks, the linked host functions, and the threads guests run on.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use wasmtime::{Config, Engine, InstancePre, Linker, Module};

use super::pool::{Pool, Slot};
use super::process::Process;
use super::ticker::Ticker;

/// How long a guest executes before it lets others run, and how late at most it sees that it was killed.
pub const TICK: Duration = Duration::from_millis(1);
/// Native stack a guest may use. CPython's own recursion limit is reached at about 8 MiB.
pub(super) const WASM_STACK_BYTES: usize = 8 << 20;
/// Native stack of a process's fiber: the guest's and room for host functions. Only touched pages cost memory.
const FIBER_STACK_BYTES: usize = WASM_STACK_BYTES + (2 << 20);

/// Turns of processes between two looks at the timers, while no guest thread is idle. A turn takes up to a [`TICK`]; with
/// tokio's own 61 of them a busy neighbour made every sleep up to a quarter of a second longer.
const TURNS_BETWEEN_TIMERS: u32 = 2;

/// Bytes of linear memory that take longer to give back than a guest thread should be kept: some 10 ms.
pub(super) const LARGE_MEMORY: u64 = 128 << 20;

/// The engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// wasmtime refused this machine or its configuration.
    #[error("cannot start the WebAssembly engine: {0}")]
    Engine(String),
    /// A thread could not be started.
    #[error("cannot start the guest threads: {0}")]
    Threads(#[from] std::io::Error),
}

impl From<wasmtime::Error> for RuntimeError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Engine(format!("{error:#}"))
    }
}

/// The shared engine. Dropping it ends its threads; guests that still run are dropped with them.
pub struct Runtime {
    engine: Engine,
    linker: Linker<Process>,
    /// Slots for short-lived processes. Without it, as where addresses are scarce, each has memory of its own.
    pool: Option<Arc<Pool>>,
    pool_linker: Option<Linker<Process>>,
    /// For processes whose fuel is counted.
    fuel: Option<FuelEngine>,
    /// Engines of foreign programs.
    foreign: ForeignEngines,
    /// Set once the runtime was started.
    threads: OnceLock<Threads>,
}

/// Engines that others have made, whose epochs move forward with those of the runtime.
pub(super) type ForeignEngines = Arc<Mutex<Vec<Engine>>>;

/// The engine whose code counts fuel.
struct FuelEngine {
    engine: Engine,
    linker: Linker<Process>,
}

/// The threads of a runtime.
struct Threads {
    ticker: Ticker,
    /// Guests have threads of their own, so that a busy one never delays the API.
    guests: tokio::runtime::Runtime,
}

impl Runtime {
    /// Starts the engine with `threads` guest threads.
    ///
    /// # Errors
    /// When the machine lacks what the engine needs, or has no threads left.
    pub fn new(threads: usize) -> Result<Arc<Self>, RuntimeError> {
        Self::with_fuel(threads, false)
    }

    /// Starts the engine with `threads` guest threads. With `counts_fuel` there is one more engine, which runs the processes
    /// of execs that have a budget of fuel; modules are loaded, and compiled, for it as well.
    ///
    /// # Errors
    /// As [`Runtime::new`].
    pub fn with_fuel(threads: usize, counts_fuel: bool) -> Result<Arc<Self>, RuntimeError> {
        let runtime = Self::without_threads(counts_fuel)?;
        runtime.start(threads)?;
        Ok(runtime)
    }

    /// The engine without threads: enough to load images, not to run anything. A process that confines itself does so
    /// before it has threads, because what confines a thread does not reach those that are there already.
    ///
    /// # Errors
    /// When the machine lacks what the engine needs.
    pub fn without_threads(counts_fuel: bool) -> Result<Arc<Self>, RuntimeError> {
        let engine = new_engine()?;
        let linker = new_linker(&engine)?;
        let pool = match Pool::new(config()) {
            Ok(pool) => Some(Arc::new(pool)),
            Err(error) => {
                tracing::info!("processes get no memory from a pool: {error:#}");
                None
            }
        };
        let pool_linker = pool.as_ref().map(|pool| new_linker(pool.engine())).transpose()?;
        Ok(Arc::new(Self {
            engine,
            linker,
            pool,
            pool_linker,
            fuel: counts_fuel.then(FuelEngine::new).transpose()?,
            foreign: ForeignEngines::default(),
            threads: OnceLock::new(),
        }))
    }

    /// Starts the clock and `threads` guest threads, unless they were started already.
    ///
    /// # Errors
    /// When the machine has no threads left.
    pub fn start(&self, threads: usize) -> Result<(), RuntimeError> {
        let started = Threads {
            ticker: Ticker::start(
                std::iter::once(&self.engine)
                    .chain(self.fuel_engine())
                    .cloned()
                    .collect(),
                Arc::clone(&self.foreign),
                self.pool.clone(),
            )?,
            guests: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(threads.max(1))
                .thread_name("wisp-guest")
                .event_interval(TURNS_BETWEEN_TIMERS)
                .max_blocking_threads(1)
                .enable_time()
                .build()?,
        };
        if let Err(surplus) = self.threads.set(started) {
            surplus.guests.shutdown_background();
        }
        Ok(())
    }

    /// The wasmtime engine, to compile and load modules with.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Moves the epoch of this engine forward as well, each [`TICK`] while processes run.
    pub(super) fn tick(&self, engine: &Engine) {
        let mut foreign = self.foreign.lock();
        if !foreign.iter().any(|known| Engine::same(known, engine)) {
            foreign.push(engine.clone());
        }
    }

    /// The engines to load modules with.
    pub fn engines(&self) -> Engines {
        Engines {
            on_demand: self.engine.clone(),
            pooled: self.pool.as_ref().map(|pool| pool.engine().clone()),
            fuel: self.fuel_engine().cloned(),
        }
    }

    /// Whether execs may have a budget of fuel.
    pub fn counts_fuel(&self) -> bool {
        self.fuel.is_some()
    }

    /// The engine for processes whose fuel is counted.
    pub(super) fn fuel_engine(&self) -> Option<&Engine> {
        self.fuel.as_ref().map(|fuel| &fuel.engine)
    }

    /// Resolves the imports of a module loaded with [`Engines::on_demand`].
    pub(super) fn instantiate_pre(&self, module: &Module) -> wasmtime::Result<InstancePre<Process>> {
        instantiate_pre(&self.linker, module)
    }

    /// Resolves the imports of a module loaded with [`Engines::pooled`].
    pub(super) fn instantiate_pre_pooled(&self, module: &Module) -> wasmtime::Result<InstancePre<Process>> {
        instantiate_pre(self.pool_linker.as_ref().unwrap_or(&self.linker), module)
    }

    /// Resolves the imports of a module loaded with [`Engines::fuel`].
    pub(super) fn instantiate_pre_fuel(&self, module: &Module) -> wasmtime::Result<InstancePre<Process>> {
        let linker = self.fuel.as_ref().map_or(&self.linker, |fuel| &fuel.linker);
        instantiate_pre(linker, module)
    }

    /// A slot of the pool with the engine for it, if one is free.
    pub(super) fn claim_slot(&self) -> Option<(Slot, &Engine)> {
        let pool = self.pool.as_ref()?;
        Some((pool.claim()?, pool.engine()))
    }

    /// Runs a task of the machine's owner on the guest threads, once one is free: what waits for it waits for them.
    pub fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(threads) = self.threads.get() {
            threads.guests.spawn(task);
        }
    }

    /// Drops what holds `memory` bytes of linear memory. Giving many pages back takes long, and is done on a thread of its
    /// own then, so that a guest thread is free for others.
    pub(super) async fn reclaim(&self, memory: u64, garbage: impl Send + 'static) {
        if memory >= LARGE_MEMORY
            && let Some(threads) = self.threads.get()
        {
            // Should it panic there, that thread says so.
            let _ = threads.guests.spawn_blocking(move || drop(garbage)).await;
        }
    }

    /// Runs a process's task on the guest threads.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Before the start there is nothing to run.
        let Some(threads) = self.threads.get() else { return };
        threads.guests.spawn(threads.ticker.ticked(task));
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            // Not waited for: the last handle may be dropped on an async thread, where blocking is not allowed.
            threads.guests.shutdown_background();
        }
    }
}

/// The engines that modules are loaded with. Code compiled for one is good for the others, but for the one that counts fuel.
#[derive(Clone)]
pub struct Engines {
    on_demand: Engine,
    pooled: Option<Engine>,
    fuel: Option<Engine>,
}

impl Engines {
    /// Engines to compile with; nothing runs on them.
    ///
    /// # Errors
    /// When the machine lacks what an engine needs.
    pub fn for_compiling(counts_fuel: bool) -> Result<Self, RuntimeError> {
        Ok(Self {
            on_demand: new_engine()?,
            pooled: None,
            fuel: counts_fuel.then(new_fuel_engine).transpose()?,
        })
    }

    /// For processes with memory of their own.
    pub fn on_demand(&self) -> &Engine {
        &self.on_demand
    }

    /// For processes with a slot of the pool.
    pub fn pooled(&self) -> Option<&Engine> {
        self.pooled.as_ref()
    }

    /// For processes whose fuel is counted.
    pub fn fuel(&self) -> Option<&Engine> {
        self.fuel.as_ref()
    }

    /// The same engines but for the one that counts fuel.
    #[must_use]
    pub fn without_fuel(self) -> Self {
        Self { fuel: None, ..self }
    }

    /// The engines that code is compiled for, each for itself.
    pub fn compiled_for(&self) -> impl Iterator<Item = &Engine> {
        std::iter::once(&self.on_demand).chain(&self.fuel)
    }

    /// Whether this one of the engines counts fuel.
    pub fn counts_fuel(&self, engine: &Engine) -> bool {
        self.fuel.as_ref().is_some_and(|fuel| Engine::same(fuel, engine))
    }
}

/// Major version of wasmtime: code of another one is not used. A test holds it against the lock file.
const WASMTIME: &str = "48";
/// Number of the settings that code is compiled with. To be changed with [`config`].
const SETTINGS: u32 = 1;

/// Names the machine code that an engine takes: the same in each build of wisp that takes the same code, whether it can
/// compile or not. Code of a processor with other features has the same name; wasmtime looks at them when it loads code.
#[must_use]
pub fn code_key(engine: &Engine) -> String {
    let counts_fuel = wasmtime::Store::new(engine, ()).get_fuel().is_ok();
    let fuel = if counts_fuel { "-fuel" } else { "" };
    let (architecture, system) = (std::env::consts::ARCH, std::env::consts::OS);
    format!("wasmtime{WASMTIME}-{SETTINGS}-{architecture}-{system}{fuel}")
}

fn instantiate_pre(linker: &Linker<Process>, module: &Module) -> wasmtime::Result<InstancePre<Process>> {
    let mut linker = linker.clone();
    linker.define_unknown_imports_as_traps(module)?;
    linker.instantiate_pre(module)
}

/// How many threads guests get: one for each processor, because they do nothing but compute.
#[must_use]
pub fn guest_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// An engine as every runtime has it, without the threads: enough to compile with.
///
/// # Errors
/// When the machine lacks what the engine needs.
pub fn new_engine() -> Result<Engine, RuntimeError> {
    Ok(Engine::new(&config())?)
}

/// An engine whose code counts fuel, as [`new_engine`].
///
/// # Errors
/// As [`new_engine`].
pub fn new_fuel_engine() -> Result<Engine, RuntimeError> {
    Ok(Engine::new(config().consume_fuel(true))?)
}

impl FuelEngine {
    fn new() -> Result<Self, RuntimeError> {
        let engine = new_fuel_engine()?;
        let linker = new_linker(&engine)?;
        Ok(Self { engine, linker })
    }
}

/// All that a module may import.
pub(super) fn new_linker(engine: &Engine) -> wasmtime::Result<Linker<Process>> {
    let mut linker = Linker::new(engine);
    super::preview1::add_to_linker(&mut linker)?;
    super::wisp::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// The engine's configuration. Compiled images are only valid for the same one.
#[must_use]
pub fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        // A snapshot of an interpreter is larger than the default bound of 16 MiB; above it copy-on-write could be lost.
        .memory_guaranteed_dense_image_size(u64::MAX)
        // Nothing reads guest backtraces, and collecting one costs time on every exit (an exit is a trap to wasmtime).
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false);
    #[cfg(feature = "compiler")]
    config.cranelift_opt_level(wasmtime::OptLevel::Speed);
    // Code is good for a build without components as well.
    #[cfg(feature = "component-model")]
    config.wasm_component_model(false);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_code_names_the_version_of_wasmtime_that_is_linked() {
        let lock = include_str!("../../../Cargo.lock");
        let package = lock.split("name = \"wasmtime\"\nversion = \"").nth(1);
        let version = package.and_then(|rest| rest.split('.').next());
        assert_eq!(version, Some(WASMTIME));
    }

    #[test]
    fn key_of_code_tells_whether_it_counts_fuel() {
        let plain = code_key(&new_engine().unwrap());
        let counting = code_key(&new_fuel_engine().unwrap());
        assert_eq!(format!("{plain}-fuel"), counting);
    }
}
