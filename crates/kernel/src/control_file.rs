//! `/dev/wisp`: kernel calls as text, for programs that cannot import the `wisp` module, such as an unmodified CPython.
//!
//! One write is one request, the reads that follow give its answer:
//! `stat PATH`, `lstat PATH`, `fstat FD` → `ok mode uid gid nlink rdev ino`; `chmod MODE PATH` → `ok`;
//! `umask MODE` → `ok OLD`; `getpid` → `ok PID PPID`; `kill PID SIGNAL` → `ok`. Modes are octal, all else decimal.
//! A failure is `err ERRNO`. `%25` and `%0A` in a path stand for `%` and a newline.

use parking_lot::Mutex;

use super::descriptor::lock;
use super::errno::Errno;
use super::process::Process;

/// Longest request: a path and a few words.
const MAX_REQUEST: usize = 3 * 4096 + 64;

/// An open `/dev/wisp`: the answer that waits to be read.
#[derive(Default)]
pub struct ControlFile {
    answer: Mutex<Vec<u8>>,
}

impl ControlFile {
    /// Carries a request out on behalf of `process`.
    pub fn request(&self, process: &mut Process, request: &[u8]) -> Result<usize, Errno> {
        if request.len() > MAX_REQUEST {
            return Err(Errno::TooBig);
        }
        let answer = match run(process, request) {
            Ok(fields) => format!("ok{fields}\n"),
            Err(errno) => format!("err {}\n", i32::from(errno)),
        };
        *lock(&self.answer) = answer.into_bytes();
        Ok(request.len())
    }

    /// Takes the answer.
    pub fn read(&self, buffer: &mut [u8]) -> usize {
        let mut answer = lock(&self.answer);
        let count = answer.len().min(buffer.len());
        buffer[..count].copy_from_slice(&answer[..count]);
        answer.drain(..count);
        count
    }
}

fn run(process: &mut Process, request: &[u8]) -> Result<String, Errno> {
    let line = request.strip_suffix(b"\n").unwrap_or(request);
    let (verb, rest) = split_word(line);
    match verb {
        b"stat" => process.stat_path(&unescape(rest)?, true).map(|stat| stat_fields(&stat)),
        b"lstat" => process
            .stat_path(&unescape(rest)?, false)
            .map(|stat| stat_fields(&stat)),
        b"fstat" => process
            .stat_descriptor(number(rest, 10)?)
            .map(|stat| stat_fields(&stat)),
        b"chmod" => {
            let (mode, path) = split_word(rest);
            process.chmod_path(&unescape(path)?, true, number(mode, 8)?)?;
            Ok(String::new())
        }
        b"umask" => {
            let old = process.umask;
            process.umask = number(rest, 8)? & 0o777;
            Ok(format!(" {old:o}"))
        }
        b"getpid" => Ok(format!(" {} {}", process.control.pid, process.parent())),
        b"kill" => {
            let (target, signal) = split_word(rest);
            let (negative, digits) = match target.strip_prefix(b"-") {
                Some(digits) => (true, digits),
                None => (false, target),
            };
            let magnitude = i32::try_from(number(digits, 10)?).map_err(|_| Errno::Inval)?;
            process.kill(if negative { -magnitude } else { magnitude }, number(signal, 10)?)?;
            Ok(String::new())
        }
        _ => Err(Errno::Nosys),
    }
}

fn stat_fields(stat: &super::stat::FileStat) -> String {
    format!(
        " {} {} {} {} {} {}",
        stat.mode, stat.uid, stat.gid, stat.nlink, stat.rdev, stat.ino
    )
}

fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b' ') {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &[]),
    }
}

fn number(text: &[u8], radix: u32) -> Result<u32, Errno> {
    let text = std::str::from_utf8(text).map_err(|_| Errno::Inval)?;
    u32::from_str_radix(text, radix).map_err(|_| Errno::Inval)
}

/// A path with `%25` and `%0A` resolved.
fn unescape(path: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'%', [b'2', b'5', tail @ ..]) => {
                out.push(b'%');
                tail
            }
            (b'%', [b'0', b'A', tail @ ..]) => {
                out.push(b'\n');
                tail
            }
            (b'%' | 0, _) => return Err(Errno::Inval),
            (byte, tail) => {
                out.push(*byte);
                tail
            }
        };
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_paths_are_restored_and_broken_escapes_refused() {
        assert_eq!(unescape(b"/a%25b%0Ac").unwrap(), b"/a%b\nc");
        assert!(unescape(b"/a%2").is_err());
        assert!(unescape(b"/a\0").is_err());
    }
}
