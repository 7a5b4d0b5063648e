//! Error messages in the words of bash, which scripts and readers look for.

use std::path::Path;

use brush_core::extensions::ErrorFormatter;
use brush_core::parser::ParseError;
use brush_core::{Error, ErrorKind, Shell, ShellExtensions};

/// Words errors as bash does: `bash: line 3: name: reason`.
#[derive(Clone, Default)]
pub struct BashMessages;

impl ErrorFormatter for BashMessages {
    fn format_error(&self, error: &Error, shell: &Shell<impl ShellExtensions>) -> String {
        let name = shell
            .current_shell_name()
            .map_or_else(|| "sh".to_owned(), std::borrow::Cow::into_owned);
        if let ErrorKind::ParseError(reason, _) = error.kind() {
            let name = if shell.options().command_string_mode {
                format!("{name}: -c")
            } else {
                name
            };
            return parse_error(&name, reason);
        }
        let line = shell
            .env_str("LINENO")
            .map_or_else(String::new, |line| format!("line {line}: "));
        format!("{name}: {line}{}\n", reason(error.kind()))
    }
}

/// The message of a syntax error.
fn parse_error(name: &str, error: &ParseError) -> String {
    match error {
        ParseError::ParsingNear(position) => {
            format!(
                "{name}: line {}: syntax error near column {}\n",
                position.line, position.column
            )
        }
        ParseError::ParsingAtEndOfInput => format!("{name}: syntax error: unexpected end of file\n"),
        ParseError::Tokenizing { inner, position } => {
            let line = position.as_ref().map_or(1, |position| position.line);
            format!("{name}: line {line}: syntax error: {inner}\n")
        }
    }
}

/// The part of a message that tells what failed and why.
fn reason(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::CommandNotFound(command) if command.contains('/') => {
            format!("{command}: No such file or directory")
        }
        ErrorKind::CommandNotFound(command) => format!("{command}: command not found"),
        ErrorKind::FailedToExecuteCommand(command, error) => format!("{command}: {}", system_error(&error.to_string())),
        ErrorKind::RedirectionFailure(path, error) => format!("{}: {}", shorten(path), system_error(error)),
        ErrorKind::FailedSourcingFile(path, error) => {
            format!("{}: {}", path.display(), system_error(&error.to_string()))
        }
        ErrorKind::ExpandingUnsetVariable(parameter) => {
            let name = parameter
                .trim_start_matches('$')
                .trim_start_matches('{')
                .trim_end_matches('}');
            format!("{name}: unbound variable")
        }
        ErrorKind::CheckedExpansionError(message) => message.clone(),
        ErrorKind::IoError(error) => system_error(&error.to_string()),
        ErrorKind::BadFileDescriptor(number) => format!("{number}: Bad file descriptor"),
        ErrorKind::BuiltinError(error, name) => format!("{name}: {}", system_error(&error.to_string())),
        other => system_error(&other.to_string()),
    }
}

/// A system error without its number: `No such file or directory (os error 44)`.
fn system_error(text: &str) -> String {
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => match text {
            // What the standard library calls errors that did not come from the system.
            "entity not found" => "No such file or directory".to_owned(),
            "permission denied" => "Permission denied".to_owned(),
            "is a directory" => "Is a directory".to_owned(),
            _ => text.to_owned(),
        },
    }
}

/// A path as the script wrote it, when it is below the working directory.
fn shorten(path: &str) -> String {
    std::env::current_dir()
        .ok()
        .and_then(|directory| {
            Path::new(path)
                .strip_prefix(directory)
                .ok()
                .map(|rest| rest.display().to_string())
        })
        .unwrap_or_else(|| path.to_owned())
}
