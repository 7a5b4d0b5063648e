//! `..` out of `/proc` leads back into the sandbox, odd paths to nothing, endless links to `loop` or nothing.

use guests::{Errno, FOLLOW, READ, ROOT, contents, create_with, open, path_filestat, scratch};

fn main() {
    create_with(scratch(), "file", b"inside");
    for path in [
        "proc/../tmp/file",
        "proc/self/../../tmp/file",
        "proc/self/root/tmp/file",
        "proc/self/root/../../tmp/file",
        "proc/self/cwd/file",
        "proc/self/cwd/../tmp/file",
        "dev/fd/../../tmp/file",
    ] {
        assert_eq!(contents(ROOT, path), Ok(b"inside".to_vec()), "{path}");
    }
    for path in [
        "proc/self/fd/999999999999",
        "proc/-1/stat",
        "proc/0/stat",
        "proc/4294967297/stat",
        "proc/self/none",
    ] {
        assert_eq!(open(ROOT, path, 0, READ, 0), Err(Errno::NOENT), "{path}");
    }
    let nested = format!("proc/self/root/{}", "proc/self/root/".repeat(100));
    assert!(path_filestat(ROOT, FOLLOW, nested).is_err());
    assert!(path_filestat(ROOT, FOLLOW, "proc/self/fd/0/x").is_err());
}
