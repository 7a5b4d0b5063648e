//! Running a program to its end and keeping the state it leaves, of which a pre-initialised program is made.

use std::sync::Arc;

use tokio::sync::oneshot;
use wasmtime::Val;

use super::Kernel;
use super::console::{Console, MAX_WAITING};
use super::cpu_time::CpuTime;
use super::errno::Errno;
use super::exec::{ExecError, ExecRequest, exec_error};
use super::process::{self, Entry};
use super::spawn::{PROCESS_BYTES, Parentage};
use super::table::ExitStatus;

/// What a process left.
pub struct Snapshot {
    /// How it ended.
    pub status: ExitStatus,
    /// Its linear memory.
    pub memory: Vec<u8>,
    /// The values of the globals that were asked for.
    pub globals: Vec<Val>,
}

impl Kernel {
    /// Runs a command on the calling task, alone on its machine, and keeps its memory and the globals its module exports
    /// under these names. It is not in the process table: it can neither be waited for nor start others.
    ///
    /// # Errors
    /// When it cannot be started, or its module has no memory or lacks one of the globals.
    pub async fn run_to_snapshot(
        self: &Arc<Self>,
        mut request: ExecRequest,
        globals: &[String],
    ) -> Result<Snapshot, ExecError> {
        let name = request.argv.first().cloned().unwrap_or_default();
        let failed = |errno| exec_error(&name, errno);
        let charged = |bytes| self.budget.charge(bytes).map_err(|_| failed(Errno::Nomem));
        let stdin = self
            .standard_input(std::mem::take(&mut request.stdin))
            .map_err(failed)?;
        let (console, _closed) = Console::new(Arc::clone(&request.output), charged(MAX_WAITING as u64)?);
        let start = self
            .prepare_exec(request, stdin, &console, charged(PROCESS_BYTES)?)
            .await?;
        let (on_exit, _exit) = oneshot::channel();
        let (control, _) = self.new_control(
            Parentage::of_exec(0, Arc::new(CpuTime::new(None)), None, on_exit),
            0,
            start.image(),
        );
        let mut store = process::new_store(start.into_process(Arc::clone(self), control));
        let instance = process::instantiate(&mut store)
            .await
            .map_err(|_| failed(Errno::Nomem))?;
        let result = process::enter(&mut store, Some(instance), Entry::Launch).await;
        let status = match result {
            Ok(()) => ExitStatus::Exited(0),
            Err(error) => match error.downcast_ref::<process::Ended>() {
                Some(process::Ended::Exit(code)) => ExitStatus::Exited(*code),
                _ => process::report_trap(store.data(), &error),
            },
        };
        let memory = store.data().memory.ok_or_else(|| failed(Errno::Noexec))?;
        let memory = memory.data(&*store).to_vec();
        let mut values = Vec::with_capacity(globals.len());
        for name in globals {
            let global = instance
                .get_global(&mut *store, name)
                .ok_or_else(|| failed(Errno::Noexec))?;
            values.push(global.get(&mut *store));
        }
        Ok(Snapshot {
            status,
            memory,
            globals: values,
        })
    }
}
