//! Of several subscriptions only those that are ready are answered, in the order of the list.

use guests::{CLOSED, Errno, MONOTONIC, Until, create, pipe, poll, scratch, write};

fn main() {
    let (reader, writer) = pipe().expect("a pipe");
    let events = poll(&[Until::Readable(reader), Until::Passed(MONOTONIC, 20_000_000)]).expect("polling");
    assert_eq!(
        events.iter().map(|event| event.index).collect::<Vec<_>>(),
        [1],
        "the time was first"
    );
    assert_eq!(write(writer, b"abc"), Ok(3));
    let events = poll(&[
        Until::Passed(MONOTONIC, u64::MAX),
        Until::Readable(reader),
        Until::Writable(writer),
        Until::Readable(CLOSED),
        Until::Passed(77, 0),
    ])
    .expect("polling");
    let found: Vec<_> = events
        .iter()
        .map(|event| (event.index, event.kind, event.error))
        .collect();
    assert_eq!(
        found,
        [
            (1, 1, None),
            (2, 2, None),
            (3, 1, Some(Errno::BADF)),
            (4, 0, Some(Errno::NOTSUP))
        ]
    );
    assert_eq!((events[0].bytes, events[0].hangup), (3, false));
    let file = create(scratch(), "file");
    assert_eq!(
        poll(&[Until::Readable(file), Until::Writable(file)]).map(|events| events.len()),
        Ok(2)
    );
}
