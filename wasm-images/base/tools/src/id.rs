//! `id`, `whoami`, `groups`, `logname`: a sandbox has one user, root.

use crate::cli::{Spec, Takes, fail};
use crate::listing::Owners;

const SPEC: Spec = Spec {
    short: "ugGnra",
    long: &[
        ("user", "u", Takes::Nothing),
        ("group", "g", Takes::Nothing),
        ("groups", "G", Takes::Nothing),
        ("name", "n", Takes::Nothing),
        ("real", "r", Takes::Nothing),
    ],
    permute: true,
};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let called = args.first().and_then(|name| name.rsplit('/').next()).unwrap_or("id");
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail(called, message, 1),
    };
    let owners = Owners::read();
    let id = match parsed.operands.first() {
        None => 0,
        Some(name) => match owners.user_id(name) {
            Some(id) => id,
            None => return fail(called, format_args!("'{name}': no such user"), 1),
        },
    };
    let (user, group) = (owners.user(id), owners.group(id));
    let by_name = parsed.has("n");
    match called {
        "whoami" | "logname" => println!("{user}"),
        "groups" => println!("{group}"),
        _ if parsed.has("u") => println!("{}", if by_name { user } else { id.to_string() }),
        _ if parsed.has("g") || parsed.has("G") => println!("{}", if by_name { group } else { id.to_string() }),
        _ => println!("uid={id}({user}) gid={id}({group}) groups={id}({group})"),
    }
    0
}
