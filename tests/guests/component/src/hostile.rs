//! Attacks on the host by way of WASI 0.2.

use std::hint;
use std::io;

use wasip2::cli::{stdin, stdout};
use wasip2::clocks::monotonic_clock;
use wasip2::filesystem::preopens;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip2::io::poll::{self, Pollable};

/// The attack of this name.
pub fn run(arguments: &[&str]) -> io::Result<()> {
    match arguments {
        // What each call adds to the host's tables is kept.
        ["pollables"] => keep(|| monotonic_clock::subscribe_duration(u64::MAX)),
        ["streams"] => keep(stdout::get_stdout),
        ["directories"] => keep(preopens::get_directories),
        ["files"] => files(),
        ["listings"] => {
            let root = root()?;
            keep(|| root.read_directory())
        }
        // Waits that never end, and waits that end at once.
        ["wait"] => {
            monotonic_clock::subscribe_duration(u64::MAX).block();
            Ok(())
        }
        ["poll-ready"] => poll_ready(),
        ["poll-loop", count] => poll_loop(count.parse().map_err(io::Error::other)?),
        ["poll-many", count] => poll_many(count.parse().map_err(io::Error::other)?),
        ["stdin"] => {
            let bytes = stdin::get_stdin().blocking_read(u64::MAX);
            println!("{:?}", bytes.map(|bytes| bytes.len()));
            Ok(())
        }
        // Lists and numbers that are too long.
        ["read", path] => read(path),
        ["write", path, mebibytes] => write(path, mebibytes.parse().map_err(io::Error::other)?),
        ["long-path"] => {
            let path = "a/".repeat(1 << 20);
            println!(
                "{:?}",
                root()?.stat_at(PathFlags::empty(), &path).map(|_| ()).map_err(name)
            );
            Ok(())
        }
        ["unpermitted"] => {
            let written = stdout::get_stdout().write(&vec![b'x'; 1 << 20]);
            println!("{written:?}");
            Ok(())
        }
        // Work for the engine and the host.
        ["random-loop"] => loop {
            hint::black_box(wasip2::random::random::get_random_bytes(128 << 10));
        },
        ["fill-memory"] => fill_memory(),
        ["recurse"] => {
            println!("{}", recurse(1));
            Ok(())
        }
        other => Err(io::Error::other(format!("no such attack: {other:?}"))),
    }
}

fn keep<T>(mut make: impl FnMut() -> T) -> io::Result<()> {
    let mut kept = Vec::new();
    loop {
        kept.push(make());
        hint::black_box(&kept);
    }
}

fn name(code: ErrorCode) -> String {
    code.name().to_owned()
}

fn root() -> io::Result<Descriptor> {
    let mut all = preopens::get_directories();
    let (root, _) = all.pop().ok_or_else(|| io::Error::other("no directory"))?;
    Ok(root)
}

/// Opens a file again and again until it is refused.
fn files() -> io::Result<()> {
    let root = root()?;
    let mut kept = Vec::new();
    loop {
        let opened = root.open_at(
            PathFlags::empty(),
            "tmp/f",
            OpenFlags::CREATE,
            DescriptorFlags::READ | DescriptorFlags::WRITE,
        );
        match opened {
            Ok(file) => kept.push(file),
            Err(code) => {
                println!("{} after {}", name(code), kept.len());
                return Ok(());
            }
        }
    }
}

fn poll_ready() -> io::Result<()> {
    let ready = monotonic_clock::subscribe_duration(0);
    let never = monotonic_clock::subscribe_duration(u64::MAX);
    loop {
        hint::black_box(poll::poll(&[&ready, &never]));
    }
}

/// Polls of many that never end and one that does at once.
fn poll_loop(count: usize) -> io::Result<()> {
    let never: Vec<Pollable> = (1..count)
        .map(|_| monotonic_clock::subscribe_duration(u64::MAX))
        .collect();
    let ready = monotonic_clock::subscribe_duration(0);
    let all: Vec<&Pollable> = never.iter().chain([&ready]).collect();
    loop {
        hint::black_box(poll::poll(&all));
    }
}

/// One poll of many, all of them the same one.
fn poll_many(count: usize) -> io::Result<()> {
    let one = monotonic_clock::subscribe_duration(0);
    let many: Vec<&Pollable> = vec![&one; count];
    println!("{}", poll::poll(&many).len());
    Ok(())
}

fn read(path: &str) -> io::Result<()> {
    let root = root()?;
    let file = root
        .open_at(PathFlags::empty(), path, OpenFlags::empty(), DescriptorFlags::READ)
        .map_err(|code| io::Error::other(name(code)))?;
    let (bytes, end) = file.read(u64::MAX, 0).map_err(|code| io::Error::other(name(code)))?;
    println!("{} {end}", bytes.len());
    let stream = file.read_via_stream(0).map_err(|code| io::Error::other(name(code)))?;
    println!("{:?}", stream.read(u64::MAX).map(|bytes| bytes.len()));
    println!("{:?}", file.read(1, u64::MAX).map_err(name));
    Ok(())
}

fn write(path: &str, mebibytes: usize) -> io::Result<()> {
    let root = root()?;
    let file = root
        .open_at(PathFlags::empty(), path, OpenFlags::CREATE, DescriptorFlags::WRITE)
        .map_err(|code| io::Error::other(name(code)))?;
    let bytes = vec![1; mebibytes << 20];
    println!("{:?}", file.write(&bytes, 0).map_err(name));
    println!("{:?}", file.write(b"x", u64::MAX).map_err(name));
    println!("{:?}", file.set_size(u64::MAX).map_err(name));
    Ok(())
}

fn fill_memory() -> io::Result<()> {
    let mut block = vec![0u8; 48 << 20];
    let mut value = 0u8;
    loop {
        value = value.wrapping_add(1);
        block.fill(value);
        hint::black_box(&mut block);
    }
}

fn recurse(depth: u64) -> u64 {
    let block = hint::black_box([depth; 64]);
    if block[1] == 0 {
        return 0;
    }
    recurse(depth + 1) + block[7]
}
