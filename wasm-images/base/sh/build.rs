//! Exports what the kernel needs to fork the shell (`docs/abi.md`, "fork").

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo:rustc-link-arg-bins=--export=__stack_pointer");
        println!("cargo:rustc-link-arg-bins=--export=wisp_fork_entry");
    }
}
