//! What tests that run guest programs share: building them, and machines to run them on.

#![allow(dead_code, reason = "each test binary uses a part")]

pub mod build;
pub mod machine;
