//! The type of a descriptor, and that neither pipes nor consoles look like a terminal (a device that cannot seek).

use guests::{
    READ, ROOT, TYPE_CHARACTER_DEVICE, TYPE_DIRECTORY, TYPE_REGULAR_FILE, TYPE_UNKNOWN, WRITE, call, create, fdstat,
    open, pipe, scratch,
};

fn main() {
    const SEEK: u64 = 1 << 2;
    let (reader, writer) = pipe().expect("a pipe");
    for fd in [0, 1, 2, reader, writer] {
        assert_eq!(
            fdstat(fd).map(|stat| stat.filetype),
            Ok(TYPE_UNKNOWN),
            "descriptor {fd}"
        );
    }
    assert_eq!(
        fdstat(reader).map(|stat| stat.rights_base & (READ | WRITE | SEEK)),
        Ok(READ)
    );
    assert_eq!(
        fdstat(writer).map(|stat| stat.rights_base & (READ | WRITE | SEEK)),
        Ok(WRITE)
    );
    assert_eq!(fdstat(ROOT).map(|stat| stat.filetype), Ok(TYPE_DIRECTORY));
    let file = create(scratch(), "file");
    assert_eq!(
        fdstat(file).map(|stat| (stat.filetype, stat.flags)),
        Ok((TYPE_REGULAR_FILE, 0))
    );
    let null = open(ROOT, "dev/null", 0, READ | WRITE, 0).expect("opening /dev/null");
    let stat = fdstat(null).expect("its attributes");
    assert_eq!((stat.filetype, stat.rights_base & SEEK), (TYPE_CHARACTER_DEVICE, SEEK));
    assert_eq!(call!(preview1::fd_fdstat_set_rights(file, 0, 0)), Ok(()));
}
