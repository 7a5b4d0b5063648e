//! Many sandboxes by many clients, and what is left of them in the server's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::Api;
use crate::images::PYTHON;
use crate::server::Server;
use crate::server_support::workers::{resident_kib, workers_of};

const CLIENTS: usize = 32;
const SANDBOXES: usize = 1000;
/// How long the server may take to give memory back once it is idle.
const SETTLING: Duration = Duration::from_secs(10);

/// Creates a sandbox, writes and reads files, runs a shell, Python and cat, and destroys it.
async fn use_sandbox(api: &Api, number: usize) {
    let sandbox = api.create(json!({"image": PYTHON})).await;
    sandbox.write("/tmp/number", &number.to_string()).await;
    let doubled = "python3 -c 'print(int(open(\"/tmp/number\").read()) * 2)' >/tmp/doubled; cat /tmp/doubled";
    assert_eq!(sandbox.output(doubled).await, format!("{}\n", number * 2));
    let read = api.get(&format!("{}/files?path=/tmp/doubled", sandbox.path)).await;
    assert_eq!((read.status, read.body), (200, format!("{}\n", number * 2)));
    let destroyed = api.delete(&sandbox.path).await;
    assert_eq!(destroyed.status, 200, "{destroyed:?}");
}

/// Each client takes the next number until all are taken.
async fn use_sandboxes(api: &Api, count: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (api, next) = (api.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= count {
                        return;
                    }
                    use_sandbox(&api, number).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("no client fails");
    }
}

/// Resident memory once the worker that waits for the next tenant has loaded its images: it is there in the end as well.
async fn settled_kib(server: u32) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut before = 0;
    loop {
        let now = resident_kib(server);
        let settled = workers_of(server).len() >= 2 && now.abs_diff(before) < 1024;
        if settled || Instant::now() > deadline {
            return now;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_thousand_sandboxes_by_32_clients_leave_the_memory_as_it_was() {
    let server = Server::start("127.0.0.1:0", &[]);
    let api = Api::new(server.url(), None);
    // The first use of an image maps its code and its snapshot: 13 MiB of file pages, which all later sandboxes share
    // and which the system may drop at any time. They are no memory that a sandbox leaves.
    use_sandbox(&api, 0).await;
    let start = settled_kib(server.pid()).await;
    let began = Instant::now();
    use_sandboxes(&api, SANDBOXES).await;
    let (took, peak) = (began.elapsed(), resident_kib(server.pid()));
    let allowed = start + start / 10;
    let deadline = Instant::now() + SETTLING;
    let mut end = peak;
    while end > allowed && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
        end = resident_kib(server.pid());
    }
    let figures = format!(
        "{SANDBOXES} sandboxes by {CLIENTS} clients in {took:.1?}: {start} KiB at the start, {peak} KiB just after, \
         {end} KiB in the end"
    );
    #[expect(clippy::print_stdout, reason = "the figures are the result")]
    {
        println!("{figures}");
    }
    assert!(end <= allowed, "{figures}");
    assert_eq!(api.get("/sandboxes").await.json(), json!([]));
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
