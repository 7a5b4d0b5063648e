//! `stat`.

use std::fs;
use std::io::Write;
use std::path::Path;

use wisp_sys::Stat;

use crate::cli::{Spec, Takes, complain, fail, finish, reason, stdout};
use crate::listing::{Owners, format_date, permission_letters};

const SPEC: Spec = Spec {
    short: "Lc:ft",
    long: &[
        ("dereference", "L", Takes::Nothing),
        ("format", "c", Takes::Value),
        ("printf", "printf", Takes::Value),
        ("terse", "t", Takes::Nothing),
        ("file-system", "f", Takes::Nothing),
    ],
    permute: true,
};

const DEFAULT: &str = "  File: %E\n  Size: %-10s\tBlocks: %-10b IO Block: %-6o %F\n\
Device: %Dh/%dd\tInode: %-11i Links: %h\nAccess: (%04a/%A)  Uid: (%5u/%8U)   Gid: (%5g/%8G)\n\
Access: %x\nModify: %y\nChange: %z\n Birth: -\n";
const TERSE: &str = "%n %s %b %f %u %g %D %i %h %t %T %X %Y %Z 0 %o\n";
const TIME: &str = "%Y-%m-%d %H:%M:%S.%N %z";

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) if parsed.operands.is_empty() => return fail("stat", "missing operand", 1),
        Ok(parsed) => parsed,
        Err(message) => return fail("stat", message, 1),
    };
    let mut format = match (parsed.value("printf"), parsed.value("c")) {
        (Some(format), _) => unescape(format),
        (None, Some(format)) => format!("{format}\n"),
        _ if parsed.has("t") => TERSE.to_owned(),
        _ => DEFAULT.to_owned(),
    };
    if parsed.has("f") && !parsed.has("c") {
        "  File: \"%n\"\n    Type: tmpfs\nBlock size: 4096\n".clone_into(&mut format);
    }
    let owners = Owners::read();
    let mut out = stdout();
    let mut status = 0;
    for file in &parsed.operands {
        match wisp_sys::stat(Path::new(file), parsed.has("L")) {
            Ok(stat) => {
                let _ = out.write_all(expand(&format, file, &stat, &owners).as_bytes());
            }
            Err(error) => {
                complain("stat", format_args!("cannot statx '{file}': {}", reason(&error)));
                status = 1;
            }
        }
    }
    finish("stat", out, status)
}

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n")
        .replace("\\t", "\t")
        .replace("\\0", "\0")
        .replace("\\\\", "\\")
}

fn expand(format: &str, file: &str, stat: &Stat, owners: &Owners) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(flag) = chars.next_if(|c| "-0123456789".contains(*c)) {
            flags.push(flag);
        }
        let text = match chars.next() {
            Some('%') | None => "%".to_owned(),
            Some(key) => directive(key, file, stat, owners),
        };
        let width: usize = flags.trim_start_matches(['-', '0']).parse().unwrap_or(0).min(4096);
        out.push_str(&match flags.as_bytes().first() {
            Some(b'-') => format!("{text:<width$}"),
            Some(b'0') => format!("{text:0>width$}"),
            _ => format!("{text:>width$}"),
        });
    }
    out
}

fn directive(key: char, file: &str, stat: &Stat, owners: &Owners) -> String {
    let target = || fs::read_link(file).ok().map(|target| target.display().to_string());
    match key {
        'n' => file.to_owned(),
        'N' => match target().filter(|_| stat.file_type() == Stat::SYMLINK) {
            Some(target) => format!("'{file}' -> '{target}'"),
            None => format!("'{file}'"),
        },
        // Not a directive of GNU's: the name as the default format shows it, without quotes.
        'E' => match target().filter(|_| stat.file_type() == Stat::SYMLINK) {
            Some(target) => format!("{file} -> {target}"),
            None => file.to_owned(),
        },
        's' => stat.size.to_string(),
        'b' => stat.blocks.to_string(),
        'B' => "512".to_owned(),
        'o' => "4096".to_owned(),
        'a' => format!("{:o}", stat.permissions()),
        'A' => permission_letters(stat.mode),
        'f' => format!("{:x}", stat.mode),
        'F' => kind(stat).to_owned(),
        'u' => stat.uid.to_string(),
        'g' => stat.gid.to_string(),
        'U' => owners.user(stat.uid),
        'G' => owners.group(stat.gid),
        'h' => stat.nlink.to_string(),
        'i' => stat.ino.to_string(),
        'd' => stat.dev.to_string(),
        'D' => format!("{:x}", stat.dev),
        't' => format!("{:x}", stat.rdev >> 8),
        'T' => format!("{:x}", stat.rdev & 0xff),
        'm' => "/".to_owned(),
        'x' => format_date(stat.atime, TIME),
        'y' => format_date(stat.mtime, TIME),
        'z' => format_date(stat.ctime, TIME),
        'X' => (stat.atime / 1_000_000_000).to_string(),
        'Y' => (stat.mtime / 1_000_000_000).to_string(),
        'Z' => (stat.ctime / 1_000_000_000).to_string(),
        'w' => "-".to_owned(),
        'W' => "0".to_owned(),
        _ => "?".to_owned(),
    }
}

fn kind(stat: &Stat) -> &'static str {
    match stat.file_type() {
        Stat::DIRECTORY => "directory",
        Stat::SYMLINK => "symbolic link",
        Stat::FIFO => "fifo",
        Stat::CHARACTER_DEVICE => "character special file",
        Stat::BLOCK_DEVICE => "block special file",
        Stat::SOCKET => "socket",
        _ if stat.size == 0 => "regular empty file",
        _ => "regular file",
    }
}
