//! Rewriting the bulk memory instructions of a module, so that none of them takes long.
//!
//! wasmtime runs `memory.fill`, `memory.copy` and `memory.init` as one call of the host's `memset` or `memmove`, which
//! nothing interrupts: copying 3.7 GiB stops a guest thread for seconds. [`bound`] replaces those whose length is not known
//! to be small by the same instruction for up to [`CHUNK`] bytes, and beyond that by a call of a function that runs it
//! chunk by chunk. wasmtime looks at the epoch in the loop of that function, as it does in all loops.
//!
//! Nothing else changes, so that a trap comes as before: a range that leaves the memory is given to the whole instruction,
//! which traps before it writes.

use wasmparser::{BinaryReader, CodeSectionReader, FunctionBody, Operator};

use super::module::{ModuleError, Reader, Sections, Writer, find, section, sections};

/// Bytes of one uninterrupted operation.
const CHUNK: u32 = 256 << 10;
/// Locals of a function beyond which none is added to it: wasmtime takes 50,000.
const MAX_LOCALS: u64 = 49_000;

/// `i32`, in the binary format.
const I32: u8 = 0x7f;

/// The instructions that the functions are written in (WebAssembly core specification 2.0, 5.4).
mod op {
    pub(super) const BLOCK: u8 = 0x02;
    pub(super) const LOOP: u8 = 0x03;
    pub(super) const IF: u8 = 0x04;
    pub(super) const ELSE: u8 = 0x05;
    pub(super) const END: u8 = 0x0b;
    pub(super) const BR: u8 = 0x0c;
    pub(super) const BR_IF: u8 = 0x0d;
    pub(super) const RETURN: u8 = 0x0f;
    pub(super) const CALL: u8 = 0x10;
    pub(super) const SELECT: u8 = 0x1b;
    pub(super) const LOCAL_GET: u8 = 0x20;
    pub(super) const LOCAL_SET: u8 = 0x21;
    pub(super) const LOCAL_TEE: u8 = 0x22;
    pub(super) const MEMORY_SIZE: u8 = 0x3f;
    pub(super) const I32_CONST: u8 = 0x41;
    pub(super) const I64_CONST: u8 = 0x42;
    pub(super) const I32_EQZ: u8 = 0x45;
    pub(super) const I32_LT_U: u8 = 0x49;
    pub(super) const I32_GT_U: u8 = 0x4b;
    pub(super) const I32_LE_U: u8 = 0x4d;
    pub(super) const I64_GT_U: u8 = 0x56;
    pub(super) const I32_ADD: u8 = 0x6a;
    pub(super) const I32_SUB: u8 = 0x6b;
    pub(super) const I32_OR: u8 = 0x72;
    pub(super) const I64_ADD: u8 = 0x7c;
    pub(super) const I64_SHL: u8 = 0x86;
    pub(super) const I64_EXTEND_I32_U: u8 = 0xad;
    /// Block type without parameters and results.
    pub(super) const EMPTY: u8 = 0x40;
    /// `memory.init`, `memory.copy` and `memory.fill` begin with this, and their number.
    pub(super) const PREFIX: u8 = 0xfc;
}

/// A bulk instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bulk {
    Fill,
    Copy,
    /// From this data segment.
    Init(u32),
}

impl Bulk {
    /// The instruction.
    fn encode(self, out: &mut Writer) {
        out.0.push(op::PREFIX);
        match self {
            Self::Init(segment) => {
                out.number(8);
                out.number(segment as usize);
                out.number(0);
            }
            Self::Copy => out.0.extend_from_slice(&[10, 0, 0]),
            Self::Fill => out.0.extend_from_slice(&[11, 0]),
        }
    }
}

/// The functions that are added to a module.
struct Helpers {
    /// Number of their type.
    kind: usize,
    /// Number of the first.
    first: usize,
    /// What each does.
    bulks: Vec<Bulk>,
}

impl Helpers {
    /// The number of the function for an instruction, which is added if it is not there.
    fn function(&mut self, bulk: Bulk) -> usize {
        let known = self.bulks.iter().position(|other| *other == bulk);
        let index = known.unwrap_or_else(|| {
            self.bulks.push(bulk);
            self.bulks.len() - 1
        });
        self.first + index
    }
}

/// The module with its bulk memory instructions bounded; one that has none is returned as it is. What is no valid module
/// is refused, or comes out as no valid one.
///
/// # Errors
/// [`ModuleError::NotAModule`] and [`ModuleError::Malformed`]
pub fn bound(wasm: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let sections = sections(wasm)?;
    let Some(code) = find(&sections, section::CODE) else {
        return Ok(wasm.to_vec());
    };
    let types = types(&sections)?.len();
    let defined = count(&sections, section::FUNCTION)?;
    let mut helpers = Helpers {
        kind: types,
        first: imported_functions(&sections)? + defined,
        bulks: Vec::new(),
    };
    let long_segments = long_segments(&sections)?;
    let parameters = parameters(&sections)?;
    let reader = CodeSectionReader::new(BinaryReader::new(code, 0)).map_err(|_| ModuleError::Malformed)?;
    let mut bodies = Writer(Vec::with_capacity(code.len()));
    for (index, body) in reader.into_iter().enumerate() {
        let body = body.map_err(|_| ModuleError::Malformed)?;
        let parameters = parameters.get(index).copied().ok_or(ModuleError::Malformed)?;
        match rewrite(&body, parameters, &mut helpers, &long_segments)? {
            Some(rewritten) => bodies.bytes(&rewritten),
            None => bodies.bytes(body.as_bytes()),
        }
    }
    if helpers.bulks.is_empty() {
        return Ok(wasm.to_vec());
    }
    for bulk in &helpers.bulks {
        let body = helper(*bulk, segment_len(&sections, *bulk)?);
        bodies.bytes(&body);
    }
    let mut out = Writer::module(wasm.len());
    for (id, body) in &sections {
        match *id {
            // (func (param i32 i32 i32))
            section::TYPE => out.section(*id, &with_entries(body, &[&[0x60, 3, I32, I32, I32, 0]])?),
            section::FUNCTION => {
                let mut kind = Writer(Vec::new());
                kind.number(helpers.kind);
                let added = vec![kind.0.as_slice(); helpers.bulks.len()];
                out.section(*id, &with_entries(body, &added)?);
            }
            section::CODE => {
                let mut body = Writer(Vec::with_capacity(bodies.0.len() + 5));
                body.number(defined + helpers.bulks.len());
                body.0.extend_from_slice(&bodies.0);
                out.section(*id, &body.0);
            }
            _ => out.section(*id, body),
        }
    }
    Ok(out.0)
}

/// Entries of a section that begins with their number.
fn count(sections: &Sections<'_>, id: u8) -> Result<usize, ModuleError> {
    Reader(find(sections, id).unwrap_or(&[0])).number()
}

/// A section with more entries.
fn with_entries(body: &[u8], added: &[&[u8]]) -> Result<Vec<u8>, ModuleError> {
    let mut reader = Reader(body);
    let mut out = Writer(Vec::with_capacity(body.len() + 5));
    out.number(reader.number()? + added.len());
    out.0.extend_from_slice(reader.0);
    for entry in added {
        out.0.extend_from_slice(entry);
    }
    Ok(out.0)
}

/// How many parameters each type has, by its number.
fn types(sections: &Sections<'_>) -> Result<Vec<u64>, ModuleError> {
    let malformed = |_| ModuleError::Malformed;
    let body = find(sections, section::TYPE).unwrap_or(&[0]);
    let reader = wasmparser::TypeSectionReader::new(BinaryReader::new(body, 0)).map_err(malformed)?;
    let mut parameters = Vec::new();
    for group in reader {
        for kind in group.map_err(malformed)?.types() {
            let function = match &kind.composite_type.inner {
                wasmparser::CompositeInnerType::Func(function) => function.params().len() as u64,
                _ => 0,
            };
            parameters.push(function);
        }
    }
    Ok(parameters)
}

/// How many parameters each function has that is not imported.
fn parameters(sections: &Sections<'_>) -> Result<Vec<u64>, ModuleError> {
    let types = types(sections)?;
    let mut reader = Reader(find(sections, section::FUNCTION).unwrap_or(&[0]));
    let count = reader.number()?;
    // Each entry takes a byte at least.
    if count > reader.0.len() {
        return Err(ModuleError::Malformed);
    }
    let kind = |_| types.get(reader.number()?).copied().ok_or(ModuleError::Malformed);
    (0..count).map(kind).collect()
}

fn imported_functions(sections: &Sections<'_>) -> Result<usize, ModuleError> {
    let Some(imports) = find(sections, section::IMPORT) else {
        return Ok(0);
    };
    let reader = wasmparser::ImportSectionReader::new(BinaryReader::new(imports, 0));
    let mut count = 0;
    for import in reader.map_err(|_| ModuleError::Malformed)?.into_imports() {
        let import = import.map_err(|_| ModuleError::Malformed)?;
        count += usize::from(matches!(import.ty, wasmparser::TypeRef::Func(_)));
    }
    Ok(count)
}

/// Lengths of the data segments, by their number.
fn segment_lengths(sections: &Sections<'_>) -> Result<Vec<u64>, ModuleError> {
    let Some(data) = find(sections, section::DATA) else {
        return Ok(Vec::new());
    };
    let reader = wasmparser::DataSectionReader::new(BinaryReader::new(data, 0));
    let segments = reader.map_err(|_| ModuleError::Malformed)?;
    let length = |segment: wasmparser::Result<wasmparser::Data<'_>>| match segment {
        Ok(segment) => Ok(segment.data.len() as u64),
        Err(_) => Err(ModuleError::Malformed),
    };
    segments.into_iter().map(length).collect()
}

/// Which data segments are longer than a chunk. `memory.init` from another one is short, or traps.
fn long_segments(sections: &Sections<'_>) -> Result<Vec<u32>, ModuleError> {
    let lengths = segment_lengths(sections)?;
    let long = (0u32..).zip(lengths).filter(|(_, len)| *len > u64::from(CHUNK));
    Ok(long.map(|(index, _)| index).collect())
}

/// Length of the data segment that an instruction reads.
fn segment_len(sections: &Sections<'_>, bulk: Bulk) -> Result<u64, ModuleError> {
    match bulk {
        Bulk::Init(segment) => Ok(segment_lengths(sections)?.get(segment as usize).copied().unwrap_or(0)),
        Bulk::Fill | Bulk::Copy => Ok(0),
    }
}

/// The bulk instruction that an operator is, if it has to be bounded.
fn bulk(operator: &Operator<'_>, long_segments: &[u32]) -> Option<Bulk> {
    match *operator {
        Operator::MemoryFill { mem: 0 } => Some(Bulk::Fill),
        Operator::MemoryCopy { dst_mem: 0, src_mem: 0 } => Some(Bulk::Copy),
        Operator::MemoryInit { data_index, mem: 0 } if long_segments.binary_search(&data_index).is_ok() => {
            Some(Bulk::Init(data_index))
        }
        _ => None,
    }
}

/// The body of a function with its instructions bounded; `None` if it has none to bound.
fn rewrite(
    body: &FunctionBody<'_>,
    parameters: u64,
    helpers: &mut Helpers,
    long_segments: &[u32],
) -> Result<Option<Vec<u8>>, ModuleError> {
    let malformed = |_| ModuleError::Malformed;
    let bytes = body.as_bytes();
    let start = body.range().start;
    let mut out = Writer(Vec::new());
    let mut copied = 0;
    let mut small = false;
    let mut scratch = None;
    let mut operators = body.get_operators_reader().map_err(malformed)?;
    let first = operators.original_position() - start;
    while !operators.eof() {
        let at = operators.original_position() - start;
        let operator = operators.read().map_err(malformed)?;
        let end = operators.original_position() - start;
        if let Some(bulk) = bulk(&operator, long_segments).filter(|_| !small) {
            let local = match scratch {
                Some(local) => local,
                None => {
                    // The first one: the function gets a local, if there is room for it.
                    let (locals, local) = with_scratch_local(body, parameters)?;
                    out.0 = locals;
                    copied = first;
                    *scratch.insert(local)
                }
            };
            out.0.extend_from_slice(&bytes[copied..at]);
            bounded(&mut out, bulk, local, helpers);
            copied = end;
        }
        // A length that is known.
        small = matches!(operator, Operator::I32Const { value } if value.cast_unsigned() <= CHUNK);
    }
    if scratch.is_none() {
        return Ok(None);
    }
    out.0.extend_from_slice(&bytes[copied..]);
    Ok(Some(out.0))
}

/// The declarations of a function's locals with one `i32` more, and its number; `None` if there are too many already.
fn with_scratch_local(body: &FunctionBody<'_>, parameters: u64) -> Result<(Vec<u8>, Option<usize>), ModuleError> {
    let malformed = |_| ModuleError::Malformed;
    let locals = body.get_locals_reader().map_err(malformed)?;
    let declarations = locals.get_count() as usize;
    let start = locals.original_position() - body.range().start;
    let first = body.get_operators_reader().map_err(malformed)?.original_position() - body.range().start;
    let mut number = parameters;
    for local in locals {
        number += u64::from(local.map_err(malformed)?.0);
    }
    if number > MAX_LOCALS {
        return Ok((body.as_bytes()[..first].to_vec(), None));
    }
    let mut out = Writer(Vec::with_capacity(body.as_bytes().len() + 64));
    out.number(declarations + 1);
    out.0.extend_from_slice(&body.as_bytes()[start..first]);
    out.0.extend_from_slice(&[1, I32]);
    Ok((out.0, Some(number as usize)))
}

/// An instruction whose operands are on the stack, bounded.
fn bounded(out: &mut Writer, bulk: Bulk, local: Option<usize>, helpers: &mut Helpers) {
    let function = helpers.function(bulk);
    let Some(local) = local else {
        out.with(op::CALL, function);
        return;
    };
    out.with(op::LOCAL_TEE, local);
    out.with(op::LOCAL_GET, local);
    out.i32(CHUNK);
    out.0.push(op::I32_GT_U);
    // The three operands are the block's parameters.
    out.0.push(op::IF);
    out.signed((helpers.kind as u64).cast_signed());
    out.with(op::CALL, function);
    out.0.push(op::ELSE);
    bulk.encode(out);
    out.0.push(op::END);
}

/// The function that runs an instruction chunk by chunk: parameters 0 to 2 are its operands.
fn helper(bulk: Bulk, segment_len: u64) -> Vec<u8> {
    const TARGET: usize = 0;
    const SOURCE: usize = 1;
    const LEN: usize = 2;
    const STEP: usize = 3;
    let mut out = Writer(vec![1, 1, I32]);
    let whole = |out: &mut Writer| {
        for operand in [TARGET, SOURCE, LEN] {
            out.with(op::LOCAL_GET, operand);
        }
        bulk.encode(out);
    };
    // A range that leaves the memory, or the segment: the whole instruction traps before it writes.
    out.leaves(TARGET, LEN, Writer::memory_bytes);
    match bulk {
        Bulk::Fill => {}
        Bulk::Copy => {
            out.leaves(SOURCE, LEN, Writer::memory_bytes);
            out.0.push(op::I32_OR);
        }
        Bulk::Init(_) => {
            out.leaves(SOURCE, LEN, |out| {
                out.0.push(op::I64_CONST);
                out.signed(segment_len.cast_signed());
            });
            out.0.push(op::I32_OR);
        }
    }
    // Of no bytes there is no chunk, but a segment that was dropped since traps all the same.
    out.with(op::LOCAL_GET, LEN);
    out.0.push(op::I32_EQZ);
    out.0.push(op::I32_OR);
    out.0.extend_from_slice(&[op::IF, op::EMPTY]);
    whole(&mut out);
    out.0.extend_from_slice(&[op::RETURN, op::END]);
    if bulk == Bulk::Copy {
        // Forwards, unless the target begins within the source.
        out.0.extend_from_slice(&[op::BLOCK, op::EMPTY]);
        out.with(op::LOCAL_GET, TARGET);
        out.with(op::LOCAL_GET, SOURCE);
        out.0.push(op::I32_LE_U);
        out.with(op::BR_IF, 0);
        out.with(op::LOCAL_GET, TARGET);
        out.with(op::LOCAL_GET, SOURCE);
        out.0.push(op::I32_SUB);
        out.with(op::LOCAL_GET, LEN);
        out.0.push(op::I32_LT_U);
        out.0.push(op::I32_EQZ);
        out.with(op::BR_IF, 0);
        out.chunks(LEN, STEP, |out| {
            for operand in [TARGET, SOURCE] {
                out.with(op::LOCAL_GET, operand);
                out.with(op::LOCAL_GET, LEN);
                out.0.push(op::I32_ADD);
            }
            out.with(op::LOCAL_GET, STEP);
            bulk.encode(out);
        });
        out.0.extend_from_slice(&[op::RETURN, op::END]);
    }
    out.chunks(LEN, STEP, |out| {
        for operand in [TARGET, SOURCE, STEP] {
            out.with(op::LOCAL_GET, operand);
        }
        bulk.encode(out);
        let moving: &[usize] = if bulk == Bulk::Fill {
            &[TARGET]
        } else {
            &[TARGET, SOURCE]
        };
        for operand in moving {
            out.with(op::LOCAL_GET, *operand);
            out.with(op::LOCAL_GET, STEP);
            out.0.push(op::I32_ADD);
            out.with(op::LOCAL_SET, *operand);
        }
    });
    out.0.push(op::END);
    out.0
}

impl Writer {
    /// An instruction with an index.
    fn with(&mut self, instruction: u8, index: usize) {
        self.0.push(instruction);
        self.number(index);
    }

    fn i32(&mut self, value: u32) {
        self.0.push(op::I32_CONST);
        self.signed(i64::from(value.cast_signed()));
    }

    /// Bytes of memory, an `i64`.
    fn memory_bytes(&mut self) {
        self.0
            .extend_from_slice(&[op::MEMORY_SIZE, 0, op::I64_EXTEND_I32_U, op::I64_CONST]);
        self.signed(16);
        self.0.push(op::I64_SHL);
    }

    /// Whether `start + len` is beyond `end`.
    fn leaves(&mut self, start: usize, len: usize, end: impl FnOnce(&mut Self)) {
        self.with(op::LOCAL_GET, start);
        self.0.push(op::I64_EXTEND_I32_U);
        self.with(op::LOCAL_GET, len);
        self.0.extend_from_slice(&[op::I64_EXTEND_I32_U, op::I64_ADD]);
        end(self);
        self.0.push(op::I64_GT_U);
    }

    /// `while len != 0 { step = min(len, CHUNK); len -= step; run }`.
    fn chunks(&mut self, len: usize, step: usize, run: impl FnOnce(&mut Self)) {
        self.0.extend_from_slice(&[op::BLOCK, op::EMPTY, op::LOOP, op::EMPTY]);
        self.with(op::LOCAL_GET, len);
        self.0.push(op::I32_EQZ);
        self.with(op::BR_IF, 1);
        self.with(op::LOCAL_GET, len);
        self.i32(CHUNK);
        self.with(op::LOCAL_GET, len);
        self.i32(CHUNK);
        self.0.extend_from_slice(&[op::I32_LT_U, op::SELECT]);
        self.with(op::LOCAL_SET, step);
        self.with(op::LOCAL_GET, len);
        self.with(op::LOCAL_GET, step);
        self.0.push(op::I32_SUB);
        self.with(op::LOCAL_SET, len);
        run(self);
        self.with(op::BR, 0);
        self.0.extend_from_slice(&[op::END, op::END]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasm_encoder::{
        CodeSection, DataCountSection, DataSection, ExportKind, ExportSection, Function, FunctionSection, Instruction,
        MemorySection, MemoryType, Module, TypeSection, ValType,
    };
    use wasmtime::{Engine, Instance, Store, Trap};

    use super::*;

    const PAGES: u64 = 20;
    const BYTES: u64 = PAGES << 16;
    /// Bytes of the long data segment, number 1.
    const SEGMENT: usize = 3 * CHUNK as usize + 77;

    /// A module with the functions `fill`, `copy`, `init` (from a long segment), `short` (from a short one), `drop` (of
    /// the long one) and `known` (a copy of 100 bytes).
    fn module(extra_locals: u32) -> Vec<u8> {
        let mut module = Module::new();
        let mut types = TypeSection::new();
        types.ty().function([], []);
        types.ty().function([ValType::I32; 3], []);
        module.section(&types);
        let names = ["fill", "copy", "init", "short", "drop", "known"];
        let mut functions = FunctionSection::new();
        for name in names {
            functions.function(u32::from(name != "drop"));
        }
        module.section(&functions);
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: PAGES,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        module.section(&memories);
        let mut exports = ExportSection::new();
        for (index, name) in (0..).zip(names) {
            exports.export(name, ExportKind::Func, index);
        }
        exports.export("memory", ExportKind::Memory, 0);
        module.section(&exports);
        module.section(&DataCountSection { count: 2 });
        let mut code = CodeSection::new();
        for name in names {
            let mut body = Function::new([(extra_locals, ValType::I64)]);
            if name != "drop" {
                for operand in 0..if name == "known" { 2 } else { 3 } {
                    body.instruction(&Instruction::LocalGet(operand));
                }
            }
            if name == "known" {
                body.instruction(&Instruction::I32Const(100));
            }
            body.instruction(&match name {
                "fill" => Instruction::MemoryFill(0),
                "copy" | "known" => Instruction::MemoryCopy { src_mem: 0, dst_mem: 0 },
                "drop" => Instruction::DataDrop(1),
                name => Instruction::MemoryInit {
                    mem: 0,
                    data_index: u32::from(name == "init"),
                },
            });
            body.instruction(&Instruction::End);
            code.function(&body);
        }
        module.section(&code);
        let mut data = DataSection::new();
        data.passive(b"short".iter().copied());
        data.passive((0..SEGMENT).map(|index| (index % 249) as u8));
        module.section(&data);
        module.finish()
    }

    struct Guest {
        store: Store<()>,
        instance: Instance,
    }

    impl Guest {
        fn new(engine: &Engine, wasm: &[u8]) -> Self {
            let module = wasmtime::Module::new(engine, wasm).unwrap();
            let mut store = Store::new(engine, ());
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            Self { store, instance }
        }

        /// Gives the memory contents by which a byte's place is known.
        fn refill(&mut self) {
            let memory = self.instance.get_memory(&mut self.store, "memory").unwrap();
            for (index, word) in (0u32..).zip(memory.data_mut(&mut self.store).chunks_exact_mut(4)) {
                word.copy_from_slice(&index.wrapping_mul(2_654_435_761).to_le_bytes());
            }
        }

        fn memory(&mut self) -> &[u8] {
            let memory = self.instance.get_memory(&mut self.store, "memory").unwrap();
            memory.data(&self.store)
        }

        fn call(&mut self, name: &str, operands: (u32, u32, u32)) -> Result<(), Trap> {
            let function = self
                .instance
                .get_typed_func::<(u32, u32, u32), ()>(&mut self.store, name);
            let result = function.unwrap().call(&mut self.store, operands);
            result.map_err(|error| *error.downcast_ref::<Trap>().unwrap())
        }

        fn drop_segment(&mut self) {
            let function = self.instance.get_typed_func::<(), ()>(&mut self.store, "drop");
            function.unwrap().call(&mut self.store, ()).unwrap();
        }
    }

    /// Places and lengths about the ends of memory, chunks and segments.
    fn operand() -> impl Strategy<Value = u32> {
        let around = |at: u64| (at.saturating_sub(3)..at + 4).prop_map(|value| value as u32);
        prop_oneof![
            around(0),
            around(u64::from(CHUNK)),
            around(2 * u64::from(CHUNK)),
            around(SEGMENT as u64),
            around(BYTES),
            around(BYTES / 2),
            (0..BYTES as u32),
            (0..4096u32),
            any::<u32>(),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn bounded_instructions_do_what_the_originals_do(
            calls in prop::collection::vec((0usize..5, operand(), operand(), operand()), 1..8),
            drops in 0usize..16,
            extra_locals in prop_oneof![Just(0), Just(3), Just(49_900u32)],
        ) {
            let engine = Engine::default();
            let original = module(extra_locals);
            let rewritten = bound(&original).unwrap();
            prop_assert!(rewritten.len() > original.len());
            let mut guests = [Guest::new(&engine, &original), Guest::new(&engine, &rewritten)];
            guests.iter_mut().for_each(Guest::refill);
            for (round, (function, target, source, len)) in calls.into_iter().enumerate() {
                let name = ["fill", "copy", "init", "short", "known"][function];
                let results = guests.each_mut().map(|guest| {
                    if round == drops {
                        guest.drop_segment();
                    }
                    guest.call(name, (target, source, len))
                });
                prop_assert_eq!(results[0], results[1], "{} {} {} {}", name, target, source, len);
                let [first, second] = &mut guests;
                prop_assert!(first.memory() == second.memory(), "{name} {target} {source} {len}");
            }
        }
    }

    #[test]
    fn a_module_without_them_is_left_alone() {
        let plain = [b"\0asm\x01\0\0\0".as_slice(), &[1, 4, 1, 0x60, 0, 0]].concat();
        assert_eq!(bound(&plain).unwrap(), plain);
    }

    #[test]
    fn what_is_no_module_is_no_panic() {
        let module = module(0);
        for len in 0..module.len().min(600) {
            let _ = bound(&module[..len]);
        }
        for at in 8..600 {
            let mut broken = module.clone();
            broken[at] ^= 0x55;
            let _ = bound(&broken);
        }
    }

    #[test]
    fn no_instruction_of_unknown_length_is_left_unbounded() {
        // Only what runs one chunk at a time, or the failing whole, is left of each.
        let rewritten = bound(&module(0)).unwrap();
        let again = bound(&rewritten).unwrap();
        assert!(
            again.len() > rewritten.len(),
            "the chunks themselves are of unknown length to this"
        );
        let engine = wisp_kernel::new_engine().unwrap();
        assert!(wasmtime::Module::new(&engine, &rewritten).is_ok());
    }

    /// A function that runs `memory.copy` of its third operand's length as often as its fourth says.
    fn copies() -> Vec<u8> {
        let mut module = Module::new();
        let mut types = TypeSection::new();
        types.ty().function([ValType::I32; 4], []);
        module.section(&types);
        let mut functions = FunctionSection::new();
        functions.function(0);
        module.section(&functions);
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: PAGES,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        module.section(&memories);
        let mut exports = ExportSection::new();
        exports.export("copies", ExportKind::Func, 0);
        module.section(&exports);
        let mut body = Function::new([]);
        for instruction in [
            Instruction::Loop(wasm_encoder::BlockType::Empty),
            Instruction::LocalGet(0),
            Instruction::LocalGet(1),
            Instruction::LocalGet(2),
            Instruction::MemoryCopy { src_mem: 0, dst_mem: 0 },
            Instruction::LocalGet(3),
            Instruction::I32Const(1),
            Instruction::I32Sub,
            Instruction::LocalTee(3),
            Instruction::BrIf(0),
            Instruction::End,
            Instruction::End,
        ] {
            body.instruction(&instruction);
        }
        let mut code = CodeSection::new();
        code.function(&body);
        module.section(&code);
        module.finish()
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "the measured ratios are worth reading")]
    fn copies_of_any_length_take_about_as_long_as_before() {
        let engine = wisp_kernel::new_engine().unwrap();
        let original = copies();
        let modules = [original.clone(), bound(&original).unwrap()];
        let mut stores = modules.map(|wasm| {
            let module = wasmtime::Module::new(&engine, wasm).unwrap();
            let mut store = Store::new(&engine, ());
            store.set_epoch_deadline(u64::MAX / 2);
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let copies = instance.get_typed_func::<(u32, u32, u32, u32), ()>(&mut store, "copies");
            (copies.unwrap(), store)
        });
        for (len, times) in [
            (8, 200_000),
            (64, 200_000),
            (1024, 100_000),
            (300_000, 200),
            (1 << 19, 100),
        ] {
            let mut best = [f64::INFINITY; 2];
            // In turns, and more of them on a machine that is busy with other things.
            for turn in 0..500 {
                if turn >= 25 && best[1] < 1.2 * best[0] {
                    break;
                }
                for ((copies, store), best) in stores.iter_mut().zip(&mut best) {
                    let start = std::time::Instant::now();
                    copies.call(&mut *store, (0, 1 << 19, len, times)).unwrap();
                    *best = best.min(start.elapsed().as_secs_f64());
                }
            }
            let ratio = best[1] / best[0];
            println!("copies of {len} bytes take {ratio:.3} of what they took");
            println!("copies of {len} bytes take {ratio:.3} of what they took");
            assert!(ratio < 1.5, "copies of {len} bytes take {ratio:.3} of what they took");
        }
    }
}
