//! `mkdir`: the uutils version cannot set permission bits on WASI, so `-m` is done here.

use std::ffi::OsString;
use std::path::Path;

use wisp_sys::Stat;

use crate::cli::{Spec, Takes, fail, reason};
use crate::mode;

const SPEC: Spec = Spec {
    short: "m:pvZ",
    long: &[
        ("mode", "m", Takes::Value),
        ("parents", "p", Takes::Nothing),
        ("verbose", "v", Takes::Nothing),
    ],
    permute: true,
};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let Ok(parsed) = SPEC.parse(args.get(1..).unwrap_or_default()) else {
        return plain(args);
    };
    let Some(text) = parsed.value("m") else {
        return plain(args);
    };
    let Some(mode) = mode::parse(text) else {
        return fail("mkdir", format_args!("invalid mode '{text}'"), 1);
    };
    // With -p a directory that exists keeps its mode.
    let existed = |operand: &&String| Path::new(operand).exists();
    let fresh: Vec<&String> = parsed.operands.iter().filter(|operand| !existed(operand)).collect();
    let mut without: Vec<String> = vec!["mkdir".to_owned()];
    without.extend(
        ["p", "v"]
            .iter()
            .filter(|flag| parsed.has(flag))
            .map(|flag| format!("-{flag}")),
    );
    without.push("--".to_owned());
    without.extend(parsed.operands.iter().cloned());
    let mut status = plain(&without);
    for operand in fresh {
        let path = Path::new(operand);
        if let Ok(stat) = wisp_sys::stat(path, false)
            && stat.file_type() == Stat::DIRECTORY
            && let Err(error) = wisp_sys::chmod(path, false, mode.apply(0o777, true, 0))
        {
            status = fail(
                "mkdir",
                format_args!("cannot set permissions '{operand}': {}", reason(&error)),
                1,
            );
        }
    }
    status
}

fn plain(args: &[String]) -> i32 {
    // Without its messages it still works; it then prints their keys.
    let _ = uucore::locale::setup_localization("mkdir");
    uu_mkdir::uumain(args.iter().map(OsString::from).collect::<Vec<_>>().into_iter())
}
