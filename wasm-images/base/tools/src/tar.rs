//! Stub.
/// Stub.
pub fn main(_: &[String]) -> i32 { 1 }
