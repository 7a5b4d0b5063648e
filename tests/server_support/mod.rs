//! What tests of the running program share: installed images, servers as child processes, and a client.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod api;
pub mod engine;
pub mod images;
pub mod moved_clock;
pub mod network;
pub mod python;
pub mod server;
pub mod store;
pub mod workers;
