//! Mutated requests of guests, through the parser that reads them.

use wisp_fuzzing::{fuzz, outcome};

use super::spawn::SpawnRequest;

/// The wire form of `docs/abi.md`.
fn encode(request: &SpawnRequest) -> Vec<u8> {
    let mut bytes = Vec::new();
    let number = |bytes: &mut Vec<u8>, number: usize| {
        bytes.extend(u32::try_from(number).unwrap().to_le_bytes());
    };
    let string = |bytes: &mut Vec<u8>, string: &[u8]| {
        number(bytes, string.len());
        bytes.extend(string);
    };
    string(&mut bytes, &request.path);
    string(&mut bytes, &request.cwd);
    for list in [&request.argv, &request.environment] {
        number(&mut bytes, list.len());
        for entry in list {
            string(&mut bytes, entry);
        }
    }
    number(&mut bytes, request.descriptors.len());
    for (child, own) in &request.descriptors {
        number(&mut bytes, *child as usize);
        number(&mut bytes, *own as usize);
    }
    number(&mut bytes, usize::from(request.new_group));
    bytes
}

/// What the parser accepts is absolute, free of NUL, no larger than the request, and says the same when written again.
#[test]
fn fuzz_spawn_request() {
    let seed = SpawnRequest {
        path: b"/usr/bin/sh".to_vec(),
        cwd: b"/tmp".to_vec(),
        argv: vec![b"sh".to_vec(), b"-c".to_vec(), b"true".to_vec()],
        environment: vec![b"PATH=/usr/bin".to_vec(), b"A=".to_vec()],
        descriptors: vec![(0, 0), (1, 1), (2, 2), (9, 4)],
        new_group: true,
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
        &[encode(&seed), encode(&empty)],
        words,
        |input| {
            let request = match SpawnRequest::parse(input) {
                Ok(request) => request,
                Err(errno) => return outcome(&i32::from(errno)),
            };
            let strings = || {
                let fixed = [&request.path, &request.cwd];
                fixed.into_iter().chain(&request.argv).chain(&request.environment)
            };
            assert!(request.cwd.starts_with(b"/"));
            assert!(!request.argv.is_empty());
            assert!(strings().all(|string| !string.contains(&0)));
            assert!(strings().map(Vec::len).sum::<usize>() <= input.len());
            let again = encode(&request);
            assert!(input.starts_with(&again), "the parser read something else");
            outcome(&(
                request.argv.len().min(8),
                request.environment.len().min(8),
                request.descriptors.len().min(8),
                request.new_group,
                request.path.is_empty(),
            ))
        },
    );
}
