//! `df`: there is one file system.

use std::io::Write;

use crate::cli::{Spec, Takes, fail, finish, reason, stdout};
use crate::listing::human_size;

const SPEC: Spec = Spec {
    short: "hkmiPTaBH",
    long: &[
        ("human-readable", "h", Takes::Nothing),
        ("inodes", "i", Takes::Nothing),
        ("print-type", "T", Takes::Nothing),
    ],
    permute: true,
};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("df", message, 1),
    };
    for file in &parsed.operands {
        if let Err(error) = wisp_sys::stat(std::path::Path::new(file), true) {
            return fail("df", format_args!("{file}: {}", reason(&error)), 1);
        }
    }
    let fs = match wisp_sys::statfs() {
        Ok(fs) => fs,
        Err(error) => return fail("df", reason(&error), 1),
    };
    let inodes = parsed.has("i");
    let (all, used) = if inodes {
        (fs.inodes, fs.inodes_used)
    } else {
        (fs.bytes, fs.bytes_used)
    };
    let free = all.saturating_sub(used);
    let show = |value: u64| match (inodes, parsed.has("h"), parsed.has("m")) {
        (true, ..) => value.to_string(),
        (_, true, _) => human_size(value),
        (_, _, true) => value.div_ceil(1 << 20).to_string(),
        _ => value.div_ceil(1024).to_string(),
    };
    let percent = if all == 0 {
        0
    } else {
        (u128::from(used) * 100).div_ceil(u128::from(all))
    };
    let (heading, free_heading, use_heading) = match (inodes, parsed.has("h")) {
        (true, _) => ("Inodes", "IFree", "IUse%"),
        (_, true) => ("Size", "Avail", "Use%"),
        _ => ("1K-blocks", "Available", "Use%"),
    };
    let kind = |text: &str| {
        if parsed.has("T") {
            format!("{text:<8} ")
        } else {
            String::new()
        }
    };
    let mut out = stdout();
    let _ = writeln!(
        out,
        "{:<14} {}{heading:>9} {:>9} {free_heading:>9} {use_heading:>4} Mounted on",
        "Filesystem",
        kind("Type"),
        if inodes { "IUsed" } else { "Used" }
    );
    let _ = writeln!(
        out,
        "{:<14} {}{:>9} {:>9} {:>9} {percent:>3}% /",
        "wispfs",
        kind("wispfs"),
        show(all),
        show(used),
        show(free)
    );
    finish("df", out, 0)
}
