//! A wall clock that a test can move, for one server: the machine's own is nobody's to change.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

/// Adds what a file says to the time of day. Loaded into the server before the C library.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *offset;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("MOVED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) offset = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    long result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME && offset) time->tv_sec += *offset;
    return result;
}
"#;

/// The settings that give a server a clock moved by what [`set`] says; both files are made in `place`.
pub fn settings(place: &Path) -> [(&'static str, String); 2] {
    let (source, library) = (place.join("moved_clock.c"), place.join("moved_clock.so"));
    fs::write(&source, SOURCE).expect("the source");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .status()
        .expect("cc starts");
    assert!(built.success(), "{built}");
    set(place, 0);
    let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    [
        ("LD_PRELOAD", text(&library)),
        ("MOVED_CLOCK", text(&place.join("moved_clock"))),
    ]
}

/// Moves the clock to so many seconds after the machine's.
pub fn set(place: &Path, seconds: i64) {
    // Not cut off meanwhile: it is mapped.
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(place.join("moved_clock"));
    let file = file.expect("the file of the offset");
    file.write_all_at(&seconds.to_ne_bytes(), 0).expect("the offset");
}
