//! `xxd`, `hexdump`, `hd`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

use crate::cli::{Parsed, Spec, fail, finish, reason, stdout};

const XXD: Spec = Spec {
    short: "pril:s:c:g:u",
    long: &[],
    permute: true,
};
const HEXDUMP: Spec = Spec {
    short: "Cn:s:ve:",
    long: &[],
    permute: true,
};

fn number(parsed: &Parsed, key: &str) -> Result<Option<u64>, String> {
    let parse = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed
        .value(key)
        .map(|text| parse(text).map_err(|_| format!("invalid number '{text}'")))
        .transpose()
}

/// The input, from byte `skip` and `length` bytes long.
fn open(file: Option<&String>, skip: Option<u64>, length: Option<u64>) -> io::Result<Box<dyn BufRead>> {
    let mut input: Box<dyn Read> = match file.filter(|name| *name != "-") {
        Some(name) => Box::new(File::open(name)?),
        None => Box::new(io::stdin().lock()),
    };
    io::copy(&mut (&mut input).take(skip.unwrap_or(0)), &mut io::sink())?;
    Ok(Box::new(BufReader::new(input.take(length.unwrap_or(u64::MAX)))))
}

/// Reads up to `count` bytes; fewer only at the end.
fn row(input: &mut dyn BufRead, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(count);
    input.take(count as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' })
        .collect()
}

/// `xxd`.
pub fn xxd(args: &[String]) -> i32 {
    let run = || -> Result<i32, String> {
        let parsed = XXD.parse(args.get(1..).unwrap_or_default())?;
        let io_error = |error: io::Error| reason(&error);
        let skip = number(&parsed, "s")?;
        let mut input = open(parsed.operands.first(), skip, number(&parsed, "l")?).map_err(io_error)?;
        let mut out = stdout();
        if parsed.has("r") {
            let mut text = String::new();
            input.read_to_string(&mut text).map_err(io_error)?;
            for line in text.lines() {
                let hex = if parsed.has("p") {
                    line
                } else {
                    line.split_once(": ")
                        .map_or("", |(_, rest)| rest.split("  ").next().unwrap_or(""))
                };
                let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
                let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
                out.write_all(&bytes).map_err(io_error)?;
            }
            return Ok(finish("xxd", out, 0));
        }
        let plain = parsed.has("p");
        let columns = number(&parsed, "c")?.map_or(if plain { 30 } else { 16 }, |c| c.clamp(1, 256) as usize);
        let group = number(&parsed, "g")?.map_or(2, |g| g.clamp(1, 256) as usize);
        let mut offset = skip.unwrap_or(0);
        loop {
            let bytes = row(&mut *input, columns).map_err(io_error)?;
            if bytes.is_empty() {
                return Ok(finish("xxd", out, 0));
            }
            let hex = |chunk: &[u8]| chunk.iter().map(|b| format!("{b:02x}")).collect::<String>();
            let line = if plain {
                format!("{}\n", hex(&bytes))
            } else {
                let groups = bytes.chunks(group).map(hex).collect::<Vec<_>>().join(" ");
                let width = columns * 2 + columns.div_ceil(group) - 1;
                format!("{offset:08x}: {groups:<width$}  {}\n", printable(&bytes))
            };
            out.write_all(line.as_bytes()).map_err(io_error)?;
            offset += bytes.len() as u64;
        }
    };
    run().unwrap_or_else(|message| fail("xxd", message, 1))
}

/// `hexdump` and `hd`: with `-C` bytes and characters, else 16-bit words.
pub fn hexdump(args: &[String]) -> i32 {
    let run = || -> Result<i32, String> {
        let parsed = HEXDUMP.parse(args.get(1..).unwrap_or_default())?;
        let io_error = |error: io::Error| reason(&error);
        if parsed.has("e") {
            return Err("-e is not supported; use od or xxd".into());
        }
        let canonical = parsed.has("C") || args.first().is_some_and(|name| name.ends_with("hd"));
        let skip = number(&parsed, "s")?;
        let mut input = open(parsed.operands.first(), skip, number(&parsed, "n")?).map_err(io_error)?;
        let mut out = stdout();
        let mut offset = skip.unwrap_or(0);
        let mut before = Vec::new();
        let mut starred = false;
        loop {
            let bytes = row(&mut *input, 16).map_err(io_error)?;
            if bytes.is_empty() {
                break;
            }
            if bytes == before && bytes.len() == 16 && !parsed.has("v") {
                if !starred {
                    out.write_all(b"*\n").map_err(io_error)?;
                }
                starred = true;
                offset += 16;
                continue;
            }
            starred = false;
            let line = if canonical {
                let half = |chunk: &[u8]| chunk.iter().map(|b| format!("{b:02x} ")).collect::<String>();
                let (first, second) = bytes.split_at(bytes.len().min(8));
                format!(
                    "{offset:08x}  {:<24} {:<24} |{}|\n",
                    half(first),
                    half(second),
                    printable(&bytes)
                )
            } else {
                let words = bytes
                    .chunks(2)
                    .map(|pair| format!(" {:02x}{:02x}", pair.get(1).unwrap_or(&0), pair[0]));
                format!("{offset:07x}{}\n", words.collect::<String>())
            };
            out.write_all(line.as_bytes()).map_err(io_error)?;
            offset += bytes.len() as u64;
            before = bytes;
        }
        if offset > skip.unwrap_or(0) {
            let end = if canonical {
                format!("{offset:08x}\n")
            } else {
                format!("{offset:07x}\n")
            };
            out.write_all(end.as_bytes()).map_err(io_error)?;
        }
        Ok(finish("hexdump", out, 0))
    };
    run().unwrap_or_else(|message| fail("hexdump", message, 1))
}
