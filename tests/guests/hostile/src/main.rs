//! Attacks on the kernel's limits, chosen by the first argument.

fn main() {}
