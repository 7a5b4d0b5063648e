//! Maps error messages of programs and of the engine to provider errors.

use super::script::Finished;
use crate::provider::ProviderError;

/// The errors that a files call can have, in the words of `strerror` (musl and glibc agree but for case), with the
/// words of this program.
const REASONS: [(&str, &str); 24] = [
    ("No such file or directory", "no such file or directory"),
    // What shells say of a file they cannot create.
    ("nonexistent directory", "no such file or directory"),
    ("Directory nonexistent", "no such file or directory"),
    ("Not a directory", "not a directory"),
    ("Is a directory", "is a directory"),
    ("File exists", "file exists"),
    ("Directory not empty", "directory not empty"),
    ("Too many levels of symbolic links", "too many levels of symbolic links"),
    ("Symbolic link loop", "too many levels of symbolic links"),
    ("File name too long", "file name too long"),
    ("Filename too long", "file name too long"),
    ("No space left on device", "no space left on device"),
    ("Disk quota exceeded", "no space left on device"),
    ("File too large", "no space left on device"),
    ("Invalid argument", "invalid argument"),
    ("Device or resource busy", "device or resource busy"),
    ("Resource busy", "device or resource busy"),
    ("Operation not permitted", "operation not permitted"),
    ("Permission denied", "permission denied"),
    ("Read-only file system", "read-only file system"),
    ("Text file busy", "text file busy"),
    ("Operation not supported", "operation not supported"),
    ("Not supported", "operation not supported"),
    ("Invalid cross-device link", "invalid cross-device link"),
];

/// What a message ends in.
fn reason(message: &str) -> Option<&'static str> {
    let message = message.trim_end().to_ascii_lowercase();
    let known = REASONS
        .iter()
        .find(|(said, _)| message.ends_with(&said.to_ascii_lowercase()));
    known.map(|(_, reason)| *reason)
}

/// The error of a path.
pub fn of_reason(path: &str, reason: &str) -> ProviderError {
    match reason {
        "no such file or directory" => ProviderError::FileNotFound(path.to_owned()),
        "no space left on device" => {
            ProviderError::LimitReached(format!("{path}: no space left: the sandbox has used its disk_mb"))
        }
        reason => ProviderError::BadPath {
            path: path.to_owned(),
            reason: reason.to_owned(),
        },
    }
}

/// The error that the engine's message about a path means, if it is about the path.
pub fn of_message(path: &str, message: &str) -> Option<ProviderError> {
    if message.contains("cannot overwrite") {
        return Some(of_reason(path, "is a directory"));
    }
    reason(message).map(|reason| of_reason(path, reason))
}

/// The error a script ended with.
pub fn of_script(path: &str, finished: &Finished) -> ProviderError {
    /// 128 + SIGXFSZ: the largest size of one file, which is the sandbox's `disk_mb`.
    const FILE_TOO_LARGE: i32 = 153;
    /// From here on it is the shell that failed, or a signal that ended it.
    const CANNOT_RUN: i32 = 126;
    // 100 + errno, where a script has checked itself.
    let reason = match finished.status {
        102 => "no such file or directory",
        113 => "permission denied",
        120 => "not a directory",
        121 => "is a directory",
        122 => "invalid argument",
        140 => "too many levels of symbolic links",
        98 => "not a regular file",
        // Directories above it could not be made; one that exists but is a file is in the way.
        99 => match reason(&finished.error) {
            Some("file exists") => "not a directory",
            Some(reason) => reason,
            None => "permission denied",
        },
        FILE_TOO_LARGE => "no space left on device",
        status => match finished.error.lines().find_map(reason) {
            Some(reason) => reason,
            // The script is ours, so that what fails in it is what the path stands for: a file that the kernel makes up
            // may answer anything.
            None if (1..CANNOT_RUN).contains(&status) => {
                tracing::warn!(path, status, error = finished.error.trim_end(), "a script failed");
                "input/output error"
            }
            None => {
                return ProviderError::Internal(format!(
                    "a script for {path} ended with {status}: {}",
                    finished.error.trim_end()
                ));
            }
        },
    };
    of_reason(path, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: i32, error: &str) -> String {
        let finished = Finished {
            status,
            output: Vec::new(),
            error: error.to_owned(),
        };
        of_script("/p", &finished).to_string()
    }

    #[test]
    fn messages_of_programs_become_provider_errors() {
        for said in [
            "rmdir: failed to remove '/p': Directory not empty\n",
            "rmdir: '/p': Directory not empty\n",
        ] {
            assert_eq!(error(1, said), "/p: directory not empty");
        }
        assert_eq!(
            error(99, "mkdir: cannot create directory '/p': File exists\n"),
            "/p: not a directory"
        );
        assert_eq!(error(102, ""), "/p: no such file or directory");
        assert!(matches!(
            of_message("/p", "lstat /x/p: not a directory"),
            Some(ProviderError::BadPath { .. })
        ));
        assert!(error(1, "cat: write error: No space left on device\n").contains("disk_mb"));
    }

    #[test]
    fn files_that_the_kernel_makes_up_are_no_failure_of_the_server() {
        for (status, said) in [
            (
                2,
                "sh: 9: cannot create /proc/sys/kernel/.wisp-upload-1: Directory nonexistent\n",
            ),
            (
                1,
                "sh: can't create /proc/sys/kernel/.wisp-upload-1: nonexistent directory\n",
            ),
            (1, "mv: can't rename '/proc/sys/kernel/x': Read-only file system\n"),
            (1, "cat: write error: Something that no table knows\n"),
            (1, ""),
        ] {
            let finished = Finished {
                status,
                output: Vec::new(),
                error: said.to_owned(),
            };
            let error = of_script("/proc/sys/kernel/core_pattern", &finished);
            let of_the_request = matches!(error, ProviderError::BadPath { .. } | ProviderError::FileNotFound(_));
            assert!(of_the_request, "{said}: {error:?}");
        }
        for status in [126, 127, 137] {
            let finished = Finished {
                status,
                output: Vec::new(),
                error: String::new(),
            };
            assert!(
                matches!(of_script("/p", &finished), ProviderError::Internal(_)),
                "{status}"
            );
        }
    }

    #[test]
    fn a_name_in_a_message_is_not_taken_for_its_reason() {
        let said = "rm: cannot remove '/p: Directory not empty': Permission denied\n";
        assert_eq!(error(1, said), "/p: permission denied");
    }
}
