//! `#!` names an interpreter with one optional argument, before the script's path and the arguments.

use guests::{Errno, Start, Status, chmod, create_with, own_path, play, scratch};

fn script(name: &str, contents: &str) {
    create_with(scratch(), name, contents.as_bytes());
    chmod(format!("/tmp/{name}"), 0o755).expect("chmod");
}

fn main() {
    play("part", || {
        let rest: Vec<String> = std::env::args().skip(2).collect();
        assert_eq!(rest, ["/tmp/script", "first", "second"]);
        std::process::exit(9);
    });
    let own = own_path();
    script("script", &format!("#! {own}  part \nrest"));
    let start = Start::program("/tmp/script").argument("first").argument("second");
    assert_eq!(start.run(), Ok(Status::Exited(9)));
    script("missing", "#!/nowhere/sh\n");
    assert_eq!(Start::program("/tmp/missing").spawn(), Err(Errno::NOENT));
    script("nothing", "#!\n");
    assert_eq!(Start::program("/tmp/nothing").spawn(), Err(Errno::NOEXEC));
    script("itself", "#!/tmp/itself\n");
    assert_eq!(Start::program("/tmp/itself").spawn(), Err(Errno::LOOP));
    script("nested", "#!/tmp/nested-2\n");
    script("nested-2", &format!("#!{own} nested\n"));
    play("nested", || std::process::exit(8));
    assert_eq!(
        Start::program("/tmp/nested").run(),
        Ok(Status::Exited(8)),
        "an interpreter may be a script"
    );
}
