//! What the machine is: `uname`, `arch`, `hostname`, `nproc`, `free`, `uptime`.

use std::fs;

use crate::cli::{Spec, Takes, fail};
use crate::listing::human_size;

/// The processor a sandbox has.
const MACHINE: &str = "wasm32";

const UNAME: Spec = Spec {
    short: "asnrvmpio",
    long: &[
        ("all", "a", Takes::Nothing),
        ("kernel-name", "s", Takes::Nothing),
        ("nodename", "n", Takes::Nothing),
        ("kernel-release", "r", Takes::Nothing),
        ("kernel-version", "v", Takes::Nothing),
        ("machine", "m", Takes::Nothing),
        ("operating-system", "o", Takes::Nothing),
    ],
    permute: true,
};

fn read(path: &str, otherwise: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| otherwise.to_owned(), |text| text.trim().to_owned())
}

fn node_name() -> String {
    read("/proc/sys/kernel/hostname", &read("/etc/hostname", "localhost"))
}

/// `uname` and `arch`.
pub fn uname(args: &[String]) -> i32 {
    if args.first().is_some_and(|name| name.ends_with("arch")) {
        println!("{MACHINE}");
        return 0;
    }
    let parsed = match UNAME.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("uname", message, 1),
    };
    let all = parsed.has("a");
    let fields = [
        ("s", read("/proc/sys/kernel/ostype", "Linux")),
        ("n", node_name()),
        ("r", read("/proc/sys/kernel/osrelease", "6.1.0-wisp")),
        ("v", "#1 wisp".to_owned()),
        ("m", MACHINE.to_owned()),
        ("p", MACHINE.to_owned()),
        ("i", MACHINE.to_owned()),
        ("o", "GNU/Linux".to_owned()),
    ];
    let wanted = |key: &str| if all { key != "p" && key != "i" } else { parsed.has(key) };
    let mut shown: Vec<&str> = fields
        .iter()
        .filter(|(key, _)| wanted(key))
        .map(|(_, text)| text.as_str())
        .collect();
    if parsed.options.is_empty() {
        shown = vec![&fields[0].1];
    }
    println!("{}", shown.join(" "));
    0
}

/// `hostname`: shows the name; setting it is refused.
pub fn hostname(args: &[String]) -> i32 {
    match args.get(1).map(String::as_str) {
        Some("-i" | "-I" | "--ip-address" | "--all-ip-addresses") => println!("127.0.0.1"),
        Some(name) if !name.starts_with('-') => {
            return fail(
                "hostname",
                format_args!("the name cannot be changed to '{name}' from inside the sandbox"),
                1,
            );
        }
        _ => println!("{}", node_name()),
    }
    0
}

/// `nproc`.
pub fn nproc(_: &[String]) -> i32 {
    let cpus = read("/proc/cpuinfo", "")
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    println!("{}", cpus.max(1));
    0
}

/// `free`.
pub fn free(args: &[String]) -> i32 {
    let info = read("/proc/meminfo", "");
    let kib = |name: &str| -> u64 {
        let line = info
            .lines()
            .find(|line| line.starts_with(name) && line[name.len()..].starts_with(':'));
        line.and_then(|line| line.split_whitespace().nth(1))
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    };
    let flags: String = args.iter().skip(1).map(String::as_str).collect();
    let show = |kib: u64| {
        if flags.contains('h') {
            format!("{}i", human_size(kib.saturating_mul(1024)))
        } else if flags.contains('g') {
            (kib >> 20).to_string()
        } else if flags.contains('m') {
            (kib >> 10).to_string()
        } else if flags.contains('b') {
            kib.saturating_mul(1024).to_string()
        } else {
            kib.to_string()
        }
    };
    let (total, free) = (kib("MemTotal"), kib("MemFree"));
    let available = kib("MemAvailable").max(free);
    println!(
        "{:>19} {:>11} {:>11} {:>11} {:>11} {:>11}",
        "total", "used", "free", "shared", "buff/cache", "available"
    );
    println!(
        "Mem: {:>14} {:>11} {:>11} {:>11} {:>11} {:>11}",
        show(total),
        show(total.saturating_sub(free)),
        show(free),
        show(0),
        show(0),
        show(available)
    );
    println!("Swap: {:>13} {:>11} {:>11}", show(0), show(0), show(0));
    0
}

/// `uptime`.
pub fn uptime(args: &[String]) -> i32 {
    let seconds: f64 = read("/proc/uptime", "0")
        .split_whitespace()
        .next()
        .and_then(|s| s.parse().ok())
        .unwrap_or(0.0);
    let minutes = (seconds / 60.0) as u64;
    if args.iter().any(|word| word == "-p" || word == "--pretty") {
        println!("up {} hours, {} minutes", minutes / 60, minutes % 60);
        return 0;
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64);
    let load = read("/proc/loadavg", "0.00 0.00 0.00");
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    println!(
        " {} up {:>2}:{:02},  0 users,  load average: {}",
        crate::listing::format_date(now, "%T"),
        minutes / 60,
        minutes % 60,
        load.join(", ")
    );
    0
}
