//! Directories as tar archives.

use std::io::Read as _;

use serde_json::json;
use tar::{Builder, EntryType, Header};

use crate::target::Target;

crate::cases![
    an_archive_unpacks_what_was_packed,
    a_directory_comes_as_an_archive,
    nothing_leaves_the_target_directory,
    what_is_no_archive_is_a_bad_request,
    an_archive_of_nothing_is_not_found,
];

fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(1_000_000_000);
    header
}

fn file(archive: &mut Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) {
    let mut header = header(EntryType::Regular, content.len() as u64, mode);
    archive.append_data(&mut header, path, content).expect("it is packed");
}

/// An archive with one entry whose name is written as it is, however bad.
fn archive_of(kind: EntryType, name: &str, link: Option<&str>) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    raw_entry(&mut archive, kind, name, link);
    archive.into_inner().expect("an archive")
}

fn raw_entry(archive: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: Option<&str>) {
    let content: &[u8] = if kind == EntryType::Regular { b"bad" } else { b"" };
    let mut header = header(kind, content.len() as u64, 0o644);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    if let Some(link) = link {
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    }
    header.set_cksum();
    archive.append(&header, content).expect("it is packed");
}

async fn an_archive_unpacks_what_was_packed(target: &Target) {
    let sandbox = target.sandbox().await;
    let long = format!("deep/{}/file", "n".repeat(120));
    let mut archive = Builder::new(Vec::new());
    file(&mut archive, "a.txt", 0o640, b"alpha");
    file(&mut archive, "dir/run.sh", 0o755, b"#!/bin/sh\necho ran\n");
    file(&mut archive, &long, 0o644, b"long");
    file(&mut archive, "big", 0o644, &vec![b'x'; 300_000]);
    let mut link = header(EntryType::Symlink, 0, 0o777);
    archive
        .append_link(&mut link, "dir/link", "../a.txt")
        .expect("it is packed");
    let mut empty = header(EntryType::Directory, 0, 0o700);
    archive
        .append_data(&mut empty, "empty/", std::io::empty())
        .expect("it is packed");
    let answer = sandbox
        .put(
            "files/archive?path=/work/unpacked",
            archive.into_inner().expect("an archive"),
        )
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        sandbox
            .output("cd /work/unpacked && cat a.txt && ./dir/run.sh && cat dir/link && wc -c < big && ls empty")
            .await,
        "alpharan\nalpha300000\n"
    );
    assert_eq!(
        sandbox.bytes(&format!("files?path=/work/unpacked/{long}")).await,
        b"long"
    );
    assert_eq!(
        sandbox.get("files/stat?path=/work/unpacked/a.txt").await.json()["mode"],
        json!("0640")
    );
}

async fn a_directory_comes_as_an_archive(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox
        .output("mkdir -p /w/sub/empty && printf one > /w/one && printf two > /w/sub/two && chmod 600 /w/one && ln -s one /w/ln")
        .await;
    let bytes = sandbox.bytes("files/archive?path=/w").await;
    let mut found = Vec::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
        let mut content = String::new();
        entry.read_to_string(&mut content).expect("its content");
        let link = entry
            .link_name()
            .expect("a link")
            .map(|link| link.to_string_lossy().into_owned());
        found.push((path, entry.header().mode().expect("a mode") & 0o777, content, link));
    }
    found.retain(|(path, ..)| !path.is_empty() && path != ".");
    found.sort();
    let names: Vec<_> = found.iter().map(|(path, ..)| path.as_str()).collect();
    assert_eq!(names, ["ln", "one", "sub", "sub/empty", "sub/two"]);
    assert_eq!(found[0].3.as_deref(), Some("one"));
    assert_eq!((found[1].1, found[1].2.as_str()), (0o600, "one"));
    assert_eq!(found[4].2, "two");
}

async fn nothing_leaves_the_target_directory(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox.output("mkdir -p /t /outside && echo old > /outside/file").await;
    let through_link = {
        let mut archive = Builder::new(Vec::new());
        raw_entry(&mut archive, EntryType::Symlink, "way", Some("/outside"));
        raw_entry(&mut archive, EntryType::Regular, "way/file", None);
        raw_entry(&mut archive, EntryType::Regular, "way/new", None);
        archive.into_inner().expect("an archive")
    };
    let archives = [
        archive_of(EntryType::Regular, "../outside/file", None),
        archive_of(EntryType::Regular, "a/../../outside/new", None),
        archive_of(EntryType::Link, "hard", Some("/outside/file")),
        archive_of(EntryType::Link, "hard", Some("../outside/file")),
        through_link,
    ];
    for archive in archives {
        let answer = sandbox.put("files/archive?path=/t", archive).await;
        // Refused, or put inside the directory.
        assert!([200, 400].contains(&answer.status), "{answer:?}");
        assert_eq!(
            sandbox.output("cat /outside/* && ls /outside").await,
            "old\nfile\n",
            "{answer:?}"
        );
        let changed = sandbox
            .run("echo changed > /t/hard; cat /outside/file; rm -rf /t/hard /t/way")
            .await;
        assert_eq!(changed.stdout, "old\n", "{answer:?}");
    }
    for archive in [
        archive_of(EntryType::Regular, "../x", None),
        archive_of(EntryType::Regular, "a/../../x", None),
    ] {
        sandbox
            .put("files/archive?path=/t", archive)
            .await
            .assert_error(400, "bad_request");
    }
}

async fn what_is_no_archive_is_a_bad_request(target: &Target) {
    let sandbox = target.sandbox().await;
    for bytes in [b"no archive at all".to_vec(), vec![b'x'; 5000]] {
        sandbox
            .put("files/archive?path=/t", bytes)
            .await
            .assert_error(400, "bad_request");
    }
    let mut archive = Builder::new(Vec::new());
    file(&mut archive, "whole", 0o644, &[b'x'; 3000]);
    let mut bytes = archive.into_inner().expect("an archive");
    bytes.truncate(1500);
    sandbox
        .put("files/archive?path=/t", bytes)
        .await
        .assert_error(400, "bad_request");
    for path in ["relative", "/a/../b", ""] {
        sandbox
            .put(&format!("files/archive?path={path}"), vec![0; 1024])
            .await
            .assert_error(400, "bad_request");
        sandbox
            .get(&format!("files/archive?path={path}"))
            .await
            .assert_error(400, "bad_request");
    }
}

async fn an_archive_of_nothing_is_not_found(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox
        .get("files/archive?path=/no/such")
        .await
        .assert_error(404, "not_found");
}
