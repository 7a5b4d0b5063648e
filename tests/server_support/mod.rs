//! What tests of the running program share: installed images, servers as child processes, and a client.

pub mod api;
pub mod images;
pub mod server;
