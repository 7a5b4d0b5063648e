//! The `wisp` program as its users meet it: `wisp serve` as a process of its own, reached over HTTP, and the other
//! subcommands.

#![allow(clippy::duplicate_mod, reason = "the tests of Python are there for each version")]

mod bad_requests;
mod clients;
mod command_line;
mod copy;
mod cpython;
mod durability;
mod files;
mod fuel;
mod full_disk;
mod interactive;
mod isolation;
mod keys;
mod lifecycle;
mod limits;
mod load;
mod providers;
mod python;
mod python_3_13;
#[path = "../server_support/mod.rs"]
mod server_support;
mod setting;
mod simple_commands;
mod stuck_thread;
mod wisp_command;
mod workers;

use server_support::{api, images, server};
