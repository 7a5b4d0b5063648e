//! Files and commands an awk program reads and writes.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use regex::Regex;
use wisp_sys::{Command, Pid};

/// How records end.
#[derive(Clone, Debug)]
pub enum Separator {
    /// At this byte.
    Byte(u8),
    /// At blank lines; leading ones are skipped.
    Paragraph,
    /// Where this matches.
    Pattern(Rc<Regex>),
}

/// Reads records.
pub struct Records {
    input: Box<dyn Read>,
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
}

impl Records {
    /// Records of an input.
    pub fn new(input: Box<dyn Read>) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            start: 0,
            ended: false,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let mut block = [0; 16 * 1024];
        let count = self.input.read(&mut block)?;
        self.ended = count == 0;
        self.buffer.extend_from_slice(&block[..count]);
        Ok(())
    }

    /// The next record and the text that ended it.
    ///
    /// # Errors
    /// When reading fails.
    pub fn next(&mut self, separator: &Separator) -> io::Result<Option<(String, String)>> {
        if matches!(separator, Separator::Paragraph) {
            loop {
                while self.buffer.get(self.start) == Some(&b'\n') {
                    self.start += 1;
                }
                if self.start < self.buffer.len() || self.ended {
                    break;
                }
                self.fill()?;
            }
        }
        let mut searched = 0;
        loop {
            let rest = &self.buffer[self.start..];
            let found = match separator {
                Separator::Byte(byte) => rest[searched..]
                    .iter()
                    .position(|b| b == byte)
                    .map(|at| (searched + at, searched + at + 1)),
                Separator::Paragraph => paragraph_end(rest, self.ended),
                Separator::Pattern(regex) => {
                    let text = String::from_utf8_lossy(rest);
                    // A match at the end of what was read may grow. Lossy text has other offsets; then cut by hand.
                    regex
                        .find(&text)
                        .filter(|m| !m.is_empty() && (self.ended || m.end() < text.len()))
                        .map(|m| (m.start().min(rest.len()), m.end().min(rest.len())))
                }
            };
            if let Some((end, next)) = found {
                let record = String::from_utf8_lossy(&rest[..end]).into_owned();
                let terminator = String::from_utf8_lossy(&rest[end..next]).into_owned();
                self.start += next;
                return Ok(Some((record, terminator)));
            }
            if self.ended {
                if rest.is_empty() {
                    return Ok(None);
                }
                let mut record = String::from_utf8_lossy(rest).into_owned();
                if matches!(separator, Separator::Pattern(_) | Separator::Paragraph) && record.ends_with('\n') {
                    record.pop();
                }
                self.start = self.buffer.len();
                return Ok(Some((record, String::new())));
            }
            searched = rest.len();
            self.fill()?;
        }
    }
}

/// The end of a paragraph: a newline and at least one empty line.
fn paragraph_end(text: &[u8], ended: bool) -> Option<(usize, usize)> {
    let end = text.windows(2).position(|pair| pair == b"\n\n")?;
    let next = text[end..].iter().position(|b| *b != b'\n').map(|at| end + at);
    match next {
        Some(next) => Some((end, next)),
        None if ended => Some((end, text.len())),
        None => None,
    }
}

/// Something written to.
enum Output {
    File(BufWriter<File>),
    Command(BufWriter<File>, Pid),
}

/// Everything open.
pub struct Streams {
    /// Standard output.
    pub stdout: BufWriter<io::Stdout>,
    outputs: HashMap<Rc<str>, Output>,
    inputs: HashMap<Rc<str>, (Records, Option<Pid>)>,
}

fn shell(command: &str) -> Command {
    Command::new("/bin/sh").name("sh").args(["-c", command])
}

impl Streams {
    /// Only standard output.
    pub fn new() -> Self {
        Self {
            stdout: BufWriter::with_capacity(32 * 1024, io::stdout()),
            outputs: HashMap::new(),
            inputs: HashMap::new(),
        }
    }

    /// Writes out everything buffered.
    ///
    /// # Errors
    /// The first failure.
    pub fn flush(&mut self) -> io::Result<()> {
        for output in self.outputs.values_mut() {
            match output {
                Output::File(file) | Output::Command(file, _) => file.flush()?,
            }
        }
        self.stdout.flush()
    }

    /// Writes to a file.
    ///
    /// # Errors
    /// When it cannot be opened or written.
    pub fn write_file(&mut self, name: &Rc<str>, append: bool, text: &[u8]) -> io::Result<()> {
        match &**name {
            "/dev/stdout" | "-" => return self.stdout.write_all(text),
            "/dev/stderr" => {
                self.stdout.flush()?;
                return io::stderr().write_all(text);
            }
            _ => {}
        }
        if !self.outputs.contains_key(name) {
            let mut options = OpenOptions::new();
            options.write(true).create(true);
            let file = if append {
                options.append(true)
            } else {
                options.truncate(true)
            }
            .open(&**name)?;
            self.outputs.insert(name.clone(), Output::File(BufWriter::new(file)));
        }
        self.write_open(name, text)
    }

    fn write_open(&mut self, name: &Rc<str>, text: &[u8]) -> io::Result<()> {
        match self.outputs.get_mut(name) {
            Some(Output::File(file) | Output::Command(file, _)) => file.write_all(text),
            None => Ok(()),
        }
    }

    /// Writes to a command's input.
    ///
    /// # Errors
    /// When it cannot be started or written to.
    pub fn write_command(&mut self, command: &Rc<str>, text: &[u8]) -> io::Result<()> {
        if !self.outputs.contains_key(command) {
            self.flush()?;
            let (read, write) = wisp_sys::pipe()?;
            let pid = shell(command)
                .descriptors([(0, read.as_raw_fd()), (1, 1), (2, 2)])
                .spawn()?;
            drop(read);
            self.outputs
                .insert(command.clone(), Output::Command(BufWriter::new(File::from(write)), pid));
        }
        self.write_open(command, text)
    }

    /// A record of a file; `None` at its end.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn read_file(&mut self, name: &Rc<str>, separator: &Separator) -> io::Result<Option<(String, String)>> {
        if !self.inputs.contains_key(name) {
            let input: Box<dyn Read> = if &**name == "-" || &**name == "/dev/stdin" {
                Box::new(io::stdin())
            } else {
                Box::new(File::open(&**name)?)
            };
            self.inputs.insert(name.clone(), (Records::new(input), None));
        }
        self.inputs
            .get_mut(name)
            .map_or(Ok(None), |(records, _)| records.next(separator))
    }

    /// A record of what a command prints.
    ///
    /// # Errors
    /// When it cannot be started or read.
    pub fn read_command(&mut self, command: &Rc<str>, separator: &Separator) -> io::Result<Option<(String, String)>> {
        if !self.inputs.contains_key(command) {
            self.flush()?;
            let (read, write): (OwnedFd, OwnedFd) = wisp_sys::pipe()?;
            let pid = shell(command)
                .descriptors([(0, 0), (1, write.as_raw_fd()), (2, 2)])
                .spawn()?;
            drop(write);
            self.inputs
                .insert(command.clone(), (Records::new(Box::new(File::from(read))), Some(pid)));
        }
        self.inputs
            .get_mut(command)
            .map_or(Ok(None), |(records, _)| records.next(separator))
    }

    /// Closes a stream by name: the status of a command, 0 for a file, -1 when there is none.
    pub fn close(&mut self, name: &str) -> f64 {
        let mut status = -1.0;
        if let Some((records, pid)) = self.inputs.remove(name) {
            drop(records);
            status = pid.map_or(0.0, ended);
        }
        match self.outputs.remove(name) {
            Some(Output::File(mut file)) => status = if file.flush().is_ok() { 0.0 } else { -1.0 },
            Some(Output::Command(mut file, pid)) => {
                let _ = self.stdout.flush();
                let _ = file.flush();
                drop(file);
                status = ended(pid);
            }
            None => {}
        }
        status
    }

    /// Runs a command and gives its status.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn system(&mut self, command: &str) -> io::Result<f64> {
        self.flush()?;
        Ok(f64::from(shell(command).status()?.shell_code()))
    }

    /// Closes everything and waits for commands.
    ///
    /// # Errors
    /// When the last of standard output cannot be written.
    pub fn close_all(&mut self) -> io::Result<()> {
        let flushed = self.stdout.flush();
        let mut names: Vec<Rc<str>> = self.outputs.keys().chain(self.inputs.keys()).cloned().collect();
        names.sort();
        for name in names {
            self.close(&name);
        }
        flushed
    }
}

fn ended(pid: Pid) -> f64 {
    wisp_sys::wait(pid).map_or(-1.0, |(_, status)| f64::from(status.shell_code()))
}
