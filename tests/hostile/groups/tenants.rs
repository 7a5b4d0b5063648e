//! One tenant against another. `{their}` is the bystander's sandbox.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;

use crate::attack::{Attack, Verdict, http, steps};
use crate::check;
use crate::scene::Scene;
use crate::server_support::api::{Api, answer};

/// Not there, or not allowed.
const HIDDEN: &[u16] = &[401, 403, 404];

pub fn attacks() -> Vec<Attack> {
    vec![
        theirs("another's sandbox", "GET", "", ""),
        theirs("another's sandbox extended", "POST", "/extend", r#"{"ttl":"1h"}"#),
        theirs("a command in another's sandbox", "POST", "/exec", r#"{"command":"echo x >/f"}"#),
        theirs("another's file", "GET", "/files?path=/f", ""),
        theirs("another's file written", "PUT", "/files?path=/f", "x"),
        theirs("another's file written as JSON", "POST", "/files", r#"{"path":"/f","content":"x"}"#),
        theirs("another's file deleted", "DELETE", "/files?path=/f", ""),
        theirs("another's directory", "GET", "/files/list?path=/", ""),
        theirs("another's pattern", "GET", "/files/glob?pattern=/**", ""),
        theirs("another's archive", "GET", "/files/archive?path=/", ""),
        theirs("an archive into another's sandbox", "PUT", "/files/archive?path=/", "x"),
        theirs("another's console", "GET", "/logs", ""),
        theirs("another's statistics", "GET", "/stats", ""),
        theirs("another's file moved", "POST", "/files/move", r#"{"old_path":"/f","new_path":"/g"}"#),
        theirs("another's modes", "POST", "/files/chmod", r#"{"path":"/f","mode":"777"}"#),
        mine("keys", "GET", "/keys"),
        mine("a key of the scope admin", "POST", "/keys"),
        mine("the audit trail", "GET", "/audit"),
        mine("quotas", "GET", "/quotas"),
        mine("diagnostics", "GET", "/diagnostics"),
        mine("metrics of the whole server", "GET", "/metrics"),
        mine("an image removed", "DELETE", "/images/base"),
        mine("an image pulled", "POST", "/images/pull"),
        steps("another's sandbox destroyed", destroyed),
        steps("lists, events and templates of others", lists),
        steps("keys that are nearly right", near_keys),
        steps("a user of another name", other_user),
        steps("names with control characters", control_names),
        steps("what is left in memory by others", traces),
        steps("what is left in files by others", file_traces),
        steps("identifiers that can be guessed", identifiers),
        steps("random numbers that are the same", randomness),
    ]
}

fn theirs(name: &'static str, method: &str, route: &str, body: &str) -> Attack {
    http(name, request(method, &format!("/sandboxes/{{their}}{route}"), body), HIDDEN)
}

/// A route that needs the scope `admin`, asked with a key that lacks it.
fn mine(name: &'static str, method: &str, route: &str) -> Attack {
    http(name, request(method, route, "{}"), &[403])
}

fn request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: {{host}}\r\nX-API-Key: {{key}}\r\nConnection: \
         close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn destroyed(scene: Arc<Scene>) -> Verdict {
    let gone = scene.a.delete(&scene.bystander).await;
    check!(matches!(gone.status, 200 | 403 | 404), "{gone:?}");
    let there = scene.b.get(&scene.bystander).await;
    check!(there.status == 200, "another's sandbox was destroyed: {there:?}");
    Ok(format!("{}, and it is there", gone.status))
}

async fn lists(scene: Arc<Scene>) -> Verdict {
    let theirs = scene.bystander.rsplit('/').next().unwrap_or_default();
    let template = json!({"name": "secret-template", "image": "base"}).to_string();
    scene.b.post("/templates", template).await;
    for path in ["/sandboxes", "/templates", "/pool/status", "/snapshots", "/providers", "/images"] {
        let list = scene.a.get(path).await;
        check!(list.status == 200, "{path}: {list:?}");
        check!(!list.body.contains(theirs), "{path} shows another's sandbox");
        check!(!list.body.contains("secret-template"), "{path} shows another's template");
    }
    let hidden = scene.a.get("/templates/secret-template").await;
    check!(hidden.status == 404, "{hidden:?}");
    let events = scene.a.request(Method::GET, "/events").send().await.map_err(|error| error.to_string())?;
    check!(events.status() == 200, "{}", events.status());
    let mut events = events;
    for _ in 0..20 {
        let next = tokio::time::timeout(std::time::Duration::from_millis(20), events.chunk()).await;
        if let Ok(Ok(Some(chunk))) = next {
            check!(!String::from_utf8_lossy(&chunk).contains(theirs), "an event of another");
        }
    }
    scene.b.delete("/templates/secret-template").await;
    Ok("its own only".to_owned())
}

async fn near_keys(scene: Arc<Scene>) -> Verdict {
    let key = &scene.key_b;
    let shorter = &key[..key.len() - 1];
    let changed = format!("{shorter}{}", if key.ends_with('a') { 'b' } else { 'a' });
    for near in [
        shorter,
        &format!("{key}x"),
        &changed,
        &key.to_uppercase(),
        &format!("{key},{key}"),
        "wisp_",
        "",
        "null",
        "' OR 1=1 --",
    ] {
        let refused = Api::new(scene.url(), Some(near)).get(&scene.bystander).await;
        check!(refused.status == 401, "{near:?}: {refused:?}");
    }
    Ok("401 each".to_owned())
}

async fn other_user(scene: Arc<Scene>) -> Verdict {
    for (name, status) in [
        ("tenant-b", 404),
        ("../tenant-b", 400),
        ("a b", 400),
        ("a/b", 400),
        ("", 400),
    ] {
        let request = scene.a.request(Method::GET, &scene.bystander).header("X-User-ID", name);
        let answer = answer(request).await;
        check!(answer.status == status, "{name:?}: {answer:?}");
    }
    let long = scene.a.request(Method::GET, "/sandboxes").header("X-User-ID", "x".repeat(200));
    check!(answer(long).await.status == 400, "a name of 200 bytes");
    Ok("hidden".to_owned())
}

async fn control_names(scene: Arc<Scene>) -> Verdict {
    for name in ["a\u{1b}[2J", "a\nb", "a\u{202e}b", "\u{0}"] {
        for (path, body) in [
            ("/keys", json!({"name": name})),
            ("/templates", json!({"name": name, "image": "base"})),
            ("/sandboxes", json!({"image": name})),
        ] {
            let api = if path == "/keys" { &scene.admin } else { &scene.a };
            let answer = api.post(path, body.to_string()).await;
            check!(answer.status < 500, "{path} {name:?}: {answer:?}");
            if path == "/keys" && answer.status == 201 {
                let id = answer.text("id");
                scene.admin.delete(&format!("/keys/{id}")).await;
            }
            if path == "/templates" && answer.status < 300 {
                check!(!name.contains(['\u{1b}', '\n', '\0']), "a template {name:?}");
            }
        }
    }
    Ok("refused or plain".to_owned())
}

/// Looks for what others left in memory that must be fresh, in as many slots as there are.
async fn traces(scene: Arc<Scene>) -> Verdict {
    let look = json!({"command": "/usr/bin/hostile", "args": ["traces"], "mode": "argv", "timeout": "30s"});
    for _ in 0..3 {
        let mut made = Vec::new();
        for api in [&scene.a, &scene.b].into_iter().cycle().take(12) {
            made.push(api.create(json!({"image": "hostile", "memory_mb": 64, "disk_mb": 16})).await);
        }
        let looks = made.iter().map(|sandbox| sandbox.exec(look.clone()));
        for answer in futures_util::future::join_all(looks).await {
            check!(answer.status == 200 && answer.ran().exit_code == 0, "{answer:?}");
        }
        for sandbox in made {
            sandbox.api.delete(&sandbox.path).await;
        }
    }
    Ok("none".to_owned())
}

async fn file_traces(scene: Arc<Scene>) -> Verdict {
    for _ in 0..5 {
        let theirs = scene.b.create(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
        theirs.run("yes SECRET | head -c 4000000 >/tmp/secret; rm /tmp/secret").await;
        scene.b.delete(&theirs.path).await;
        let mine = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
        let look = "truncate -s 4000000 /tmp/f; grep -c SECRET /tmp/f; dd if=/dev/zero of=/tmp/g bs=1 count=1 \
                    seek=3999999 2>/dev/null; grep -c SECRET /tmp/g";
        let found = mine.run(look).await;
        scene.a.delete(&mine.path).await;
        check!(found.stdout == "0\n0\n", "{found:?}");
    }
    Ok("none".to_owned())
}

async fn identifiers(scene: Arc<Scene>) -> Verdict {
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
        let id = sandbox.path.rsplit('/').next().unwrap_or_default().to_owned();
        check!(id.len() >= 3 + 16, "{id} is short");
        let prefix: String = id.chars().skip(3).take(6).collect();
        check!(ids.insert(prefix), "{id} begins as another does");
        scene.a.delete(&sandbox.path).await;
    }
    Ok("50 different".to_owned())
}

/// Processes start from a snapshot; what is random must not.
async fn randomness(scene: Arc<Scene>) -> Verdict {
    let program = "import random, os, uuid, secrets, tempfile; print(random.random(), os.urandom(8).hex(), \
                   uuid.uuid4(), secrets.token_hex(8), tempfile.mktemp(), id(object()) * 0)";
    let mut seen = std::collections::BTreeSet::new();
    for image in ["python:3.12", "python:3.13"] {
        for _ in 0..3 {
            let sandbox = scene.sandbox(json!({"image": image, "memory_mb": 192, "disk_mb": 16})).await;
            let request = json!({"command": "python3", "args": ["-c", program], "mode": "argv", "timeout": "20s"});
            let ran = sandbox.run_with(request).await;
            scene.a.delete(&sandbox.path).await;
            check!(ran.exit_code == 0, "{ran:?}");
            for word in ran.stdout.split_whitespace().filter(|word| *word != "0") {
                check!(seen.insert(word.to_owned()), "{word} twice");
            }
        }
    }
    Ok("all different".to_owned())
}
