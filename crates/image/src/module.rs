//! Rewriting WebAssembly modules section by section, without understanding their code.
//!
//! [`strip`] takes out what is not needed to run a module. [`expose_globals`] and [`freeze`] make a pre-initialised
//! module: the first lets the host read the state of a running instance, the second writes that state into the module,
//! so that every new instance starts from there.

use wasmparser::{Operator, Parser, Payload};

/// First bytes of a core module of version 1.
const HEADER: &[u8; 8] = b"\0asm\x01\0\0\0";
/// Bytes of a page of linear memory.
const PAGE: usize = 64 << 10;
/// Stretches of zeros at least this long are left out of a frozen module, in bytes. A data segment costs less.
const ZEROS: usize = 4096;
/// Most data segments wasmtime takes.
const MAX_SEGMENTS: usize = 100_000;

/// Section numbers (WebAssembly core specification 2.0, 5.5.2).
pub(super) mod section {
    pub(crate) const CUSTOM: u8 = 0;
    pub(crate) const TYPE: u8 = 1;
    pub(crate) const IMPORT: u8 = 2;
    pub(crate) const FUNCTION: u8 = 3;
    pub(crate) const MEMORY: u8 = 5;
    pub(crate) const GLOBAL: u8 = 6;
    pub(crate) const EXPORT: u8 = 7;
    pub(crate) const START: u8 = 8;
    pub(crate) const CODE: u8 = 10;
    pub(crate) const DATA_COUNT: u8 = 12;
    pub(crate) const DATA: u8 = 11;
}

/// Why a module cannot be rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// Other first bytes.
    #[error("not a WebAssembly core module")]
    NotAModule,
    /// Something ends behind the end of the file.
    #[error("the WebAssembly module is cut off or malformed")]
    Malformed,
    /// A part of the module that a frozen one cannot have.
    #[error("a module with {0} cannot be pre-initialised")]
    Unsupported(&'static str),
    /// A state that is not this module's.
    #[error("the state is not one of this module")]
    OtherState,
}

/// The value of a global, as the bits of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GlobalValue {
    /// `i32`
    I32(i32),
    /// `i64`
    I64(i64),
    /// `f32`
    F32(u32),
    /// `f64`
    F64(u64),
}

/// The state of an instance that has stopped.
pub struct State<'a> {
    /// Its linear memory.
    pub memory: &'a [u8],
    /// Its mutable globals, as [`expose_globals`] named them.
    pub globals: &'a [GlobalValue],
}

/// The module without its custom sections. The rest is left as it is: the compiler checks it.
pub fn strip(wasm: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let mut out = Writer::module(wasm.len());
    for (id, body) in sections(wasm)? {
        if id != section::CUSTOM {
            out.section(id, body);
        }
    }
    Ok(out.0)
}

/// The name under which [`expose_globals`] exports a mutable global, counted from 0.
pub fn global_export(index: usize) -> String {
    format!("wisp-global-{index}")
}

/// The module with all its mutable globals exported, and how many there are. Refuses a module that could get into a state
/// which memory and globals do not hold.
pub fn expose_globals(wasm: &[u8]) -> Result<(Vec<u8>, usize), ModuleError> {
    let sections = sections(wasm)?;
    check_freezable(&sections)?;
    check_instructions(wasm)?;
    let globals = globals(&sections)?;
    let mutable = globals.iter().enumerate().filter(|(_, global)| global.mutable);
    let exports: Vec<_> = mutable
        .enumerate()
        .map(|(count, (index, _))| (global_export(count), EXPORTS_GLOBAL, index))
        .collect();
    Ok((with_exports(&sections, &exports)?, exports.len()))
}

/// Whether the module exports a function under this name.
pub fn exports_function(wasm: &[u8], name: &str) -> Result<bool, ModuleError> {
    let sections = sections(wasm)?;
    let mut reader = Reader(find(&sections, section::EXPORT).unwrap_or(&[0]));
    for _ in 0..reader.number()? {
        let len = reader.number()?;
        let (found, kind) = (reader.take(len)?, reader.byte()?);
        reader.number()?;
        if found == name.as_bytes() {
            return Ok(kind == EXPORTS_FUNCTION);
        }
    }
    Ok(false)
}

/// The module with `state` as its initial state. `added` is a function by its number (imports counted) that is exported
/// under that name as well. The module has no start function, and whatever initialises it must not be called again.
pub fn freeze(wasm: &[u8], state: &State<'_>, added: Option<(&str, usize)>) -> Result<Vec<u8>, ModuleError> {
    let sections = sections(wasm)?;
    check_freezable(&sections)?;
    let added = added.map(|(name, function)| (name.to_owned(), EXPORTS_FUNCTION, function));
    let with_export = with_exports(&sections, added.as_slice())?;
    let mut out = Writer::module(wasm.len() + state.memory.len());
    for (id, body) in self::sections(&with_export)? {
        match id {
            section::CUSTOM | section::START | section::DATA_COUNT | section::DATA => {}
            section::MEMORY => out.section(id, &grown_memory(body, state.memory.len())?),
            section::GLOBAL => out.section(id, &frozen_globals(body, state.globals)?),
            _ => out.section(id, body),
        }
    }
    out.section(section::DATA, &data(state.memory)?);
    Ok(out.0)
}

/// Kinds of an export.
const EXPORTS_FUNCTION: u8 = 0;
const EXPORTS_GLOBAL: u8 = 3;

/// A module's sections in order.
pub(super) type Sections<'a> = Vec<(u8, &'a [u8])>;

pub(super) fn sections(wasm: &[u8]) -> Result<Sections<'_>, ModuleError> {
    let mut reader = Reader(wasm.strip_prefix(HEADER).ok_or(ModuleError::NotAModule)?);
    let mut sections = Vec::new();
    while !reader.0.is_empty() {
        let id = reader.byte()?;
        let len = reader.number()?;
        sections.push((id, reader.take(len)?));
    }
    Ok(sections)
}

pub(super) fn find<'a>(sections: &Sections<'a>, wanted: u8) -> Option<&'a [u8]> {
    sections.iter().find(|(id, _)| *id == wanted).map(|(_, body)| *body)
}

/// Refuses modules with state that memory and globals do not hold, or whose sections cannot be told apart.
fn check_freezable(sections: &Sections<'_>) -> Result<(), ModuleError> {
    // Those of proposals, such as the tags of exceptions, have a place that is not that of their number.
    if sections.iter().any(|(id, _)| *id > section::DATA_COUNT) {
        return Err(ModuleError::Unsupported("sections of a later version"));
    }
    if let Some(imports) = find(sections, section::IMPORT) {
        let mut reader = Reader(imports);
        for _ in 0..reader.number()? {
            for _ in 0..2 {
                let len = reader.number()?;
                reader.take(len)?;
            }
            if reader.byte()? != EXPORTS_FUNCTION {
                return Err(ModuleError::Unsupported("imported memories, tables or globals"));
            }
            reader.number()?;
        }
    }
    if let Some(segments) = find(sections, section::DATA) {
        let mut reader = Reader(segments);
        for _ in 0..reader.number()? {
            if reader.number()? != 0 {
                return Err(ModuleError::Unsupported("passive data segments"));
            }
            reader.constant()?;
            let len = reader.number()?;
            reader.take(len)?;
        }
    }
    Ok(())
}

/// Refuses instructions that change tables or use segments up.
fn check_instructions(wasm: &[u8]) -> Result<(), ModuleError> {
    for payload in Parser::new(0).parse_all(wasm) {
        let Payload::CodeSectionEntry(body) = payload.map_err(|_| ModuleError::Malformed)? else {
            continue;
        };
        let mut operators = body.get_operators_reader().map_err(|_| ModuleError::Malformed)?;
        while !operators.eof() {
            match operators.read().map_err(|_| ModuleError::Malformed)? {
                Operator::TableSet { .. }
                | Operator::TableGrow { .. }
                | Operator::TableFill { .. }
                | Operator::TableCopy { .. }
                | Operator::TableInit { .. } => return Err(ModuleError::Unsupported("tables that change")),
                Operator::ElemDrop { .. } | Operator::DataDrop { .. } => {
                    return Err(ModuleError::Unsupported("segments that are dropped"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// A global of a module: its type, and where its initial value is in the section.
struct Global<'a> {
    kind: u8,
    mutable: bool,
    initial: &'a [u8],
}

fn globals<'a>(sections: &Sections<'a>) -> Result<Vec<Global<'a>>, ModuleError> {
    find(sections, section::GLOBAL).map_or(Ok(Vec::new()), read_globals)
}

fn read_globals(body: &[u8]) -> Result<Vec<Global<'_>>, ModuleError> {
    let mut reader = Reader(body);
    let mut globals = Vec::new();
    for _ in 0..reader.number()? {
        let kind = reader.byte()?;
        let mutable = reader.byte()? == 1;
        globals.push(Global {
            kind,
            mutable,
            initial: reader.constant()?,
        });
    }
    Ok(globals)
}

fn with_exports(sections: &Sections<'_>, added: &[(String, u8, usize)]) -> Result<Vec<u8>, ModuleError> {
    let mut reader = Reader(find(sections, section::EXPORT).unwrap_or(&[0]));
    let count = reader.number()?;
    let mut body = Writer(Vec::new());
    body.number(count + added.len());
    body.0.extend_from_slice(reader.0);
    for (name, kind, index) in added {
        body.bytes(name.as_bytes());
        body.0.push(*kind);
        body.number(*index);
    }
    let mut out = Writer::module(0);
    let mut written = false;
    for (id, old) in sections {
        // Sections are in the order of their numbers up to this one.
        let here = *id == section::EXPORT || (!written && *id > section::EXPORT);
        if here {
            out.section(section::EXPORT, &body.0);
            written = true;
        }
        if *id != section::EXPORT {
            out.section(*id, old);
        }
    }
    if !written {
        out.section(section::EXPORT, &body.0);
    }
    Ok(out.0)
}

/// The memory section for a memory that has `bytes` bytes from the start.
fn grown_memory(body: &[u8], bytes: usize) -> Result<Vec<u8>, ModuleError> {
    let mut reader = Reader(body);
    if reader.number()? != 1 {
        return Err(ModuleError::Unsupported("several memories"));
    }
    let flags = reader.byte()?;
    if flags > 1 {
        return Err(ModuleError::Unsupported("a shared or 64-bit memory"));
    }
    let least = reader.number()?;
    if !bytes.is_multiple_of(PAGE) || bytes / PAGE < least {
        return Err(ModuleError::OtherState);
    }
    let mut out = Writer(vec![1, flags]);
    out.number(bytes / PAGE);
    out.0.extend_from_slice(reader.0);
    Ok(out.0)
}

fn frozen_globals(body: &[u8], values: &[GlobalValue]) -> Result<Vec<u8>, ModuleError> {
    const I32: u8 = 0x7f;
    const I64: u8 = 0x7e;
    const F32: u8 = 0x7d;
    const F64: u8 = 0x7c;
    let globals = read_globals(body)?;
    let mut out = Writer(Vec::new());
    out.number(globals.len());
    let mut values = values.iter();
    for global in &globals {
        out.0.extend_from_slice(&[global.kind, u8::from(global.mutable)]);
        if !global.mutable {
            out.0.extend_from_slice(global.initial);
            continue;
        }
        match (global.kind, values.next()) {
            (I32, Some(GlobalValue::I32(value))) => out.constant(0x41, |out| out.signed(i64::from(*value))),
            (I64, Some(GlobalValue::I64(value))) => out.constant(0x42, |out| out.signed(*value)),
            (F32, Some(GlobalValue::F32(bits))) => out.constant(0x43, |out| out.0.extend(bits.to_le_bytes())),
            (F64, Some(GlobalValue::F64(bits))) => out.constant(0x44, |out| out.0.extend(bits.to_le_bytes())),
            _ => return Err(ModuleError::OtherState),
        }
    }
    if values.next().is_some() {
        Err(ModuleError::OtherState)
    } else {
        Ok(out.0)
    }
}

/// A data section that fills memory with these bytes, without its long stretches of zeros.
fn data(memory: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let mut segments: Vec<std::ops::Range<usize>> = Vec::new();
    for (index, block) in memory.chunks(ZEROS).enumerate() {
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        let start = index * ZEROS;
        let end = start + block.len();
        match segments.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => segments.push(start..end),
        }
    }
    if segments.len() > MAX_SEGMENTS {
        return Err(ModuleError::Unsupported("memory contents in too many separate pieces"));
    }
    let mut out = Writer(Vec::new());
    out.number(segments.len());
    for segment in segments {
        let address = u32::try_from(segment.start).map_err(|_| ModuleError::OtherState)?;
        out.0.push(0);
        // An address above 2 GiB is written as the negative number with the same bits.
        out.constant(0x41, |out| out.signed(i64::from(address.cast_signed())));
        out.bytes(&memory[segment]);
    }
    Ok(out.0)
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, ModuleError> {
        let (first, rest) = self.0.split_first().ok_or(ModuleError::Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], ModuleError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(ModuleError::Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    /// An unsigned LEB128 number of 32 bits.
    pub(super) fn number(&mut self) -> Result<usize, ModuleError> {
        let mut value = 0u64;
        for index in 0..5 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                let value = u32::try_from(value).map_err(|_| ModuleError::Malformed)?;
                return Ok(value as usize);
            }
        }
        Err(ModuleError::Malformed)
    }

    /// Skips a LEB128 number of at most 64 bits.
    fn skip_number(&mut self) -> Result<(), ModuleError> {
        for _ in 0..10 {
            if self.byte()? & 0x80 == 0 {
                return Ok(());
            }
        }
        Err(ModuleError::Malformed)
    }

    /// A constant expression of one instruction, with its end.
    fn constant(&mut self) -> Result<&'a [u8], ModuleError> {
        let whole = self.0;
        match self.byte()? {
            0x41 | 0x42 | 0x23 | 0xd0 | 0xd2 => self.skip_number()?,
            0x43 => drop(self.take(4)?),
            0x44 => drop(self.take(8)?),
            _ => return Err(ModuleError::Unsupported("computed constants")),
        }
        if self.byte()? != 0x0b {
            return Err(ModuleError::Unsupported("computed constants"));
        }
        Ok(&whole[..whole.len() - self.0.len()])
    }
}

pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn module(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity + HEADER.len());
        bytes.extend_from_slice(HEADER);
        Self(bytes)
    }

    pub(super) fn section(&mut self, id: u8, body: &[u8]) {
        self.0.push(id);
        self.bytes(body);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn number(&mut self, mut value: usize) {
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                return self.0.push(low);
            }
            self.0.push(low | 0x80);
        }
    }

    pub(super) fn signed(&mut self, mut value: i64) {
        loop {
            let low = (value & 0x7f).cast_unsigned() as u8;
            value >>= 7;
            if (value == 0 && low & 0x40 == 0) || (value == -1 && low & 0x40 != 0) {
                return self.0.push(low);
            }
            self.0.push(low | 0x80);
        }
    }

    fn constant(&mut self, instruction: u8, operand: impl FnOnce(&mut Self)) {
        self.0.push(instruction);
        operand(self);
        self.0.push(0x0b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_sections_are_dropped_and_others_kept() {
        let module = [HEADER, &[0, 3, 1, b'x', 9][..], &[1, 1, 0], &[0, 2, 1, b'y']].concat();
        assert_eq!(strip(&module).unwrap(), [HEADER, &[1, 1, 0][..]].concat());
    }

    #[test]
    fn hostile_modules_are_refused_without_a_panic() {
        assert_eq!(strip(b""), Err(ModuleError::NotAModule));
        assert_eq!(strip(b"\0asm\x0d\0\x01\0"), Err(ModuleError::NotAModule));
        for tail in [
            &[1][..],
            &[1, 5, 0],
            &[1, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[1, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
        ] {
            assert_eq!(strip(&[HEADER, tail].concat()), Err(ModuleError::Malformed), "{tail:?}");
        }
    }

    /// Function `bump`: memory[0] += 1; global += 1; returns their sum. One page of memory, global from 5.
    fn counter() -> Vec<u8> {
        let body: &[u8] = &[
            0, 0x41, 0, 0x41, 0, 0x2d, 0, 0, 0x41, 1, 0x6a, 0x3a, 0, 0, 0x23, 0, 0x41, 1, 0x6a, 0x24, 0, 0x41, 0, 0x2d,
            0, 0, 0x23, 0, 0x6a, 0x0b,
        ];
        let mut out = Writer::module(0);
        out.section(1, &[1, 0x60, 0, 1, 0x7f]);
        out.section(3, &[1, 0]);
        out.section(section::MEMORY, &[1, 0, 1]);
        out.section(section::GLOBAL, &[1, 0x7f, 1, 0x41, 5, 0x0b]);
        out.section(section::EXPORT, &[1, 6, b'm', b'e', b'm', b'o', b'r', b'y', 2, 0]);
        let mut code = Writer(vec![1]);
        code.bytes(body);
        out.section(10, &code.0);
        out.section(section::DATA, &[1, 0, 0x41, 0, 0x0b, 1, 40]);
        out.0
    }

    #[test]
    fn a_frozen_module_goes_on_where_the_instance_stopped() {
        let engine = wasmtime::Engine::default();
        let (exposed, count) = expose_globals(&counter()).unwrap();
        assert_eq!(count, 1);
        assert!(wasmtime::Module::new(&engine, &exposed).is_ok());
        let mut memory = vec![0; 2 * PAGE];
        memory[0] = 200;
        memory[PAGE + 9] = 7;
        let state = State {
            memory: &memory,
            globals: &[GlobalValue::I32(-300)],
        };
        let frozen = freeze(&counter(), &state, Some(("go", 0))).unwrap();
        let module = wasmtime::Module::new(&engine, &frozen).unwrap();
        let mut store = wasmtime::Store::new(&engine, ());
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let go = instance.get_typed_func::<(), i32>(&mut store, "go").unwrap();
        assert_eq!(go.call(&mut store, ()).unwrap(), 201 - 299);
        assert_eq!(
            instance.get_memory(&mut store, "memory").unwrap().data(&store)[PAGE + 9],
            7
        );
    }

    #[test]
    fn modules_that_change_a_table_are_refused() {
        // One function: table.set 0 (ref.null func) at 0, or elem.drop 0.
        let with_body = |body: &[u8]| {
            let mut out = Writer::module(0);
            out.section(1, &[1, 0x60, 0, 0]);
            out.section(3, &[1, 0]);
            out.section(4, &[1, 0x70, 0, 1]);
            let mut code = Writer(vec![1]);
            code.bytes(body);
            out.section(10, &code.0);
            out.0
        };
        assert!(expose_globals(&with_body(&[0, 0x0b])).is_ok());
        for body in [&[0, 0x41, 0, 0xd0, 0x70, 0x26, 0, 0x0b][..], &[0, 0xfc, 13, 0, 0x0b]] {
            assert!(matches!(
                expose_globals(&with_body(body)),
                Err(ModuleError::Unsupported(_))
            ));
        }
    }

    #[test]
    fn only_functions_count_as_exported_functions() {
        assert_eq!(exports_function(&counter(), "memory"), Ok(false));
        assert_eq!(exports_function(&counter(), "go"), Ok(false));
        let memory = vec![0; PAGE];
        let state = State {
            memory: &memory,
            globals: &[GlobalValue::I32(0)],
        };
        let frozen = freeze(&counter(), &state, Some(("go", 0))).unwrap();
        assert_eq!(exports_function(&frozen, "go"), Ok(true));
    }

    #[test]
    fn a_state_of_another_module_is_refused() {
        let memory = vec![0; PAGE];
        let other = |memory: &[u8], globals: &[GlobalValue]| freeze(&counter(), &State { memory, globals }, None);
        assert_eq!(other(&memory, &[]), Err(ModuleError::OtherState));
        assert_eq!(other(&memory, &[GlobalValue::I64(1)]), Err(ModuleError::OtherState));
        assert_eq!(other(&memory, &[GlobalValue::I32(1); 2]), Err(ModuleError::OtherState));
        assert_eq!(
            other(&memory[1..], &[GlobalValue::I32(1)]),
            Err(ModuleError::OtherState)
        );
        assert_eq!(other(&[], &[GlobalValue::I32(1)]), Err(ModuleError::OtherState));
    }

    #[test]
    fn cut_off_modules_are_refused_without_a_panic() {
        let module = counter();
        for end in 8..module.len() {
            let _ = expose_globals(&module[..end]);
            let _ = freeze(
                &module[..end],
                &State {
                    memory: &[0; PAGE],
                    globals: &[],
                },
                None,
            );
            let _ = exports_function(&module[..end], "memory");
        }
    }
}
