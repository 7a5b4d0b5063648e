//! Mutated layers and modules.

use std::sync::Arc;

use wasmparser::Validator;
use wisp_fuzzing::{fuzz, kind_of, outcome};

use super::layer;
use super::module::{self, State};
use wisp_kernel::{check_module, new_engine};
use wisp_vfs::{Fs, Limits};

/// A module with what the rewriting looks at: imports, memory, globals of each type, exports, data and code.
const MODULE: &[u8] = &[
    0, b'a', b's', b'm', 1, 0, 0, 0, // header
    1, 8, 2, 0x60, 0, 0, 0x60, 1, 0x7f, 0, // types: () -> (), (i32) -> ()
    3, 2, 1, 0, // one function of the first
    5, 3, 1, 0, 1, // a memory of one page
    6, 11, 2, 0x7f, 1, 0x41, 1, 0x0b, 0x7e, 1, 0x42, 2, 0x0b, // two globals that change
    7, 19, 2, 6, b'_', b's', b't', b'a', b'r', b't', 0, 0, 6, b'm', b'e', b'm', b'o', b'r', b'y', 2, 0, // exports
    10, 4, 1, 2, 0, 0x0b, // code
    11, 9, 1, 0, 0x41, 8, 0x0b, 3, 1, 2, 3, // data
    0, 5, 4, b'n', b'a', b'm', b'e', // a custom section
];

/// The rewriting makes valid modules of valid ones, and refuses or changes others without a panic.
#[test]
fn fuzz_module_rewriting() {
    Validator::new().validate_all(MODULE).expect("the seed is valid");
    let words: &[&[u8]] = &[
        b"\x01",
        b"\x0b",
        b"\x41\0\x0b",
        b"\x80\x80\x80\x80\x08",
        b"_start",
        b"memory",
        b"\xff\xff\xff\xff\x0f",
    ];
    fuzz(crate::FUZZ, "module_rewriting", &[MODULE.to_vec()], words, |input| {
        let valid = Validator::new().validate_all(input).is_ok();
        let stripped = module::strip(input);
        let exposed = module::expose_globals(input);
        let has_start = module::exports_function(input, "_start");
        let memory = vec![1; 64 << 10];
        let state = State {
            memory: &memory,
            globals: &[module::GlobalValue::I32(5), module::GlobalValue::I64(-6)],
        };
        let frozen = module::freeze(input, &state, Some(("again", 0)));
        if valid {
            let is_valid = |bytes: &[u8]| Validator::new().validate_all(bytes).map(|_| ());
            let stripped = stripped.as_ref().expect("a valid module has sections");
            is_valid(stripped).expect("stripped");
            if let Ok((exposed, _)) = &exposed {
                is_valid(exposed).expect("exposed");
            }
            assert!(has_start.is_ok(), "a valid module has exports that can be read");
        }
        outcome(&(
            valid,
            stripped.map(|_| ()).map_err(|error| kind_of(&error)),
            exposed.map(|(_, count)| count.min(9)).map_err(|error| kind_of(&error)),
            has_start.map_err(|error| kind_of(&error)),
            frozen.map(|_| ()).map_err(|error| kind_of(&error)),
        ))
    });
}

/// A module that compiles is checked without a panic.
#[test]
fn fuzz_module_check() {
    let engine = new_engine().expect("an engine");
    fuzz(
        crate::FUZZ,
        "module_check",
        &[MODULE.to_vec()],
        &[b"\x01", b"\x0b", b"\x41\0\x0b"],
        |input| match wasmtime::Module::new(&engine, input) {
            Ok(module) => match check_module(&engine, &module) {
                Ok(needs) => outcome(&(0, needs.memory_bytes)),
                Err(unfit) => outcome(&(1, kind_of(&unfit))),
            },
            Err(error) => outcome(&(2, kind_of(&error))),
        },
    );
}

/// A layer is laid over a file system or refused, without a panic and within the quota.
#[test]
fn fuzz_image_layer() {
    let fs = Fs::new(Limits {
        max_bytes: 1 << 30,
        max_inodes: 100,
    });
    fs.create_dir_all(wisp_vfs::ROOT, b"/d/e", 0o755).unwrap();
    fs.symlink(b"d", wisp_vfs::ROOT, b"/l").unwrap();
    let seed = layer::pack_tree(&fs, "/").expect("packed");
    let words: &[&[u8]] = &[b"../", b"/", b"ustar\0", b"5", b"2", b"0", b"77777777777"];
    fuzz(crate::FUZZ, "image_layer", &[seed], words, |input| {
        let fs = Fs::new(Limits {
            max_bytes: 1 << 30,
            max_inodes: 100,
        });
        let mut bytes = input.to_vec();
        for block in bytes
            .chunks_exact_mut(512)
            .filter(|block| block.iter().any(|byte| *byte != 0))
        {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        match layer::apply(&fs, &Arc::new(bytes)) {
            Ok(()) => outcome(&fs.usage().inodes),
            Err(error) => outcome(&kind_of(&error)),
        }
    });
}
