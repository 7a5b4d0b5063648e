//! Sandboxes know nothing of each other or of the machine they run on.

use serde_json::json;

use crate::setting::Setting;

#[tokio::test]
async fn sandboxes_do_not_see_each_others_files() {
    let setting = Setting::shared().await;
    let (one, other) = (setting.sandbox().await, setting.sandbox().await);
    one.output("echo secret >/tmp/secret; mkdir -p /app/deep; echo changed >/etc/os-release")
        .await;
    assert_eq!(other.run("cat /tmp/secret").await.exit_code, 1);
    let read = setting.api.get(&format!("{}/files?path=/tmp/secret", other.path)).await;
    read.assert_error(404, "not_found");
    assert!(!other.output("cat /etc/os-release").await.contains("changed"));
    assert!(
        !other
            .output("find / -name secret 2>/dev/null; ls /app")
            .await
            .contains("deep")
    );
}

#[tokio::test]
async fn destroying_an_images_files_harms_no_other_sandbox() {
    let setting = Setting::shared().await;
    let (one, other) = (setting.sandbox().await, setting.sandbox().await);
    one.run("rm -rf /usr /etc /bin /lib").await;
    assert_ne!(one.run("python3 -c 'print(1)'").await.exit_code, 0);
    assert_eq!(other.output("python3 -c 'import json; print(1)'").await, "1\n");
    assert_eq!(
        setting
            .sandbox()
            .await
            .output("python3 -c 'import json; print(1)'")
            .await,
        "1\n"
    );
}

#[tokio::test]
async fn sandboxes_do_not_see_or_signal_each_others_processes() {
    let setting = Setting::shared().await;
    let (one, other) = (setting.sandbox().await, setting.sandbox().await);
    let long = json!({"command": "sleep 0.8; echo survived", "timeout": "10s"});
    let (survivor, ()) = tokio::join!(one.run_with(long), async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let seen = other.run("cat /proc/[0-9]*/cmdline; kill -9 -1").await;
        assert!(!seen.stdout.contains("survived"), "{seen:?}");
    });
    assert_eq!(
        (survivor.exit_code, survivor.stdout.as_str()),
        (0, "survived\n"),
        "{survivor:?}"
    );
}

#[tokio::test]
async fn the_machine_outside_cannot_be_seen() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    let outside = setting.server.pid();
    let seen = sandbox
        .run("cat /proc/*/cmdline; env; ls -a / /proc; cat /proc/mounts")
        .await
        .stdout;
    for secret in [
        "wisp serve",
        "CARGO",
        env!("CARGO_MANIFEST_DIR"),
        &format!("/{outside}"),
    ] {
        assert!(!seen.contains(secret), "{secret} is in {seen}");
    }
    let escape = "cat /../../../../proc/1/environ ../../../../../../root/.bashrc /proc/self/root/etc/shadow";
    assert!(!sandbox.run(escape).await.stdout.contains("CARGO"));
    let link = "ln -s /../../../../../../../../home /tmp/out; ls /tmp/out/";
    assert_eq!(sandbox.output(link).await, sandbox.output("ls /home").await);
}

#[tokio::test]
async fn users_do_not_see_each_others_sandboxes() {
    let setting = Setting::shared().await;
    let as_user = |method: reqwest::Method, path: String, user: &str| {
        let request = setting.api.request(method, &path).header("X-User-ID", user);
        async move { crate::api::answer(request.body("{}")).await }
    };
    let created = as_user(reqwest::Method::POST, "/sandboxes".to_owned(), "alice").await;
    assert_eq!(created.status, 201, "{created:?}");
    let path = format!("/sandboxes/{}", created.text("id"));
    assert_eq!(as_user(reqwest::Method::GET, path.clone(), "alice").await.status, 200);
    as_user(reqwest::Method::GET, path.clone(), "bob")
        .await
        .assert_error(404, "not_found");
    assert_eq!(
        as_user(reqwest::Method::GET, "/sandboxes".to_owned(), "bob")
            .await
            .json(),
        json!([])
    );
    as_user(reqwest::Method::DELETE, path.clone(), "bob").await;
    assert_eq!(as_user(reqwest::Method::GET, path, "alice").await.status, 200);
}
