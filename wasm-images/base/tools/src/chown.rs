//! `chown`, `chgrp`.

use std::path::{Path, PathBuf};

use wisp_sys::Owner;

use crate::cli::{Spec, Takes, complain, fail, reason};
use crate::listing::Owners;
use crate::walk;

const SPEC: Spec = Spec {
    short: "RhvcfHLP",
    long: &[
        ("recursive", "R", Takes::Nothing),
        ("no-dereference", "h", Takes::Nothing),
        ("reference", "reference", Takes::Value),
    ],
    permute: true,
};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let group_only = args.first().is_some_and(|name| name.ends_with("chgrp"));
    let name = if group_only { "chgrp" } else { "chown" };
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail(name, message, 1),
    };
    let mut operands = parsed.operands.clone();
    let owner = match parsed.value("reference") {
        Some(file) => wisp_sys::stat(Path::new(file), true)
            .map(|stat| Owner {
                uid: (!group_only).then_some(stat.uid),
                gid: Some(stat.gid),
            })
            .map_err(|error| format!("{file}: {}", reason(&error))),
        None if operands.len() < 2 => Err("missing operand".to_owned()),
        None => parse(&operands.remove(0), group_only),
    };
    let owner = match owner {
        Ok(owner) => owner,
        Err(message) => return fail(name, message, 1),
    };
    let follow = !parsed.has("h");
    let mut status = 0;
    for operand in &operands {
        let mut paths = vec![PathBuf::from(operand)];
        if parsed.has("R") {
            paths = walk::tree(&paths[0], |path, error| {
                complain(name, format_args!("{}: {}", path.display(), reason(error)));
            });
        }
        for (index, path) in paths.iter().enumerate() {
            if let Err(error) = wisp_sys::chown(path, follow && index == 0, owner) {
                status = fail(
                    name,
                    format_args!("cannot access '{}': {}", path.display(), reason(&error)),
                    1,
                );
            }
        }
    }
    status
}

fn parse(text: &str, group_only: bool) -> Result<Owner, String> {
    let owners = Owners::read();
    let user = |name: &str| owners.user_id(name).ok_or_else(|| format!("invalid user: '{name}'"));
    let group = |name: &str| owners.group_id(name).ok_or_else(|| format!("invalid group: '{name}'"));
    if group_only {
        return Ok(Owner {
            uid: None,
            gid: Some(group(text)?),
        });
    }
    match text.split_once([':', '.']) {
        None => Ok(Owner {
            uid: Some(user(text)?),
            gid: None,
        }),
        Some((u, g)) => Ok(Owner {
            uid: if u.is_empty() { None } else { Some(user(u)?) },
            gid: if g.is_empty() { None } else { Some(group(g)?) },
        }),
    }
}
