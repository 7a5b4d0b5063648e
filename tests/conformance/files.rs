//! Files through the API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::target::Target;

crate::cases![
    a_file_is_written_with_its_parents_and_read,
    bytes_pass_unchanged,
    commands_and_the_api_see_the_same_files,
    writing_again_replaces_the_content_and_keeps_the_mode,
    a_mode_can_be_given,
    an_empty_file_is_a_file,
    a_directory_is_listed_in_order,
    stat_tells_what_a_path_is,
    names_may_hold_anything_but_a_slash,
    links_are_followed,
    a_file_is_moved,
    permissions_are_set,
    files_are_deleted_and_full_directories_only_recursively,
    patterns_find_paths,
    what_is_not_there_is_not_found,
    what_is_of_another_kind_is_a_bad_request,
    paths_that_are_not_plain_are_bad_requests,
];

/// A path in a query string.
fn encoded(path: &str) -> String {
    path.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

async fn a_file_is_written_with_its_parents_and_read(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox.write("/work/a/b/c.txt", "hello\nworld").await;
    assert_eq!(sandbox.bytes("files?path=/work/a/b/c.txt").await, b"hello\nworld");
    let written = sandbox
        .post(
            "files",
            json!({"path": "/work/d", "content_base64": STANDARD.encode([0, 255, 10])}),
        )
        .await;
    written.assert_is(&json!({"status": "written"}));
    assert_eq!(sandbox.bytes("files?path=/work/d").await, [0, 255, 10]);
}

async fn bytes_pass_unchanged(target: &Target) {
    let sandbox = target.sandbox().await;
    let bytes: Vec<u8> = (0..2_000_003_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let answer = sandbox.put("files?path=/data/blob", bytes.clone()).await;
    answer.assert_is(&json!({"status": "written"}));
    assert!(sandbox.bytes("files?path=/data/blob").await == bytes);
    assert_eq!(
        sandbox.output("wc -c < /data/blob").await.trim(),
        bytes.len().to_string()
    );
}

async fn commands_and_the_api_see_the_same_files(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox.write("/tmp/from-api", "api").await;
    assert_eq!(
        sandbox.output("cat /tmp/from-api; printf cmd > /tmp/from-cmd").await,
        "api"
    );
    assert_eq!(sandbox.bytes("files?path=/tmp/from-cmd").await, b"cmd");
}

async fn writing_again_replaces_the_content_and_keeps_the_mode(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox.write("/tmp/f", "a long first version").await;
    sandbox.output("chmod 751 /tmp/f").await;
    sandbox.write("/tmp/f", "short").await;
    assert_eq!(sandbox.bytes("files?path=/tmp/f").await, b"short");
    assert_eq!(
        sandbox.get("files/stat?path=/tmp/f").await.json()["mode"],
        json!("0751")
    );
}

async fn a_mode_can_be_given(target: &Target) {
    let sandbox = target.sandbox().await;
    let body = json!({"path": "/tmp/run", "content": "#!/bin/sh\necho ran\n", "mode": "0755"});
    sandbox
        .post("files", body)
        .await
        .assert_is(&json!({"status": "written"}));
    assert_eq!(sandbox.output("/tmp/run").await, "ran\n");
    sandbox.write("/tmp/plain", "").await;
    assert_eq!(
        sandbox.get("files/stat?path=/tmp/plain").await.json()["mode"],
        json!("0644")
    );
}

async fn an_empty_file_is_a_file(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox.write("/tmp/empty", "").await;
    assert_eq!(sandbox.bytes("files?path=/tmp/empty").await, b"");
    assert_eq!(
        sandbox.output("test -f /tmp/empty && wc -c < /tmp/empty").await.trim(),
        "0"
    );
}

async fn a_directory_is_listed_in_order(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox
        .output("mkdir -p /l/dir && printf 12345 > /l/b && printf 1 > /l/.a && chmod 600 /l/b && touch /l/dir/inner")
        .await;
    let list = sandbox.get("files/list?path=/l").await.json();
    let shown: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|file| (file["name"].clone(), file["path"].clone(), file["is_dir"].clone()))
        .collect();
    let expected = [(".a", false), ("b", false), ("dir", true)];
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, is_dir)| (json!(name), json!(format!("/l/{name}")), json!(is_dir)))
        .collect();
    assert_eq!(shown, expected, "{list}");
    assert_eq!(
        (&list[1]["size"], &list[1]["mode"]),
        (&json!(5), &json!("0600")),
        "{list}"
    );
    assert_eq!(
        sandbox.get("files/list?path=/l/dir/").await.json()[0]["path"],
        json!("/l/dir/inner")
    );
    let root = sandbox.get("files/list?path=/").await.json();
    assert!(
        root.as_array()
            .expect("a list")
            .iter()
            .any(|file| file["path"] == json!("/l")),
        "{root}"
    );
}

async fn stat_tells_what_a_path_is(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox
        .output("mkdir /s && printf 123 > /s/f && touch -d '2001-02-03 04:05:06' /s/f || touch -t 200102030405.06 /s/f")
        .await;
    let file = sandbox.get("files/stat?path=/s/f").await.json();
    for (field, expected) in [
        ("name", json!("f")),
        ("path", json!("/s/f")),
        ("size", json!(3)),
        ("is_dir", json!(false)),
        ("mode", json!("0644")),
    ] {
        assert_eq!(file[field], expected, "{file}");
    }
    assert!(
        file["mod_time"]
            .as_str()
            .is_some_and(|time| time.starts_with("2001-02-03T04:05:06")),
        "{file}"
    );
    let dir = sandbox.get("files/stat?path=/s").await.json();
    assert_eq!((&dir["is_dir"], &dir["name"]), (&json!(true), &json!("s")), "{dir}");
}

async fn names_may_hold_anything_but_a_slash(target: &Target) {
    let sandbox = target.sandbox().await;
    for name in [
        "with space",
        "grüße 世界",
        "new\nline",
        "quote'\"$(x)`",
        "-dash",
        "a\\b",
        "*?[x]",
        "#&=+%",
    ] {
        let path = format!("/names/{name}");
        sandbox.write(&path, name).await;
        assert_eq!(
            sandbox.bytes(&format!("files?path={}", encoded(&path))).await,
            name.as_bytes(),
            "{name:?}"
        );
        let stat = sandbox.get(&format!("files/stat?path={}", encoded(&path))).await.json();
        assert_eq!((&stat["name"], &stat["path"]), (&json!(name), &json!(path)));
    }
    let list = sandbox.get("files/list?path=/names").await.json();
    let names: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|file| file["name"].clone())
        .collect();
    assert!(
        names.contains(&json!("new\nline")) && names.contains(&json!("-dash")),
        "{names:?}"
    );
    assert_eq!(names.len(), 8, "{names:?}");
    for name in ["new\nline", "-dash", "*?[x]"] {
        let deleted = sandbox
            .delete(&format!("files?path={}", encoded(&format!("/names/{name}"))))
            .await;
        deleted.assert_is(&json!({"status": "deleted"}));
    }
    assert_eq!(sandbox.output("ls /names | wc -l").await.trim(), "5");
}

async fn links_are_followed(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox
        .output("mkdir -p /k/d && printf x > /k/d/f && ln -s d /k/ld && ln -s d/f /k/lf && ln -s nowhere /k/broken")
        .await;
    assert_eq!(sandbox.bytes("files?path=/k/lf").await, b"x");
    assert_eq!(sandbox.bytes("files?path=/k/ld/f").await, b"x");
    let stat = sandbox.get("files/stat?path=/k/ld").await.json();
    assert_eq!(stat["is_dir"], json!(true), "{stat}");
    assert_eq!(sandbox.get("files/list?path=/k/ld").await.json()[0]["name"], json!("f"));
    sandbox.write("/k/lf", "through").await;
    assert_eq!(
        sandbox.output("cat /k/d/f; test -h /k/lf && echo link").await,
        "throughlink\n"
    );
    // What is deleted is the link.
    sandbox
        .delete("files?path=/k/lf")
        .await
        .assert_is(&json!({"status": "deleted"}));
    assert_eq!(sandbox.output("cat /k/d/f; ls /k").await, "throughbroken\nd\nld\n");
    sandbox.get("files?path=/k/broken").await.assert_error(404, "not_found");
}

async fn a_file_is_moved(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox.write("/m/a", "content").await;
    sandbox.output("mkdir -p /m/dir/sub").await;
    let moved = sandbox
        .post("files/move", json!({"old_path": "/m/a", "new_path": "/m/b"}))
        .await;
    moved.assert_is(&json!({"status": "moved"}));
    assert_eq!(sandbox.output("cat /m/b; ls /m").await, "contentb\ndir\n");
    sandbox
        .post("files/move", json!({"old_path": "/m/dir", "new_path": "/m/other"}))
        .await
        .assert_is(&json!({"status": "moved"}));
    assert_eq!(
        sandbox.output("ls /m /m/other").await,
        "/m:\nb\nother\n\n/m/other:\nsub\n"
    );
    sandbox.write("/m/c", "replaced").await;
    sandbox
        .post("files/move", json!({"old_path": "/m/b", "new_path": "/m/c"}))
        .await
        .assert_is(&json!({"status": "moved"}));
    assert_eq!(sandbox.output("cat /m/c; ls /m").await, "contentc\nother\n");
}

async fn permissions_are_set(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox.write("/p", "#!/bin/sh\necho ran\n").await;
    sandbox
        .post("files/chmod", json!({"path": "/p", "mode": "0755"}))
        .await
        .assert_is(&json!({"status": "chmod applied"}));
    assert_eq!(sandbox.output("/p").await, "ran\n");
    for mode in ["rw", "8", "77777", "-1", ""] {
        sandbox
            .post("files/chmod", json!({"path": "/p", "mode": mode}))
            .await
            .assert_error(400, "bad_request");
    }
}

async fn files_are_deleted_and_full_directories_only_recursively(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox
        .output("mkdir -p /d/full/deep /d/empty && touch /d/file /d/full/deep/x")
        .await;
    for path in ["/d/file", "/d/empty"] {
        sandbox
            .delete(&format!("files?path={path}"))
            .await
            .assert_is(&json!({"status": "deleted"}));
    }
    sandbox
        .delete("files?path=/d/full")
        .await
        .assert_error(400, "bad_request");
    assert_eq!(sandbox.output("ls /d/full/deep").await, "x\n");
    sandbox
        .delete("files?path=/d/full&recursive=true")
        .await
        .assert_is(&json!({"status": "deleted"}));
    assert_eq!(sandbox.output("ls -A /d").await, "");
    sandbox
        .delete("files?path=/&recursive=true")
        .await
        .assert_error(400, "bad_request");
}

async fn patterns_find_paths(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox
        .output("mkdir -p /g/sub/deep && touch /g/a.py /g/b.txt /g/sub/c.py /g/sub/deep/d.py '/g/sub/e f.py'")
        .await;
    for (pattern, expected) in [
        ("/g/*.py", json!(["/g/a.py"])),
        (
            "/g/**/*.py",
            json!(["/g/a.py", "/g/sub/c.py", "/g/sub/deep/d.py", "/g/sub/e f.py"]),
        ),
        ("/g/?.{py,txt}", json!(["/g/a.py", "/g/b.txt"])),
        ("/g/sub/[cd].py", json!(["/g/sub/c.py"])),
        ("/g/none*", json!([])),
    ] {
        sandbox
            .get(&format!("files/glob?pattern={}", encoded(pattern)))
            .await
            .assert_is(&expected);
    }
    for pattern in ["relative/*", "", "/a/../*"] {
        sandbox
            .get(&format!("files/glob?pattern={}", encoded(pattern)))
            .await
            .assert_error(400, "bad_request");
    }
}

async fn what_is_not_there_is_not_found(target: &Target) {
    let sandbox = target.sandbox().await;
    let missing = "/no/such/file";
    for answer in [
        sandbox.get(&format!("files?path={missing}")).await,
        sandbox.get(&format!("files/list?path={missing}")).await,
        sandbox.get(&format!("files/stat?path={missing}")).await,
        sandbox.delete(&format!("files?path={missing}")).await,
        sandbox
            .post("files/move", json!({"old_path": missing, "new_path": "/x"}))
            .await,
        sandbox
            .post("files/chmod", json!({"path": missing, "mode": "0644"}))
            .await,
    ] {
        answer.assert_error(404, "not_found");
        assert!(answer.text("message").contains(missing), "{answer:?}");
    }
}

async fn what_is_of_another_kind_is_a_bad_request(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox.output("mkdir -p /o/dir/x && touch /o/file").await;
    for answer in [
        sandbox.get("files?path=/o/dir").await,
        sandbox.get("files/list?path=/o/file").await,
        sandbox.post("files", json!({"path": "/o/dir", "content": "x"})).await,
        sandbox.put("files?path=/o/dir", vec![1]).await,
        sandbox.put("files?path=/o/file/below", vec![1]).await,
        sandbox
            .post("files/move", json!({"old_path": "/o/file", "new_path": "/o/dir/x"}))
            .await,
        sandbox.put("files/archive?path=/o/file", vec![0; 1024]).await,
    ] {
        answer.assert_error(400, "bad_request");
    }
    assert_eq!(sandbox.output("ls /o /o/dir").await, "/o:\ndir\nfile\n\n/o/dir:\nx\n");
}

async fn paths_that_are_not_plain_are_bad_requests(target: &Target) {
    let sandbox = target.sandbox().await;
    for path in ["", "relative", "/a/../etc/passwd", "/..", "/nul\u{0}byte"] {
        let query = encoded(path);
        let body = |extra: Value| {
            let mut body = json!({"path": path});
            body.as_object_mut()
                .expect("an object")
                .extend(extra.as_object().expect("an object").clone());
            body
        };
        for answer in [
            sandbox.get(&format!("files?path={query}")).await,
            sandbox.get(&format!("files/list?path={query}")).await,
            sandbox.get(&format!("files/stat?path={query}")).await,
            sandbox.delete(&format!("files?path={query}")).await,
            sandbox.put(&format!("files?path={query}"), vec![1]).await,
            sandbox.post("files", body(json!({"content": "x"}))).await,
            sandbox.post("files/chmod", body(json!({"mode": "0644"}))).await,
            sandbox
                .post("files/move", json!({"old_path": path, "new_path": "/x"}))
                .await,
            sandbox
                .post("files/move", json!({"old_path": "/x", "new_path": path}))
                .await,
        ] {
            answer.assert_error(400, "bad_request");
        }
    }
}
