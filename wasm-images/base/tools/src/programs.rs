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
    ("[", Program::Uutils(uu_test::uumain)),
    ("arch", Program::Ours(crate::system::uname)),
    ("awk", Program::Ours(crate::awk::main)),
    ("b2sum", Program::Uutils(uu_b2sum::uumain)),
    ("base32", Program::Uutils(uu_base32::uumain)),
    ("base64", Program::Uutils(uu_base64::uumain)),
    ("basename", Program::Uutils(uu_basename::uumain)),
    ("basenc", Program::Uutils(uu_basenc::uumain)),
    ("cat", Program::Ours(crate::cat::main)),
    ("chgrp", Program::Ours(crate::chown::main)),
    ("chmod", Program::Ours(crate::chmod::main)),
    ("chown", Program::Ours(crate::chown::main)),
    ("cksum", Program::Uutils(uu_cksum::uumain)),
    ("clear", Program::Ours(crate::small::clear)),
    ("cmp", Program::Ours(crate::cmp::main)),
    ("column", Program::Ours(crate::column::main)),
    ("comm", Program::Uutils(uu_comm::uumain)),
    ("cp", Program::Ours(crate::cp::main)),
    ("csplit", Program::Uutils(uu_csplit::uumain)),
    ("curl", Program::Ours(crate::small::curl)),
    ("cut", Program::Uutils(uu_cut::uumain)),
    ("date", Program::Uutils(uu_date::uumain)),
    ("dd", Program::Ours(crate::dd::main)),
    ("df", Program::Ours(crate::df::main)),
    ("diff", Program::Ours(crate::diff::main)),
    ("dir", Program::Uutils(uu_dir::uumain)),
    ("dircolors", Program::Uutils(uu_dircolors::uumain)),
    ("dirname", Program::Uutils(uu_dirname::uumain)),
    ("du", Program::Ours(crate::du::main)),
    ("echo", Program::Uutils(uu_echo::uumain)),
    ("egrep", Program::Ours(crate::grep::main)),
    ("env", Program::Ours(crate::launch::env)),
    ("expand", Program::Uutils(uu_expand::uumain)),
    ("expr", Program::Uutils(uu_expr::uumain)),
    ("factor", Program::Uutils(uu_factor::uumain)),
    ("false", Program::Uutils(uu_false::uumain)),
    ("fgrep", Program::Ours(crate::grep::main)),
    ("file", Program::Ours(crate::file::main)),
    ("find", Program::Ours(crate::find::main)),
    ("fmt", Program::Uutils(uu_fmt::uumain)),
    ("fold", Program::Uutils(uu_fold::uumain)),
    ("free", Program::Ours(crate::system::free)),
    ("gawk", Program::Ours(crate::awk::main)),
    ("grep", Program::Ours(crate::grep::main)),
    ("groups", Program::Ours(crate::id::main)),
    ("gunzip", Program::Ours(crate::gzip::main)),
    ("gzip", Program::Ours(crate::gzip::main)),
    ("hd", Program::Ours(crate::hexdump::hexdump)),
    ("head", Program::Uutils(uu_head::uumain)),
    ("hexdump", Program::Ours(crate::hexdump::hexdump)),
    ("hostname", Program::Ours(crate::system::hostname)),
    ("id", Program::Ours(crate::id::main)),
    ("install", Program::Ours(crate::install::main)),
    ("join", Program::Uutils(uu_join::uumain)),
    ("jq", Program::Ours(crate::jq::main)),
    ("kill", Program::Ours(crate::kill::main)),
    ("less", Program::Ours(crate::pager::main)),
    ("link", Program::Uutils(uu_link::uumain)),
    ("ln", Program::Uutils(uu_ln::uumain)),
    ("logname", Program::Ours(crate::id::main)),
    ("ls", Program::Ours(crate::ls::main)),
    ("mawk", Program::Ours(crate::awk::main)),
    ("md5sum", Program::Uutils(uu_md5sum::uumain)),
    ("mkdir", Program::Ours(crate::mkdir::main)),
    ("mkfifo", Program::Ours(crate::mkfifo::main)),
    ("mktemp", Program::Ours(crate::mktemp::main)),
    ("more", Program::Ours(crate::pager::main)),
    ("mv", Program::Uutils(uu_mv::uumain)),
    ("nice", Program::Ours(crate::launch::nice)),
    ("nl", Program::Uutils(uu_nl::uumain)),
    ("nohup", Program::Ours(crate::launch::nohup)),
    ("nproc", Program::Ours(crate::system::nproc)),
    ("numfmt", Program::Uutils(uu_numfmt::uumain)),
    ("od", Program::Uutils(uu_od::uumain)),
    ("paste", Program::Uutils(uu_paste::uumain)),
    ("patch", Program::Ours(crate::patch::main)),
    ("pathchk", Program::Uutils(uu_pathchk::uumain)),
    ("pr", Program::Uutils(uu_pr::uumain)),
    ("printenv", Program::Uutils(uu_printenv::uumain)),
    ("printf", Program::Uutils(uu_printf::uumain)),
    ("ps", Program::Ours(crate::ps::main)),
    ("ptx", Program::Uutils(uu_ptx::uumain)),
    ("pwd", Program::Uutils(uu_pwd::uumain)),
    ("readlink", Program::Uutils(uu_readlink::uumain)),
    ("realpath", Program::Uutils(uu_realpath::uumain)),
    ("rev", Program::Ours(crate::small::rev)),
    ("rm", Program::Uutils(uu_rm::uumain)),
    ("rmdir", Program::Uutils(uu_rmdir::uumain)),
    ("sed", Program::Ours(crate::sed::main)),
    ("seq", Program::Uutils(uu_seq::uumain)),
    ("setsid", Program::Ours(crate::launch::setsid)),
    ("sha1sum", Program::Uutils(uu_sha1sum::uumain)),
    ("sha224sum", Program::Uutils(uu_sha224sum::uumain)),
    ("sha256sum", Program::Uutils(uu_sha256sum::uumain)),
    ("sha384sum", Program::Uutils(uu_sha384sum::uumain)),
    ("sha512sum", Program::Uutils(uu_sha512sum::uumain)),
    ("shred", Program::Uutils(uu_shred::uumain)),
    ("shuf", Program::Uutils(uu_shuf::uumain)),
    ("sleep", Program::Uutils(uu_sleep::uumain)),
    ("sort", Program::Uutils(uu_sort::uumain)),
    ("split", Program::Uutils(uu_split::uumain)),
    ("stat", Program::Ours(crate::stat::main)),
    ("stdbuf", Program::Ours(crate::launch::stdbuf)),
    ("sum", Program::Uutils(uu_sum::uumain)),
    ("sync", Program::Ours(crate::small::sync)),
    ("tac", Program::Ours(crate::tac::main)),
    ("tail", Program::Uutils(uu_tail::uumain)),
    ("tar", Program::Ours(crate::tar::main)),
    ("tee", Program::Uutils(uu_tee::uumain)),
    ("test", Program::Uutils(uu_test::uumain)),
    ("time", Program::Ours(crate::launch::time)),
    ("timeout", Program::Ours(crate::timeout::main)),
    ("touch", Program::Uutils(uu_touch::uumain)),
    ("tr", Program::Uutils(uu_tr::uumain)),
    ("tree", Program::Ours(crate::tree::main)),
    ("true", Program::Uutils(uu_true::uumain)),
    ("truncate", Program::Uutils(uu_truncate::uumain)),
    ("tsort", Program::Uutils(uu_tsort::uumain)),
    ("tty", Program::Uutils(uu_tty::uumain)),
    ("uname", Program::Ours(crate::system::uname)),
    ("unexpand", Program::Uutils(uu_unexpand::uumain)),
    ("uniq", Program::Uutils(uu_uniq::uumain)),
    ("unlink", Program::Uutils(uu_unlink::uumain)),
    ("uptime", Program::Ours(crate::system::uptime)),
    ("vdir", Program::Uutils(uu_vdir::uumain)),
    ("wc", Program::Uutils(uu_wc::uumain)),
    ("wget", Program::Ours(crate::small::wget)),
    ("which", Program::Ours(crate::which::main)),
    ("whoami", Program::Ours(crate::id::main)),
    ("xargs", Program::Ours(crate::xargs::main)),
    ("xxd", Program::Ours(crate::hexdump::xxd)),
    ("yes", Program::Uutils(uu_yes::uumain)),
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
