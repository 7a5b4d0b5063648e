//! New files get 0666 and directories 0777 without the bits of the umask, which children inherit.

use guests::{Start, Status, create, mkdir, play, scratch, stat, umask};

fn main() {
    play("child", || assert_eq!(umask(u32::MAX), Ok(0o077)));
    let dir = scratch();
    assert_eq!(umask(u32::MAX), Ok(0o022), "that of an exec");
    create(dir, "first");
    assert_eq!(stat("/tmp/first", 1).map(|stat| stat.mode), Ok(0o100_644));
    assert_eq!(umask(0o077), Ok(0o022));
    create(dir, "second");
    mkdir(dir, "d").expect("a directory");
    assert_eq!(stat("/tmp/second", 1).map(|stat| stat.mode), Ok(0o100_600));
    assert_eq!(stat("/tmp/d", 1).map(|stat| stat.mode), Ok(0o040_700));
    assert_eq!(Start::role("child").run(), Ok(Status::Exited(0)));
    assert_eq!(umask(0o7777), Ok(0o077));
    assert_eq!(umask(u32::MAX), Ok(0o777), "only permission bits count");
}
