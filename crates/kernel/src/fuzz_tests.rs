//! Mutated requests of guests, through the parser that reads them.

use wisp_abi::SpawnRequest;
use wisp_fuzzing::{fuzz, outcome};

use super::errno::Errno;

/// What the parser accepts is absolute, free of NUL, no larger than the request, and says the same when written again.
#[test]
fn fuzz_spawn_request() {
    let seed = SpawnRequest {
        path: b"/usr/bin/sh".to_vec(),
        cwd: b"/tmp".to_vec(),
        argv: vec![b"sh".to_vec(), b"-c".to_vec(), b"true".to_vec()],
        environment: vec![b"PATH=/usr/bin".to_vec(), b"A=".to_vec()],
        descriptors: vec![(0, 0), (1, 1), (2, 2), (9, 4)],
        flags: SpawnRequest::NEW_GROUP,
    };
    let empty = SpawnRequest {
        cwd: b"/".to_vec(),
        argv: vec![b"x".to_vec()],
        ..SpawnRequest::default()
    };
    let words: &[&[u8]] = &[
        b"\0\0\0\0",
        b"\x01\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\x01\0",
        b"PATH=",
        b"/",
    ];
    fuzz(
        crate::FUZZ,
        "spawn_request",
        &[seed.encode(), empty.encode()],
        words,
        |input| {
            let request = match SpawnRequest::parse(input) {
                Ok(request) => request,
                Err(error) => return outcome(&i32::from(Errno::from(error))),
            };
            let strings = || {
                let fixed = [&request.path, &request.cwd];
                fixed.into_iter().chain(&request.argv).chain(&request.environment)
            };
            assert!(request.cwd.starts_with(b"/"));
            assert!(!request.argv.is_empty());
            assert!(strings().all(|string| !string.contains(&0)));
            assert!(strings().map(Vec::len).sum::<usize>() <= input.len());
            let again = request.encode();
            assert!(input.starts_with(&again), "the parser read something else");
            outcome(&(
                request.argv.len().min(8),
                request.environment.len().min(8),
                request.descriptors.len().min(8),
                request.new_group(),
                request.path.is_empty(),
            ))
        },
    );
}
