//! A descriptor passed as 3 is moved, because 3 is the root; `inherited` and `/dev/fd/3` tell where it went.

use guests::{
    BAD_ADDRESS, Errno, READ, ROOT, Start, Status, address, call, create, inherited, open, play, read, scratch, seek,
    write,
};

fn main() {
    play("child", || {
        let (pairs, count) = inherited(8).expect("the list");
        assert_eq!(count, 2);
        let own = |number| {
            pairs
                .iter()
                .find(|(theirs, _)| *theirs == number)
                .expect("it is listed")
                .1
        };
        assert_ne!(own(3), 3);
        assert_eq!(own(50), 50, "a free number is kept");
        assert_eq!(read(own(3), 3), Ok(b"one".to_vec()));
        let again = open(ROOT, "dev/fd/3", 0, READ, 0).expect("opening /dev/fd/3");
        assert_eq!(read(again, 9), Ok(b" file".to_vec()), "the same open file");
        assert_eq!(
            inherited(1).map(|(pairs, count)| (pairs.len(), count)),
            Ok((1, 2)),
            "as many as fit"
        );
        let mut number = 0u32;
        let out = address(&raw mut number);
        assert_eq!(call!(wisp::inherited(BAD_ADDRESS, 2, out)), Err(Errno::FAULT));
        assert_eq!(call!(wisp::inherited(0, 0, out)), Ok(()));
        assert_eq!(number, 2);
    });
    assert_eq!(inherited(8), Ok((vec![], 0)));
    let dir = scratch();
    let (first, second) = (create(dir, "first"), create(dir, "second"));
    assert_eq!(write(first, b"one file"), Ok(8));
    assert_eq!(seek(first, 0, 0), Ok(0));
    let start = Start::role("child").descriptor(3, first).descriptor(50, second);
    assert_eq!(start.run(), Ok(Status::Exited(0)));
}
