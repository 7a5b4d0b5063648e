//! An address outside the memory is `fault` in every call of the `wisp` module, and has no effect.

use guests::{BAD_ADDRESS, Errno, address, call, close, create, pipe, scratch, umask};

fn main() {
    const BAD: u32 = BAD_ADDRESS;
    let fd = create(scratch(), "file");
    let (next, other) = pipe().expect("a pipe");
    close(next).expect("closing");
    close(other).expect("closing");
    let results = [
        ("getpid", call!(wisp::getpid(BAD))),
        ("pipe", call!(wisp::pipe(BAD))),
        ("dup", call!(wisp::dup(fd, 0, u32::MAX))),
        ("spawn", call!(wisp::spawn(BAD, 64, BAD))),
        ("exec", call!(wisp::exec(BAD, 64))),
        ("wait", call!(wisp::wait(-1, 0, BAD))),
        ("sigpending", call!(wisp::sigpending(u32::MAX))),
        ("setitimer", call!(wisp::setitimer(1, 1, u32::MAX - 8))),
        ("umask", call!(wisp::umask(0, u32::MAX))),
        ("chmod", call!(wisp::chmod(BAD, 64, 1, 0))),
        ("chown", call!(wisp::chown(BAD, 64, 1, 0, 0))),
        ("stat", call!(wisp::stat(BAD, 64, 1, BAD))),
        ("fstat", call!(wisp::fstat(fd, BAD))),
        ("statfs", call!(wisp::statfs(BAD))),
        ("mkfifo", call!(wisp::mkfifo(BAD, 64, 0))),
        ("length", call!(wisp::chmod(address("/"), u32::MAX, 1, 0))),
    ];
    for (what, result) in results {
        assert_eq!(result, Err(Errno::FAULT), "{what}");
    }
    assert_eq!(pipe(), Ok((next, other)), "no descriptor was opened");
    assert_eq!(umask(u32::MAX), Ok(0o022), "the umask is as it was");
}
