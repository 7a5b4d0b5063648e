//! Runs a parsed script over the input.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Options;
use super::parse::{Action, Address, Case, Command, Expression, Groups, Part, Pattern, Substitution};
use crate::cli::{complain, fail, reason};

/// A line, and whether its end was there.
type Line = (Vec<u8>, bool);

struct Machine<'p> {
    program: &'p [Command],
    options: &'p Options,
    files: std::vec::IntoIter<String>,
    input: Option<Box<dyn BufRead>>,
    /// Name of the file being read.
    name: String,
    /// A line read ahead, which tells whether the current one is the last.
    ahead: Option<Line>,
    out: Box<dyn Write>,
    /// The file being rewritten, and where its new content is.
    rewriting: Option<(PathBuf, PathBuf)>,
    written: HashMap<String, Box<dyn Write>>,
    lines_read: HashMap<String, Option<BufReader<File>>>,
    number: u64,
    space: Vec<u8>,
    ended: bool,
    hold: Vec<u8>,
    replaced: bool,
    /// Where ranges stand, by command.
    ranges: Vec<Range>,
    appended: Vec<Appended>,
    last: Option<Rc<Expression>>,
    /// The line before had no end: it comes before the next output.
    owed_end: bool,
    status: i32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Range {
    Outside,
    Inside,
    /// Inside until this line.
    Until(u64),
}

enum Appended {
    Text(Vec<u8>),
    File(String),
}

/// How a cycle ended.
enum Cycle {
    /// Print and go on with the next line.
    Done,
    /// Go on without printing.
    Deleted,
    /// Start again without reading a line.
    Again,
    /// End, printing first when true.
    Quit(bool, i32),
}

/// Runs the script and gives the exit status.
pub fn run(program: &[Command], options: &Options, mut files: Vec<String>) -> i32 {
    if files.is_empty() {
        if options.in_place.is_some() {
            return fail("sed", "no input files", 1);
        }
        files.push("-".into());
    }
    let mut machine = Machine {
        program,
        options,
        files: files.into_iter(),
        input: None,
        name: "-".into(),
        ahead: None,
        out: Box::new(BufWriter::with_capacity(32 * 1024, io::stdout())),
        rewriting: None,
        written: HashMap::new(),
        lines_read: HashMap::new(),
        number: 0,
        space: Vec::new(),
        ended: true,
        hold: Vec::new(),
        replaced: false,
        ranges: vec![Range::Outside; program.len()],
        appended: Vec::new(),
        last: None,
        owed_end: false,
        status: 0,
    };
    // `w` makes its file even when nothing is written.
    for command in program {
        let name = match &command.action {
            Action::WriteFile(name) | Action::WriteFirst(name) => Some(name),
            Action::Substitute(substitution) => substitution.file.as_ref(),
            _ => None,
        };
        if let Some(name) = name
            && let Err(error) = machine.open_written(name)
        {
            return fail("sed", format_args!("couldn't open file {name}: {}", reason(&error)), 4);
        }
    }
    let result = machine.cycles();
    let flushed = result.and_then(|status| machine.close().map(|()| status));
    match flushed {
        Ok(status) => status.max(machine.status),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 4,
        Err(error) => fail("sed", reason(&error), 4),
    }
}

impl Machine<'_> {
    fn open_written(&mut self, name: &str) -> io::Result<()> {
        if matches!(name, "/dev/stdout" | "/dev/stderr") || self.written.contains_key(name) {
            return Ok(());
        }
        self.written
            .insert(name.to_owned(), Box::new(BufWriter::new(File::create(name)?)));
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.finish_file()?;
        self.written.values_mut().try_for_each(std::io::Write::flush)?;
        self.out.flush()
    }

    // Input.

    /// Opens the next file that can be read; false when there is none.
    fn open_next(&mut self) -> io::Result<bool> {
        loop {
            let Some(name) = self.files.next() else {
                return Ok(false);
            };
            if name == "-" && self.options.in_place.is_none() {
                self.input = Some(Box::new(BufReader::new(io::stdin())));
                self.name = name;
                return Ok(true);
            }
            let opened = fs::metadata(&name).and_then(|meta| {
                if meta.is_dir() {
                    let message = if self.options.in_place.is_some() {
                        "not a regular file"
                    } else {
                        "Is a directory"
                    };
                    return Err(io::Error::other(message));
                }
                File::open(&name)
            });
            match opened {
                Ok(file) => {
                    self.input = Some(Box::new(BufReader::with_capacity(32 * 1024, file)));
                    self.name = name;
                    return Ok(true);
                }
                Err(error) => {
                    complain("sed", format_args!("can't read {name}: {}", reason(&error)));
                    self.status = 2;
                }
            }
        }
    }

    fn raw_line(&mut self) -> io::Result<Option<Line>> {
        let Some(input) = &mut self.input else { return Ok(None) };
        let mut line = Vec::new();
        if input.read_until(self.options.end, &mut line)? == 0 {
            self.input = None;
            return Ok(None);
        }
        let ended = line.last() == Some(&self.options.end);
        if ended {
            line.pop();
        }
        Ok(Some((line, ended)))
    }

    /// Reads the line after the current one into `ahead`, going on to the next file unless files are separate.
    fn look_ahead(&mut self) -> io::Result<bool> {
        while self.ahead.is_none() {
            self.ahead = self.raw_line()?;
            if self.ahead.is_none() && (self.options.separate || !self.open_next()?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the next line the current one; false at the end of all input.
    fn next_line(&mut self) -> io::Result<bool> {
        while !self.look_ahead()? {
            if !self.options.separate {
                return Ok(false);
            }
            self.finish_file()?;
            if !self.open_next()? {
                return Ok(false);
            }
            self.begin_file()?;
        }
        if let Some((line, ended)) = self.ahead.take() {
            self.space = line;
            self.ended = ended;
            self.number += 1;
        }
        Ok(true)
    }

    fn begin_file(&mut self) -> io::Result<()> {
        self.number = if self.options.in_place.is_some() || self.options.separate {
            0
        } else {
            self.number
        };
        if self.options.in_place.is_none() {
            return Ok(());
        }
        self.ranges.fill(Range::Outside);
        let path = PathBuf::from(&self.name);
        let mut temporary = path.clone();
        temporary.set_file_name(format!("sed{}", path.file_name().unwrap_or_default().to_string_lossy()));
        let mut attempt = 0;
        while temporary.exists() {
            attempt += 1;
            temporary.set_file_name(format!("sed{attempt}"));
        }
        self.out.flush()?;
        self.out = Box::new(BufWriter::with_capacity(32 * 1024, File::create(&temporary)?));
        self.rewriting = Some((path, temporary));
        Ok(())
    }

    /// Puts the rewritten file into its place.
    fn finish_file(&mut self) -> io::Result<()> {
        self.owed_end = false;
        let Some((path, temporary)) = self.rewriting.take() else {
            return Ok(());
        };
        self.out.flush()?;
        self.out = Box::new(BufWriter::new(io::stdout()));
        if let Ok(stat) = wisp_sys::stat(&path, true) {
            wisp_sys::chmod(&temporary, true, stat.permissions())?;
        }
        if let Some(suffix) = self.options.in_place.as_deref().filter(|suffix| !suffix.is_empty()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let backup = if suffix.contains('*') {
                suffix.replace('*', &name)
            } else {
                format!("{name}{suffix}")
            };
            fs::rename(
                &path,
                if backup.contains('/') {
                    PathBuf::from(backup)
                } else {
                    path.with_file_name(backup)
                },
            )?;
        }
        fs::rename(temporary, path)
    }

    // Output.

    fn put(&mut self, text: &[u8], ended: bool) -> io::Result<()> {
        if self.owed_end {
            self.out.write_all(&[self.options.end])?;
        }
        self.out.write_all(text)?;
        self.owed_end = !ended;
        if ended {
            self.out.write_all(&[self.options.end])
        } else {
            Ok(())
        }
    }

    fn put_space(&mut self) -> io::Result<()> {
        let space = std::mem::take(&mut self.space);
        let result = self.put(&space, self.ended);
        self.space = space;
        result
    }

    fn raw(&mut self, text: &[u8]) -> io::Result<()> {
        if self.owed_end {
            self.out.write_all(&[self.options.end])?;
            self.owed_end = false;
        }
        self.out.write_all(text)
    }

    fn flush_appended(&mut self) -> io::Result<()> {
        for item in std::mem::take(&mut self.appended) {
            match item {
                Appended::Text(text) => self.raw(&text)?,
                Appended::File(name) => {
                    let text = if name == "/dev/stdin" {
                        let mut text = Vec::new();
                        io::copy(&mut io::stdin(), &mut text).map(|_| text)
                    } else {
                        fs::read(Path::new(&name))
                    };
                    if let Ok(text) = text
                        && !text.is_empty()
                    {
                        let ended = text.ends_with(b"\n");
                        self.raw(&text)?;
                        self.owed_end = !ended;
                    }
                }
            }
        }
        Ok(())
    }

    fn write_to(&mut self, name: &str, text: &[u8]) -> io::Result<()> {
        match name {
            "/dev/stdout" => self.put(text, true),
            "/dev/stderr" => io::stderr().write_all(&[text, b"\n"].concat()),
            _ => match self.written.get_mut(name) {
                Some(file) => {
                    file.write_all(text)?;
                    file.write_all(b"\n")?;
                    // The script may read the file back.
                    file.flush()
                }
                None => Ok(()),
            },
        }
    }

    // The cycle.

    fn cycles(&mut self) -> io::Result<i32> {
        if self.options.separate {
            if !self.open_next()? {
                return Ok(0);
            }
            self.begin_file()?;
        }
        let mut again = false;
        loop {
            if !again && !self.next_line()? {
                return Ok(0);
            }
            if !again {
                self.replaced = false;
            }
            again = false;
            match self.cycle()? {
                Cycle::Done => self.end_cycle(true)?,
                Cycle::Deleted => self.end_cycle(false)?,
                Cycle::Again => {
                    self.end_cycle(false)?;
                    again = true;
                }
                Cycle::Quit(print, status) => {
                    self.end_cycle(print)?;
                    self.dump_rest()?;
                    return Ok(status);
                }
            }
        }
    }

    fn end_cycle(&mut self, print: bool) -> io::Result<()> {
        if print && !self.options.quiet {
            self.put_space()?;
        }
        self.flush_appended()
    }

    /// With `-i`, quitting keeps the rest of the file.
    fn dump_rest(&mut self) -> io::Result<()> {
        if self.rewriting.is_none() {
            return Ok(());
        }
        let mut next = self.ahead.take();
        while let Some((line, ended)) = next {
            self.put(&line, ended)?;
            next = self.raw_line()?;
        }
        Ok(())
    }

    fn resolve(&mut self, pattern: &Pattern) -> io::Result<Rc<Expression>> {
        if let Some(expression) = pattern {
            self.last = Some(expression.clone());
        }
        self.last
            .clone()
            .ok_or_else(|| io::Error::other("no previous regular expression"))
    }

    fn at(&mut self, address: &Address) -> io::Result<bool> {
        Ok(match address {
            Address::Line(line) => self.number == *line,
            Address::Step(first, 0) => self.number == *first,
            Address::Step(first, step) => self.number >= *first && (self.number - first).is_multiple_of(*step),
            // With separate files each has its last line.
            Address::Last => !self.look_ahead()?,
            Address::Matches(pattern) => {
                let expression = self.resolve(pattern)?;
                expression.find(&self.space, 0).is_some()
            }
            Address::Plus(_) | Address::Multiple(_) => false,
        })
    }

    fn selected(&mut self, index: usize) -> io::Result<bool> {
        let program = self.program;
        let command = &program[index];
        let Some(from) = &command.from else {
            return Ok(!command.negated);
        };
        let Some(to) = &command.to else {
            return Ok(self.at(from)? != command.negated);
        };
        let inside = match self.ranges[index] {
            Range::Outside => {
                // `0,/x/` begins before the first line, so that the first line may end it.
                let zero = matches!(from, Address::Line(0)) && self.number == 1;
                if zero {
                    self.ranges[index] = if self.at(to)? { Range::Outside } else { Range::Inside };
                    true
                } else if self.at(from)? {
                    self.ranges[index] = match to {
                        Address::Line(line) if *line <= self.number => Range::Outside,
                        Address::Line(line) => Range::Until(*line),
                        Address::Plus(0) => Range::Outside,
                        Address::Plus(count) => Range::Until(self.number.saturating_add(*count)),
                        Address::Multiple(0 | 1) => Range::Outside,
                        Address::Multiple(factor) if self.number.is_multiple_of(*factor) => Range::Outside,
                        Address::Multiple(factor) => {
                            Range::Until(self.number.div_ceil(*factor).saturating_mul(*factor))
                        }
                        Address::Last if self.at(to)? => Range::Outside,
                        _ => Range::Inside,
                    };
                    true
                } else {
                    false
                }
            }
            Range::Until(line) => {
                if self.number >= line {
                    self.ranges[index] = Range::Outside;
                }
                // A jump may have led past the end of the range.
                self.number <= line
            }
            Range::Inside => {
                if self.at(to)? {
                    self.ranges[index] = Range::Outside;
                }
                true
            }
        };
        Ok(inside != command.negated)
    }

    #[allow(clippy::too_many_lines, reason = "one arm per command")]
    fn cycle(&mut self) -> io::Result<Cycle> {
        let program = self.program;
        let mut index = 0;
        while let Some(command) = program.get(index) {
            if !self.selected(index)? {
                index = if let Action::Block(end) = command.action {
                    end + 1
                } else {
                    index + 1
                };
                continue;
            }
            index += 1;
            match &command.action {
                Action::Block(_) | Action::End => {}
                Action::Substitute(substitution) => self.substitute(substitution)?,
                Action::Transliterate(map) => {
                    let text = String::from_utf8_lossy(&self.space);
                    self.space = text
                        .chars()
                        .map(|c| *map.get(&c).unwrap_or(&c))
                        .collect::<String>()
                        .into_bytes();
                }
                Action::Append(text) => self.appended.push(Appended::Text(text.clone())),
                Action::Insert(text) => self.raw(text)?,
                Action::Change(text) => {
                    let range_goes_on =
                        command.to.is_some() && self.ranges[index - 1] != Range::Outside && !command.negated;
                    if !range_goes_on {
                        self.raw(text)?;
                    }
                    return Ok(Cycle::Deleted);
                }
                Action::Branch(target) => index = *target,
                Action::BranchIfReplaced(target) => {
                    if std::mem::take(&mut self.replaced) {
                        index = *target;
                    }
                }
                Action::BranchIfNot(target) => {
                    if !std::mem::take(&mut self.replaced) {
                        index = *target;
                    }
                }
                Action::Delete => return Ok(Cycle::Deleted),
                Action::DeleteFirst => match self.space.iter().position(|b| *b == b'\n') {
                    None => return Ok(Cycle::Deleted),
                    Some(at) => {
                        self.space.drain(..=at);
                        return Ok(Cycle::Again);
                    }
                },
                Action::Print => self.put_space()?,
                Action::PrintFirst => {
                    let first = self.first_line();
                    self.put(&first, true)?;
                }
                Action::PrintNumber => {
                    let text = format!("{}\n", self.number);
                    self.raw(text.as_bytes())?;
                }
                Action::PrintVisibly => {
                    let text = visible(&self.space);
                    self.raw(text.as_bytes())?;
                }
                Action::Next => {
                    if !self.look_ahead()? && !self.more_files() {
                        // GNU prints the pattern space when there is no next line.
                        return Ok(Cycle::Quit(true, 0));
                    }
                    self.end_cycle(true)?;
                    if !self.next_line()? {
                        return Ok(Cycle::Quit(false, 0));
                    }
                }
                Action::NextAppend => {
                    if !self.look_ahead()? && !self.more_files() {
                        return Ok(Cycle::Quit(true, 0));
                    }
                    self.flush_appended()?;
                    let mut joined = std::mem::take(&mut self.space);
                    joined.push(self.options.end);
                    if !self.next_line()? {
                        joined.pop();
                        self.space = joined;
                        return Ok(Cycle::Quit(true, 0));
                    }
                    joined.append(&mut self.space);
                    self.space = joined;
                }
                Action::HoldCopy => self.hold.clone_from(&self.space),
                Action::HoldAppend => {
                    self.hold.push(b'\n');
                    self.hold.extend_from_slice(&self.space);
                }
                Action::GetCopy => self.space.clone_from(&self.hold),
                Action::GetAppend => {
                    self.space.push(b'\n');
                    self.space.extend_from_slice(&self.hold);
                }
                Action::Exchange => std::mem::swap(&mut self.space, &mut self.hold),
                Action::Quit(status) => return Ok(Cycle::Quit(true, *status)),
                Action::QuitSilently(status) => return Ok(Cycle::Quit(false, *status)),
                Action::ReadFile(name) => self.appended.push(Appended::File(name.clone())),
                Action::ReadLine(name) => {
                    let reader = self
                        .lines_read
                        .entry(name.clone())
                        .or_insert_with(|| File::open(name).ok().map(BufReader::new));
                    let mut line = Vec::new();
                    if let Some(reader) = reader
                        && reader.read_until(b'\n', &mut line)? > 0
                    {
                        if !line.ends_with(b"\n") {
                            line.push(b'\n');
                        }
                        self.appended.push(Appended::Text(line));
                    }
                }
                Action::WriteFile(name) => {
                    let text = self.space.clone();
                    self.write_to(name, &text)?;
                }
                Action::WriteFirst(name) => {
                    let text = self.first_line();
                    self.write_to(name, &text)?;
                }
                Action::Execute(line) => {
                    if line.is_empty() {
                        let line = String::from_utf8_lossy(&self.space).into_owned();
                        self.space = crate::launch::output_of(&line)?;
                        if self.space.ends_with(b"\n") {
                            self.space.pop();
                        }
                    } else {
                        let text = crate::launch::output_of(line)?;
                        self.raw(&text)?;
                    }
                }
                Action::Zap => self.space.clear(),
                Action::FileName => {
                    let text = format!("{}\n", self.name);
                    self.raw(text.as_bytes())?;
                }
            }
        }
        Ok(Cycle::Done)
    }

    /// Whether a separate file may still follow.
    fn more_files(&self) -> bool {
        self.options.separate && self.options.in_place.is_none() && self.files.len() > 0
    }

    fn first_line(&self) -> Vec<u8> {
        self.space.split(|b| *b == b'\n').next().unwrap_or_default().to_vec()
    }

    fn substitute(&mut self, substitution: &Substitution) -> io::Result<()> {
        let expression = self.resolve(&substitution.pattern)?;
        let text = std::mem::take(&mut self.space);
        let mut result = Vec::with_capacity(text.len());
        let (mut copied, mut start, mut seen) = (0, 0, 0);
        let mut last_end = None;
        let mut changed = false;
        while start <= text.len() {
            let Some(groups) = expression.find(&text, start) else {
                break;
            };
            let Some(Some(whole)) = groups.first().cloned() else {
                break;
            };
            let empty = whole.is_empty();
            // An empty match directly behind a match is none.
            if !(empty && last_end == Some(whole.start)) {
                seen += 1;
                last_end = Some(whole.end);
                if seen >= substitution.nth {
                    result.extend_from_slice(&text[copied..whole.start]);
                    expand(&substitution.replacement, &text, &groups, &mut result);
                    copied = whole.end;
                    changed = true;
                    if !substitution.global {
                        break;
                    }
                }
            }
            start = whole.end;
            if empty {
                start += 1;
                while start < text.len() && text[start] & 0xc0 == 0x80 {
                    start += 1;
                }
            }
        }
        if !changed {
            self.space = text;
            return Ok(());
        }
        result.extend_from_slice(&text[copied..]);
        self.space = result;
        self.replaced = true;
        if substitution.evaluate {
            let line = String::from_utf8_lossy(&self.space).into_owned();
            self.space = crate::launch::output_of(&line)?;
            if self.space.ends_with(b"\n") {
                self.space.pop();
            }
        }
        if substitution.print {
            self.put_space()?;
        }
        if let Some(name) = &substitution.file {
            let text = self.space.clone();
            self.write_to(name, &text)?;
        }
        Ok(())
    }
}

fn expand(parts: &[Part], text: &[u8], groups: &Groups, out: &mut Vec<u8>) {
    let mut case = Case::Plain;
    let mut next = None;
    for part in parts {
        let piece: &[u8] = match part {
            Part::Case(change @ (Case::NextUpper | Case::NextLower)) => {
                next = Some(*change);
                continue;
            }
            Part::Case(change) => {
                case = *change;
                continue;
            }
            Part::Text(literal) => literal,
            Part::Group(index) => match groups.get(*index) {
                Some(Some(range)) => &text[range.clone()],
                _ => continue,
            },
        };
        if piece.is_empty() {
            continue;
        }
        if case == Case::Plain && next.is_none() {
            out.extend_from_slice(piece);
            continue;
        }
        let piece = String::from_utf8_lossy(piece);
        let piece = match case {
            Case::Upper => piece.to_uppercase(),
            Case::Lower => piece.to_lowercase(),
            _ => piece.into_owned(),
        };
        let mut chars = piece.chars();
        if let (Some(change), Some(first)) = (next.take(), chars.next()) {
            let first: String = if change == Case::NextUpper {
                first.to_uppercase().collect()
            } else {
                first.to_lowercase().collect()
            };
            out.extend(first.bytes());
            out.extend(chars.as_str().bytes());
        } else {
            out.extend(piece.bytes());
        }
    }
}

/// `l`: escapes what cannot be seen, folds at 69 characters, ends in `$`.
fn visible(text: &[u8]) -> String {
    let mut out = String::new();
    let mut width = 0;
    for byte in text {
        let shown = match byte {
            b'\\' => "\\\\".to_owned(),
            b'\n' => "\\n".to_owned(),
            b'\t' => "\\t".to_owned(),
            b'\r' => "\\r".to_owned(),
            7 => "\\a".to_owned(),
            8 => "\\b".to_owned(),
            11 => "\\v".to_owned(),
            12 => "\\f".to_owned(),
            0x20..0x7f => char::from(*byte).to_string(),
            other => format!("\\{other:03o}"),
        };
        if width + shown.len() > 69 {
            out.push_str("\\\n");
            width = 0;
        }
        width += shown.len();
        out.push_str(&shown);
    }
    out.push_str("$\n");
    out
}
