//! `/proc/self` shows command line, environment, directory, program and status of the reader.

use guests::{FOLLOW, ROOT, Start, Status, contents, getpid, open_directory, own_path, path_filestat, play, readlink};

fn main() {
    play("child", || {
        let text =
            |name: &str| String::from_utf8(contents(ROOT, format!("proc/self/{name}")).expect(name)).expect(name);
        let [pid, parent, group] = getpid().expect("the numbers");
        let own = own_path();
        let name = own.rsplit('/').next().expect("a name");
        assert_eq!(text("cmdline"), format!("{own}\0child\0two words\0"));
        assert_eq!(text("environ"), "A=b\0PWD=/usr\0");
        assert_eq!(text("comm"), format!("{name}\n"));
        assert!(
            text("stat").starts_with(&format!("{pid} ({name}) R {parent} {group} ")),
            "{}",
            text("stat")
        );
        assert!(
            text("status").contains(&format!("\nPid:\t{pid}\nPPid:\t{parent}\n")),
            "{}",
            text("status")
        );
        assert_eq!(readlink(ROOT, "proc/self", 99), Ok(pid.to_string().into_bytes()));
        assert_eq!(readlink(ROOT, "proc/self/cwd", 99), Ok(b"/usr".to_vec()));
        assert_eq!(readlink(ROOT, "proc/self/exe", 99), Ok(own.clone().into_bytes()));
        let (through, direct) = (
            path_filestat(ROOT, FOLLOW, "proc/self/cwd"),
            path_filestat(ROOT, FOLLOW, "usr"),
        );
        assert_eq!(through, direct);
        assert!(open_directory(ROOT, "proc/self/cwd/bin").is_ok(), "on through the link");
        assert_eq!(
            contents(ROOT, format!("proc/{pid}/cmdline")),
            contents(ROOT, "proc/self/cmdline")
        );
        assert!(
            contents(ROOT, format!("proc/{parent}/cmdline")).is_ok(),
            "of another process"
        );
    });
    let mut start = Start::role("child").argument("two words");
    start.cwd = b"/usr".to_vec();
    start.environment = vec![b"A=b".to_vec()];
    assert_eq!(start.run(), Ok(Status::Exited(0)));
}
