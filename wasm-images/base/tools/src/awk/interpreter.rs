//! Runs a parsed program by walking its tree.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::rc::Rc;

use regex::Regex;

use super::ast::{Arithmetic, Comparison, Expression, Pattern, Program, Source, Statement, Target, Variable, slot};
use super::lexer::unescape;
use super::streams::{Records, Separator, Streams};
use super::value::{Array, Value, compile};
use crate::cli::{complain, fail, reason};

/// Regular expressions made at run time that are kept compiled.
const MAX_CACHED: usize = 256;
/// The highest field a program may assign to.
const MAX_FIELD: f64 = 1e6;

/// An array, shared between the callers and callees it is passed to.
pub type ArrayRef = Rc<RefCell<Array>>;

/// What a variable holds.
#[derive(Clone, Debug, Default)]
enum Slot {
    #[default]
    Unset,
    Value(Value),
    Array(ArrayRef),
}

/// Why evaluation ends early.
#[derive(Debug)]
pub enum Stop {
    /// `exit` with this status, if any.
    Exit(Option<i32>),
    /// `next`
    Next,
    /// `nextfile`
    NextFile,
    /// The reader of standard output went away.
    Closed,
    /// An error the program ends with.
    Fatal(String),
}

/// How a statement ended.
enum Flow {
    Normal,
    Break,
    Continue,
    Return(Value),
}

/// Short for results of evaluation.
pub type Evaluated<T> = Result<T, Stop>;

/// A program being run.
pub struct Interpreter<'p> {
    program: &'p Program,
    names: HashMap<String, usize>,
    globals: Vec<Slot>,
    frame: Vec<Slot>,
    record: Rc<str>,
    /// The fields, when `split` is true.
    fields: Vec<Value>,
    split: bool,
    /// `record` is out of date: a field was assigned to.
    stale: bool,
    /// Files and commands.
    pub streams: Streams,
    regexes: HashMap<Rc<str>, Rc<Regex>>,
    separator: Option<(Rc<str>, Separator)>,
    operands: Vec<String>,
    next_operand: usize,
    opened_any: bool,
    input: Option<Records>,
    ranges: Vec<bool>,
    /// State of `rand`.
    pub random: u64,
    /// The seed in use.
    pub seed: f64,
    status: i32,
}

impl<'p> Interpreter<'p> {
    /// Prepares a program; `operands[0]` is the name it sees as `ARGV[0]`.
    pub fn new(program: &'p Program, names: HashMap<String, usize>, operands: Vec<String>) -> Self {
        let mut globals = vec![Slot::Unset; program.globals.len()];
        let array = |pairs: Vec<(String, String)>| {
            let mut array = Array::default();
            for (key, value) in pairs {
                array.set(key.into(), Value::input(&value));
            }
            Slot::Array(Rc::new(RefCell::new(array)))
        };
        let text = |text: &str| Slot::Value(Value::text(text));
        globals[slot::FS] = text(" ");
        globals[slot::OFS] = text(" ");
        globals[slot::ORS] = text("\n");
        globals[slot::RS] = text("\n");
        globals[slot::SUBSEP] = text("\u{1c}");
        globals[slot::CONVFMT] = text("%.6g");
        globals[slot::OFMT] = text("%.6g");
        globals[slot::RSTART] = Slot::Value(Value::Number(0.0));
        globals[slot::RLENGTH] = Slot::Value(Value::Number(-1.0));
        globals[slot::NR] = Slot::Value(Value::Number(0.0));
        globals[slot::FNR] = Slot::Value(Value::Number(0.0));
        globals[slot::ARGC] = Slot::Value(Value::Number(operands.len() as f64));
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        globals[slot::ENVIRON] = array(
            std::env::vars_os()
                .map(|(name, value)| (lossy(name), lossy(value)))
                .collect(),
        );
        globals[slot::ARGV] = array(
            operands
                .iter()
                .enumerate()
                .map(|(i, word)| (i.to_string(), word.clone()))
                .collect(),
        );
        Self {
            program,
            names,
            globals,
            frame: Vec::new(),
            record: "".into(),
            fields: Vec::new(),
            split: true,
            stale: false,
            streams: Streams::new(),
            regexes: HashMap::new(),
            separator: None,
            operands,
            next_operand: 1,
            opened_any: false,
            input: None,
            ranges: vec![false; program.ranges],
            random: 0x9e37_79b9_7f4a_7c15,
            seed: 0.0,
            status: 0,
        }
    }

    /// Sets a global from the command line; escapes are resolved.
    pub fn assign(&mut self, name: &str, text: &str) {
        if let Some(&slot) = self.names.get(name) {
            let _ = self.set_global(slot, Value::input(&unescape(text)));
        }
    }

    /// Runs everything and gives the exit status.
    pub fn run(&mut self) -> i32 {
        let mut outcome = self.begin_and_main();
        if let Ok(()) | Err(Stop::Exit(_)) = outcome {
            if let Err(Stop::Exit(Some(status))) = outcome {
                self.status = status;
            }
            outcome = self.rules(|pattern| matches!(pattern, Pattern::End));
        }
        match outcome {
            Err(Stop::Exit(Some(status))) => self.status = status,
            Err(Stop::Fatal(message)) => {
                let _ = self.streams.close_all();
                return fail("awk", message, 2);
            }
            _ => {}
        }
        match self.streams.close_all() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail("awk", reason(&error), 2),
            _ => self.status,
        }
    }

    fn begin_and_main(&mut self) -> Evaluated<()> {
        let program = self.program;
        self.rules(|pattern| matches!(pattern, Pattern::Begin))?;
        if program
            .rules
            .iter()
            .all(|(pattern, _)| matches!(pattern, Pattern::Begin))
        {
            return Ok(());
        }
        while let Some(record) = self.next_main_record()? {
            self.set_record(record.into());
            match self.rules(|pattern| !matches!(pattern, Pattern::Begin | Pattern::End)) {
                Ok(()) | Err(Stop::Next) => {}
                Err(Stop::NextFile) => self.input = None,
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    fn rules(&mut self, wanted: impl Fn(&Pattern) -> bool) -> Evaluated<()> {
        for (pattern, action) in self.program.rules.iter().filter(|(pattern, _)| wanted(pattern)) {
            let applies = match pattern {
                Pattern::Begin | Pattern::End | Pattern::Always => true,
                Pattern::When(condition) => self.evaluate(condition)?.truth(),
                Pattern::Range(first, last, index) => {
                    let inside = self.ranges[*index] || self.evaluate(first)?.truth();
                    self.ranges[*index] = inside && !self.evaluate(last)?.truth();
                    inside
                }
            };
            if applies {
                self.block(action)?;
            }
        }
        Ok(())
    }

    // Input.

    fn separator(&mut self) -> Evaluated<Separator> {
        let text = self.global_text(slot::RS);
        if let Some((known, separator)) = &self.separator
            && *known == text
        {
            return Ok(separator.clone());
        }
        let separator = match text.as_bytes() {
            [] => Separator::Paragraph,
            [byte] => Separator::Byte(*byte),
            _ => Separator::Pattern(self.regex(&text)?),
        };
        self.separator = Some((text, separator.clone()));
        Ok(separator)
    }

    /// The next record of the files of the command line, counted in NR and FNR.
    fn next_main_record(&mut self) -> Evaluated<Option<String>> {
        loop {
            if self.input.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let separator = self.separator()?;
            let Some(input) = &mut self.input else { continue };
            match input.next(&separator) {
                Ok(Some((record, terminator))) => {
                    self.count(slot::NR)?;
                    self.count(slot::FNR)?;
                    self.set_global(slot::RT, Value::text(&terminator))?;
                    return Ok(Some(record));
                }
                Ok(None) => self.input = None,
                Err(error) => {
                    complain(
                        "awk",
                        format_args!("{}: {}", self.global_text(slot::FILENAME), reason(&error)),
                    );
                    self.status = 2;
                    self.input = None;
                }
            }
        }
    }

    fn count(&mut self, slot: usize) -> Evaluated<()> {
        let number = self.global_value(slot)?.number();
        self.set_global(slot, Value::Number(number + 1.0))
    }

    /// Opens the next file operand; assignments among the operands are made on the way.
    fn open_next(&mut self) -> Evaluated<bool> {
        loop {
            let count = self.global_value(slot::ARGC)?.number() as usize;
            let operand = if self.next_operand < count {
                let key = self.next_operand.to_string();
                self.next_operand += 1;
                match &self.globals[slot::ARGV] {
                    Slot::Array(array) => match array.borrow().peek(&key) {
                        Some(value) => value.string("%.6g"),
                        None => continue,
                    },
                    _ => continue,
                }
            } else if self.opened_any {
                return Ok(false);
            } else {
                "-".into()
            };
            if operand.is_empty() {
                continue;
            }
            if let Some((name, value)) = operand.split_once('=')
                && !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            {
                self.assign(name, value);
                continue;
            }
            self.opened_any = true;
            let input: Box<dyn Read> = if &*operand == "-" || &*operand == "/dev/stdin" {
                Box::new(io::stdin())
            } else {
                let opened = File::open(&*operand).and_then(|file| {
                    if file.metadata()?.is_dir() {
                        Err(io::Error::from(io::ErrorKind::IsADirectory))
                    } else {
                        Ok(file)
                    }
                });
                match opened {
                    Ok(file) => Box::new(file),
                    Err(error) => {
                        complain("awk", format_args!("cannot open \"{operand}\" ({})", reason(&error)));
                        self.status = 2;
                        continue;
                    }
                }
            };
            self.input = Some(Records::new(input));
            self.set_global(slot::FNR, Value::Number(0.0))?;
            let name = if self.operands.len() <= 1 && &*operand == "-" {
                ""
            } else {
                &*operand
            };
            self.set_global(slot::FILENAME, Value::text(name))?;
            return Ok(true);
        }
    }

    // The record and its fields.

    fn set_record(&mut self, record: Rc<str>) {
        self.record = record;
        self.split = false;
        self.stale = false;
    }

    /// `$0` as it is now.
    fn record(&mut self) -> Rc<str> {
        if self.stale {
            let separator = self.global_text(slot::OFS);
            let convfmt = self.global_text(slot::CONVFMT);
            let fields: Vec<Rc<str>> = self.fields.iter().map(|field| field.string(&convfmt)).collect();
            self.record = fields.join(&*separator).into();
            self.stale = false;
        }
        self.record.clone()
    }

    fn split_record(&mut self) -> Evaluated<()> {
        if self.split {
            return Ok(());
        }
        self.split = true;
        let record = self.record.clone();
        let separator = self.global_text(slot::FS);
        let paragraph = self.global_text(slot::RS).is_empty();
        self.fields = self
            .split_text(&record, &separator, paragraph)?
            .into_iter()
            .map(|field| Value::input(&field))
            .collect();
        Ok(())
    }

    /// Splits text as `FS` does.
    pub fn split_text(&mut self, text: &str, separator: &str, newline_too: bool) -> Evaluated<Vec<String>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        if separator == " " {
            return Ok(text
                .split([' ', '\t', '\n'])
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect());
        }
        if separator.is_empty() {
            return Ok(text.chars().map(String::from).collect());
        }
        let mut single = separator.chars();
        if let (Some(c), None) = (single.next(), single.next())
            && c != '\\'
        {
            return Ok(text
                .split(|x| x == c || newline_too && x == '\n')
                .map(str::to_owned)
                .collect());
        }
        let regex = if newline_too {
            self.regex(&format!("({separator})|\n").into())?
        } else {
            self.regex(&separator.into())?
        };
        Ok(split_at_matches(text, &regex))
    }

    fn field(&mut self, index: f64) -> Evaluated<Value> {
        if index < 0.0 || index.is_nan() {
            return Err(Stop::Fatal(format!("attempt to access field {index}")));
        }
        let index = index as usize;
        if index == 0 {
            let record = self.record();
            return Ok(Value::input(&record));
        }
        self.split_record()?;
        Ok(self.fields.get(index - 1).cloned().unwrap_or_default())
    }

    fn set_field(&mut self, index: f64, value: Value) -> Evaluated<()> {
        if !(0.0..=MAX_FIELD).contains(&index) {
            return Err(Stop::Fatal(format!("attempt to assign to field {index}")));
        }
        let index = index as usize;
        let convfmt = self.global_text(slot::CONVFMT);
        let text = value.string(&convfmt);
        if index == 0 {
            self.set_record(text);
            return Ok(());
        }
        self.split_record()?;
        if self.fields.len() < index {
            self.fields.resize(index, Value::text(""));
        }
        self.fields[index - 1] = match value {
            Value::Number(number) => Value::Numeric(text, number),
            other => other,
        };
        self.stale = true;
        Ok(())
    }

    // Variables.

    fn global_value(&mut self, index: usize) -> Evaluated<Value> {
        if index == slot::NF {
            self.split_record()?;
            return Ok(Value::Number(self.fields.len() as f64));
        }
        match &self.globals[index] {
            Slot::Unset => Ok(Value::Unset),
            Slot::Value(value) => Ok(value.clone()),
            Slot::Array(_) => Err(Stop::Fatal(format!(
                "array '{}' is used as a value",
                self.program.globals[index]
            ))),
        }
    }

    /// A global as a string.
    pub fn global_text(&self, index: usize) -> Rc<str> {
        match &self.globals[index] {
            Slot::Value(value) => value.string("%.6g"),
            _ => "".into(),
        }
    }

    /// Sets a global.
    pub fn set_global(&mut self, index: usize, value: Value) -> Evaluated<()> {
        if index == slot::NF {
            let count = value.number();
            if !(0.0..=MAX_FIELD).contains(&count) {
                return Err(Stop::Fatal(format!("NF cannot be {count}")));
            }
            self.split_record()?;
            self.fields.resize(count as usize, Value::text(""));
            self.stale = true;
            return Ok(());
        }
        if index == slot::FS {
            // The record at hand is split with the old separator.
            self.split_record()?;
        }
        if matches!(self.globals[index], Slot::Array(_)) {
            return Err(Stop::Fatal(format!(
                "array '{}' is used as a value",
                self.program.globals[index]
            )));
        }
        self.globals[index] = Slot::Value(value);
        Ok(())
    }

    fn value(&mut self, variable: Variable) -> Evaluated<Value> {
        match variable {
            Variable::Global(index) => self.global_value(index),
            Variable::Local(index) => match self.frame.get(index) {
                Some(Slot::Value(value)) => Ok(value.clone()),
                Some(Slot::Array(_)) => Err(Stop::Fatal("an array is used as a value".into())),
                _ => Ok(Value::Unset),
            },
        }
    }

    fn set(&mut self, variable: Variable, value: Value) -> Evaluated<()> {
        match variable {
            Variable::Global(index) => self.set_global(index, value),
            Variable::Local(index) => {
                if let Some(Slot::Array(_)) = self.frame.get(index) {
                    return Err(Stop::Fatal("an array is used as a value".into()));
                }
                if let Some(slot) = self.frame.get_mut(index) {
                    *slot = Slot::Value(value);
                }
                Ok(())
            }
        }
    }

    /// The array a variable names; an unset variable becomes one.
    pub fn array(&mut self, variable: Variable) -> Evaluated<ArrayRef> {
        let slot = match variable {
            Variable::Global(index) => self.globals.get_mut(index),
            Variable::Local(index) => self.frame.get_mut(index),
        };
        match slot {
            Some(Slot::Array(array)) => Ok(array.clone()),
            Some(slot @ (Slot::Unset | Slot::Value(Value::Unset))) => {
                let array = ArrayRef::default();
                *slot = Slot::Array(array.clone());
                Ok(array)
            }
            _ => Err(Stop::Fatal("a value is used as an array".into())),
        }
    }

    /// Whether a variable holds an array.
    pub fn is_array(&self, variable: Variable) -> bool {
        let slot = match variable {
            Variable::Global(index) => self.globals.get(index),
            Variable::Local(index) => self.frame.get(index),
        };
        matches!(slot, Some(Slot::Array(_)))
    }

    fn key(&mut self, keys: &[Expression]) -> Evaluated<Rc<str>> {
        let convfmt = self.global_text(slot::CONVFMT);
        if let [single] = keys {
            return Ok(self.evaluate(single)?.string(&convfmt));
        }
        let mut parts = Vec::with_capacity(keys.len());
        for key in keys {
            parts.push(self.evaluate(key)?.string(&convfmt));
        }
        Ok(parts.join(&*self.global_text(slot::SUBSEP)).into())
    }

    fn store(&mut self, place: &Expression, value: Value) -> Evaluated<()> {
        match place {
            Expression::Variable(variable) => self.set(*variable, value),
            Expression::Field(index) => {
                let index = self.evaluate(index)?.number();
                self.set_field(index, value)
            }
            Expression::Element(array, keys) => {
                let key = self.key(keys)?;
                self.array(*array)?.borrow_mut().set(key, value);
                Ok(())
            }
            _ => Err(Stop::Fatal(
                "only a variable, field or element can be assigned to".into(),
            )),
        }
    }

    /// Stores text that `sub`, `gsub` or `getline` made, in `$0` when there is no place.
    pub fn store_or_record(&mut self, place: Option<&Expression>, value: Value) -> Evaluated<()> {
        match place {
            Some(place) => self.store(place, value),
            None => self.set_field(0.0, value),
        }
    }

    // Regular expressions.

    /// A compiled regular expression.
    pub fn regex(&mut self, pattern: &Rc<str>) -> Evaluated<Rc<Regex>> {
        if let Some(regex) = self.regexes.get(pattern) {
            return Ok(regex.clone());
        }
        let regex =
            compile(pattern).map_err(|error| Stop::Fatal(format!("regular expression \"{pattern}\": {error}")))?;
        if self.regexes.len() >= MAX_CACHED {
            self.regexes.clear();
        }
        let regex = Rc::new(regex);
        self.regexes.insert(pattern.clone(), regex.clone());
        Ok(regex)
    }

    /// An expression as a regular expression: one between slashes as it is, anything else by its text.
    pub fn as_regex(&mut self, expression: &Expression) -> Evaluated<Rc<Regex>> {
        if let Expression::Regex(regex) = expression {
            return Ok(regex.clone());
        }
        let pattern = self.text(expression)?;
        self.regex(&pattern)
    }

    // Expressions.

    /// The value as a string.
    pub fn text(&mut self, expression: &Expression) -> Evaluated<Rc<str>> {
        let value = self.evaluate(expression)?;
        Ok(match value {
            Value::Text(text) | Value::Numeric(text, _) => text,
            other => other.string(&self.global_text(slot::CONVFMT)),
        })
    }

    /// The value as a number.
    pub fn number(&mut self, expression: &Expression) -> Evaluated<f64> {
        Ok(self.evaluate(expression)?.number())
    }

    /// The value of an expression.
    pub fn evaluate(&mut self, expression: &Expression) -> Evaluated<Value> {
        let truth = |holds: bool| Ok(Value::Number(f64::from(u8::from(holds))));
        match expression {
            Expression::Number(number) => Ok(Value::Number(*number)),
            Expression::Text(text) => Ok(Value::Text(text.clone())),
            Expression::Regex(regex) => {
                let record = self.record();
                truth(regex.is_match(&record))
            }
            Expression::Variable(variable) => self.value(*variable),
            Expression::Field(index) => {
                let index = self.number(index)?;
                self.field(index)
            }
            Expression::Element(array, keys) => {
                let key = self.key(keys)?;
                Ok(self.array(*array)?.borrow_mut().get(&key))
            }
            Expression::Assign(place, operator, value) => {
                let mut value = self.evaluate(value)?;
                if let Some(operator) = operator {
                    let old = self.number(place)?;
                    value = Value::Number(arithmetic(*operator, old, value.number())?);
                }
                self.store(place, value.clone())?;
                Ok(value)
            }
            Expression::Conditional(parts) => {
                let [condition, yes, no] = &**parts;
                if self.evaluate(condition)?.truth() {
                    self.evaluate(yes)
                } else {
                    self.evaluate(no)
                }
            }
            Expression::And(left, right) => truth(self.evaluate(left)?.truth() && self.evaluate(right)?.truth()),
            Expression::Or(left, right) => truth(self.evaluate(left)?.truth() || self.evaluate(right)?.truth()),
            Expression::Not(inner) => truth(!self.evaluate(inner)?.truth()),
            Expression::Negate(inner) => Ok(Value::Number(-self.number(inner)?)),
            Expression::Plus(inner) => Ok(Value::Number(self.number(inner)?)),
            Expression::Arithmetic(operator, left, right) => {
                let left = self.number(left)?;
                let right = self.number(right)?;
                arithmetic(*operator, left, right).map(Value::Number)
            }
            Expression::Concatenate(left, right) => {
                let left = self.text(left)?;
                let right = self.text(right)?;
                let mut joined = String::with_capacity(left.len() + right.len());
                joined.push_str(&left);
                joined.push_str(&right);
                Ok(Value::Text(joined.into()))
            }
            Expression::Compare(kind, left, right) => {
                let left = self.evaluate(left)?;
                let right = self.evaluate(right)?;
                truth(self.compare(*kind, &left, &right))
            }
            Expression::Match(negated, text, regex) => {
                let text = self.text(text)?;
                truth(self.as_regex(regex)?.is_match(&text) != *negated)
            }
            Expression::In(keys, array) => {
                let key = self.key(keys)?;
                truth(self.array(*array)?.borrow().contains(&key))
            }
            Expression::Group(_) => Err(Stop::Fatal("a list in parentheses is only allowed before 'in'".into())),
            Expression::Increment { target, by, prefix } => {
                let old = self.number(target)?;
                self.store(target, Value::Number(old + by))?;
                Ok(Value::Number(if *prefix { old + by } else { old }))
            }
            Expression::Call(function, arguments) => self.call(*function, arguments),
            Expression::Builtin(builtin, arguments) => self.builtin(*builtin, arguments),
            Expression::Getline(source, target) => self.getline(source, target.as_deref()),
        }
    }

    fn compare(&self, kind: Comparison, left: &Value, right: &Value) -> bool {
        let order = if left.is_numeric() && right.is_numeric() {
            left.number().partial_cmp(&right.number())
        } else {
            let convfmt = self.global_text(slot::CONVFMT);
            Some(left.string(&convfmt).cmp(&right.string(&convfmt)))
        };
        match (kind, order) {
            (Comparison::NotEqual, order) => order.is_none_or(std::cmp::Ordering::is_ne),
            (_, None) => false,
            (Comparison::Less, Some(order)) => order.is_lt(),
            (Comparison::LessEqual, Some(order)) => order.is_le(),
            (Comparison::Equal, Some(order)) => order.is_eq(),
            (Comparison::Greater, Some(order)) => order.is_gt(),
            (Comparison::GreaterEqual, Some(order)) => order.is_ge(),
        }
    }

    fn call(&mut self, index: usize, arguments: &[Expression]) -> Evaluated<Value> {
        let function = &self.program.functions[index];
        if arguments.len() > function.parameters {
            return Err(Stop::Fatal(format!(
                "function '{}' takes {} arguments",
                function.name, function.parameters
            )));
        }
        let mut frame = Vec::with_capacity(function.parameters);
        // Variables passed unset: when the function makes an array of one, the caller has it too.
        let mut unset = Vec::new();
        for (position, argument) in arguments.iter().enumerate() {
            let slot = match argument {
                Expression::Variable(variable) if *variable != Variable::Global(slot::NF) => {
                    let current = match variable {
                        Variable::Global(index) => self.globals.get(*index),
                        Variable::Local(index) => self.frame.get(*index),
                    };
                    let current = current.cloned().unwrap_or_default();
                    if matches!(current, Slot::Unset) {
                        unset.push((position, *variable));
                    }
                    current
                }
                other => Slot::Value(self.evaluate(other)?),
            };
            frame.push(slot);
        }
        frame.resize(function.parameters, Slot::Unset);
        std::mem::swap(&mut self.frame, &mut frame);
        let result = self.block(function.body.as_deref().unwrap_or_default());
        std::mem::swap(&mut self.frame, &mut frame);
        for (position, variable) in unset {
            if let Some(Slot::Array(array)) = frame.get(position) {
                let place = match variable {
                    Variable::Global(index) => self.globals.get_mut(index),
                    Variable::Local(index) => self.frame.get_mut(index),
                };
                if let Some(place @ Slot::Unset) = place {
                    *place = Slot::Array(array.clone());
                }
            }
        }
        Ok(match result? {
            Flow::Return(value) => value,
            _ => Value::Unset,
        })
    }

    fn getline(&mut self, source: &Source, target: Option<&Expression>) -> Evaluated<Value> {
        let separator = self.separator()?;
        let read = match source {
            Source::Main => Ok(self.next_main_record()?),
            Source::File(name) => {
                let name = self.text(name)?;
                self.streams
                    .read_file(&name, &separator)
                    .map(|record| record.map(|(text, _)| text))
            }
            Source::Command(command) => {
                let command = self.text(command)?;
                let record = self.streams.read_command(&command, &separator);
                if matches!(record, Ok(Some(_))) {
                    self.count(slot::NR)?;
                }
                record.map(|record| record.map(|(text, _)| text))
            }
        };
        match read {
            Err(_) => Ok(Value::Number(-1.0)),
            Ok(None) => Ok(Value::Number(0.0)),
            Ok(Some(text)) => {
                match target {
                    Some(place) => self.store(place, Value::input(&text))?,
                    None => self.set_record(text.into()),
                }
                Ok(Value::Number(1.0))
            }
        }
    }

    // Statements.

    fn block(&mut self, statements: &[Statement]) -> Evaluated<Flow> {
        for statement in statements {
            match self.execute(statement)? {
                Flow::Normal => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Normal)
    }

    /// Runs a loop's body; true when the loop ends, with how.
    fn turn(&mut self, body: &Statement) -> Evaluated<Option<Flow>> {
        Ok(match self.execute(body)? {
            Flow::Break => Some(Flow::Normal),
            Flow::Return(value) => Some(Flow::Return(value)),
            Flow::Normal | Flow::Continue => None,
        })
    }

    fn execute(&mut self, statement: &Statement) -> Evaluated<Flow> {
        match statement {
            Statement::Expression(expression) => {
                self.evaluate(expression)?;
            }
            Statement::Print(list, target) => self.print(list, target.as_ref())?,
            Statement::Printf(list, target) => {
                let text = self.formatted(list)?;
                self.write(text.as_bytes(), target.as_ref())?;
            }
            Statement::If(condition, then, otherwise) => {
                if self.evaluate(condition)?.truth() {
                    return self.execute(then);
                } else if let Some(otherwise) = otherwise {
                    return self.execute(otherwise);
                }
            }
            Statement::While(condition, body) => {
                while self.evaluate(condition)?.truth() {
                    if let Some(flow) = self.turn(body)? {
                        return Ok(flow);
                    }
                }
            }
            Statement::DoWhile(body, condition) => loop {
                if let Some(flow) = self.turn(body)? {
                    return Ok(flow);
                }
                if !self.evaluate(condition)?.truth() {
                    break;
                }
            },
            Statement::For(start, condition, step, body) => {
                if let Some(start) = start {
                    self.execute(start)?;
                }
                loop {
                    if let Some(condition) = condition
                        && !self.evaluate(condition)?.truth()
                    {
                        break;
                    }
                    if let Some(flow) = self.turn(body)? {
                        return Ok(flow);
                    }
                    if let Some(step) = step {
                        self.execute(step)?;
                    }
                }
            }
            Statement::ForIn(key, array, body) => {
                let array = self.array(*array)?;
                let keys = self.ordered_keys(&array);
                for name in keys {
                    if !array.borrow().contains(&name) {
                        continue;
                    }
                    self.set(*key, Value::input(&name))?;
                    if let Some(flow) = self.turn(body)? {
                        return Ok(flow);
                    }
                }
            }
            Statement::Switch(subject, cases) => return self.switch(subject, cases),
            Statement::Block(statements) => return self.block(statements),
            Statement::Next => return Err(Stop::Next),
            Statement::NextFile => return Err(Stop::NextFile),
            Statement::Exit(status) => {
                let status = match status {
                    Some(status) => Some(self.number(status)? as i32 & 0xff),
                    None => None,
                };
                return Err(Stop::Exit(status));
            }
            Statement::Return(value) => {
                return Ok(Flow::Return(match value {
                    Some(value) => self.evaluate(value)?,
                    None => Value::Unset,
                }));
            }
            Statement::Break => return Ok(Flow::Break),
            Statement::Continue => return Ok(Flow::Continue),
            Statement::Delete(array, keys) => {
                let array = self.array(*array)?;
                match keys {
                    Some(keys) => {
                        let key = self.key(keys)?;
                        array.borrow_mut().remove(&key);
                    }
                    None => array.borrow_mut().clear(),
                }
            }
        }
        Ok(Flow::Normal)
    }

    fn switch(&mut self, subject: &Expression, cases: &[(Option<Expression>, Vec<Statement>)]) -> Evaluated<Flow> {
        let subject = self.evaluate(subject)?;
        let mut chosen = cases.iter().position(|(value, _)| value.is_none());
        for (index, (value, _)) in cases.iter().enumerate() {
            let Some(value) = value else { continue };
            let hit = if let Expression::Regex(regex) = value {
                regex.is_match(&subject.string("%.6g"))
            } else {
                let value = self.evaluate(value)?;
                self.compare(Comparison::Equal, &subject, &value)
            };
            if hit {
                chosen = Some(index);
                break;
            }
        }
        for (_, body) in cases.iter().skip(chosen.unwrap_or(cases.len())) {
            match self.block(body)? {
                Flow::Normal => {}
                Flow::Break => break,
                other => return Ok(other),
            }
        }
        Ok(Flow::Normal)
    }

    /// The keys in the order `PROCINFO["sorted_in"]` asks for, else as they came.
    fn ordered_keys(&mut self, array: &ArrayRef) -> Vec<Rc<str>> {
        let mut keys = array.borrow().keys();
        let wanted = match &self.globals[slot::PROCINFO] {
            Slot::Array(info) => info.borrow().peek("sorted_in").map(|order| order.string("%.6g")),
            _ => None,
        };
        let Some(wanted) = wanted else { return keys };
        let array = array.borrow();
        let value = |key: &Rc<str>| array.peek(key).cloned().unwrap_or_default();
        match wanted
            .trim_start_matches('@')
            .rsplit_once('_')
            .map_or("", |(order, _)| order)
        {
            "ind_str" => keys.sort(),
            "ind_num" => keys.sort_by(|a, b| Value::text(a).number().total_cmp(&Value::text(b).number())),
            "val_str" => keys.sort_by_key(|a| value(a).string("%.6g")),
            "val_num" | "val_type" => keys.sort_by(|a, b| value(a).number().total_cmp(&value(b).number())),
            _ => {}
        }
        if wanted.ends_with("_desc") {
            keys.reverse();
        }
        keys
    }

    /// `printf`'s text.
    pub fn formatted(&mut self, list: &[Expression]) -> Evaluated<String> {
        let Some((format, values)) = list.split_first() else {
            return Ok(String::new());
        };
        let format = self.text(format)?;
        let mut evaluated = Vec::with_capacity(values.len());
        for value in values {
            evaluated.push(self.evaluate(value)?);
        }
        Ok(super::format::format(
            &format,
            &evaluated,
            &self.global_text(slot::CONVFMT),
        ))
    }

    fn print(&mut self, list: &[Expression], target: Option<&Target>) -> Evaluated<()> {
        let mut line = String::new();
        if list.is_empty() {
            line.push_str(&self.record());
        } else {
            let separator = self.global_text(slot::OFS);
            let format = self.global_text(slot::OFMT);
            for (index, expression) in list.iter().enumerate() {
                if index > 0 {
                    line.push_str(&separator);
                }
                line.push_str(&self.evaluate(expression)?.string(&format));
            }
        }
        line.push_str(&self.global_text(slot::ORS));
        self.write(line.as_bytes(), target)
    }

    fn write(&mut self, text: &[u8], target: Option<&Target>) -> Evaluated<()> {
        let (result, name) = match target {
            None => (self.streams.stdout.write_all(text), "standard output".into()),
            Some(Target::Command(command)) => {
                let command = self.text(command)?;
                (self.streams.write_command(&command, text), command)
            }
            Some(target @ (Target::File(name) | Target::Append(name))) => {
                let name = self.text(name)?;
                (
                    self.streams
                        .write_file(&name, matches!(target, Target::Append(_)), text),
                    name,
                )
            }
        };
        result.map_err(|error| {
            if target.is_none() && error.kind() == io::ErrorKind::BrokenPipe {
                Stop::Closed
            } else {
                Stop::Fatal(format!("cannot write to \"{name}\": {}", reason(&error)))
            }
        })
    }
}

fn arithmetic(operator: Arithmetic, left: f64, right: f64) -> Evaluated<f64> {
    Ok(match operator {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide if right == 0.0 => return Err(Stop::Fatal("division by zero".into())),
        Arithmetic::Divide => left / right,
        Arithmetic::Remainder if right == 0.0 => return Err(Stop::Fatal("division by zero in %".into())),
        Arithmetic::Remainder => left % right,
        Arithmetic::Power => left.powf(right),
    })
}

/// The parts between matches; a match of nothing separates nothing.
fn split_at_matches(text: &str, regex: &Regex) -> Vec<String> {
    let mut parts = Vec::new();
    let mut start = 0;
    for found in regex.find_iter(text).filter(|found| !found.is_empty()) {
        parts.push(text[start..found.start()].to_owned());
        start = found.end();
    }
    parts.push(text[start..].to_owned());
    parts
}
