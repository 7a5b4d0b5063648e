//! Good and bad uses of WASI 0.2, one for each first argument.

#![expect(clippy::unnecessary_wraps, reason = "all uses are called alike")]

mod hostile;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, hint, thread};

use wasip2::cli::{environment, exit};
use wasip2::sockets::network::{ErrorCode, IpAddressFamily};
use wasip2::sockets::{instance_network, ip_name_lookup, tcp_create_socket, udp_create_socket};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["nothing"] => Ok(()),
        ["tell", ..] => tell(),
        ["round-trip", directory] => round_trip(directory),
        ["cat"] => io::copy(&mut io::stdin().lock(), &mut io::stdout().lock()).map(|_| ()),
        ["fill", path] => fill(path),
        ["grow"] => grow(),
        ["spin"] => loop {
            hint::spin_loop();
        },
        ["sleep", seconds] => sleep(seconds),
        ["flood"] => flood(),
        ["exit", code] => {
            // `exit` of preview1 knows success and failure only, once it is adapted.
            exit::exit_with_code(code.parse::<u8>().unwrap_or(255));
            Ok(())
        }
        ["panic"] => panic!("on purpose"),
        ["random", len] => random(len),
        ["network"] => network(),
        other => hostile::run(other),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What the program is started with.
fn tell() -> io::Result<()> {
    let arguments: Vec<String> = env::args().collect();
    println!("{}", arguments.join("|"));
    println!("{}", env::var("GREETING").unwrap_or_default());
    println!("{}", environment::initial_cwd().unwrap_or_default());
    let year = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map(|since| 1970 + since.as_secs() / 31_557_600);
    println!("{}", year.is_ok_and(|year| (2025..2100).contains(&year)));
    Ok(())
}

/// Does with files what can be done with them, and says what came of it.
fn round_trip(directory: &str) -> io::Result<()> {
    let path = |name: &str| format!("{directory}/{name}");
    fs::create_dir(path("d"))?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path("d/a"))?;
    file.write_all(b"hello, ")?;
    file.write_all(b"world\n")?;
    file.seek(SeekFrom::Start(7))?;
    let mut rest = String::new();
    file.read_to_string(&mut rest)?;
    print!("read {rest}");
    OpenOptions::new()
        .append(true)
        .open(path("d/a"))?
        .write_all(b"more\n")?;
    file.set_len(13)?;
    println!("size {}", file.metadata()?.len());
    fs::rename(path("d/a"), path("d/b"))?;
    fs::hard_link(path("d/b"), path("d/c"))?;
    let mut names: Vec<String> = fs::read_dir(path("d"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    names.sort();
    println!("names {}", names.join(" "));
    fs::remove_file(path("d/c"))?;
    println!("kept {}", fs::read_to_string(path("d/b"))?.trim_end());
    for (what, result) in [
        ("absent", File::open(path("d/absent")).map(|_| ())),
        ("not empty", fs::remove_dir(path("d"))),
        ("exists", fs::create_dir(path("d"))),
        ("directory", fs::write(path("d"), "x")),
    ] {
        println!("{what}: {:?}", result.map_err(|error| error.raw_os_error()));
    }
    Ok(())
}

/// Writes to a file until there is no room, and says how much there was.
fn fill(path: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    let piece = vec![7; 32 << 10];
    let mut total = 0;
    loop {
        match file.write(&piece) {
            Ok(0) => break,
            Ok(written) => total += written,
            Err(error) => {
                println!("{:?} after {} KiB", error.kind(), total >> 10);
                break;
            }
        }
    }
    println!("size {} KiB", file.metadata()?.len() >> 10);
    Ok(())
}

/// Takes memory until there is none.
fn grow() -> io::Result<()> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut piece = Vec::new();
        if piece.try_reserve_exact(1 << 20).is_err() {
            break;
        }
        piece.resize(1 << 20, 1);
        all.push(piece);
    }
    println!("{} MiB", hint::black_box(all).len());
    Ok(())
}

fn sleep(seconds: &str) -> io::Result<()> {
    let seconds = seconds.parse().map_err(io::Error::other)?;
    let started = Instant::now();
    thread::sleep(Duration::from_secs_f64(seconds));
    println!("{}", started.elapsed().as_secs_f64() >= seconds);
    Ok(())
}

fn flood() -> io::Result<()> {
    let line = vec![b'x'; 1 << 16];
    loop {
        io::stdout().write_all(&line)?;
    }
}

fn random(len: &str) -> io::Result<()> {
    let len = len.parse().map_err(io::Error::other)?;
    let bytes = wasip2::random::random::get_random_bytes(len);
    let distinct: std::collections::BTreeSet<u8> = bytes.iter().copied().collect();
    println!("{} {}", bytes.len(), distinct.len() > 1);
    Ok(())
}

/// Tries what a network is needed for.
fn network() -> io::Result<()> {
    let refused = |what: &str, code: Option<ErrorCode>| {
        println!("{what}: {}", code.map_or("allowed", |code| code.name()));
    };
    refused("tcp", tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4).err());
    refused("udp", udp_create_socket::create_udp_socket(IpAddressFamily::Ipv6).err());
    let network = instance_network::instance_network();
    refused(
        "names",
        ip_name_lookup::resolve_addresses(&network, "example.org").err(),
    );
    refused(
        "addresses",
        ip_name_lookup::resolve_addresses(&network, "127.0.0.1").err(),
    );
    Ok(())
}
