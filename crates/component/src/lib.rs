//! WASI 0.2 command components as programs of a sandbox.
//!
//! A component runs on an engine of its own, in an ordinary process of the kernel (`wisp_kernel::ForeignProgram`): it is in
//! the process table, takes turns, is killed, and uses memory and processor time of its sandbox as a module does. Clocks,
//! random bytes, streams and polling are `wasmtime-wasi`'s; files, standard input and output are the kernel's. There are
//! no sockets.
//!
//! What a guest can make grow on the host is bounded: handles, resources, lists passed to the host, open files, and the
//! pieces that streams move. A fixed charge for all of it is part of what each process costs its sandbox.

mod check;
mod filesystem;
mod linker;
mod process;
mod streams;

use std::sync::Arc;

use async_trait::async_trait;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre;
use wisp_kernel::{ExitStatus, ForeignProcess, ForeignProgram, RuntimeError};

pub use check::{Unfit, check_structure};
use process::State;

/// Core instances that one process may consist of: the program, its adapters, and libraries that are linked at the start.
const MAX_INSTANCES: usize = 64;
/// Tables of all these together.
const MAX_TABLES: usize = 64;
/// Resources of the host that one process may have: open files, streams, and what it polls.
const MAX_RESOURCES: usize = 1024;
/// Handles that one process may have, to resources of the host and of its own.
const MAX_HANDLES: usize = 16 << 10;
/// Bytes that lists and strings take which one call passes to the host.
const MAX_PASSED: usize = 4 << 20;
/// Host memory of a process beyond that of a module: what the bounds above add up to, without what only lasts for a call.
const PROCESS_BYTES: u64 = 1 << 20;
/// How a process ends that cannot run what it should.
const NOT_RUN: ExitStatus = ExitStatus::Exited(126);

/// What components are compiled and loaded with, and linked to.
#[derive(Clone)]
pub struct Components {
    engine: Engine,
    linker: Arc<Linker<State>>,
}

/// A component that is a command, ready to be instantiated.
struct Command {
    engine: Engine,
    command: CommandPre<State>,
}

impl Components {
    /// An engine for components, and all that one may import.
    ///
    /// # Errors
    /// When the machine lacks what the engine needs.
    pub fn new() -> Result<Self, RuntimeError> {
        let mut config = wisp_kernel::engine_config();
        config.wasm_component_model(true);
        let engine = Engine::new(&config)?;
        let linker = Arc::new(linker::new(&engine)?);
        Ok(Self { engine, linker })
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Makes a component a program.
    ///
    /// # Errors
    /// When it imports what nobody provides, or is no command: [`Components::check`] says so more clearly.
    pub fn program(&self, component: &Component) -> wasmtime::Result<Arc<dyn ForeignProgram>> {
        let command = CommandPre::new(self.linker.instantiate_pre(component)?)?;
        Ok(Arc::new(Command {
            engine: self.engine.clone(),
            command,
        }))
    }
}

#[async_trait]
impl ForeignProgram for Command {
    fn engine(&self) -> &Engine {
        &self.engine
    }

    async fn run(&self, mut process: ForeignProcess) -> ExitStatus {
        if process.counts_fuel() {
            process.say_killed("fuel is not counted in components");
            return NOT_RUN;
        }
        process.allow(MAX_INSTANCES, MAX_TABLES);
        let keeper = process.keeper();
        let state = match State::new(process) {
            Ok(state) => state,
            Err(status) => return status,
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(State::limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_hostcall_fuel(MAX_PASSED);
        store.set_max_component_handles(MAX_HANDLES);
        let result = async {
            keeper.note_stack(&mut store).await?;
            let command = self.command.instantiate_async(&mut store).await?;
            command.wasi_cli_run().call_run(&mut store).await
        };
        let status = match result.await {
            Ok(Ok(())) => ExitStatus::Exited(0),
            Ok(Err(())) => ExitStatus::Exited(1),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                // A status is eight bits, as POSIX has it.
                Some(I32Exit(code)) => ExitStatus::Exited(code.to_le_bytes()[0]),
                None => store.data().report(&error),
            },
        };
        // What it has written is still on its way.
        store.data_mut().flush().await;
        keeper.reclaim(store).await;
        status
    }
}
