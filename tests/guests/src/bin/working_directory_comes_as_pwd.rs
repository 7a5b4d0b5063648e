//! The kernel knows no working directory after the start: `PWD` names it, and relative paths belong to a descriptor.

use guests::{ROOT, Start, Status, contents, create_with, open_directory, play, scratch};

fn main() {
    play("child", || {
        let pwd = std::env::var("PWD").expect("PWD");
        assert_eq!(pwd, "/tmp/with space");
        let dir = open_directory(ROOT, pwd.trim_start_matches('/')).expect("opening it");
        assert_eq!(contents(dir, "file"), Ok(b"here".to_vec()));
    });
    let dir = scratch();
    guests::mkdir(dir, "with space").expect("a directory");
    create_with(dir, "with space/file", b"here");
    let mut start = Start::role("child");
    start.cwd = b"/tmp/with space".to_vec();
    assert_eq!(start.run(), Ok(Status::Exited(0)));
}
