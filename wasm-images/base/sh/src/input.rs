//! A script that comes in through standard input.

use std::fs::File;
use std::io::Read;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;

use brush_core::parser::ParseError;
use brush_core::{Error, ExecutionResult, Shell, ShellExtensions, SourceInfo};

/// Runs the commands of standard input one by one. Each is read no further than its last line, since the rest of the
/// input belongs to the commands, as for `read` or `cat`.
pub async fn run_standard_input<SE: ShellExtensions>(shell: &mut Shell<SE>) -> Result<ExecutionResult, Error> {
    let params = shell.default_exec_params();
    let source = SourceInfo::from("stdin");
    let mut result = ExecutionResult::success();
    let mut text = String::new();
    loop {
        let more = read_line(&mut text)?;
        let incomplete = more && (text.ends_with("\\\n") || is_incomplete(shell, &text));
        if incomplete {
            continue;
        }
        if !text.trim().is_empty() {
            result = shell.run_string(std::mem::take(&mut text), &source, &params).await?;
        }
        text.clear();
        if !more || !result.is_normal_flow() {
            break;
        }
    }
    shell.on_exit().await?;
    Ok(result)
}

/// Whether the text is the beginning of a command.
fn is_incomplete<SE: ShellExtensions>(shell: &Shell<SE>, text: &str) -> bool {
    match shell.parse_string(text) {
        Ok(_) => false,
        Err(ParseError::ParsingAtEndOfInput) => true,
        Err(ParseError::Tokenizing { inner, .. }) => inner.is_incomplete(),
        Err(ParseError::ParsingNear(_)) => false,
    }
}

/// Appends the next line, with its newline; false at the end of the input.
#[allow(unsafe_code)]
fn read_line(text: &mut String) -> std::io::Result<bool> {
    // SAFETY: the value never closes descriptor 0.
    let mut input = ManuallyDrop::new(unsafe { File::from_raw_fd(0) });
    let mut line = Vec::new();
    let mut byte = [0];
    let more = loop {
        match input.read(&mut byte) {
            Ok(0) => break false,
            Ok(_) => {
                line.push(byte[0]);
                if byte[0] == b'\n' {
                    break true;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    };
    text.push_str(&String::from_utf8_lossy(&line));
    Ok(more)
}
