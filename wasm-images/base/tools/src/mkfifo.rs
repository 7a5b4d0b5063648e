//! `mkfifo`.

use std::path::Path;

use crate::cli::{Spec, Takes, fail, reason};
use crate::mode;

const SPEC: Spec = Spec {
    short: "m:",
    long: &[("mode", "m", Takes::Value)],
    permute: true,
};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) if parsed.operands.is_empty() => return fail("mkfifo", "missing operand", 1),
        Ok(parsed) => parsed,
        Err(message) => return fail("mkfifo", message, 1),
    };
    let umask = wisp_sys::umask(None).unwrap_or(0o022);
    let bits = match parsed.value("m").map(mode::parse) {
        None => 0o666 & !umask,
        Some(Some(mode)) => mode.apply(0o666, false, umask),
        Some(None) => return fail("mkfifo", "invalid mode", 1),
    };
    let mut status = 0;
    for name in &parsed.operands {
        if let Err(error) = wisp_sys::mkfifo(Path::new(name), bits) {
            status = fail(
                "mkfifo",
                format_args!("cannot create fifo '{name}': {}", reason(&error)),
                1,
            );
        }
    }
    status
}
