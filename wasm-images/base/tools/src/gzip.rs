//! `gzip`, `gunzip`, `zcat`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::cli::{Parsed, Spec, Takes, complain, fail, reason};

const SPEC: Spec = Spec {
    short: "cdkfqvnNtlrS:123456789",
    long: &[
        ("stdout", "c", Takes::Nothing),
        ("to-stdout", "c", Takes::Nothing),
        ("decompress", "d", Takes::Nothing),
        ("uncompress", "d", Takes::Nothing),
        ("keep", "k", Takes::Nothing),
        ("force", "f", Takes::Nothing),
        ("quiet", "q", Takes::Nothing),
        ("verbose", "v", Takes::Nothing),
        ("test", "t", Takes::Nothing),
        ("fast", "1", Takes::Nothing),
        ("best", "9", Takes::Nothing),
        ("no-name", "n", Takes::Nothing),
    ],
    permute: true,
};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let called = args.first().and_then(|name| name.rsplit('/').next()).unwrap_or("gzip");
    let mut parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail(called, message, 1),
    };
    if called != "gzip" {
        parsed.options.push(("d".into(), String::new()));
    }
    if called == "zcat" {
        parsed.options.push(("c".into(), String::new()));
    }
    let files = if parsed.operands.is_empty() {
        vec!["-".to_owned()]
    } else {
        parsed.operands.clone()
    };
    let mut status = 0;
    for file in &files {
        let result = if file == "-" {
            transform(&parsed, &mut io::stdin().lock(), &mut io::stdout().lock())
        } else {
            one(&parsed, Path::new(file))
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return 1,
            Err(error) => {
                complain(called, format_args!("{file}: {}", reason(&error)));
                status = 1;
            }
            Ok(()) => {}
        }
    }
    status
}

fn level(parsed: &Parsed) -> Compression {
    let digit = parsed.options.iter().rev().find_map(|(key, _)| key.parse().ok());
    Compression::new(digit.unwrap_or(6))
}

fn transform(parsed: &Parsed, input: &mut dyn Read, output: &mut dyn Write) -> io::Result<()> {
    if parsed.has("d") || parsed.has("t") {
        let mut decoder = MultiGzDecoder::new(io::BufReader::new(input));
        if parsed.has("t") {
            io::copy(&mut decoder, &mut io::sink())?;
        } else {
            io::copy(&mut decoder, output)?;
        }
        return output.flush();
    }
    let mut encoder = GzEncoder::new(output, level(parsed));
    io::copy(input, &mut encoder)?;
    encoder.finish()?.flush()
}

fn one(parsed: &Parsed, path: &Path) -> io::Result<()> {
    let other = |message: &str| io::Error::other(message.to_owned());
    if fs::metadata(path)?.is_dir() {
        return Err(other("is a directory -- ignored"));
    }
    let mut input = File::open(path)?;
    if parsed.has("c") || parsed.has("t") {
        return transform(parsed, &mut input, &mut io::stdout().lock());
    }
    let text = path.to_string_lossy();
    let target: PathBuf = if parsed.has("d") {
        match (text.strip_suffix(".tgz"), text.strip_suffix(".gz")) {
            (Some(stem), _) => format!("{stem}.tar").into(),
            (None, Some(stem)) if !stem.is_empty() => stem.into(),
            _ => return Err(other("unknown suffix -- ignored")),
        }
    } else if text.ends_with(".gz") && !parsed.has("f") {
        return Err(other("already has .gz suffix -- unchanged"));
    } else {
        format!("{text}.gz").into()
    };
    if target.exists() && !parsed.has("f") {
        return Err(other(&format!(
            "{} already exists; use -f to overwrite",
            target.display()
        )));
    }
    let mut output = File::create(&target)?;
    if let Err(error) = transform(parsed, &mut input, &mut output) {
        let _ = fs::remove_file(&target);
        return Err(error);
    }
    drop(output);
    if let Ok(stat) = wisp_sys::stat(path, true) {
        wisp_sys::chmod(&target, true, stat.permissions())?;
    }
    if !parsed.has("k") {
        fs::remove_file(path)?;
    }
    Ok(())
}
