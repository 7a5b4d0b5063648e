//! Attacks by arguments of host calls.

use wasm_encoder::{
    CodeSection, DataSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection,
    Instruction, MemorySection, Module, TypeSection, ValType,
};

use crate::attack::Expected::{Contained, Prints, TimesOut};
use crate::attack::{Attack, How, attack, guest, python_3_13};
use crate::modules::memory;

pub fn attacks() -> Vec<Attack> {
    vec![
        guest("300,000 random calls", "random-calls", Contained).memory(128).within(60),
        guest("lengths that no memory has", "huge-lengths", Prints("refused")).within(10),
        guest("1,024 buffers of all of memory", "big-vectors", TimesOut).within(2),
        attack("every call with -1 everywhere", How::Program(all_ones), Contained).within(10).more(512),
        attack("every call with 0 everywhere", How::Program(zeros), Contained).within(10).more(512),
        attack("every call at the end of memory", How::Program(at_the_end), Contained).within(10).more(512),
        attack("random_get of all of memory in a loop", How::Program(random_of_all), TimesOut).within(1).more(512),
        python_3_13("numbers out of every range", "
import os
for f in (os.lseek, os.ftruncate, os.posix_fallocate, os.pread):
    for n in (-1, 2**31, 2**32 - 1, 2**63 - 1, -2**63):
        try: f(1, n, n) if f in (os.lseek, os.posix_fallocate, os.pread) else f(1, n)
        except (OSError, OverflowError, ValueError, MemoryError): pass
print('over')", Contained)
        .within(10),
    ]
}

/// The functions of WASI preview1 and their parameters: i for 32 bits, I for 64. Those that end the caller are left out,
/// and `poll_oneoff`, which may well wait for ever.
const CALLS: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

fn all_ones() -> Vec<u8> {
    calls(CALLS, -1, -1, 1)
}

fn zeros() -> Vec<u8> {
    calls(CALLS, 0, 0, 1)
}

/// The last byte of a memory of one page.
fn at_the_end() -> Vec<u8> {
    calls(CALLS, 65_535, i64::MAX, 1)
}

fn random_of_all() -> Vec<u8> {
    let whole = 16 << 20;
    calls(&[("random_get", "ii")], 0, whole, i32::MAX)
}

/// A program that calls each function `rounds` times with the same numbers; the last parameter of 32 bits of a call of
/// two gets `long` when that fits, so that lengths can differ from addresses.
fn calls(functions: &[(&str, &str)], short: i32, long: i64, rounds: i32) -> Vec<u8> {
    let mut types = TypeSection::new();
    let mut imports = ImportSection::new();
    for (index, (name, parameters)) in functions.iter().enumerate() {
        let parameters = parameters.bytes().map(|kind| if kind == b'I' { ValType::I64 } else { ValType::I32 });
        types.ty().function(parameters, [ValType::I32]);
        let index = u32::try_from(index).expect("few functions");
        imports.import("wasi_snapshot_preview1", name, EntityType::Function(index));
    }
    let own = u32::try_from(functions.len()).expect("few functions");
    types.ty().function([], []);
    let mut function = Function::new([(1, ValType::I32)]);
    function.instruction(&Instruction::Loop(wasm_encoder::BlockType::Empty));
    for (index, (_, parameters)) in functions.iter().enumerate() {
        for (place, kind) in parameters.bytes().enumerate() {
            let is_length = place == 1 && parameters == &"ii" && i32::try_from(long).is_ok();
            function.instruction(&match kind {
                b'I' => Instruction::I64Const(long),
                _ if is_length => Instruction::I32Const(i32::try_from(long).unwrap_or(short)),
                _ => Instruction::I32Const(short),
            });
        }
        function.instruction(&Instruction::Call(u32::try_from(index).expect("few functions")));
        function.instruction(&Instruction::Drop);
    }
    for instruction in [
        Instruction::LocalGet(0),
        Instruction::I32Const(1),
        Instruction::I32Add,
        Instruction::LocalTee(0),
        Instruction::I32Const(rounds),
        Instruction::I32LtS,
        Instruction::BrIf(0),
        Instruction::End,
        Instruction::End,
    ] {
        function.instruction(&instruction);
    }
    let mut own_functions = FunctionSection::new();
    own_functions.function(own);
    let mut memories = MemorySection::new();
    let mut pages = memory(1);
    if rounds > 1 {
        pages.minimum = 257;
    }
    memories.memory(pages);
    let mut exports = ExportSection::new();
    exports.export("_start", ExportKind::Func, own);
    exports.export("memory", ExportKind::Memory, 0);
    let mut code = CodeSection::new();
    code.function(&function);
    let mut module = Module::new();
    module
        .section(&types)
        .section(&imports)
        .section(&own_functions)
        .section(&memories)
        .section(&exports)
        .section(&code)
        .section(&DataSection::new());
    module.finish()
}
