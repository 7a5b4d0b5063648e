//! `/dev/wisp` carries out kernel calls written as text.

use guests::{
    Errno, READ, ROOT, SIGTERM, Start, Status, WRITE, chmod, create_with, getpid, open, play, read, scratch, stat,
    symlink, umask, write,
};

fn main() {
    let fd = open(ROOT, "dev/wisp", 0, READ | WRITE, 0).expect("opening /dev/wisp");
    let ask = |request: &[u8]| {
        assert_eq!(write(fd, request), Ok(request.len() as u32));
        let answer = String::from_utf8(read(fd, 200).expect("reading")).expect("text");
        assert_eq!(read(fd, 200), Ok(vec![]), "the answer is given once");
        answer.trim_end().to_owned()
    };
    play("kill", || {
        let own = getpid().expect("the numbers")[0];
        panic!("it went on: {}", ask(format!("kill {own} 15").as_bytes()));
    });
    let dir = scratch();
    create_with(dir, "a%b\nc", b"");
    symlink("a%b\nc", dir, "link").expect("a link");
    chmod("/tmp/a%b\nc", 0o751).expect("chmod");
    let ino = stat("/tmp/a%b\nc", 1).expect("its attributes").ino;
    assert_eq!(ask(b"stat /tmp/a%25b%0Ac"), format!("ok {} 0 0 1 0 {ino}", 0o100_751));
    assert!(ask(b"lstat /tmp/link").starts_with(&format!("ok {} ", 0o120_777)));
    assert_eq!(ask(b"stat /tmp/missing"), "err 44");
    assert_eq!(ask(b"chmod 600 /tmp/a%25b%0Ac\n"), "ok");
    assert_eq!(stat("/tmp/link", 1).map(|stat| stat.mode), Ok(0o100_600));
    assert_eq!(ask(b"umask 77"), "ok 22");
    assert_eq!(umask(u32::MAX), Ok(0o077));
    let [own, parent, _] = getpid().expect("the numbers");
    assert_eq!(ask(b"getpid"), format!("ok {own} {parent}"));
    assert_eq!(ask(format!("kill {own} 0").as_bytes()), "ok");
    assert_eq!(ask(b"kill 999999 0"), "err 71");
    assert!(ask(b"fstat 0").starts_with("ok "));
    for odd in [
        &b""[..],
        b"\n",
        b"stat",
        b"stat /\xff%",
        b"chmod 9 /tmp",
        b"fstat -1",
        b"kill - 9",
        b"kill 1 99999999999",
        b"what",
    ] {
        assert!(ask(odd).starts_with("err "), "{:?}", String::from_utf8_lossy(odd));
    }
    assert_eq!(write(fd, &vec![b'x'; 1 << 20]), Err(Errno::TOO_BIG));
    assert_eq!(Start::role("kill").run(), Ok(Status::Killed(SIGTERM)));
}
