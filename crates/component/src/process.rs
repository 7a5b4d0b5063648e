//! The state of a process that runs a component.

use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Trap};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wisp_kernel::{Errno, ExitStatus, ForeignProcess};

use super::streams::{CHUNK, Input, Output};
use super::{MAX_RESOURCES, NOT_RUN, PROCESS_BYTES};

/// Most random bytes of one call.
const MAX_RANDOM: u64 = 128 << 10;
/// Most characters of an error that a message repeats.
const MAX_REASON: usize = 200;

/// The data of a component's store.
pub(super) struct State {
    /// The process as the kernel knows it.
    pub process: ForeignProcess,
    /// Its resources.
    pub table: ResourceTable,
    /// How many of them are open files.
    pub open_files: usize,
    wasi: WasiCtx,
    outputs: [Output; 2],
}

/// Host memory of an argument or a variable beyond its bytes.
const STRING_BYTES: u64 = 64;

/// Why a process cannot begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotStarted {
    /// Arguments and environment are text in WASI 0.2.
    #[error("its arguments and environment must be UTF-8")]
    NotText(#[from] std::string::FromUtf8Error),
    /// The sandbox has no memory left.
    #[error("there is no memory left")]
    NoMemory,
}

impl From<Errno> for NotStarted {
    fn from(_: Errno) -> Self {
        Self::NoMemory
    }
}

impl State {
    /// The state of a process that is about to run; without one, the status it ends with after it was told why.
    pub fn new(process: ForeignProcess) -> Result<Self, ExitStatus> {
        let mut process = process;
        match Self::prepare(&mut process) {
            Ok((wasi, outputs)) => {
                let mut table = ResourceTable::new();
                table.set_max_capacity(MAX_RESOURCES);
                Ok(Self {
                    process,
                    table,
                    open_files: 0,
                    wasi,
                    outputs,
                })
            }
            Err(NotStarted::NoMemory) => Err(process.out_of_memory()),
            Err(error) => {
                process.say_killed(&error.to_string());
                Err(NOT_RUN)
            }
        }
    }

    /// Charges what the process may use, and hands over what it is started with.
    fn prepare(process: &mut ForeignProcess) -> Result<(WasiCtx, [Output; 2]), NotStarted> {
        let strings: Vec<Vec<u8>> = process.arguments().map(<[u8]>::to_vec).collect();
        let (arguments, variables) = (strings, process.environment().collect::<Vec<_>>());
        let held = arguments
            .iter()
            .chain(&variables)
            .map(|string| string.len() as u64 + STRING_BYTES);
        process.charge(PROCESS_BYTES + held.sum::<u64>())?;
        let output = |fd| -> Result<Output, NotStarted> {
            let file = process.file(fd);
            let writer = file.map(|file| process.writer(file, CHUNK as u64)).transpose()?;
            Ok(Output::new(writer))
        };
        let outputs = [output(1)?, output(2)?];
        let mut builder = WasiCtx::builder();
        builder
            .stdin(Input::new(process.file(0)))
            .stdout(outputs[0].clone())
            .stderr(outputs[1].clone())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .allow_blocking_current_thread(false)
            .max_random_size(MAX_RANDOM);
        for argument in arguments {
            builder.arg(String::from_utf8(argument)?);
        }
        for variable in variables {
            let variable = String::from_utf8(variable)?;
            let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
            builder.env(name, value);
        }
        if let Ok(directory) = String::from_utf8(process.working_directory()) {
            builder.initial_cwd(directory);
        }
        Ok((builder.build(), outputs))
    }

    /// Charges the memory of the store.
    pub fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        self.process.limiter()
    }

    /// Says what the process died of, and how that counts.
    pub fn report(&self, error: &wasmtime::Error) -> ExitStatus {
        if let Some(status) = self.process.ended() {
            return status;
        }
        if error.is::<Trap>() || self.process.was_refused_memory() {
            return self.process.report_trap(error);
        }
        let reason: String = error
            .root_cause()
            .to_string()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_REASON)
            .collect();
        self.process.abort(&reason)
    }

    /// Waits until all output is where it should be.
    pub async fn flush(&mut self) {
        for output in &self.outputs {
            output.settled().await;
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}
