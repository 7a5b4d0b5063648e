//! The one table of all programs.

use std::ffi::OsString;

/// What runs a program. Both take the words of the command line with the program's name first.
#[derive(Clone, Copy)]
pub enum Program {
    /// A tool of the uutils project: its messages must be loaded first.
    Uutils(fn(std::vec::IntoIter<OsString>) -> i32),
    /// A tool of this crate.
    Ours(fn(&[String]) -> i32),
}

/// Every program, sorted by name.
#[rustfmt::skip]
pub const PROGRAMS: &[(&str, Program)] = &[
    ("[", Program::Uutils(|args| uu_test::uumain(args))),
    ("arch", Program::Ours(crate::system::uname)),
    ("awk", Program::Ours(crate::awk::main)),
    ("b2sum", Program::Uutils(|args| uu_b2sum::uumain(args))),
    ("base32", Program::Uutils(|args| uu_base32::uumain(args))),
    ("base64", Program::Uutils(|args| uu_base64::uumain(args))),
    ("basename", Program::Uutils(|args| uu_basename::uumain(args))),
    ("basenc", Program::Uutils(|args| uu_basenc::uumain(args))),
    ("cat", Program::Ours(crate::cat::main)),
    ("chgrp", Program::Ours(crate::chown::main)),
    ("chmod", Program::Ours(crate::chmod::main)),
    ("chown", Program::Ours(crate::chown::main)),
    ("cksum", Program::Uutils(|args| uu_cksum::uumain(args))),
    ("clear", Program::Ours(crate::small::clear)),
    ("cmp", Program::Ours(crate::cmp::main)),
    ("column", Program::Ours(crate::column::main)),
    ("comm", Program::Uutils(|args| uu_comm::uumain(args))),
    ("cp", Program::Ours(crate::cp::main)),
    ("csplit", Program::Uutils(|args| uu_csplit::uumain(args))),
    ("curl", Program::Ours(crate::small::curl)),
    ("cut", Program::Uutils(|args| uu_cut::uumain(args))),
    ("date", Program::Uutils(|args| uu_date::uumain(args))),
    ("dd", Program::Ours(crate::dd::main)),
    ("df", Program::Ours(crate::df::main)),
    ("diff", Program::Ours(crate::diff::main)),
    ("dir", Program::Uutils(|args| uu_dir::uumain(args))),
    ("dircolors", Program::Uutils(|args| uu_dircolors::uumain(args))),
    ("dirname", Program::Uutils(|args| uu_dirname::uumain(args))),
    ("du", Program::Ours(crate::du::main)),
    ("echo", Program::Uutils(|args| uu_echo::uumain(args))),
    ("egrep", Program::Ours(crate::grep::main)),
    ("env", Program::Ours(crate::launch::env)),
    ("expand", Program::Uutils(|args| uu_expand::uumain(args))),
    ("expr", Program::Uutils(|args| uu_expr::uumain(args))),
    ("factor", Program::Uutils(|args| uu_factor::uumain(args))),
    ("false", Program::Uutils(|args| uu_false::uumain(args))),
    ("fgrep", Program::Ours(crate::grep::main)),
    ("file", Program::Ours(crate::file::main)),
    ("find", Program::Ours(crate::find::main)),
    ("fmt", Program::Uutils(|args| uu_fmt::uumain(args))),
    ("fold", Program::Uutils(|args| uu_fold::uumain(args))),
    ("free", Program::Ours(crate::system::free)),
    ("gawk", Program::Ours(crate::awk::main)),
    ("grep", Program::Ours(crate::grep::main)),
    ("groups", Program::Ours(crate::id::main)),
    ("gunzip", Program::Ours(crate::gzip::main)),
    ("gzip", Program::Ours(crate::gzip::main)),
    ("hd", Program::Ours(crate::hexdump::hexdump)),
    ("head", Program::Uutils(|args| uu_head::uumain(args))),
    ("hexdump", Program::Ours(crate::hexdump::hexdump)),
    ("hostname", Program::Ours(crate::system::hostname)),
    ("id", Program::Ours(crate::id::main)),
    ("install", Program::Ours(crate::install::main)),
    ("join", Program::Uutils(|args| uu_join::uumain(args))),
    ("jq", Program::Ours(crate::jq::main)),
    ("kill", Program::Ours(crate::kill::main)),
    ("less", Program::Ours(crate::pager::main)),
    ("link", Program::Uutils(|args| uu_link::uumain(args))),
    ("ln", Program::Uutils(|args| uu_ln::uumain(args))),
    ("logname", Program::Ours(crate::id::main)),
    ("ls", Program::Ours(crate::ls::main)),
    ("mawk", Program::Ours(crate::awk::main)),
    ("md5sum", Program::Uutils(|args| uu_md5sum::uumain(args))),
    ("mkdir", Program::Ours(crate::mkdir::main)),
    ("mkfifo", Program::Ours(crate::mkfifo::main)),
    ("mktemp", Program::Ours(crate::mktemp::main)),
    ("more", Program::Ours(crate::pager::main)),
    ("mv", Program::Uutils(|args| uu_mv::uumain(args))),
    ("nice", Program::Ours(crate::launch::nice)),
    ("nl", Program::Uutils(|args| uu_nl::uumain(args))),
    ("nohup", Program::Ours(crate::launch::nohup)),
    ("nproc", Program::Ours(crate::system::nproc)),
    ("numfmt", Program::Uutils(|args| uu_numfmt::uumain(args))),
    ("od", Program::Uutils(|args| uu_od::uumain(args))),
    ("paste", Program::Uutils(|args| uu_paste::uumain(args))),
    ("patch", Program::Ours(crate::patch::main)),
    ("pathchk", Program::Uutils(|args| uu_pathchk::uumain(args))),
    ("pr", Program::Uutils(|args| uu_pr::uumain(args))),
    ("printenv", Program::Uutils(|args| uu_printenv::uumain(args))),
    ("printf", Program::Uutils(|args| uu_printf::uumain(args))),
    ("ps", Program::Ours(crate::ps::main)),
    ("ptx", Program::Uutils(|args| uu_ptx::uumain(args))),
    ("pwd", Program::Uutils(|args| uu_pwd::uumain(args))),
    ("readlink", Program::Uutils(|args| uu_readlink::uumain(args))),
    ("realpath", Program::Uutils(|args| uu_realpath::uumain(args))),
    ("rev", Program::Ours(crate::small::rev)),
    ("rm", Program::Uutils(|args| uu_rm::uumain(args))),
    ("rmdir", Program::Uutils(|args| uu_rmdir::uumain(args))),
    ("sed", Program::Ours(crate::sed::main)),
    ("seq", Program::Uutils(|args| uu_seq::uumain(args))),
    ("setsid", Program::Ours(crate::launch::setsid)),
    ("sha1sum", Program::Uutils(|args| uu_sha1sum::uumain(args))),
    ("sha224sum", Program::Uutils(|args| uu_sha224sum::uumain(args))),
    ("sha256sum", Program::Uutils(|args| uu_sha256sum::uumain(args))),
    ("sha384sum", Program::Uutils(|args| uu_sha384sum::uumain(args))),
    ("sha512sum", Program::Uutils(|args| uu_sha512sum::uumain(args))),
    ("shred", Program::Uutils(|args| uu_shred::uumain(args))),
    ("shuf", Program::Uutils(|args| uu_shuf::uumain(args))),
    ("sleep", Program::Uutils(|args| uu_sleep::uumain(args))),
    ("sort", Program::Uutils(|args| uu_sort::uumain(args))),
    ("split", Program::Uutils(|args| uu_split::uumain(args))),
    ("stat", Program::Ours(crate::stat::main)),
    ("stdbuf", Program::Ours(crate::launch::stdbuf)),
    ("sum", Program::Uutils(|args| uu_sum::uumain(args))),
    ("sync", Program::Ours(crate::small::sync)),
    ("tac", Program::Ours(crate::tac::main)),
    ("tail", Program::Uutils(|args| uu_tail::uumain(args))),
    ("tar", Program::Ours(crate::tar::main)),
    ("tee", Program::Uutils(|args| uu_tee::uumain(args))),
    ("test", Program::Uutils(|args| uu_test::uumain(args))),
    ("time", Program::Ours(crate::launch::time)),
    ("timeout", Program::Ours(crate::timeout::main)),
    ("touch", Program::Uutils(|args| uu_touch::uumain(args))),
    ("tr", Program::Uutils(|args| uu_tr::uumain(args))),
    ("tree", Program::Ours(crate::tree::main)),
    ("true", Program::Uutils(|args| uu_true::uumain(args))),
    ("truncate", Program::Uutils(|args| uu_truncate::uumain(args))),
    ("tsort", Program::Uutils(|args| uu_tsort::uumain(args))),
    ("tty", Program::Uutils(|args| uu_tty::uumain(args))),
    ("uname", Program::Ours(crate::system::uname)),
    ("unexpand", Program::Uutils(|args| uu_unexpand::uumain(args))),
    ("uniq", Program::Uutils(|args| uu_uniq::uumain(args))),
    ("unlink", Program::Uutils(|args| uu_unlink::uumain(args))),
    ("uptime", Program::Ours(crate::system::uptime)),
    ("vdir", Program::Uutils(|args| uu_vdir::uumain(args))),
    ("wc", Program::Uutils(|args| uu_wc::uumain(args))),
    ("wget", Program::Ours(crate::small::wget)),
    ("which", Program::Ours(crate::which::main)),
    ("whoami", Program::Ours(crate::id::main)),
    ("xargs", Program::Ours(crate::xargs::main)),
    ("xxd", Program::Ours(crate::hexdump::xxd)),
    ("yes", Program::Uutils(|args| uu_yes::uumain(args))),
    ("zcat", Program::Ours(crate::gzip::main)),
];

/// The program of this name.
pub fn find(name: &str) -> Option<Program> {
    PROGRAMS
        .binary_search_by_key(&name, |(program, _)| program)
        .ok()
        .map(|index| PROGRAMS[index].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_listed_for_the_image() {
        assert!(PROGRAMS.is_sorted_by(|a, b| a.0 < b.0));
        let listed: Vec<_> = include_str!("../programs.txt").lines().collect();
        let table: Vec<_> = PROGRAMS.iter().map(|(name, _)| format!("/usr/bin/{name}")).collect();
        assert_eq!(listed, table);
    }
}
