//! Whether a component can be a program here: everything that a start would stumble over, known beforehand.

use wasmparser::{CanonicalFunction, ComponentInstance, Instance, Parser, Payload};
use wasmtime::component::Component;
use wasmtime_wasi::p2::bindings::CommandPre;
use wisp_kernel::{MAX_TABLE_ELEMENTS, Needs};

use super::{Components, MAX_INSTANCES, MAX_TABLES};

/// What may be imported.
const PACKAGES: [&str; 6] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];
/// Components in components, one level deep. Tools that make commands put one or two there, which adapt types.
const MAX_NESTED: usize = 16;
/// Functions that pass from a component to its modules or back. The host has some memory for each, in each process.
const MAX_CANONICAL: usize = 10_000;
/// What the host keeps for each item of a module (a function, an import, a global) in each of its instances, bytes.
const ITEM_BYTES: usize = 32;
/// Bytes that this adds up to for the instances of one process, each counted as one of the largest module.
const MAX_ITEM_BYTES: usize = 16 << 20;
/// Bytes of a page of linear memory.
const PAGE: u64 = 64 << 10;
/// Most characters of a name or an error that a message repeats.
const MAX_PRINTED_CHARS: usize = 200;

/// Why a component cannot be a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It wants something that nobody provides.
    #[error(
        "it imports `{0}`, which a sandbox does not have; a component may import cli, clocks, filesystem, io, random and \
         sockets of WASI 0.2 only"
    )]
    Import(String),
    /// It wants something by a type it does not have.
    #[error("it imports what a sandbox does not have in that form: {0}")]
    ImportType(String),
    /// It has no entry.
    #[error("it does not export `wasi:cli/run`: build a command with a `main`, not a library or a service")]
    NoRun,
    /// It has more than one memory.
    #[error("it is composed of parts with a memory each, and a sandbox runs components with one memory")]
    Composed,
    /// It declares more than an instance may have.
    #[error("it declares {0}")]
    TooLarge(String),
    /// It is no component.
    #[error("{0}")]
    Malformed(String),
}

/// Checks how a component is built, before anything is compiled. What the host has to keep for each of its processes, and
/// what compiling it takes, then grows no faster than the file.
///
/// # Errors
/// The first thing that keeps it from being a program.
pub fn check_structure(wasm: &[u8]) -> Result<(), Unfit> {
    let mut counts = Counts::default();
    let mut depth = 0;
    // The parser goes through nested components and modules itself, and keeps no more than their ends.
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(|error| Unfit::Malformed(printable(&error)))?;
        let nested = depth > 0;
        match payload {
            Payload::ModuleSection { .. } => {
                counts.items = 0;
                depth += 1;
            }
            Payload::ComponentSection { .. } => {
                counts.nested += 1;
                if nested {
                    return Err(Unfit::TooLarge("components in components in components".to_owned()));
                }
                depth += 1;
            }
            // Of a module or a component, the outermost included.
            Payload::End(_) => {
                counts.largest = counts.largest.max(counts.items);
                depth = usize::saturating_sub(depth, 1);
            }
            Payload::FunctionSection(items) => counts.items += items.count() as usize,
            Payload::ImportSection(items) => counts.items += items.count() as usize,
            Payload::GlobalSection(items) => counts.items += items.count() as usize,
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    let instance = instance.map_err(|error| Unfit::Malformed(printable(&error)))?;
                    counts.instances += usize::from(matches!(instance, Instance::Instantiate { .. }));
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances {
                    let instance = instance.map_err(|error| Unfit::Malformed(printable(&error)))?;
                    let made = matches!(instance, ComponentInstance::Instantiate { .. });
                    // One that makes two of another, which makes two of another, and so on, would be a great many.
                    if made && nested {
                        return Err(Unfit::TooLarge("components that are instantiated by others".to_owned()));
                    }
                    counts.nested += usize::from(made);
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions {
                    let function = function.map_err(|error| Unfit::Malformed(printable(&error)))?;
                    counts.canonical += 1;
                    counts.foreign |= !is_known(&function);
                }
            }
            _ => {}
        }
        counts.check()?;
    }
    Ok(())
}

#[derive(Default)]
struct Counts {
    instances: usize,
    nested: usize,
    canonical: usize,
    /// Of the module that is being read.
    items: usize,
    /// Of the module that has most.
    largest: usize,
    foreign: bool,
}

impl Counts {
    fn check(&self) -> Result<(), Unfit> {
        let bounds = [
            (self.instances, MAX_INSTANCES, "instances of modules"),
            (self.nested, 2 * MAX_NESTED, "nested components and their instances"),
            (self.canonical, MAX_CANONICAL, "functions between it and its modules"),
        ];
        for (count, most, what) in bounds {
            if count > most {
                return Err(Unfit::TooLarge(format!("more than {most} {what}")));
            }
        }
        if self.instances * self.largest * ITEM_BYTES > MAX_ITEM_BYTES {
            return Err(Unfit::TooLarge(format!(
                "{} instances of modules with up to {} functions, imports and globals",
                self.instances, self.largest
            )));
        }
        if self.foreign {
            return Err(Unfit::TooLarge(
                "asynchronous functions or threads, which WASI 0.2 does not have".to_owned(),
            ));
        }
        Ok(())
    }
}

/// What components of WASI 0.2 consist of.
fn is_known(function: &CanonicalFunction) -> bool {
    matches!(
        function,
        CanonicalFunction::Lift { .. }
            | CanonicalFunction::Lower { .. }
            | CanonicalFunction::ResourceNew { .. }
            | CanonicalFunction::ResourceDrop { .. }
            | CanonicalFunction::ResourceRep { .. }
    )
}

impl Components {
    /// Checks a compiled component.
    ///
    /// # Errors
    /// The first thing that keeps it from being a program.
    pub fn check(&self, component: &Component) -> Result<Needs, Unfit> {
        let ty = component.component_type();
        for (name, _) in ty.imports(&self.engine) {
            let known = PACKAGES.iter().any(|package| name.starts_with(package));
            if !known || !name.contains("@0.2.") {
                return Err(Unfit::Import(printable(&name)));
            }
        }
        let linked = self.linker.instantiate_pre(component);
        let linked = linked.map_err(|error| Unfit::ImportType(printable(&format!("{error:#}"))))?;
        CommandPre::new(linked).map_err(|_| Unfit::NoRun)?;
        check_size(component)
    }
}

/// Checks what a component declares against what its process may have.
fn check_size(component: &Component) -> Result<Needs, Unfit> {
    let Some(required) = component.resources_required() else {
        return Err(Unfit::Import("a module".to_owned()));
    };
    if required.num_memories > 1 {
        return Err(Unfit::Composed);
    }
    if required.num_tables as usize > MAX_TABLES {
        return Err(Unfit::TooLarge(format!(
            "{} tables, and may have {MAX_TABLES}",
            required.num_tables
        )));
    }
    let elements = required.max_initial_table_size.unwrap_or(0);
    if elements > MAX_TABLE_ELEMENTS as u64 {
        return Err(Unfit::TooLarge(format!(
            "a table of {elements} elements, and may have {MAX_TABLE_ELEMENTS}"
        )));
    }
    Ok(Needs {
        memory_bytes: required.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE),
    })
}

/// A text of the component's author, fit for a message.
fn printable(text: &dyn std::fmt::Display) -> String {
    text.to_string()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_PRINTED_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        CanonicalFunctionSection, CodeSection, Component as Builder, ComponentImportSection, ComponentInstanceSection,
        ComponentTypeRef, ComponentTypeSection, ExportKind, ExportSection, Function, FunctionSection, InstanceSection,
        InstanceType, Instruction, MemorySection, MemoryType, Module, ModuleArg, ModuleSection, NestedComponentSection,
        TypeSection,
    };

    use super::*;

    /// A module with this many memories, which nobody else can reach.
    fn module(memories: usize) -> Module {
        let mut section = MemorySection::new();
        for _ in 0..memories {
            section.memory(MemoryType {
                minimum: 1,
                maximum: None,
                memory64: false,
                shared: false,
                page_size_log2: None,
            });
        }
        let mut module = Module::new();
        module.section(&section);
        module
    }

    /// A component of modules, each instantiated as often as it says.
    fn of_modules(modules: &[(&Module, usize)]) -> Builder {
        let mut component = Builder::new();
        let mut instances = InstanceSection::new();
        for (index, (module, count)) in (0..).zip(modules) {
            component.section(&ModuleSection(module));
            for _ in 0..*count {
                instances.instantiate(index, std::iter::empty::<(&str, ModuleArg)>());
            }
        }
        component.section(&instances);
        component
    }

    fn nested(inner: &Builder) -> Builder {
        let mut component = Builder::new();
        component.section(&NestedComponentSection(inner));
        component
    }

    fn too_large(component: Builder) -> String {
        match check_structure(&component.finish()) {
            Err(Unfit::TooLarge(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    fn check(component: Builder) -> Result<Needs, Unfit> {
        let components = Components::new().unwrap();
        let wasm = component.finish();
        check_structure(&wasm)?;
        components.check(&Component::new(components.engine(), wasm).unwrap())
    }

    #[test]
    fn what_does_not_grow_with_the_file_is_accepted() {
        check_structure(&nested(&of_modules(&[(&module(1), 1)])).finish()).unwrap();
        check_structure(&of_modules(&[(&module(0), MAX_INSTANCES)]).finish()).unwrap();
    }

    #[test]
    fn what_multiplies_is_refused() {
        let instances = too_large(of_modules(&[(&module(0), MAX_INSTANCES + 1)]));
        assert!(instances.contains("instances"), "{instances}");
        let deep = too_large(nested(&nested(&Builder::new())));
        assert!(deep.contains("components in components"), "{deep}");
        let mut many = Builder::new();
        for _ in 0..=2 * MAX_NESTED {
            many.section(&NestedComponentSection(&Builder::new()));
        }
        let many = too_large(many);
        assert!(many.contains("nested"), "{many}");
        // A component that instantiates another of its parent's.
        let mut inner = Builder::new();
        let mut instances = ComponentInstanceSection::new();
        instances.instantiate(0, std::iter::empty::<(&str, wasm_encoder::ComponentExportKind, u32)>());
        inner.section(&instances);
        let by_others = too_large(nested(&inner));
        assert!(by_others.contains("by others"), "{by_others}");
        let mut functions = CanonicalFunctionSection::new();
        for _ in 0..=MAX_CANONICAL {
            functions.resource_drop(0);
        }
        let mut component = Builder::new();
        component.section(&functions);
        let functions = too_large(component);
        assert!(functions.contains("functions"), "{functions}");
    }

    #[test]
    fn many_instances_of_a_large_module_are_refused() {
        let mut functions = FunctionSection::new();
        let mut code = CodeSection::new();
        for _ in 0..10_000 {
            functions.function(0);
            let mut body = Function::new([]);
            body.instruction(&Instruction::End);
            code.function(&body);
        }
        let mut module = Module::new();
        module.section(&functions).section(&code);
        check_structure(&of_modules(&[(&module, MAX_INSTANCES / 2)]).finish()).unwrap();
        let what = too_large(of_modules(&[(&module, MAX_INSTANCES)]));
        assert!(what.contains("64 instances of modules with up to 10000"), "{what}");
    }

    #[test]
    fn asynchronous_functions_are_refused() {
        let mut functions = CanonicalFunctionSection::new();
        functions.waitable_set_new();
        let mut component = Builder::new();
        component.section(&functions);
        let what = too_large(component);
        assert!(what.contains("asynchronous"), "{what}");
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        let whole = nested(&of_modules(&[(&module(1), 1)])).finish();
        for len in 0..whole.len() {
            // A whole section may be missing: what is left is a component.
            if let Err(error) = check_structure(&whole[..len]) {
                assert!(matches!(error, Unfit::Malformed(_)), "{len}: {error:?}");
            }
        }
        assert!(check_structure(&whole[..whole.len() - 1]).is_err());
    }

    #[test]
    fn imports_of_others_and_libraries_are_refused() {
        let mut types = ComponentTypeSection::new();
        types.instance(&InstanceType::new());
        let mut imports = ComponentImportSection::new();
        imports.import("wasi:http/types@0.2.0", ComponentTypeRef::Instance(0));
        let mut component = Builder::new();
        component.section(&types).section(&imports);
        assert_eq!(check(component), Err(Unfit::Import("wasi:http/types@0.2.0".to_owned())));
        assert_eq!(check(Builder::new()), Err(Unfit::NoRun));
    }

    #[test]
    fn a_component_has_one_memory() {
        let (one, other) = (module(1), module(1));
        let twice = of_modules(&[(&one, 1), (&other, 1)]);
        let components = Components::new().unwrap();
        let component = Component::new(components.engine(), twice.finish()).unwrap();
        assert_eq!(component.resources_required().unwrap().num_memories, 2);
        assert_eq!(check_size(&component), Err(Unfit::Composed));
    }

    #[test]
    fn a_start_function_runs_before_anything_else_and_yields() {
        // The engine's code has checks for the epoch: an endless start function ends with an interrupt.
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut functions = FunctionSection::new();
        functions.function(0);
        let mut exports = ExportSection::new();
        exports.export("f", ExportKind::Func, 0);
        let mut body = Function::new([]);
        for instruction in [
            Instruction::Loop(wasm_encoder::BlockType::Empty),
            Instruction::Br(0),
            Instruction::End,
            Instruction::End,
        ] {
            body.instruction(&instruction);
        }
        let mut code = CodeSection::new();
        code.function(&body);
        let mut module = Module::new();
        let start = wasm_encoder::StartSection { function_index: 0 };
        module
            .section(&types)
            .section(&functions)
            .section(&exports)
            .section(&start)
            .section(&code);
        let components = Components::new().unwrap();
        let wasm = of_modules(&[(&module, 1)]).finish();
        let component = Component::new(components.engine(), wasm).unwrap();
        let mut store = wasmtime::Store::new(components.engine(), ());
        store.set_epoch_deadline(0);
        let linker = wasmtime::component::Linker::new(components.engine());
        let error = linker.instantiate(&mut store, &component).map(|_| ()).unwrap_err();
        assert_eq!(error.downcast_ref::<wasmtime::Trap>(), Some(&wasmtime::Trap::Interrupt));
    }
}
