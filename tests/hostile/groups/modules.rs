//! WebAssembly files that no compiler would write: refused with a reason, or harmless.

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, ElementSection, Elements, EntityType,
    ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType, ImportSection, Instruction,
    MemorySection, Module, RefType, StartSection, TableSection, TableType, TagKind, TagSection, TagType, TypeSection,
    ValType,
};

use crate::attack::Expected::{Contained, Fails};
use crate::attack::{Attack, How, attack, module};
use crate::modules::{Parts, body, bomb, jump_table, memory, nested};

pub fn attacks() -> Vec<Attack> {
    vec![
        module("nothing", Vec::new, &[400]),
        module("a header only", || b"\0asm\x01\0\0\0".to_vec(), &[400]),
        module("an ELF file", || b"\x7fELF\x02\x01\x01\0\0\0\0\0".to_vec(), &[400]),
        module("an empty component", || b"\0asm\x0d\0\x01\0".to_vec(), &[400]),
        module("half a file", || half(&good()), &[400]),
        module("a section longer than the file", || b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f".to_vec(), &[400]),
        module("a number of six bytes", || b"\0asm\x01\0\0\0\x01\x80\x80\x80\x80\x80\x00".to_vec(), &[400]),
        module("noise behind the header", noise, &[400]),
        module("a body of the wrong type", || functions(vec![body(&[Instruction::I32Add])]), &[400]),
        module("a memory of 65,537 pages", || with_memory(|memory| memory.minimum = 65_537), &[400]),
        module("a 64-bit memory", || with_memory(|memory| memory.memory64 = true), &[422]),
        module("a shared memory", || with_memory(|memory| (memory.shared, memory.maximum) = (true, Some(2))), &[422]),
        module("pages of one byte", || with_memory(|memory| memory.page_size_log2 = Some(0)), &[400, 422]),
        module("two memories", two_memories, &[400, 422]),
        module("a table of 2^31 elements", || table(1 << 31), &[400]),
        module("a table of external references", external_table, &[201, 400, 422]),
        module("an imported memory", || imported(EntityType::Memory(memory(1))), &[400, 422]),
        module(
            "an imported global",
            || imported(EntityType::Global(GlobalType { val_type: ValType::I32, mutable: true, shared: false })),
            &[400, 422],
        ),
        module(
            "an imported table",
            || {
                imported(EntityType::Table(TableType {
                    element_type: RefType::FUNCREF,
                    minimum: 1,
                    maximum: None,
                    table64: false,
                    shared: false,
                }))
            },
            &[400, 422],
        ),
        module("an unknown import", || import("env", "launch"), &[400]),
        module("an import of the wrong type", || import("wasi_snapshot_preview1", "fd_write"), &[400]),
        module("an import of an older WASI", || import("wasi_unstable", "fd_write"), &[400]),
        module("no memory", || Parts { exports_memory: false, ..Parts::default() }.encode(), &[400]),
        module("no _start", || Parts { entry: "run", ..Parts::default() }.encode(), &[400]),
        module("a memory exported as a function", memory_is_function, &[400]),
        module("a host function exported again", exported_import, &[201, 400, 422]),
        module("an exception", exception, &[201, 400, 422]),
        module("a tail call", tail_call, &[201, 400, 422]),
        module("a structure", structure, &[400, 422]),
        module("atomic.wait", atomic_wait, &[400, 422]),
        module("a relaxed SIMD instruction", relaxed, &[201, 400, 422]),
        module("100,000 blocks in each other", || functions(vec![nested(100_000)]), &[201, 400]),
        module("a jump with 700,000 targets", || functions(vec![jump_table(700_000)]), &[201, 400]),
        module("a jump with 1,000,000 targets", || functions(vec![jump_table(1_000_000)]), &[400]),
        module("50,000 locals", || functions(vec![locals(50_000)]), &[201, 400]),
        module("2^32 - 1 locals", || functions(vec![locals(u32::MAX)]), &[400]),
        module("1,000,001 functions", || functions(vec![body(&[]); 1_000_001]), &[400]),
        module("work for a register allocator", || functions(vec![bomb(100_000); 2]), &[400]),
        module("90,000 segments of data", segments, &[201, 400]),
        module("10 MB of data", || Parts { data: vec![7; 10_000_000], ..Parts::default() }.encode(), &[201, 400]),
        module("a file too large", || vec![0; 16_000_001], &[413]),
        module("a stack pointer of another type", stack_pointer, &[201, 400, 422]),
        module("a function that is its own element a million times", elements, &[201, 400]),
        attack("a division by zero", How::Program(|| functions(vec![division()])), Fails).within(5).more(512),
        attack("unreachable", How::Program(|| functions(vec![body(&[Instruction::Unreachable])])), Fails)
            .within(5)
            .more(512),
        attack("a start function that traps", How::Program(trapping_start), Fails).within(5).more(512),
        attack("data behind the end of memory", How::Program(data_outside), Fails).within(5).more(512),
        attack("an indirect call of nothing", How::Program(null_call), Fails).within(5).more(512),
        attack("loads all over memory and behind it", How::Program(wild_loads), Contained).within(5).more(512),
    ]
}

fn good() -> Vec<u8> {
    Parts {
        data: vec![7; 1000],
        ..Parts::default()
    }
    .encode()
}

fn half(file: &[u8]) -> Vec<u8> {
    file[..file.len() / 2].to_vec()
}

fn noise() -> Vec<u8> {
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    });
    b"\0asm\x01\0\0\0".iter().copied().chain(noise.take(100_000)).collect()
}

fn functions(functions: Vec<Function>) -> Vec<u8> {
    Parts {
        functions,
        ..Parts::default()
    }
    .encode()
}

fn with_memory(change: fn(&mut wasm_encoder::MemoryType)) -> Vec<u8> {
    let mut parts = Parts::default();
    change(&mut parts.memory);
    parts.encode()
}

fn table(elements: u64) -> Vec<u8> {
    Parts {
        table: Some(elements),
        ..Parts::default()
    }
    .encode()
}

fn import(module: &'static str, name: &'static str) -> Vec<u8> {
    Parts {
        imports: vec![(module, name)],
        ..Parts::default()
    }
    .encode()
}

fn locals(count: u32) -> Function {
    let mut function = Function::new([(count, ValType::I64)]);
    function.instruction(&Instruction::End);
    function
}

fn division() -> Function {
    body(&[
        Instruction::I32Const(1),
        Instruction::I32Const(0),
        Instruction::I32DivS,
        Instruction::Drop,
    ])
}

/// A module section by section. What a test adds comes in the order of the format.
#[derive(Default)]
struct Sections {
    types: TypeSection,
    imports: ImportSection,
    functions: FunctionSection,
    tables: TableSection,
    memories: MemorySection,
    tags: TagSection,
    globals: GlobalSection,
    exports: ExportSection,
    start: Option<u32>,
    elements: ElementSection,
    code: CodeSection,
    data: DataSection,
}

impl Sections {
    /// A program that does nothing, without its exports.
    fn of(function: &Function) -> Self {
        let mut sections = Self::default();
        sections.types.ty().function([], []);
        sections.functions.function(0);
        sections.memories.memory(memory(1));
        sections.code.function(function);
        sections
    }

    /// Exports what a program must export.
    fn exported(mut self, start: u32) -> Self {
        self.exports.export("_start", ExportKind::Func, start);
        self.exports.export("memory", ExportKind::Memory, 0);
        self
    }

    fn encode(self) -> Vec<u8> {
        let mut module = Module::new();
        module.section(&self.types).section(&self.imports).section(&self.functions).section(&self.tables);
        module.section(&self.memories);
        if !self.tags.is_empty() {
            module.section(&self.tags);
        }
        module.section(&self.globals).section(&self.exports);
        if let Some(function_index) = self.start {
            module.section(&StartSection { function_index });
        }
        module.section(&self.elements).section(&self.code).section(&self.data);
        module.finish()
    }
}

fn imported(what: EntityType) -> Vec<u8> {
    let mut sections = Sections::of(&body(&[]));
    sections.imports.import("env", "thing", what);
    sections.exported(0).encode()
}

fn two_memories() -> Vec<u8> {
    let mut sections = Sections::of(&body(&[]));
    sections.memories.memory(memory(1));
    sections.exported(0).encode()
}

fn external_table() -> Vec<u8> {
    let mut sections = Sections::of(&body(&[]));
    sections.tables.table(TableType {
        element_type: RefType::EXTERNREF,
        minimum: 1000,
        maximum: None,
        table64: false,
        shared: false,
    });
    sections.exported(0).encode()
}

fn memory_is_function() -> Vec<u8> {
    let mut sections = Sections::of(&body(&[]));
    sections.exports.export("_start", ExportKind::Memory, 0);
    sections.exports.export("memory", ExportKind::Func, 0);
    sections.encode()
}

fn exported_import() -> Vec<u8> {
    let mut sections = Sections::of(&body(&[]));
    sections.types.ty().function([], [ValType::I32]);
    sections.imports.import("wasi_snapshot_preview1", "sched_yield", EntityType::Function(1));
    sections.exports.export("again", ExportKind::Func, 0);
    sections.exported(1).encode()
}

fn exception() -> Vec<u8> {
    let mut sections = Sections::of(&body(&[Instruction::Throw(0)]));
    sections.tags.tag(TagType {
        kind: TagKind::Exception,
        func_type_idx: 0,
    });
    sections.exported(0).encode()
}

fn tail_call() -> Vec<u8> {
    functions(vec![body(&[Instruction::ReturnCall(0)])])
}

fn structure() -> Vec<u8> {
    let mut sections = Sections::of(&body(&[]));
    sections.types.ty().struct_([]);
    sections.exported(0).encode()
}

fn atomic_wait() -> Vec<u8> {
    functions(vec![body(&[
        Instruction::I32Const(0),
        Instruction::I32Const(0),
        Instruction::I64Const(-1),
        Instruction::MemoryAtomicWait32(wasm_encoder::MemArg {
            offset: 0,
            align: 2,
            memory_index: 0,
        }),
        Instruction::Drop,
    ])])
}

fn relaxed() -> Vec<u8> {
    functions(vec![body(&[
        Instruction::V128Const(1),
        Instruction::V128Const(2),
        Instruction::I8x16RelaxedSwizzle,
        Instruction::Drop,
    ])])
}

fn segments() -> Vec<u8> {
    let mut sections = Sections::of(&body(&[]));
    for at in 0..90_000 {
        sections.data.active(0, &ConstExpr::i32_const(at % 65_536), [1]);
    }
    sections.exported(0).encode()
}

fn stack_pointer() -> Vec<u8> {
    let mut sections = Sections::of(&body(&[]));
    let ty = GlobalType {
        val_type: ValType::F64,
        mutable: true,
        shared: false,
    };
    sections.globals.global(ty, &ConstExpr::f64_const(1.0.into()));
    sections.exports.export("__stack_pointer", ExportKind::Global, 0);
    sections.exports.export("wisp_fork_entry", ExportKind::Global, 0);
    sections.exported(0).encode()
}

fn elements() -> Vec<u8> {
    let mut sections = Sections::of(&body(&[]));
    sections.tables.table(TableType {
        element_type: RefType::FUNCREF,
        minimum: 1_000_000,
        maximum: None,
        table64: false,
        shared: false,
    });
    let same = vec![0u32; 1_000_000];
    sections
        .elements
        .active(Some(0), &ConstExpr::i32_const(0), Elements::Functions(same.into()));
    sections.exported(0).encode()
}

fn trapping_start() -> Vec<u8> {
    let mut sections = Sections::of(&body(&[Instruction::Unreachable]));
    sections.start = Some(0);
    sections.exported(0).encode()
}

fn data_outside() -> Vec<u8> {
    let mut sections = Sections::of(&body(&[]));
    sections.data.active(0, &ConstExpr::i32_const(65_535), [1, 2, 3]);
    sections.exported(0).encode()
}

fn null_call() -> Vec<u8> {
    let call = Instruction::CallIndirect {
        type_index: 0,
        table_index: 0,
    };
    Parts {
        table: Some(4),
        functions: vec![body(&[Instruction::I32Const(3), call])],
        ..Parts::default()
    }
    .encode()
}

/// Reads each page's first word, up to 4 GiB: behind the end it must trap.
fn wild_loads() -> Vec<u8> {
    let mut function = Function::new([(1, ValType::I32)]);
    for instruction in [
        Instruction::Loop(BlockType::Empty),
        Instruction::LocalGet(0),
        Instruction::I32Load(wasm_encoder::MemArg {
            offset: u64::from(u32::MAX),
            align: 0,
            memory_index: 0,
        }),
        Instruction::Drop,
        Instruction::LocalGet(0),
        Instruction::I32Const(1 << 16),
        Instruction::I32Add,
        Instruction::LocalTee(0),
        Instruction::BrIf(0),
        Instruction::End,
        Instruction::End,
    ] {
        function.instruction(&instruction);
    }
    functions(vec![function])
}
