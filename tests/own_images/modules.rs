//! Modules no compiler would write, and the smallest good one.

use std::borrow::Cow;

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function, FunctionSection,
    ImportSection, Instruction, MemorySection, MemoryType, Module, RefType, TableSection, TableType, TypeSection,
    ValType,
};

/// What a module consists of.
pub struct Parts {
    /// Imported functions without parameters and results.
    pub imports: Vec<(&'static str, &'static str)>,
    pub table: Option<u64>,
    pub memory: MemoryType,
    /// Bodies; the first is the exported one.
    pub functions: Vec<Function>,
    /// Its exported function.
    pub entry: &'static str,
    pub exports_memory: bool,
    /// Bytes at the start of its memory.
    pub data: Vec<u8>,
}

impl Default for Parts {
    /// A program that does nothing, well.
    fn default() -> Self {
        Self {
            imports: Vec::new(),
            table: None,
            memory: memory(1),
            functions: vec![body(&[])],
            entry: "_start",
            exports_memory: true,
            data: Vec::new(),
        }
    }
}

/// A memory of this many pages.
pub fn memory(minimum: u64) -> MemoryType {
    MemoryType {
        minimum,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    }
}

/// A function without locals.
pub fn body(instructions: &[Instruction]) -> Function {
    let mut function = Function::new([]);
    for instruction in instructions {
        function.instruction(instruction);
    }
    function.instruction(&Instruction::End);
    function
}

/// Blocks in blocks.
pub fn nested(depth: usize) -> Function {
    let mut function = Function::new([]);
    for _ in 0..depth {
        function.instruction(&Instruction::Block(BlockType::Empty));
    }
    for _ in 0..=depth {
        function.instruction(&Instruction::End);
    }
    function
}

/// A jump with this many targets.
pub fn jump_table(targets: usize) -> Function {
    body(&[
        Instruction::I32Const(0),
        Instruction::BrTable(Cow::Owned(vec![0; targets]), 0),
    ])
}

/// A function that means a lot of work for a compiler that allocates registers: many values that live long.
pub fn bomb(values: usize) -> Function {
    let locals = 2000;
    let mut function = Function::new([(locals, ValType::I64)]);
    for value in 0..values {
        let local = |offset: usize| u32::try_from((value * 7 + offset) % locals as usize).expect("few locals");
        function
            .instruction(&Instruction::Block(BlockType::Empty))
            .instruction(&Instruction::LocalGet(local(0)))
            .instruction(&Instruction::I64Eqz)
            .instruction(&Instruction::BrIf(0))
            .instruction(&Instruction::LocalGet(local(1)))
            .instruction(&Instruction::LocalGet(local(1001)))
            .instruction(&Instruction::I64Mul)
            .instruction(&Instruction::LocalSet(local(501)))
            .instruction(&Instruction::End);
    }
    function.instruction(&Instruction::End);
    function
}

impl Parts {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut imports = ImportSection::new();
        for (module, name) in &self.imports {
            imports.import(module, name, EntityType::Function(0));
        }
        let mut functions = FunctionSection::new();
        let mut code = CodeSection::new();
        for function in &self.functions {
            functions.function(0);
            code.function(function);
        }
        let mut tables = TableSection::new();
        if let Some(minimum) = self.table {
            tables.table(TableType {
                element_type: RefType::FUNCREF,
                minimum,
                maximum: None,
                table64: false,
                shared: false,
            });
        }
        let mut memories = MemorySection::new();
        memories.memory(self.memory);
        let mut exports = ExportSection::new();
        let first = u32::try_from(self.imports.len()).expect("few imports");
        exports.export(self.entry, ExportKind::Func, first);
        if self.exports_memory {
            exports.export("memory", ExportKind::Memory, 0);
        }
        let mut data = DataSection::new();
        if !self.data.is_empty() {
            data.active(0, &ConstExpr::i32_const(0), self.data.iter().copied());
        }
        let mut module = Module::new();
        module
            .section(&types)
            .section(&imports)
            .section(&functions)
            .section(&tables)
            .section(&memories)
            .section(&exports)
            .section(&code)
            .section(&data);
        module.finish()
    }
}
