//! `dd`: copies blocks. The uutils version needs a thread for its progress, which WASI does not have.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use crate::cli::{fail, reason};

/// Block size when none is given, bytes.
const BLOCK: u64 = 512;

/// What the operands ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    input: Option<String>,
    output: Option<String>,
    /// Bytes of one input block, and of one output block.
    block: (u64, u64),
    /// Whether `bs` was given: then blocks go out as they came in.
    as_read: bool,
    /// Blocks to copy, or bytes.
    count: Option<u64>,
    /// Bytes to leave out at the start of the input, and of the output.
    skip: u64,
    seek: u64,
    conversions: Vec<String>,
    flags: Vec<String>,
    status: String,
}

/// Blocks that were whole and blocks that were not.
#[derive(Default)]
struct Records {
    whole: u64,
    partial: u64,
}

impl Records {
    fn count(&mut self, bytes: usize, block: usize) {
        if bytes == block {
            self.whole += 1;
        } else {
            self.partial += 1;
        }
    }
}

/// What was done so far.
#[derive(Default)]
struct Totals {
    read: Records,
    written: Records,
    bytes: u64,
}

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let plan = match Plan::parse(args.get(1..).unwrap_or_default()) {
        Ok(plan) => plan,
        Err(message) => return fail("dd", message, 1),
    };
    let started = Instant::now();
    let opened = open_input(&plan).and_then(|input| Ok((input, open_output(&plan)?)));
    let (input, output) = match opened {
        Ok(opened) => opened,
        Err(message) => return fail("dd", message, 1),
    };
    let mut totals = Totals::default();
    let status = match copy(&plan, input, output, &mut totals) {
        Ok(()) => 0,
        Err(message) => fail("dd", message, 1),
    };
    if plan.status != "none" {
        let report = report(&totals, started.elapsed(), plan.status != "noxfer");
        // Nobody to tell that nobody can be told.
        let _ = io::stderr().write_all(report.as_bytes());
    }
    status
}

impl Plan {
    fn parse(operands: &[String]) -> Result<Self, String> {
        let mut plan = Self {
            block: (BLOCK, BLOCK),
            ..Self::default()
        };
        let (mut skip, mut seek) = ((0, false), (0, false));
        for operand in operands {
            let Some((name, value)) = operand.split_once('=') else {
                return Err(format!("unrecognized operand '{operand}'"));
            };
            let words = || value.split(',').map(str::to_owned);
            match name {
                "if" => plan.input = Some(value.to_owned()),
                "of" => plan.output = Some(value.to_owned()),
                "bs" => {
                    plan.block = (block_size(value)?, block_size(value)?);
                    plan.as_read = true;
                }
                "ibs" if !plan.as_read => plan.block.0 = block_size(value)?,
                "obs" if !plan.as_read => plan.block.1 = block_size(value)?,
                "ibs" | "obs" => {}
                "count" => {
                    plan.count = Some(size(value)?);
                    if value.ends_with('B') {
                        plan.flags.push("count_bytes".to_owned());
                    }
                }
                "skip" | "iseek" => skip = (size(value)?, value.ends_with('B')),
                "seek" | "oseek" => seek = (size(value)?, value.ends_with('B')),
                "conv" => plan.conversions.extend(words()),
                "iflag" | "oflag" => plan.flags.extend(words()),
                "status" => value.clone_into(&mut plan.status),
                "cbs" => {}
                _ => return Err(format!("unrecognized operand '{operand}'")),
            }
        }
        let known = [
            "notrunc",
            "nocreat",
            "excl",
            "fsync",
            "fdatasync",
            "sync",
            "noerror",
            "lcase",
            "ucase",
            "swab",
            "sparse",
        ];
        if let Some(other) = plan.conversions.iter().find(|word| !known.contains(&word.as_str())) {
            return Err(format!("invalid conversion: '{other}'"));
        }
        let bytes = |(count, is_bytes): (u64, bool), flag: &str, block: u64| {
            let block = if is_bytes || plan.has_flag(flag) { 1 } else { block };
            count
                .checked_mul(block)
                .ok_or_else(|| format!("invalid number: '{count}'"))
        };
        let (skip, seek) = (
            bytes(skip, "skip_bytes", plan.block.0)?,
            bytes(seek, "seek_bytes", plan.block.1)?,
        );
        Ok(Self { skip, seek, ..plan })
    }

    fn converts(&self, word: &str) -> bool {
        self.conversions.iter().any(|conversion| conversion == word)
    }

    fn has_flag(&self, word: &str) -> bool {
        self.flags.iter().any(|flag| flag == word)
    }
}

fn block_size(text: &str) -> Result<u64, String> {
    size(text).and_then(|size| {
        if size == 0 {
            Err(format!("invalid number: '{text}'"))
        } else {
            Ok(size)
        }
    })
}

/// A number with a unit: `4k`, `1M`, `2x512`, `10MB`.
fn size(text: &str) -> Result<u64, String> {
    let invalid = || format!("invalid number: '{text}'");
    text.split('x').try_fold(1_u64, |product, factor| {
        let digits = factor.len() - factor.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = factor.split_at(digits);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let power = |letter: char| "KMGTPE".find(letter.to_ascii_uppercase()).map(|at| at as u32 + 1);
        let unit = match unit.as_bytes() {
            b"" | b"c" | b"B" => Some(1),
            b"w" => Some(2),
            b"b" => Some(512),
            [letter] | [letter, b'i', b'B'] => power(char::from(*letter)).map(|power| 1024_u64.pow(power)),
            [letter, b'B'] => power(char::from(*letter)).map(|power| 1000_u64.pow(power)),
            _ => None,
        };
        unit.and_then(|unit| number.checked_mul(unit)?.checked_mul(product))
            .ok_or_else(invalid)
    })
}

/// Copies; the message to show when that fails.
fn copy(plan: &Plan, mut input: Box<dyn Read>, mut output: Box<dyn Write>, totals: &mut Totals) -> Result<(), String> {
    let name = plan.output.as_deref().unwrap_or("standard output");
    let write_failed = |error: io::Error| format!("error writing '{name}': {}", reason(&error));
    let mut block = buffer(plan.block.0)?;
    let mut gathered = Vec::new();
    let out_block = usize::try_from(plan.block.1).unwrap_or(usize::MAX);
    let mut left = plan.count;
    let in_bytes = plan.has_flag("count_bytes");
    while left != Some(0) {
        let wanted = match left {
            Some(bytes) if in_bytes => block.len().min(usize::try_from(bytes).unwrap_or(usize::MAX)),
            _ => block.len(),
        };
        let count = read_block(&mut *input, &mut block[..wanted], plan.has_flag("fullblock")).map_err(|error| {
            format!(
                "error reading '{}': {}",
                plan.input.as_deref().unwrap_or("standard input"),
                reason(&error)
            )
        })?;
        if count == 0 {
            break;
        }
        totals.read.count(count, block.len());
        left = left.map(|left| left - if in_bytes { count as u64 } else { 1 });
        let mut end = count;
        if plan.converts("sync") {
            block[count..].fill(0);
            end = block.len();
        }
        convert(plan, &mut block[..end]);
        if plan.as_read {
            output.write_all(&block[..end]).map_err(write_failed)?;
            totals.written.count(end, block.len());
            totals.bytes += end as u64;
            continue;
        }
        gathered.extend_from_slice(&block[..end]);
        let whole = gathered.len() - gathered.len() % out_block;
        for piece in gathered[..whole].chunks(out_block) {
            output.write_all(piece).map_err(write_failed)?;
            totals.written.whole += 1;
            totals.bytes += piece.len() as u64;
        }
        gathered.drain(..whole);
    }
    if !gathered.is_empty() {
        output.write_all(&gathered).map_err(write_failed)?;
        totals.written.partial += 1;
        totals.bytes += gathered.len() as u64;
    }
    output.flush().map_err(write_failed)
}

/// A buffer of a block's size, if there is memory for it.
fn buffer(size: u64) -> Result<Vec<u8>, String> {
    let exhausted = || format!("memory exhausted by input buffer of size {size} bytes");
    let size = usize::try_from(size).map_err(|_| exhausted())?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(size).map_err(|_| exhausted())?;
    buffer.resize(size, 0);
    Ok(buffer)
}

/// One read, or with `full` as many as fill the block.
fn read_block(input: &mut dyn Read, block: &mut [u8], full: bool) -> io::Result<usize> {
    let mut count = 0;
    loop {
        match input.read(&mut block[count..]) {
            Ok(0) => return Ok(count),
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if !full || count == block.len() {
            return Ok(count);
        }
    }
}

fn convert(plan: &Plan, bytes: &mut [u8]) {
    if plan.converts("lcase") {
        bytes.make_ascii_lowercase();
    }
    if plan.converts("ucase") {
        bytes.make_ascii_uppercase();
    }
    if plan.converts("swab") {
        for pair in bytes.chunks_exact_mut(2) {
            pair.swap(0, 1);
        }
    }
}

fn open_input(plan: &Plan) -> Result<Box<dyn Read>, String> {
    let Some(name) = &plan.input else {
        let mut input = io::stdin().lock();
        let skipped = io::copy(&mut input.by_ref().take(plan.skip), &mut io::sink());
        skipped.map_err(|error| format!("error reading 'standard input': {}", reason(&error)))?;
        return Ok(Box::new(input));
    };
    let failed = |error: io::Error| format!("failed to open '{name}': {}", reason(&error));
    let mut file = File::open(name).map_err(failed)?;
    if plan.skip > 0 && file.seek(SeekFrom::Start(plan.skip)).is_err() {
        // A pipe or a device: what is skipped has to be read.
        io::copy(&mut (&file).take(plan.skip), &mut io::sink()).map_err(failed)?;
    }
    Ok(Box::new(file))
}

fn open_output(plan: &Plan) -> Result<Box<dyn Write>, String> {
    let Some(name) = &plan.output else {
        return Ok(Box::new(io::stdout().lock()));
    };
    let failed = |error: io::Error| format!("failed to open '{name}': {}", reason(&error));
    let append = plan.has_flag("append");
    let mut options = OpenOptions::new();
    options
        .append(append)
        .write(true)
        .create(!plan.converts("nocreat"))
        .create_new(plan.converts("excl"));
    let mut file = options.open(name).map_err(failed)?;
    if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        if !plan.converts("notrunc") && !append {
            file.set_len(plan.seek).map_err(failed)?;
        }
        if plan.seek > 0 {
            file.seek(SeekFrom::Start(plan.seek)).map_err(failed)?;
        }
    }
    Ok(Box::new(file))
}

/// What GNU dd says at its end.
fn report(totals: &Totals, elapsed: Duration, with_transfer: bool) -> String {
    let Totals { read, written, bytes } = totals;
    let records = format!(
        "{}+{} records in\n{}+{} records out\n",
        read.whole, read.partial, written.whole, written.partial
    );
    if !with_transfer {
        return records;
    }
    let seconds = elapsed.as_secs_f64().max(1e-9);
    let noun = if *bytes == 1 { "byte" } else { "bytes" };
    let sizes = match (scaled(*bytes as f64, 1000.0), scaled(*bytes as f64, 1024.0)) {
        _ if *bytes < 1000 => String::new(),
        (decimal, _) if *bytes < 1024 => format!(" ({decimal})"),
        (decimal, binary) => format!(" ({decimal}, {binary})"),
    };
    format!(
        "{records}{bytes} {noun}{sizes} copied, {seconds:.6} s, {}/s\n",
        scaled(*bytes as f64 / seconds, 1000.0)
    )
}

/// A size with its unit, of powers of 1000 (`kB`) or 1024 (`KiB`); one decimal below ten.
fn scaled(mut size: f64, base: f64) -> String {
    let units = if base > 1000.0 {
        ["B", "KiB", "MiB", "GiB", "TiB"]
    } else {
        ["B", "kB", "MB", "GB", "TB"]
    };
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && size < 9.95);
    format!("{size:.decimals$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<Plan, String> {
        Plan::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn numbers_have_units() {
        for (text, bytes) in [
            ("7", 7),
            ("7c", 7),
            ("2w", 4),
            ("3b", 1536),
            ("4k", 4096),
            ("1M", 1 << 20),
            ("2MB", 2_000_000),
            ("1GiB", 1 << 30),
            ("2x512", 1024),
            ("1kB", 1000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", "1z", "x", "99999999999999999999", "99999999999G"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn skip_and_seek_count_blocks() {
        let plan = plan("bs=4k skip=2 seek=3").unwrap();
        assert_eq!((plan.skip, plan.seek), (8192, 12288));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in ["nonsense", "bs=0", "conv=nothing", "xs=1", "count=-1"] {
            assert!(plan(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_as_gnu_does() {
        assert_eq!(scaled(10240.0, 1000.0), "10 kB");
        assert_eq!(scaled(10240.0, 1024.0), "10 KiB");
        assert_eq!(scaled(1_048_576.0, 1000.0), "1.0 MB");
        assert_eq!(scaled(1_048_576.0, 1024.0), "1.0 MiB");
    }
}
