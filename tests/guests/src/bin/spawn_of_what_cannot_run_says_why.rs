//! Missing is `noent`, without x bit `acces`, neither program nor script `noexec`.

use guests::{Errno, Start, chmod, create_with, mkdir, scratch};

fn main() {
    let dir = scratch();
    assert_eq!(Start::program("/tmp/missing").spawn(), Err(Errno::NOENT));
    create_with(dir, "text", b"echo hello\n");
    assert_eq!(Start::program("/tmp/text").spawn(), Err(Errno::ACCES));
    chmod("/tmp/text", 0o755).expect("chmod");
    assert_eq!(Start::program("/tmp/text").spawn(), Err(Errno::NOEXEC));
    assert_eq!(Start::program("/tmp/text/below").spawn(), Err(Errno::NOTDIR));
    create_with(dir, "module", b"\0asm\x01\0\0\0");
    chmod("/tmp/module", 0o755).expect("chmod");
    assert_eq!(
        Start::program("/tmp/module").spawn(),
        Err(Errno::NOEXEC),
        "a guest's own module does not run"
    );
    create_with(
        dir,
        "forged",
        b"\0wisp-program sha256:0000000000000000000000000000000000000000000000000000000000000000\n",
    );
    chmod("/tmp/forged", 0o755).expect("chmod");
    assert_eq!(
        Start::program("/tmp/forged").spawn(),
        Err(Errno::NOEXEC),
        "no module of the image"
    );
    mkdir(dir, "d").expect("a directory");
    assert_eq!(Start::program("/tmp/d").spawn(), Err(Errno::ACCES));
    assert_eq!(Start::program("/dev/null").spawn(), Err(Errno::ACCES));
    create_with(dir, "empty", b"");
    chmod("/tmp/empty", 0o755).expect("chmod");
    assert_eq!(Start::program("/tmp/empty").spawn(), Err(Errno::NOEXEC));
}
