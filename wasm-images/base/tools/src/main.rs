//! The command-line tools of the base image as one program: `argv[0]` says which, or `tools NAME ARGUMENT…`.

mod awk;
mod cat;
mod chmod;
mod chown;
mod cli;
mod cmp;
mod column;
mod cp;
mod dd;
mod df;
mod diff;
mod du;
mod file;
mod find;
mod glob;
mod grep;
mod gzip;
mod hexdump;
mod id;
mod input;
mod install;
mod jq;
mod kill;
mod launch;
mod listing;
mod ls;
mod matcher;
mod mkdir;
mod mkfifo;
mod mktemp;
mod mode;
mod pager;
mod patch;
mod posix_regex;
mod programs;
mod ps;
mod sed;
mod small;
mod stat;
mod system;
mod tac;
mod tar;
mod timeout;
mod tree;
mod walk;
mod which;
mod xargs;

use std::ffi::OsString;
use std::io::Write;

use programs::{PROGRAMS, Program};

fn main() {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let mut name = base_name(args.first());
    if let Err(error) = wisp_sys::enter_working_directory() {
        // Going on at "/" would make `rm -r *` mean another directory's files.
        let status = cli::fail(
            &name,
            format_args!("cannot enter the working directory: {}", cli::reason(&error)),
            1,
        );
        std::process::exit(status);
    }
    if name == "tools" {
        if args.len() < 2 {
            list();
            return;
        }
        args.remove(0);
        name = base_name(args.first());
    }
    let status = match programs::find(&name) {
        Some(Program::Ours(run)) => {
            let words: Vec<String> = args.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            run(&words)
        }
        Some(Program::Uutils(run)) => {
            let messages = match name.as_str() {
                "[" => "test",
                "dir" | "vdir" => "ls",
                other => other,
            };
            // Without its messages a tool still works; it then prints their keys.
            let _ = uucore::locale::setup_localization(messages);
            args[0] = OsString::from(&name);
            run(args.into_iter())
        }
        None => cli::fail("tools", format_args!("{name}: there is no such program"), 127),
    };
    let _ = std::io::stdout().flush();
    std::process::exit(status);
}

fn base_name(path: Option<&OsString>) -> String {
    let path = path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

fn list() {
    let mut out = cli::stdout();
    for (name, _) in PROGRAMS {
        let _ = writeln!(out, "{name}");
    }
    cli::finish("tools", out, 0);
}
