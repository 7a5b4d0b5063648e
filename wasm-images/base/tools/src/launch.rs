//! Programs that set something up and become another: `env`, `nohup`, `nice`, `setsid`, `stdbuf`, `time`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::time::Instant;

use wisp_sys::{Command, Disposition, Signal};

use crate::cli::{Spec, Takes, fail, reason};

/// The status of a program that could not be started, as POSIX has it.
pub fn cannot_start(tool: &str, program: &str, error: &io::Error) -> i32 {
    let status = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    fail(tool, format_args!("'{program}': {}", reason(error)), status)
}

/// Becomes `words`.
fn become_program(tool: &str, words: &[String]) -> i32 {
    let Some((program, arguments)) = words.split_first() else {
        return fail(tool, "missing operand", 125);
    };
    let error = Command::new(program).args(arguments).exec();
    cannot_start(tool, program, &error)
}

const ENV: Spec = Spec {
    short: "i0u:C:S:v",
    long: &[
        ("ignore-environment", "i", Takes::Nothing),
        ("null", "0", Takes::Nothing),
        ("unset", "u", Takes::Value),
        ("chdir", "C", Takes::Value),
        ("split-string", "S", Takes::Value),
    ],
    permute: false,
};

/// `env`.
pub fn env(args: &[String]) -> i32 {
    let parsed = match ENV.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("env", message, 125),
    };
    let mut words = parsed.operands.clone();
    if let Some(text) = parsed.value("S") {
        words.splice(0..0, text.split_whitespace().map(str::to_owned));
    }
    let mut clear = parsed.has("i");
    if words.first().is_some_and(|word| word == "-") {
        clear = true;
        words.remove(0);
    }
    let mut variables: BTreeMap<OsString, OsString> = if clear {
        BTreeMap::new()
    } else {
        std::env::vars_os().collect()
    };
    for (_, name) in parsed.options.iter().filter(|(key, _)| key == "u") {
        variables.remove(&OsString::from(name));
    }
    while let Some((name, value)) = words.first().and_then(|word| word.split_once('=')) {
        variables.insert(name.into(), value.into());
        words.remove(0);
    }
    let Some((program, arguments)) = words.split_first() else {
        let end = if parsed.has("0") { b'\0' } else { b'\n' };
        let mut out = crate::cli::stdout();
        for (name, value) in &variables {
            let _ = write!(out, "{}={}", name.to_string_lossy(), value.to_string_lossy());
            let _ = out.write_all(&[end]);
        }
        return crate::cli::finish("env", out, 0);
    };
    // A program is looked up in the new PATH, and where there is none, in the usual places.
    let usual = ["/usr/local/bin", "/usr/bin", "/bin"].map(|directory| format!("{directory}/{program}"));
    let found = usual.iter().find(|path| std::path::Path::new(path).exists());
    let mut command = match found {
        Some(path) if !variables.contains_key(&OsString::from("PATH")) && !program.contains('/') => {
            Command::new(path).name(program)
        }
        _ => Command::new(program),
    };
    command = command.args(arguments).environment(&variables);
    if let Some(directory) = parsed.value("C") {
        match std::env::current_dir() {
            Ok(cwd) => command = command.directory(cwd.join(directory)),
            Err(error) => return fail("env", reason(&error), 125),
        }
    }
    let error = command.exec();
    cannot_start("env", program, &error)
}

/// `nohup`: there is no terminal, so only the signal matters.
pub fn nohup(args: &[String]) -> i32 {
    if let Some(hangup) = Signal::from_number(1) {
        let _ = wisp_sys::sigaction(hangup, Disposition::Ignore);
    }
    become_program("nohup", args.get(1..).unwrap_or_default())
}

/// `nice`: processes of a sandbox share fairly, so the number is only checked.
pub fn nice(args: &[String]) -> i32 {
    let mut words = args.get(1..).unwrap_or_default();
    match words.first().map(String::as_str) {
        None => {
            println!("0");
            return 0;
        }
        Some("-n" | "--adjustment") => words = words.get(2..).unwrap_or_default(),
        Some(word) if word.starts_with('-') => words = &words[1..],
        Some(_) => {}
    }
    become_program("nice", words)
}

/// `setsid`: a new process group.
pub fn setsid(args: &[String]) -> i32 {
    let words: Vec<String> = args
        .iter()
        .skip(1)
        .skip_while(|word| word.starts_with('-'))
        .cloned()
        .collect();
    let _ = wisp_sys::setpgid(0, 0);
    become_program("setsid", &words)
}

/// `stdbuf`: buffering of another program cannot be changed; it runs as it is.
pub fn stdbuf(args: &[String]) -> i32 {
    let mut words = args.get(1..).unwrap_or_default();
    while let Some(word) = words.first().filter(|word| word.starts_with('-')) {
        let takes_next = matches!(word.as_str(), "-i" | "-o" | "-e");
        words = words.get(if takes_next { 2 } else { 1 }..).unwrap_or_default();
    }
    become_program("stdbuf", words)
}

/// `time`: wall-clock time; the time on a processor is not told to guests.
pub fn time(args: &[String]) -> i32 {
    let words: Vec<String> = args
        .iter()
        .skip(1)
        .skip_while(|word| word.starts_with('-'))
        .cloned()
        .collect();
    let Some((program, arguments)) = words.split_first() else {
        return fail("time", "missing operand", 125);
    };
    let start = Instant::now();
    let status = match Command::new(program).args(arguments).status() {
        Ok(status) => i32::from(status.shell_code()),
        Err(error) => cannot_start("time", program, &error),
    };
    let _ = writeln!(
        io::stderr(),
        "real {:.2}\nuser 0.00\nsys 0.00",
        start.elapsed().as_secs_f64()
    );
    status
}

/// What a shell command prints.
///
/// # Errors
/// When it cannot be started or read.
pub fn output_of(line: &str) -> io::Result<Vec<u8>> {
    let (read, write) = wisp_sys::pipe()?;
    let pid = Command::new("/bin/sh")
        .name("sh")
        .args(["-c", line])
        .descriptors([(0, 0), (1, write.as_raw_fd()), (2, 2)])
        .spawn()?;
    drop(write);
    let mut output = Vec::new();
    File::from(read).read_to_end(&mut output)?;
    wisp_sys::wait(pid)?;
    Ok(output)
}
