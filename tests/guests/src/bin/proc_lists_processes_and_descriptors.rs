//! `/proc` lists live processes, `/proc/self/fd` the open descriptors, and neither can be changed.

use guests::{
    CREATE, EXCL, Errno, READ, ROOT, SIGKILL, Start, WRITE, contents, create, getpid, kill, mkdir, names, open,
    open_directory, play, rename, scratch, sleep, unlink, wait,
};

fn main() {
    play("sleep", || sleep(60_000));
    let [own, _, _] = getpid().expect("the numbers");
    let child = Start::role("sleep").spawn().expect("spawning");
    let proc = open_directory(ROOT, "proc").expect("opening /proc");
    let listed = names(proc, 64).expect("listing");
    for name in [own.to_string(), child.to_string(), "self".into(), "meminfo".into()] {
        assert!(listed.contains(&name), "{name} in {listed:?}");
    }
    kill(child as i32, SIGKILL).expect("killing");
    wait(child as i32, 0).expect("waiting");
    assert!(!names(proc, 4096).expect("listing").contains(&child.to_string()));
    assert_eq!(contents(ROOT, format!("proc/{child}/stat")), Err(Errno::NOENT));
    let file = create(scratch(), "file");
    let fds = open_directory(proc, "self/fd").expect("opening /proc/self/fd");
    let listed = names(fds, 4096).expect("listing");
    for fd in [0, 1, 2, file] {
        assert!(listed.contains(&fd.to_string()), "{fd} in {listed:?}");
    }
    assert_eq!(mkdir(proc, "x"), Err(Errno::ACCES));
    assert_eq!(unlink(proc, "meminfo"), Err(Errno::ACCES));
    assert_eq!(rename(ROOT, "proc/meminfo", "tmp/x"), Err(Errno::ACCES));
    assert!(open(proc, "new", CREATE | EXCL, READ | WRITE, 0).is_err());
    assert_eq!(open(proc, "meminfo", 0, WRITE, 0), Err(Errno::ACCES));
    assert_eq!(open(proc, "missing", 0, READ, 0), Err(Errno::NOENT));
}
