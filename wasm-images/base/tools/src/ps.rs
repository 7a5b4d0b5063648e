//! `ps`, from `/proc`.

use std::fs;
use std::io::Write;

use crate::cli::{finish, stdout};

struct Process {
    pid: u32,
    parent: u32,
    state: String,
    command: String,
    name: String,
}

fn processes() -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(pid) = name.parse::<u32>() else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        // The name stands in parentheses and may itself hold any character.
        let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else {
            continue;
        };
        let mut fields = stat[close + 1..].split_whitespace();
        let state = fields.next().unwrap_or("?").to_owned();
        let parent = fields.next().and_then(|ppid| ppid.parse().ok()).unwrap_or(0);
        let short = stat.get(open + 1..close).unwrap_or_default().to_owned();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line
            .split(|b| *b == 0)
            .filter(|w| !w.is_empty())
            .map(String::from_utf8_lossy)
            .collect();
        let command = if words.is_empty() {
            format!("[{short}]")
        } else {
            words.join(" ")
        };
        found.push(Process {
            pid,
            parent,
            state,
            command,
            name: short,
        });
    }
    found.sort_by_key(|process| process.pid);
    found
}

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let flags: String = args
        .iter()
        .skip(1)
        .filter(|w| !w.starts_with("--"))
        .map(String::as_str)
        .collect();
    let mut out = stdout();
    let columns = args
        .iter()
        .position(|word| word == "-o")
        .and_then(|at| args.get(at + 1));
    if let Some(columns) = columns {
        custom(columns, &mut out);
    } else if flags.contains('u') && !flags.starts_with('-') {
        let _ = writeln!(
            out,
            "USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND"
        );
        for p in processes() {
            let _ = writeln!(
                out,
                "root     {:>7}  0.0  0.0      0     0 ?        {:<4} 00:00   0:00 {}",
                p.pid, p.state, p.command
            );
        }
    } else if flags.contains('f') {
        let _ = writeln!(out, "UID          PID    PPID  C STIME TTY          TIME CMD");
        for p in processes() {
            let _ = writeln!(
                out,
                "root     {:>7} {:>7}  0 00:00 ?        00:00:00 {}",
                p.pid, p.parent, p.command
            );
        }
    } else {
        let _ = writeln!(out, "    PID TTY          TIME CMD");
        for p in processes() {
            let _ = writeln!(out, "{:>7} ?        00:00:00 {}", p.pid, p.name);
        }
    }
    finish("ps", out, 0)
}

fn custom(columns: &str, out: &mut impl Write) {
    let columns: Vec<(&str, Option<&str>)> = columns
        .split([',', ' '])
        .filter(|column| !column.is_empty())
        .map(|column| {
            column
                .split_once('=')
                .map_or((column, None), |(key, heading)| (key, Some(heading)))
        })
        .collect();
    if columns
        .iter()
        .any(|(_, heading)| heading.is_none_or(|text| !text.is_empty()))
    {
        let heading = columns
            .iter()
            .map(|(key, heading)| heading.map_or_else(|| key.to_uppercase(), str::to_owned));
        let _ = writeln!(out, "{}", heading.collect::<Vec<_>>().join(" "));
    }
    for p in processes() {
        let fields = columns.iter().map(|(key, _)| match *key {
            "pid" => p.pid.to_string(),
            "ppid" => p.parent.to_string(),
            "comm" | "ucmd" => p.name.clone(),
            "args" | "cmd" | "command" => p.command.clone(),
            "stat" | "state" | "s" => p.state.clone(),
            "user" | "uid" | "ruser" => "root".to_owned(),
            _ => "-".to_owned(),
        });
        let _ = writeln!(out, "{}", fields.collect::<Vec<_>>().join(" "));
    }
}
