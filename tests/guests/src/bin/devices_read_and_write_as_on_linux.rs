//! `/dev/null`, `zero`, `full` and `urandom` do what they are known for; there is no terminal.

use guests::{Errno, READ, ROOT, TRUNC, Until, WRITE, open, poll, read, seek, write};

fn main() {
    let device = |name: &str| open(ROOT, format!("dev/{name}"), 0, READ | WRITE, 0).expect(name);
    let (null, zero, full, random) = (device("null"), device("zero"), device("full"), device("urandom"));
    assert_eq!((read(null, 9), write(null, b"gone")), (Ok(vec![]), Ok(4)));
    assert_eq!((read(zero, 9), write(zero, b"gone")), (Ok(vec![0; 9]), Ok(4)));
    assert_eq!((read(full, 9), write(full, b"x")), (Ok(vec![0; 9]), Err(Errno::NOSPC)));
    let (first, second) = (read(random, 32).expect("reading"), read(random, 32).expect("reading"));
    assert_eq!((first.len(), second.len()), (32, 32));
    assert_ne!(first, second);
    assert_eq!(open(ROOT, "dev/tty", 0, READ, 0), Err(Errno::NXIO));
    assert!(open(ROOT, "dev/null", TRUNC, WRITE, 0).is_ok(), "as `>/dev/null` does");
    assert_eq!(seek(null, 10, 0), Ok(0));
    assert_eq!(
        poll(&[Until::Readable(zero), Until::Writable(null)]).map(|events| events.len()),
        Ok(2)
    );
    assert_eq!(read(zero, 0), Ok(vec![]));
}
