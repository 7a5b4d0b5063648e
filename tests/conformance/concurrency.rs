//! Many things at once.

use futures_util::future::join_all;
use serde_json::json;

use crate::target::Target;

crate::cases![
    commands_of_one_sandbox_run_side_by_side,
    sandboxes_are_created_and_destroyed_side_by_side,
    writers_of_one_file_leave_one_whole_version,
];

async fn commands_of_one_sandbox_run_side_by_side(target: &Target) {
    let sandbox = target.sandbox().await;
    // Each waits for all the others, so that they end only if they run together.
    let command = |n: usize| {
        format!("touch /tmp/here.{n}; while [ $(ls /tmp | grep -c here) -lt 6 ]; do sleep 0.1; done; echo {n}")
    };
    let running = (0..6).map(|n| sandbox.run_with(json!({"command": command(n), "timeout": "50s"})));
    let sandbox = &sandbox;
    for (n, ran) in join_all(running).await.into_iter().enumerate() {
        assert_eq!((ran.exit_code, ran.stdout), (0, format!("{n}\n")), "{}", sandbox.id());
    }
}

async fn sandboxes_are_created_and_destroyed_side_by_side(target: &Target) {
    let lives = (0..6).map(async |n| {
        let sandbox = target.sandbox().await;
        sandbox.write("/tmp/n", &n.to_string()).await;
        assert_eq!(sandbox.output("cat /tmp/n").await, n.to_string());
        target
            .api
            .delete(&sandbox.path)
            .await
            .assert_is(&json!({"status": "destroyed"}));
        target.api.get(&sandbox.path).await.assert_error(404, "not_found");
    });
    join_all(lives).await;
}

async fn writers_of_one_file_leave_one_whole_version(target: &Target) {
    let sandbox = target.sandbox().await;
    let sandbox = &sandbox;
    let content = |n: u8| vec![b'a' + n; 200_000];
    let writers = (0..4).map(async |n| {
        let answer = sandbox.put("files?path=/tmp/shared", content(n)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    });
    join_all(writers).await;
    let found = sandbox.bytes("files?path=/tmp/shared").await;
    assert!(
        (0..4).any(|n| found == content(n)),
        "a mixture of {} bytes",
        found.len()
    );
}
