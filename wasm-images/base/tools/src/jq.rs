//! `jq`, on the interpreter of the jaq project.

use std::collections::VecDeque;
use std::io::{self, Write};

use jaq_core::data::HasLut;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, DataT, Lut, Vars, unwrap_valr};
use jaq_json::write::{Pp, Styles};
use jaq_json::{Val, read};
use jaq_std::input::{HasInputs, Inputs, RcIter};

use crate::cli::{complain, fail, finish, reason, stdout};
use crate::input;

/// Exit statuses of jq.
const FALSE_OR_NULL: i32 = 1;
const USAGE: i32 = 2;
const BAD_PROGRAM: i32 = 3;
const NO_OUTPUT: i32 = 4;
const FAILED: i32 = 5;
/// Deepest `--indent`.
const MAX_INDENT: usize = 7;

/// What jq defines and the jaq project leaves out or defines otherwise.
const DEFINITIONS: &str = r#"
def cell(text): if . == null then "" elif isboolean or isnumber then tostring elif isstring then text
  else error("\(type) (\(tojson)) is not valid in a csv or tsv row") end;
def @csv: map(cell("\"" + gsub("\""; "\"\"") + "\"")) | join(",");
def @tsv: map(cell(gsub("\\\\"; "\\\\") | gsub("\t"; "\\t") | gsub("\n"; "\\n") | gsub("\r"; "\\r"))) | join("\t");
def from_entries: reduce .[] as $entry ({};
  . + { ($entry | [.key, .k, .name, .Name, .Key, .K] | map(values) | .[0] | if isstring then . else tojson end):
        ($entry | if has("value") then .value elif has("v") then .v else .Value end) });
def with_entries(f): to_entries | map(f) | from_entries;
def delpaths($paths): reduce ($paths | sort | reverse[]) as $path (.; getpath($path) |= empty);
def del(f): delpaths([path(f)]);
def leaf_paths: paths(scalars);
def IN(source): any(source == .; .);
def IN(source; s): any(source == s; .);
def INDEX(stream; f): reduce stream as $row ({}; . + { ($row | f | tostring): $row });
def INDEX(f): INDEX(.[]; f);
def ascii: [.] | implode;
def tostream: path(def r: (.[]? | r), .; r) as $p | getpath($p)
  | reduce path(.[]?) as $q ([$p, .]; [$p + $q]);
"#;

/// What the command line says.
struct Options {
    program: Option<String>,
    program_file: Option<String>,
    files: Vec<String>,
    raw_output: bool,
    join_output: bool,
    null_input: bool,
    slurp: bool,
    raw_input: bool,
    exit_status: bool,
    sort_keys: bool,
    color: bool,
    indent: Option<String>,
    /// Variables of the program, without `$`.
    variables: Vec<(String, Val)>,
    /// `$ARGS.positional`.
    positional: Vec<Val>,
}

/// What native filters see: the program's table of terms and the inputs not read yet.
struct Data;

#[derive(Clone)]
struct Globals<'a> {
    lut: &'a Lut<Data>,
    inputs: Inputs<'a, Val>,
}

impl DataT for Data {
    type V<'a> = Val;
    type Data<'a> = Globals<'a>;
}

impl<'a> HasLut<'a, Data> for Globals<'a> {
    fn lut(&self) -> &'a Lut<Data> {
        self.lut
    }
}

impl<'a> HasInputs<'a, Val> for Globals<'a> {
    fn inputs(&self) -> Inputs<'a, Val> {
        self.inputs
    }
}

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    match parse(args.get(1..).unwrap_or_default()) {
        Ok(options) => run(options),
        Err(message) => fail("jq", format_args!("error: {message}"), USAGE),
    }
}

/// Reads the command line; options may stand anywhere and some take two arguments.
fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        program: None,
        program_file: None,
        files: Vec::new(),
        raw_output: false,
        join_output: false,
        null_input: false,
        slurp: false,
        raw_input: false,
        exit_status: false,
        sort_keys: false,
        color: false,
        indent: Some("  ".to_owned()),
        variables: Vec::new(),
        positional: Vec::new(),
    };
    let mut words: VecDeque<&str> = args.iter().map(String::as_str).collect();
    let (mut only_operands, mut rest) = (false, Rest::Files);
    while let Some(word) = words.pop_front() {
        if only_operands || !word.starts_with('-') || word == "-" {
            if options.program.is_none() && options.program_file.is_none() {
                options.program = Some(word.to_owned());
                continue;
            }
            match rest {
                Rest::Files => options.files.push(word.to_owned()),
                Rest::Strings => options.positional.push(Val::utf8_str(word.to_owned())),
                Rest::Json => options.positional.push(json(word)?),
            }
        } else if let Some(long) = word.strip_prefix("--") {
            if long.is_empty() {
                only_operands = true;
            } else {
                parse_long(long, &mut words, &mut rest, &mut options)?;
            }
        } else {
            for letter in word.chars().skip(1) {
                parse_letter(letter, &mut words, &mut options)?;
            }
        }
    }
    if options.program_file.is_some() {
        // The first operand was taken for the program.
        options.files.splice(0..0, options.program.take());
    }
    Ok(options)
}

/// What operands after the program are.
#[derive(Clone, Copy)]
enum Rest {
    Files,
    Strings,
    Json,
}

fn parse_letter(letter: char, words: &mut VecDeque<&str>, options: &mut Options) -> Result<(), String> {
    match letter {
        'r' => options.raw_output = true,
        'j' => options.join_output = true,
        'c' => options.indent = None,
        'n' => options.null_input = true,
        's' => options.slurp = true,
        'R' => options.raw_input = true,
        'e' => options.exit_status = true,
        'S' => options.sort_keys = true,
        'C' => options.color = true,
        'M' => options.color = false,
        // Output is written when the program ends.
        'a' | 'u' => {}
        'f' => options.program_file = Some(words.pop_front().ok_or("-f takes a file name")?.to_owned()),
        _ => return Err(format!("Unknown arguments: -{letter}")),
    }
    Ok(())
}

fn parse_long(name: &str, words: &mut VecDeque<&str>, rest: &mut Rest, options: &mut Options) -> Result<(), String> {
    let letters = [
        ("raw-output", 'r'),
        ("join-output", 'j'),
        ("compact-output", 'c'),
        ("null-input", 'n'),
        ("slurp", 's'),
        ("raw-input", 'R'),
        ("exit-status", 'e'),
        ("sort-keys", 'S'),
        ("color-output", 'C'),
        ("monochrome-output", 'M'),
        ("ascii-output", 'a'),
        ("unbuffered", 'u'),
        ("from-file", 'f'),
    ];
    if let Some((_, letter)) = letters.iter().find(|(long, _)| *long == name) {
        return parse_letter(*letter, words, options);
    }
    let mut next = || {
        words
            .pop_front()
            .map(str::to_owned)
            .ok_or_else(|| format!("--{name} takes more arguments"))
    };
    match name {
        "tab" => options.indent = Some("\t".to_owned()),
        "indent" => {
            let width = next()?.parse().ok().filter(|width| *width <= MAX_INDENT);
            let width = width.ok_or_else(|| format!("--indent takes a number from 0 to {MAX_INDENT}"))?;
            options.indent = (width > 0).then(|| " ".repeat(width));
        }
        "arg" => options.variables.push((next()?, Val::utf8_str(next()?))),
        "argjson" => options.variables.push((next()?, json(&next()?)?)),
        "slurpfile" => {
            let (name, file) = (next()?, next()?);
            let values = values(&read_file(&file)?).into_iter().collect::<Result<Vec<_>, _>>();
            let values = values.map_err(|message| format!("Bad JSON in --slurpfile {name} {file}: {message}"))?;
            options.variables.push((name, values.into_iter().collect()));
        }
        "rawfile" => options.variables.push((next()?, Val::utf8_str(read_file(&next()?)?))),
        "args" => *rest = Rest::Strings,
        "jsonargs" => *rest = Rest::Json,
        _ => return Err(format!("Unknown arguments: --{name}")),
    }
    Ok(())
}

fn run(mut options: Options) -> i32 {
    let program = match (&options.program, &options.program_file) {
        (_, Some(file)) => read_file(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        (Some(program), None) => Ok(program.clone()),
        (None, None) => Ok(".".to_owned()),
    };
    let program = match program {
        Ok(program) => program,
        Err(message) => return fail("jq", format_args!("error: {message}"), USAGE),
    };
    let mut status = 0;
    let mut texts = Vec::new();
    if options.files.is_empty() {
        options.files.push("-".to_owned());
    }
    // Without input nothing may be waited for; `input` in a program with -n still reads.
    if !options.null_input || program.contains("input") {
        for file in &options.files {
            match read_file(file) {
                Ok(text) => texts.push(text),
                Err(message) => {
                    complain("jq", format_args!("error: Could not open {message}"));
                    status = USAGE;
                }
            }
        }
    }
    let inputs = inputs(&texts.concat(), &options);
    match execute(&program, inputs, &options) {
        Ok(0) => status,
        Ok(other) => other,
        Err(message) => {
            complain("jq", format_args!("error: {message}\njq: 1 compile error"));
            BAD_PROGRAM
        }
    }
}

fn read_file(name: &str) -> Result<Vec<u8>, String> {
    input::read_all(name).map_err(|error| format!("{name}: {}", reason(&error)))
}

/// The values the program is run on, as `-R` and `-s` want them.
fn inputs(text: &[u8], options: &Options) -> Vec<Result<Val, String>> {
    match (options.raw_input, options.slurp) {
        (true, true) => vec![Ok(Val::utf8_str(text.to_vec()))],
        (true, false) => input::lines(text)
            .map(|line| Ok(Val::utf8_str(line.to_vec())))
            .collect(),
        (false, true) => vec![
            values(text)
                .into_iter()
                .collect::<Result<Vec<_>, _>>()
                .map(|all| all.into_iter().collect()),
        ],
        (false, false) => values(text),
    }
}

fn values(text: &[u8]) -> Vec<Result<Val, String>> {
    let mut values = Vec::new();
    for value in read::parse_many(text) {
        let failed = value.is_err();
        values.push(value.map_err(|error| error.to_string()));
        if failed {
            break;
        }
    }
    values
}

fn json(text: &str) -> Result<Val, String> {
    read::parse_single(text.as_bytes()).map_err(|error| format!("Invalid JSON text {text}: {error}"))
}

/// Compiles the program and runs it on every input.
fn execute(code: &str, inputs: Vec<Result<Val, String>>, options: &Options) -> Result<i32, String> {
    let ours = jaq_core::load::parse(DEFINITIONS, |parser| parser.defs()).unwrap_or_default();
    let definitions = jaq_core::defs()
        .chain(jaq_std::defs())
        .chain(jaq_json::defs())
        .chain(ours);
    let input_functions = jaq_std::input::funs::<Data>()
        .into_vec()
        .into_iter()
        .map(jaq_core::native::run::<Data>);
    let functions = jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs())
        .chain(input_functions);
    let arena = Arena::default();
    let modules = Loader::new(definitions).load(&arena, File { code, path: () });
    let modules = modules.map_err(|_| format!("syntax error in: {code}"))?;
    let mut names: Vec<String> = options.variables.iter().map(|(name, _)| format!("${name}")).collect();
    names.extend(["$ENV".to_owned(), "$ARGS".to_owned()]);
    let filter = Compiler::default()
        .with_funs(functions)
        .with_global_vars(names.iter().map(String::as_str))
        .compile(modules)
        .map_err(|errors| undefined(&errors))?;

    let named: Val = Val::obj(
        options
            .variables
            .iter()
            .map(|(n, v)| (Val::utf8_str(n.clone()), v.clone()))
            .collect(),
    );
    let environment: Val = Val::obj(
        std::env::vars()
            .map(|(n, v)| (Val::utf8_str(n), Val::utf8_str(v)))
            .collect(),
    );
    let positional: Val = options.positional.iter().cloned().collect();
    let arguments = [("positional", positional), ("named", named)];
    let arguments = Val::obj(
        arguments
            .into_iter()
            .map(|(n, v)| (Val::utf8_str(n.to_owned()), v))
            .collect(),
    );
    let variables: Vec<Val> = options
        .variables
        .iter()
        .map(|(_, value)| value.clone())
        .chain([environment, arguments])
        .collect();

    let inputs = RcIter::new(inputs.into_iter());
    let globals = Globals {
        lut: &filter.lut,
        inputs: &inputs,
    };
    let null = std::iter::once(Ok(Val::Null));
    let values: Box<dyn Iterator<Item = Result<Val, String>>> = if options.null_input {
        Box::new(null)
    } else {
        Box::new(&inputs)
    };
    let printer = Printer::new(options);
    let mut out = stdout();
    let (mut status, mut last) = (0, None);
    'inputs: for value in values {
        let value = match value {
            Ok(value) => value,
            Err(message) => {
                let _ = out.flush();
                let _ = writeln!(io::stderr(), "parse error: {message}");
                status = NO_OUTPUT;
                break;
            }
        };
        let context = Ctx::<Data>::new(globals.clone(), Vars::new(variables.iter().cloned()));
        for result in filter.id.run((context, value)).map(unwrap_valr) {
            match result {
                Ok(value) => {
                    if printer.print(&mut out, &value).is_err() {
                        break 'inputs;
                    }
                    last = Some(value);
                }
                Err(error) => {
                    // What came before is seen before it.
                    let _ = out.flush();
                    complain("jq", format_args!("error (at <stdin>): {error}"));
                    status = FAILED;
                    break;
                }
            }
        }
    }
    if options.exit_status && status == 0 {
        status = match last {
            None => NO_OUTPUT,
            Some(Val::Null | Val::Bool(false)) => FALSE_OR_NULL,
            Some(_) => 0,
        };
    }
    Ok(finish("jq", out, status))
}

/// Names what a program uses and nothing defines.
fn undefined(errors: &jaq_core::load::Errors<&str, (), Vec<jaq_core::compile::Error<&str>>>) -> String {
    let all = errors.iter().flat_map(|(_, errors)| errors);
    let texts: Vec<String> = all
        .map(|(name, kind)| format!("{name} is not defined ({})", kind.as_str()))
        .collect();
    texts.join("\n")
}

/// How values are written.
struct Printer {
    form: Pp,
    raw: bool,
    end: &'static str,
}

impl Printer {
    fn new(options: &Options) -> Self {
        let styles = if options.color {
            Styles::ansi()
        } else {
            Styles::default()
        };
        let form = Pp {
            indent: options.indent.clone(),
            sort_keys: options.sort_keys,
            styles,
            sep_space: options.indent.is_some(),
        };
        let end = if options.join_output { "" } else { "\n" };
        Self {
            form,
            raw: options.raw_output || options.join_output,
            end,
        }
    }

    fn print(&self, out: &mut impl Write, value: &Val) -> io::Result<()> {
        match value {
            Val::TStr(text) | Val::BStr(text) if self.raw => out.write_all(text)?,
            value => jaq_json::write::write(out, &self.form, 0, value)?,
        }
        out.write_all(self.end.as_bytes())
    }
}
