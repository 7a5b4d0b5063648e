//! Exports what `fork` needs of a program (`docs/abi.md`).

fn main() {
    println!("cargo:rustc-link-arg-bins=--export=__stack_pointer");
    println!("cargo:rustc-link-arg-bins=--export-if-defined=wisp_fork_entry");
    println!("cargo:rerun-if-changed=build.rs");
}
