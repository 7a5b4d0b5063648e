//! Attacks by number: of requests, connections, sandboxes and streams.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::attack::{Attack, Verdict, steps};
use crate::check;
use crate::scene::Scene;
use crate::server_support::api::answer;

pub fn attacks() -> Vec<Attack> {
    vec![
        steps("200 commands at once in 20 sandboxes", many_execs).memory(64).times(20),
        steps("300 commands at once in one sandbox", execs_of_one).memory(256),
        steps("sandboxes made and destroyed as fast as can be", churn).times(16),
        steps("400 idle sandboxes", idle_sandboxes).memory(1).times(60),
        steps("sandboxes larger than the machine together", over_commit).memory(1).times(60),
        steps("300 streams of events", event_streams).more(64),
        steps("heads that never end", half_heads).more(64),
        steps("100 uploads behind one large change", uploads_behind_sync).disk(256),
        steps("requests that are given up", given_up),
        steps("requests without a key", without_key),
        steps("every route with nonsense", nonsense),
        steps("templates until refused", templates),
        steps("eight kinds of hostile sandboxes at once", mixed).memory(128).times(8),
    ]
}

async fn many_execs(scene: Arc<Scene>) -> Verdict {
    let mut made = Vec::new();
    for _ in 0..20 {
        made.push(scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await);
    }
    let all = (0..200usize).map(|number| {
        let sandbox = &made[number % made.len()];
        async move { (number, sandbox.exec(json!({"command": format!("echo {number}"), "timeout": "30s"})).await) }
    });
    for (number, answer) in futures_util::future::join_all(all).await {
        check!(matches!(answer.status, 200 | 429 | 503), "{answer:?}");
        let right = answer.status != 200 || answer.ran().stdout == format!("{number}\n");
        check!(right, "{number}: {answer:?}");
    }
    for sandbox in made {
        scene.a.delete(&sandbox.path).await;
    }
    Ok("answered".to_owned())
}

async fn execs_of_one(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 256, "disk_mb": 16})).await;
    let all = (0..300).map(|_| sandbox.exec(json!({"command": "echo x", "timeout": "30s"})));
    let answers = futures_util::future::join_all(all).await;
    scene.a.delete(&sandbox.path).await;
    for answer in &answers {
        check!(matches!(answer.status, 200 | 429 | 503), "{answer:?}");
    }
    Ok(format!("{} ran", answers.iter().filter(|answer| answer.status == 200).count()))
}

async fn churn(scene: Arc<Scene>) -> Verdict {
    let until = Instant::now() + Duration::from_millis(800);
    let clients = (0..8).map(|_| {
        let scene = Arc::clone(&scene);
        tokio::spawn(async move {
            let mut count = 0;
            while Instant::now() < until {
                let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
                let gone = scene.a.delete(&sandbox.path).await;
                assert_eq!(gone.status, 200, "{gone:?}");
                count += 1;
            }
            count
        })
    });
    let mut all = 0;
    for client in futures_util::future::join_all(clients).await {
        all += client.map_err(|panic| panic.to_string())?;
    }
    Ok(format!("{all} made"))
}

async fn idle_sandboxes(scene: Arc<Scene>) -> Verdict {
    let mut made = Vec::new();
    for _ in 0..400 {
        let created = scene.a.post("/sandboxes", json!({"image": "base", "memory_mb": 1, "disk_mb": 1}).to_string()).await;
        check!(matches!(created.status, 201 | 429 | 503), "{created:?}");
        if created.status == 201 {
            made.push(created.text("id"));
        }
    }
    let lists = (0..6).map(|_| scene.a.get("/sandboxes"));
    for list in futures_util::future::join_all(lists).await {
        check!(list.status == 200, "{}", list.status);
    }
    for id in &made {
        scene.a.delete(&format!("/sandboxes/{id}")).await;
    }
    Ok(format!("{} made", made.len()))
}

/// 300 sandboxes of 12 GiB each: some must be refused, however much over-commit is usual.
async fn over_commit(scene: Arc<Scene>) -> Verdict {
    let body = json!({"image": "base", "memory_mb": 4096, "disk_mb": 8192}).to_string();
    let mut made = Vec::new();
    let mut refused = None;
    for _ in 0..300 {
        let created = scene.a.post("/sandboxes", body.clone()).await;
        if created.status != 201 {
            refused = Some(created);
            break;
        }
        made.push(created.text("id"));
    }
    for id in &made {
        scene.a.delete(&format!("/sandboxes/{id}")).await;
    }
    let Some(refused) = refused else { return Err("3.5 TiB are admitted".to_owned()) };
    check!(matches!(refused.status, 429 | 503), "{refused:?}");
    Ok(format!("{} admitted", made.len()))
}

/// One tenant's streams must leave some for another.
async fn event_streams(scene: Arc<Scene>) -> Verdict {
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..300 {
        let stream = scene.a.request(Method::GET, "/events").send().await.map_err(|error| error.to_string())?;
        match stream.status().as_u16() {
            200 => held.push(stream),
            429 | 503 => refused += 1,
            other => return Err(format!("{other}")),
        }
    }
    let other = scene.b.request(Method::GET, "/events").send().await.map_err(|error| error.to_string())?;
    check!(refused > 0, "300 streams of one tenant");
    check!(other.status() == 200, "another tenant gets {}", other.status());
    Ok(format!("{} held", held.len()))
}

/// On a server that takes few connections: one address must not take them all.
async fn half_heads(_: Arc<Scene>) -> Verdict {
    let settings = &[("WISP_LIMITS_MAX_CONNECTIONS", "64"), ("WISP_LIMITS_HEADER_TIMEOUT", "6s")];
    let own = tokio::task::spawn_blocking(|| Scene::set(settings)).await.map_err(|panic| panic.to_string())?;
    let mut held = Vec::new();
    for _ in 0..80 {
        let mut connection = own.connect().await;
        let _ = connection.write_all(b"GET /api/v1/health HTTP/1.1\r\nX-A: ").await;
        held.push(connection);
    }
    let began = Instant::now();
    let asked = tokio::time::timeout(Duration::from_secs(20), own.raw(b"GET /api/v1/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
    let took = began.elapsed();
    drop(held);
    let own = Arc::new(own);
    let killed = Arc::clone(&own);
    tokio::task::spawn_blocking(move || killed.kill()).await.map_err(|panic| panic.to_string())?;
    // A client that is refused at once is not kept waiting.
    let answered = asked.is_ok_and(|text| text.starts_with("HTTP/1.1 200") || text.starts_with("HTTP/1.1 503"));
    check!(answered && took < Duration::from_secs(3), "a new connection waited {took:.1?}");
    Ok(format!("answered after {took:.1?}"))
}

/// Changes of one sandbox that wait for its disk must not keep others from theirs.
async fn uploads_behind_sync(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 256})).await;
    let large = sandbox.exec(json!({"command": "head -c 200000000 /dev/zero >/tmp/large", "timeout": "20s"}));
    let uploads = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let all = (0..100).map(|number| {
            let path = format!("{}/files?path=/tmp/{number}", sandbox.path);
            answer(scene.a.request(Method::PUT, &path).body("x"))
        });
        futures_util::future::join_all(all).await
    };
    let (large, uploads) = tokio::join!(large, uploads);
    scene.a.delete(&sandbox.path).await;
    check!(matches!(large.status, 200 | 408), "{large:?}");
    for upload in uploads {
        check!(matches!(upload.status, 200 | 429 | 503 | 507), "{upload:?}");
    }
    Ok("kept".to_owned())
}

async fn given_up(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 256, "disk_mb": 16})).await;
    for number in 0..150u64 {
        let path = format!("{}/exec", sandbox.path);
        let body = json!({"command": "sleep 30", "timeout": "30s", "stream": number % 2 == 0}).to_string();
        let request = scene.a.request(Method::POST, &path).body(body);
        let _ = tokio::time::timeout(Duration::from_millis(number % 8), request.send()).await;
    }
    // A client that went away cancels its command.
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let names = sandbox.process_names().await;
        if !names.contains("sleep") {
            scene.a.delete(&sandbox.path).await;
            return Ok("all ended".to_owned());
        }
    }
    scene.a.delete(&sandbox.path).await;
    Err("commands of clients that are gone still run".to_owned())
}

async fn without_key(scene: Arc<Scene>) -> Verdict {
    let all = (0..300).map(|number| {
        let scene = &scene;
        async move {
            match number % 3 {
                0 => scene.nobody.get("/sandboxes").await,
                1 => scene.nobody.post("/sandboxes", "{}").await,
                _ => scene.nobody.post(&format!("{}/exec", scene.named), r#"{"command":"true"}"#).await,
            }
        }
    });
    for answer in futures_util::future::join_all(all).await {
        check!(matches!(answer.status, 401 | 429), "{answer:?}");
    }
    Ok("401 each".to_owned())
}

async fn nonsense(scene: Arc<Scene>) -> Verdict {
    let document = scene.nobody.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().cloned().unwrap_or_default();
    check!(paths.len() > 20, "{} paths", paths.len());
    let mut asked = 0;
    for path in paths.keys() {
        let path = path.trim_start_matches("/api/v1").replace("{id}", scene.named_id());
        let path = path.replace("{name}", "no-such-thing").replace("{owner}", "nobody");
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            // What would end the sandbox or wait for ever is not nonsense.
            let skipped = path.ends_with("/events") || path.ends_with("/ws") || (method == Method::DELETE && path.ends_with(scene.named_id()));
            if skipped {
                continue;
            }
            let answer = answer(scene.a.request(method.clone(), &path).body("{\"\u{0}\":[[[[")).await;
            check!(answer.status < 500, "{method} {path}: {answer:?}");
            asked += 1;
        }
    }
    Ok(format!("{asked} asked"))
}

async fn templates(scene: Arc<Scene>) -> Verdict {
    let mut made = 0;
    for number in 0..400 {
        let body = json!({"name": format!("t{number}"), "image": "base", "metadata": {"m": "x".repeat(1000)}}).to_string();
        let answer = scene.a.post("/templates", body).await;
        if answer.status == 429 {
            break;
        }
        check!(answer.status == 201, "{answer:?}");
        made += 1;
    }
    for number in 0..made {
        scene.a.delete(&format!("/templates/t{number}")).await;
    }
    check!(made < 400, "no limit");
    Ok(format!("{made} made"))
}

async fn mixed(scene: Arc<Scene>) -> Verdict {
    let attacks = ["fork-bomb", "spin", "poll-storm", "exec-self", "byte-writes", "links", "random-loop", "symlink-chain"];
    let mut made = Vec::new();
    for _ in attacks {
        made.push(scene.sandbox(json!({"image": "hostile", "memory_mb": 128, "disk_mb": 16})).await);
    }
    let timeout = format!("{}ms", crate::bounds::attack_time().as_millis() * 3);
    let all = made.iter().zip(attacks).map(|(sandbox, attack)| {
        sandbox.exec(json!({"command": "/usr/bin/hostile", "args": [attack], "mode": "argv", "timeout": timeout}))
    });
    for (answer, attack) in futures_util::future::join_all(all).await.iter().zip(attacks) {
        check!(matches!(answer.status, 200 | 408), "{attack}: {answer:?}");
    }
    for sandbox in made {
        scene.a.delete(&sandbox.path).await;
    }
    Ok("all ended".to_owned())
}
