//! The C header of the Python image is the one that this crate's definitions make.
//!
//! `WISP_RECORD=1 cargo test -p wisp-abi` writes it. The image is built again then.

use std::path::Path;

use wisp_abi::{CATCH, DEFAULT, FUNCTIONS, IGNORE, Kind, NO_HANG, SpawnRequest, Stat};

/// `fork` is not for C: a program that calls it must export `wisp_fork_entry` and its stack pointer.
const NOT_IN_C: &str = "fork";

fn parameter(name: &str, kind: Kind) -> String {
    match kind {
        Kind::U32 => format!("uint32_t {name}"),
        Kind::I32 => format!("int32_t {name}"),
        Kind::U64 => format!("uint64_t {name}"),
        Kind::Count => format!("size_t {name}"),
        Kind::Path => format!("const char *{name}"),
        Kind::Bytes => format!("const void *{name}"),
        Kind::OutU32 => format!("uint32_t *{name}"),
        Kind::OutU32s(count) => format!("uint32_t {name}[{count}]"),
        Kind::OutU64s(count) => format!("uint64_t {name}[{count}]"),
        Kind::OutPairs => format!("uint32_t (*{name})[2]"),
        Kind::OutStat => format!("struct wisp_stat *{name}"),
    }
}

fn header() -> String {
    let mut text = format!(
        r#"/* The import module `wisp`, as docs/abi.md declares it. Every function returns an errno. */
#ifndef WISP_H
#define WISP_H

#include <stddef.h>
#include <stdint.h>

#define WISP_IMPORT(name) __attribute__((import_module("{module}"), import_name(name)))

#define WISP_WAIT_NO_HANG {NO_HANG}u
#define WISP_SPAWN_NEW_GROUP {new_group}u
#define WISP_UNCHANGED UINT32_MAX

enum wisp_disposition {{ WISP_DEFAULT = {DEFAULT}, WISP_IGNORE = {IGNORE}, WISP_CATCH = {CATCH} }};

struct wisp_stat {{
    uint64_t dev, ino, nlink, size, blocks, atime, mtime, ctime;
    uint32_t mode, uid, gid, rdev;
    uint8_t zero[16];
}};
_Static_assert(sizeof(struct wisp_stat) == {size}, "the layout of docs/abi.md");

"#,
        module = wisp_abi::MODULE,
        new_group = SpawnRequest::NEW_GROUP,
        size = Stat::SIZE,
    );
    for function in FUNCTIONS.iter().filter(|function| function.name != NOT_IN_C) {
        let parameters = function.parameters.iter().map(|(name, kind)| parameter(name, *kind));
        let parameters = parameters.collect::<Vec<_>>().join(", ");
        let name = function.name;
        text += &format!("int wisp_{name}({parameters}) WISP_IMPORT(\"{name}\");\n");
    }
    text + "\n#endif\n"
}

#[test]
fn the_c_header_is_made_of_the_definitions() {
    assert_eq!(wisp_abi::UNCHANGED, u32::MAX, "the header says UINT32_MAX");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wasm-images/python-3.13/libc/wisp.h");
    if std::env::var_os("WISP_RECORD").is_some() {
        std::fs::write(&path, header()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(found == header(), "{} is not:\n{}", path.display(), header());
}
