//! What a component may import.

use wasmtime::component::{Linker, Resource, WasmList};
use wasmtime::{Engine, StoreContextMut};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::{cli, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi::{WasiView, p2};
use wasmtime_wasi_io::bindings::wasi::io::poll::Host as _;

use super::filesystem;
use super::process::State;

/// Most pollables of one `poll`, as in preview1.
const MAX_POLLED: usize = 1024;

/// Everything, for the engine.
pub(super) fn new(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    // Streams, polling, clocks, random bytes, standard input and output.
    p2::add_to_linker_proxy_interfaces_async(l)?;
    random::insecure::add_to_linker::<State, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    // The state allows no use of them: no socket is made, no name looked up.
    sockets::instance_network::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::network::add_to_linker::<State, WasiSockets>(
        l,
        &sockets::network::LinkOptions::default(),
        State::sockets,
    )?;
    sockets::tcp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::tcp::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::udp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::udp::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    filesystem::add_to_linker(l)?;
    bound_poll(l)?;
    Ok(linker)
}

/// Makes `poll` refuse lists that are too long: each entry costs host memory, and time at every wake.
fn bound_poll(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance("wasi:io/poll@0.2.12")?.func_wrap_async(
        "poll",
        |mut store: StoreContextMut<'_, State>, (list,): (WasmList<Resource<DynPollable>>,)| {
            Box::new(async move {
                if list.len() > MAX_POLLED {
                    return Err(wasmtime::Error::msg("a poll of too many pollables"));
                }
                let pollables: wasmtime::Result<Vec<_>> = list.iter(&mut store)?.collect();
                Ok((store.data_mut().table.poll(pollables?).await?,))
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
