//! Many sandboxes and many clients leave nothing behind.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::config::AdmissionMode;
use crate::provider::{Command, Stdin};
use crate::sandbox::ExecRequest;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sandboxes_of_32_clients_leave_nothing_behind() {
    let limits = Limits {
        // Fewer than there are clients, so that the queue takes part.
        max_sandboxes: 24,
        admission: AdmissionMode::Queue,
        ..Limits::default()
    };
    let machine = Machine::new();
    let manager = machine.boot_with(limits, Vec::new());
    let left = Arc::new(AtomicUsize::new(1000));
    let clients: Vec<_> = (0..32)
        .map(|client| {
            let (manager, left) = (manager.clone(), Arc::clone(&left));
            tokio::spawn(async move {
                let owner = ["", "ann", "bob", "cid"][client % 4];
                while left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                    .is_ok()
                {
                    let sandbox = manager.create(&caller(), of(owner)).await.unwrap();
                    let exec = ExecRequest {
                        command: Command::Shell("echo hello".to_owned()),
                        env: std::collections::BTreeMap::new(),
                        workdir: None,
                        timeout: None,
                        cpu_time: None,
                        fuel: None,
                        stdin: Stdin::default(),
                        held: None,
                    };
                    let running = manager.exec(&caller(), &sandbox.id, exec).await.unwrap();
                    assert_eq!(running.collect().await.unwrap().stdout, b"hello\n");
                    manager.destroy(&caller(), &sandbox.id).await.unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(machine.provider.count(), 0);
    assert_eq!(machine.provider.running.load(Ordering::SeqCst), 0);
    assert_eq!((manager.count_on(&caller(), "wasm").await, manager.queued()), (0, 0));
    assert_eq!(
        manager.admission(&caller(), of("ann")).await.unwrap().active_sandboxes,
        0
    );
    assert_eq!(machine.store().sandboxes().await.unwrap(), []);
    // A task answers before it ends, so the last ones may still be about to.
    let tasks = tokio::runtime::Handle::current().metrics();
    eventually(|| tasks.num_alive_tasks() == 0).await;
}
