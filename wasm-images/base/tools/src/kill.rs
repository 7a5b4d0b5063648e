//! `kill`, the program: by number. (The shell has its own, which knows jobs.)

use wisp_sys::Signal;

use crate::cli::{complain, fail, reason};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let mut words = args.get(1..).unwrap_or_default();
    let mut signal = Some(Signal::TERM);
    match words.first().map(String::as_str) {
        Some("-l" | "-L" | "--list" | "--table") => return list(&words[1..]),
        Some("-s" | "-n" | "--signal") => {
            let Some(name) = words.get(1) else {
                return fail("kill", "option requires an argument -- 's'", 1);
            };
            match named(name) {
                Some(found) => signal = found,
                None => return fail("kill", format_args!("{name}: invalid signal"), 1),
            }
            words = &words[2..];
        }
        Some("--") | None => {}
        Some(word) if word.starts_with('-') => {
            match named(&word[1..]) {
                Some(found) => signal = found,
                None => return fail("kill", format_args!("{}: invalid signal", &word[1..]), 1),
            }
            words = &words[1..];
        }
        Some(_) => {}
    }
    if words.first().is_some_and(|word| word == "--") {
        words = &words[1..];
    }
    if words.is_empty() {
        return fail("kill", "usage: kill [-s SIGNAL | -SIGNAL] PID...", 1);
    }
    let mut status = 0;
    for word in words {
        let result = word.parse().map_err(|_| "arguments must be process numbers".to_owned());
        let result = result.and_then(|pid| wisp_sys::kill(pid, signal).map_err(|error| reason(&error)));
        if let Err(message) = result {
            complain("kill", format_args!("({word}) - {message}"));
            status = 1;
        }
    }
    status
}

/// A signal by name or number; `Some(None)` is signal 0, which only tests.
#[allow(clippy::option_option, reason = "no such name, and no signal, are not the same")]
fn named(name: &str) -> Option<Option<Signal>> {
    if name == "0" {
        Some(None)
    } else {
        Signal::from_name(name).map(Some)
    }
}

fn list(words: &[String]) -> i32 {
    if words.is_empty() {
        let names: Vec<_> = Signal::all().map(Signal::name).collect();
        println!("{}", names.join(" "));
        return 0;
    }
    for word in words {
        match word.parse::<u32>() {
            // A status of a killed process stands for its signal.
            Ok(number) => match Signal::from_number(if number > 128 { number - 128 } else { number }) {
                Some(signal) => println!("{}", signal.name()),
                None => return fail("kill", format_args!("{word}: invalid signal"), 1),
            },
            Err(_) => match Signal::from_name(word) {
                Some(signal) => println!("{}", signal.number()),
                None => return fail("kill", format_args!("{word}: invalid signal"), 1),
            },
        }
    }
    0
}
