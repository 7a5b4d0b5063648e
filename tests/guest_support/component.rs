//! Makes a component of a program for wasm32-wasip1, as linkers for wasm32-wasip2 do.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::ComponentEncoder;

/// The component of a module: what it imports of preview1 goes through the adapter that the wasmtime project keeps.
pub fn of_module(module: &[u8]) -> Vec<u8> {
    let encoder = ComponentEncoder::default().module(module).and_then(|encoder| {
        encoder.adapter(
            WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        )
    });
    let component = encoder.and_then(|encoder| encoder.validate(true).encode());
    component.unwrap_or_else(|error| panic!("no component can be made of the guest: {error:#}"))
}
