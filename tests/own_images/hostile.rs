//! Files that cannot become images: a clear refusal, and nothing left of them.

use std::fs;

use crate::api::Api;
use crate::modules::{Parts, body, bomb, jump_table, memory, nested};
use crate::store::Store;

/// What the server's memory may grow by over all of this test, MiB: less than the files would take.
const MAX_GROWTH_MB: u64 = 64;

/// Memory the process has in use, MiB.
fn resident_mb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib >> 10
}

/// Processes it has started that are there still.
fn children(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// A file, and a word of the reason it is refused for.
fn malformed() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = || {
        Parts {
            data: vec![7; 1000],
            ..Parts::default()
        }
        .encode()
    };
    let cut = good().len() - 500;
    vec![
        ("nothing", Vec::new(), "not a WebAssembly"),
        (
            "an ELF file",
            b"\x7fELF\x02\x01\x01\0\0\0\0\0".to_vec(),
            "not a WebAssembly",
        ),
        ("text", b"(module)".to_vec(), "not a WebAssembly"),
        ("half a file", good()[..cut].to_vec(), "unexpected end"),
        (
            "a section longer than the file",
            b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f".to_vec(),
            "end",
        ),
        (
            "a body of the wrong type",
            Parts {
                functions: vec![body(&[wasm_encoder::Instruction::I32Add])],
                ..Parts::default()
            }
            .encode(),
            "type mismatch",
        ),
        (
            "more functions than a module may have",
            Parts {
                functions: vec![body(&[]); 1_000_001],
                ..Parts::default()
            }
            .encode(),
            "functions",
        ),
        (
            "a jump with too many targets",
            Parts {
                functions: vec![jump_table(1_000_000)],
                ..Parts::default()
            }
            .encode(),
            "br_table",
        ),
        (
            "more memory than there are addresses",
            Parts {
                memory: memory(65_537),
                ..Parts::default()
            }
            .encode(),
            "memory size",
        ),
        (
            "a huge table",
            Parts {
                table: Some(1 << 31),
                ..Parts::default()
            }
            .encode(),
            "table",
        ),
        (
            "an unknown import",
            Parts {
                imports: vec![("env", "launch")],
                ..Parts::default()
            }
            .encode(),
            "env.launch",
        ),
        (
            "an import of the wrong type",
            Parts {
                imports: vec![("wasi_snapshot_preview1", "fd_write")],
                ..Parts::default()
            }
            .encode(),
            "wrong type",
        ),
        (
            "a library",
            Parts {
                entry: "add",
                ..Parts::default()
            }
            .encode(),
            "_start",
        ),
        (
            "no exported memory",
            Parts {
                exports_memory: false,
                ..Parts::default()
            }
            .encode(),
            "memory",
        ),
        ("an empty component", b"\0asm\x0d\0\x01\0".to_vec(), "wasi:cli/run"),
    ]
}

#[tokio::test]
async fn a_malformed_or_hostile_file_is_a_400_and_costs_nothing_after() {
    let store = Store::new();
    let server = store.serve(&[]);
    let api = Api::new(server.url(), None);
    api.assert_alive().await;
    let (files, resident) = (store.files(), resident_mb(server.pid()));
    for (what, wasm, reason) in malformed() {
        let refused = api.post("/images?name=bad", wasm).await;
        assert_eq!(
            (refused.status, refused.text("code").as_str()),
            (400, "bad_request"),
            "{what}: {refused:?}"
        );
        assert!(refused.text("message").contains(reason), "{what}: {refused:?}");
    }
    assert_eq!(store.files(), files, "nothing is left over");
    assert_eq!(children(server.pid()), [""; 0], "no compiler is left over");
    let grown = resident_mb(server.pid()).saturating_sub(resident);
    assert!(grown <= MAX_GROWTH_MB, "the server has grown by {grown} MiB");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    api.assert_alive().await;
}

#[tokio::test]
async fn what_sandboxes_do_not_run_is_unsupported_with_a_way_out() {
    let store = Store::new();
    let server = store.serve(&[]);
    let api = Api::new(server.url(), None);
    let files = store.files();
    let mut wide = memory(1);
    wide.memory64 = true;
    let mut shared = memory(1);
    (shared.shared, shared.maximum) = (true, Some(2));
    let wide = Parts {
        memory: wide,
        ..Parts::default()
    }
    .encode();
    let shared = Parts {
        memory: shared,
        ..Parts::default()
    }
    .encode();
    for (what, wasm, way_out) in [
        ("64-bit memory", wide, "build it without"),
        ("shared memory", shared, "build it without"),
    ] {
        let refused = api.post("/images?name=bad", wasm).await;
        assert_eq!(
            (refused.status, refused.text("code").as_str()),
            (422, "unsupported"),
            "{what}: {refused:?}"
        );
        assert!(refused.text("message").contains(way_out), "{what}: {refused:?}");
    }
    assert_eq!(store.files(), files, "nothing is left over");
}

#[tokio::test]
async fn a_file_that_takes_too_long_or_too_much_memory_is_refused_within_the_limits() {
    let store = Store::new();
    let settings = [
        ("WISP_LIMITS_COMPILE_TIMEOUT", "3s"),
        ("WISP_LIMITS_COMPILE_MEMORY_MB", "256"),
        ("WISP_LIMITS_MAX_IMAGE_BYTES", "8000000"),
    ];
    let server = store.serve(&settings);
    let api = Api::new(server.url(), None);
    let files = store.files();
    let bombs = Parts {
        functions: vec![bomb(100_000); 3],
        ..Parts::default()
    };
    let refused = api.post("/images?name=bad", bombs.encode()).await;
    assert_eq!(
        (refused.status, refused.text("code").as_str()),
        (400, "bad_request"),
        "{refused:?}"
    );
    assert!(
        refused.text("message").contains("256 MiB of memory or 3 s"),
        "{refused:?}"
    );
    // Blocks in blocks are no danger to the compiler's stack: whatever it says, it says it.
    let deep = Parts {
        functions: vec![nested(1_000_000)],
        ..Parts::default()
    };
    let answer = api.post("/images?name=deep&parent=none", deep.encode()).await;
    assert!([201, 400].contains(&answer.status), "{answer:?}");
    let long = api.post("/images?name=bad", vec![0; 8_000_001]).await;
    assert_eq!(
        (long.status, long.text("code").as_str()),
        (413, "payload_too_large"),
        "{long:?}"
    );
    assert_eq!(children(server.pid()), [""; 0], "no compiler is left over");
    if answer.status == 400 {
        assert_eq!(store.files(), files, "nothing is left over");
    }
    api.assert_alive().await;
}
