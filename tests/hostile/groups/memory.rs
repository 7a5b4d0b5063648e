//! Attacks on the server's memory.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use wasm_encoder::{BlockType, Instruction, RefType, ValType};

use crate::attack::Expected::{Contained, Fails, Killed, Prints, TimesOut};
use crate::attack::{Attack, How, Verdict, attack, guest, python, python_3_13, shell, steps};
use crate::check;
use crate::modules::{Parts, body, memory};
use crate::scene::Scene;

pub fn attacks() -> Vec<Attack> {
    vec![
        guest("memory touched until there is none", "memory-bomb", Killed).within(20),
        guest("eight processes that touch all memory", "memory-bombs", Contained).within(20),
        guest("memory.grow page by page", "grow-loop", Prints("refused")).within(20),
        guest("memory.grow by 4 GiB", "grow-huge", Prints("refused")).within(10),
        attack("an initial memory of 4 GiB", How::Program(initial_memory), Fails).within(10).more(512),
        guest("memory.fill of 450 MiB", "fill 450", TimesOut).memory(512).within(1),
        guest("memory.fill of 400 MiB, two sandboxes", "fill 400", TimesOut).memory(512).times(2).within(2),
        guest("memory.copy of 900 MiB", "copy 900", TimesOut).memory(1024).within(2),
        python("bytearray of 300 MiB again and again", "while True: bytearray(300 << 20)", TimesOut)
            .memory(512)
            .within(2),
        python("a list that grows", "x = []\nwhile True: x.append(bytes(1 << 20))", Fails).within(20),
        python_3_13("a text that doubles", "x = 'x'\nwhile True: x += x", Fails).within(20),
        python_3_13("a power tower", "10 ** 10 ** 9", Contained).within(1),
        shell("a variable that doubles", "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done", Fails).within(20),
        attack("a table of 262,144 elements", How::Program(large_table), Contained).within(5).more(512),
        attack("table.grow without end", How::Program(growing_table), Contained).within(5).more(512),
        attack("five tables", How::Module(five_tables), crate::attack::Expected::Status(&[201, 400, 422])).more(512),
        guest("recursion without end", "recurse", Fails).within(20),
        attack("a start function that recurses", How::Program(recursing_start), Fails).within(10).more(512),
        guest("native stacks of 60 processes", "native-stacks 20000", TimesOut).memory(128).within(2),
        guest("60 writers blocked with 1 MiB each", "blocked-writers", TimesOut).memory(256).within(2),
        guest("long working directories", "cwd-holders", TimesOut).within(1),
        guest("60 polls of 1,024 subscriptions", "poll-holders", TimesOut).memory(128).within(1),
        guest("arguments held through /proc", "hold-arguments", Contained).within(20),
        guest("listings of removed directories", "hold-listings", Contained).memory(16).within(20),
        guest("pipes until there is no memory", "pipes", Contained).memory(8).within(10),
        steps("output held by 16 commands", held_output),
        steps("answers nobody reads", unread_answers),
        steps("standard input of running commands", held_stdin),
        steps("partial bodies", partial_bodies),
        steps("metadata and environments of many sandboxes", labels).memory(1).times(60),
    ]
}

fn initial_memory() -> Vec<u8> {
    Parts {
        memory: memory(65_536),
        ..Parts::default()
    }
    .encode()
}

fn large_table() -> Vec<u8> {
    Parts {
        table: Some(262_144),
        ..Parts::default()
    }
    .encode()
}

fn growing_table() -> Vec<u8> {
    let grow = [
        Instruction::Loop(BlockType::Empty),
        Instruction::RefNull(wasm_encoder::HeapType::FUNC),
        Instruction::I32Const(1 << 16),
        Instruction::TableGrow(0),
        Instruction::I32Const(-1),
        Instruction::I32Ne,
        Instruction::BrIf(0),
        Instruction::End,
    ];
    Parts {
        table: Some(1),
        functions: vec![body(&grow)],
        ..Parts::default()
    }
    .encode()
}

fn five_tables() -> Vec<u8> {
    use wasm_encoder::{
        CodeSection, ExportKind, ExportSection, FunctionSection, MemorySection, Module, TableSection, TableType,
        TypeSection,
    };
    let mut types = TypeSection::new();
    types.ty().function([], [] as [ValType; 0]);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut tables = TableSection::new();
    for _ in 0..5 {
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            minimum: 100_000,
            maximum: None,
            table64: false,
            shared: false,
        });
    }
    let mut memories = MemorySection::new();
    memories.memory(memory(1));
    let mut exports = ExportSection::new();
    exports.export("_start", ExportKind::Func, 0);
    exports.export("memory", ExportKind::Memory, 0);
    let mut code = CodeSection::new();
    code.function(&body(&[]));
    let mut module = Module::new();
    let module = module.section(&types).section(&functions).section(&tables);
    module.section(&memories).section(&exports).section(&code);
    module.clone().finish()
}

fn recursing_start() -> Vec<u8> {
    // Pushed and dropped so that it is no jump.
    let recurse = body(&[Instruction::I32Const(1), Instruction::Call(0), Instruction::Drop]);
    Parts {
        functions: vec![recurse],
        ..Parts::default()
    }
    .encode()
}

/// Commands whose output waits for their end.
async fn held_output(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16, "vcpus": 2})).await;
    let flood = json!({"command": "yes | head -c 8000000; sleep 1", "timeout": "2s"}).to_string();
    let path = format!("{}/exec", sandbox.path);
    let floods = (0..16).map(|_| scene.a.post(&path, flood.clone()));
    for answer in futures_util::future::join_all(floods).await {
        check!(matches!(answer.status, 200 | 408 | 429), "{} {:.200}", answer.status, answer.body);
    }
    scene.a.delete(&sandbox.path).await;
    Ok("held".to_owned())
}

/// Clients that ask for as much text as one answer can have, and do not read it. 4 of them are 390 MiB when nobody
/// charges them.
async fn unread_answers(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
    let id = sandbox.path.rsplit('/').next().unwrap_or_default();
    let command = "head -c 8388608 /dev/zero; head -c 8388608 /dev/zero >&2";
    let body = json!({"command": command, "timeout": "20s"}).to_string();
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut connection = scene.connect().await;
        let request = format!(
            "POST /api/v1/sandboxes/{id}/exec HTTP/1.1\r\nHost: {}\r\nX-API-Key: {}\r\nContent-Length: {}\r\n\r\n{body}",
            scene.address,
            scene.key_a,
            body.len()
        );
        connection.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        held.push(connection);
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    scene.a.delete(&sandbox.path).await;
    drop(held);
    Ok("left unread".to_owned())
}

/// Commands that run and do not read what they were given.
async fn held_stdin(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
    let body = json!({"command": "sleep 2", "stdin": "x".repeat(15 << 20), "timeout": "3s"}).to_string();
    let body = bytes::Bytes::from(body);
    let path = format!("{}/exec", sandbox.path);
    let running = (0..24).map(|_| scene.a.post(&path, body.clone()));
    for answer in futures_util::future::join_all(running).await {
        check!(
            matches!(answer.status, 200 | 408 | 413 | 429 | 503),
            "{} {:.200}",
            answer.status,
            answer.body
        );
    }
    scene.a.delete(&sandbox.path).await;
    Ok("held or refused".to_owned())
}

/// Bodies that stop short of their end.
async fn partial_bodies(scene: Arc<Scene>) -> Verdict {
    let head = format!(
        "POST /api/v1/sandboxes HTTP/1.1\r\nHost: {}\r\nX-API-Key: {}\r\nContent-Length: {}\r\n\r\n",
        scene.address,
        scene.key_a,
        16 << 20
    );
    let piece = vec![b' '; (16 << 20) - 1];
    let mut held = Vec::new();
    for _ in 0..24 {
        let mut connection = scene.connect().await;
        connection.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
        // The server may have refused it by now, or not read on.
        let sent = tokio::time::timeout(Duration::from_millis(500), connection.write_all(&piece)).await;
        held.push((connection, sent.is_ok()));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(held);
    Ok("cut off".to_owned())
}

/// As much of both as each sandbox may have.
async fn labels(scene: Arc<Scene>) -> Verdict {
    let body = json!({
        "image": "base",
        "memory_mb": 1,
        "disk_mb": 1,
        "metadata": {"m": "x".repeat((64 << 10) - 8)},
        "env": {"E": "x".repeat((256 << 10) - 8)},
    });
    let mut made = Vec::new();
    for _ in 0..60 {
        let created = scene.a.post("/sandboxes", body.to_string()).await;
        if created.status != 201 {
            check!(matches!(created.status, 400 | 429 | 503), "{created:?}");
            break;
        }
        made.push(created.text("id"));
    }
    for id in made {
        scene.a.delete(&format!("/sandboxes/{id}")).await;
    }
    Ok("kept or refused".to_owned())
}
