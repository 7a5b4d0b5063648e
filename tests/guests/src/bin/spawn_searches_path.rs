//! With an empty path the program is looked up in `PATH` of the environment it gets, file by file.

use guests::{Errno, ROOT, Start, Status, create_with, mkdir, own_path, play, scratch, symlink};

fn main() {
    play("child", || std::process::exit(3));
    let own = own_path();
    let name = own.strip_prefix("/usr/bin/").expect("where it is installed");
    let mut start = Start::program("").argument("child");
    start.argv[0] = name.as_bytes().to_vec();
    assert_eq!(start.run(), Ok(Status::Exited(3)));
    start.environment = vec![b"PATH=/nowhere:/usr/bin".to_vec()];
    assert_eq!(start.run(), Ok(Status::Exited(3)));
    start.environment = vec![];
    assert_eq!(start.run(), Ok(Status::Exited(3)), "the default PATH");
    start.environment = vec![b"PATH=/nowhere".to_vec()];
    assert_eq!(start.spawn(), Err(Errno::NOENT));
    start.environment = vec![b"PATH=".to_vec()];
    assert_eq!(start.spawn(), Err(Errno::NOENT));
    let dir = scratch();
    mkdir(dir, "bin").expect("a directory");
    create_with(dir, format!("bin/{name}"), b"no program");
    start.environment = vec![b"PATH=/tmp/bin:/usr/bin".to_vec()];
    assert_eq!(
        start.run(),
        Ok(Status::Exited(3)),
        "a file without x bit is passed over"
    );
    start.environment = vec![b"PATH=/tmp/bin".to_vec()];
    assert_eq!(start.spawn(), Err(Errno::ACCES));
    symlink(&own, ROOT, "tmp/linked").expect("a link");
    start.environment = vec![b"PATH=/tmp".to_vec()];
    start.argv[0] = b"linked".to_vec();
    assert_eq!(start.run(), Ok(Status::Exited(3)), "through a link");
    start.environment = vec![b"PATH=".to_vec()];
    assert_eq!(
        start.run(),
        Ok(Status::Exited(3)),
        "an empty entry is the working directory"
    );
    start.argv[0] = b"./linked".to_vec();
    assert_eq!(
        start.run(),
        Ok(Status::Exited(3)),
        "a name with a slash is not searched"
    );
}
