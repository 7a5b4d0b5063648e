//! A round trip through Debian's registry, and what can go wrong on the way.

use std::collections::BTreeSet;
use std::fs;

use crate::peer::{Cutter, DockerRegistry, size};
use crate::server_support::store::Store;
use crate::{EmptyStore, assert_ok, key, refusal};

#[test]
fn an_image_goes_through_a_registry_to_another_store_and_runs_there() {
    let Some(registry) = DockerRegistry::start() else {
        return;
    };
    let (from, to) = (Store::new(), EmptyStore::new());
    let (key, public) = key(to.path());
    let reference = registry.reference("wisp/python:3.12");
    assert_ok(&from.wisp(&["images", "push", "python:3.12", &reference, "--sign", &key]));
    let pulled = to.wisp_with(
        &[("WISP_REGISTRY_TRUSTED_KEYS", &public)],
        &["images", "pull", &reference],
    );
    assert_ok(&pulled);
    let said = String::from_utf8_lossy(&pulled.stderr);
    assert!(said.contains("fetching code") && !said.contains("compiling"), "{said}");
    let ran = to.wisp(&["run", "python:3.12", "python3", "-c", "print(6 * 7)"]);
    assert_ok(&ran);
    assert_eq!(ran.stdout, b"42\n");
    // A second time there is nothing to do; and the name is enough where the registry is configured.
    let address = registry.reference("wisp");
    let again = to.wisp_with(
        &[("WISP_REGISTRY_ADDRESS", &address)],
        &["images", "pull", "python:3.12"],
    );
    assert_ok(&again);
    assert!(
        !String::from_utf8_lossy(&again.stderr).contains("fetching"),
        "{again:?}"
    );
}

#[test]
fn without_a_trusted_signature_nothing_compiles_but_the_limited_process() {
    let Some(registry) = DockerRegistry::start() else {
        return;
    };
    let (from, to) = (Store::new(), EmptyStore::new());
    let (key, _) = key(to.path());
    let reference = registry.reference("base");
    assert_ok(&from.wisp(&["images", "push", "base", &reference, "--sign", &key]));
    // The tests have a compiler without optimisation, on a busy machine.
    let patient = [("WISP_LIMITS_COMPILE_TIMEOUT", "10m")];
    let mut child = to
        .command(&patient, &["images", "pull", &reference])
        .spawn()
        .expect("wisp starts");
    let mut seen = BTreeSet::new();
    let status = loop {
        descendants(child.id(), &mut seen);
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    assert!(status.success());
    assert!(
        seen.iter().any(|line| line.starts_with("wisp compile-module")),
        "{seen:?}"
    );
    let others = |line: &&String| !line.starts_with("wisp compile-module") && !line.contains("images pull");
    assert_eq!(seen.iter().filter(others).count(), 0, "{seen:?}");
    let ran = to.wisp(&["run", "base", "sh", "-c", "echo hello"]);
    assert_eq!(ran.stdout, b"hello\n", "{ran:?}");
}

/// The command lines of all processes below one, itself left out.
pub fn descendants(pid: u32, seen: &mut BTreeSet<String>) {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    for task in tasks {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|text| text.parse().ok()) {
            let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if !line.is_empty() {
                seen.insert(line);
            }
            descendants(child, seen);
        }
    }
}

#[test]
fn a_flipped_byte_in_any_blob_of_the_registry_is_refused_and_the_old_image_works() {
    let Some(registry) = DockerRegistry::start() else {
        return;
    };
    let (from, to) = (EmptyStore::new(), EmptyStore::new());
    from.add_tool(2);
    let (key, public) = key(to.path());
    let reference = registry.reference("tool");
    assert_ok(&from.wisp(&["images", "push", "tool", &reference, "--sign", &key]));
    to.add_tool(1);
    let before = to.files();
    let pull = || {
        let trusted = [("WISP_REGISTRY_TRUSTED_KEYS", public.as_str())];
        to.wisp_with(&trusted, &["images", "pull", "--replace", &reference])
    };
    let blobs = registry.blobs();
    assert!(
        blobs.len() >= 6,
        "module, code, configuration, two manifests, an empty one: {}",
        blobs.len()
    );
    // The empty one is of two bytes, and nobody reads it.
    for blob in blobs.iter().filter(|blob| size(blob) > 2) {
        let good = fs::read(blob).expect("a blob");
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        fs::write(blob, &bad).expect("the blob is changed");
        let said = refusal(&pull());
        assert!(said.contains("was changed"), "{}: {said}", blob.display());
        assert_eq!(to.files(), before);
        fs::write(blob, &good).expect("the blob is as it was");
    }
    // Cut off, each in turn.
    for blob in blobs.iter().filter(|blob| size(blob) > 2) {
        let good = fs::read(blob).expect("a blob");
        fs::write(blob, &good[..good.len() / 2]).expect("the blob is cut");
        let said = refusal(&pull());
        assert!(
            said.contains("cannot be installed") || said.contains("failed"),
            "{said}"
        );
        assert_eq!(to.files(), before);
        fs::write(blob, &good).expect("the blob is as it was");
    }
    assert_eq!(to.tool_version(), Some(1));
    assert_ok(&pull());
    assert_eq!(to.tool_version(), Some(2));
}

#[test]
fn a_registry_that_dies_midway_leaves_nothing_and_the_old_image_works() {
    let Some(registry) = DockerRegistry::start() else {
        return;
    };
    let (from, to) = (EmptyStore::new(), EmptyStore::new());
    from.add_tool(2);
    assert_ok(&from.wisp(&["images", "push", "tool", &registry.reference("tool")]));
    to.add_tool(1);
    let before = to.files();
    // In the manifest, in the configuration and in the module.
    for bytes in [100, 800, 2500, 100_000, 800_000] {
        let dying = Cutter::of_answers(registry.port(), bytes);
        let said = refusal(&to.wisp(&["images", "pull", "--replace", &dying.reference("tool")]));
        assert!(said.contains("the registry of"), "{bytes}: {said}");
        assert_eq!(to.files(), before);
    }
    assert_eq!(to.tool_version(), Some(1));
}

#[test]
fn a_push_that_is_cut_off_leaves_the_image_that_was_there() {
    let Some(registry) = DockerRegistry::start() else {
        return;
    };
    let (from, to) = (EmptyStore::new(), EmptyStore::new());
    from.add_tool(2);
    for bytes in [300, 100_000, 900_000] {
        let cut = Cutter::of_requests(registry.port(), bytes);
        let said = refusal(&from.wisp(&["images", "push", "tool", &cut.reference("tool")]));
        assert!(said.contains("the registry of"), "{bytes}: {said}");
        let said = refusal(&to.wisp(&["images", "pull", &registry.reference("tool")]));
        assert!(said.contains("there is no image"), "{said}");
        assert!(to.files().is_empty());
    }
    from.add_tool(1);
    assert_ok(&from.wisp(&["images", "push", "tool", &registry.reference("tool")]));
    from.add_tool(2);
    let cut = Cutter::of_requests(registry.port(), 900_000);
    refusal(&from.wisp(&["images", "push", "tool", &cut.reference("tool")]));
    assert_ok(&to.wisp(&["images", "pull", &registry.reference("tool")]));
    assert_eq!(to.tool_version(), Some(1));
}

#[tokio::test]
async fn a_signature_of_another_image_is_refused() {
    let Some(registry) = DockerRegistry::start() else {
        return;
    };
    let (from, to) = (EmptyStore::new(), EmptyStore::new());
    let (key, public) = key(to.path());
    wisp::registry::set_up_tls();
    let http = reqwest::Client::new();
    let mut signatures = Vec::new();
    for version in [1, 2] {
        from.add_tool(version);
        let pushed = from.wisp(&["images", "push", "tool", &registry.reference("tool"), "--sign", &key]);
        assert_ok(&pushed);
        let said = String::from_utf8(pushed.stdout).expect("UTF-8");
        let digest = said
            .split("sha256:")
            .nth(1)
            .and_then(|rest| rest.get(..64))
            .expect("a digest")
            .to_owned();
        let url = format!(
            "http://127.0.0.1:{}/v2/tool/manifests/sha256-{digest}.sig",
            registry.port()
        );
        let got = http
            .get(&url)
            .header("Accept", MANIFEST)
            .send()
            .await
            .expect("an answer");
        signatures.push((url, got.text().await.expect("a manifest")));
    }
    // The second image with the signature of the first.
    let (url, body) = (signatures[1].0.clone(), signatures[0].1.clone());
    let put = http.put(url).header("Content-Type", MANIFEST).body(body).send().await;
    assert_eq!(put.expect("an answer").status(), 201);
    for trusted in [public.as_str(), ""] {
        let variables = [("WISP_REGISTRY_TRUSTED_KEYS", trusted)];
        let said = refusal(&to.wisp_with(&variables, &["images", "pull", &registry.reference("tool")]));
        assert!(said.contains("signature") && said.contains("was changed"), "{said}");
        assert!(to.files().is_empty());
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn a_registry_with_a_password_is_used_with_it_and_says_what_is_missing_without() {
    let Some(registry) = DockerRegistry::start_with_password() else {
        return;
    };
    let (from, to) = (EmptyStore::new(), EmptyStore::new());
    from.add_tool(1);
    let reference = registry.reference("tool");
    let right = [("WISP_REGISTRY_USER", "test"), ("WISP_REGISTRY_PASSWORD", "secret")];
    let wrong = [("WISP_REGISTRY_USER", "test"), ("WISP_REGISTRY_PASSWORD", "guess")];
    for variables in [&[][..], &wrong] {
        let said = refusal(&from.wisp_with(variables, &["images", "push", "tool", &reference]));
        assert!(said.contains("401") && said.contains("WISP_REGISTRY_USER"), "{said}");
    }
    assert_ok(&from.wisp_with(&right, &["images", "push", "tool", &reference]));
    refusal(&to.wisp(&["images", "pull", &reference]));
    // As `docker login` leaves them.
    let docker = to.path().join("docker");
    fs::create_dir(&docker).expect("a directory");
    let auth = format!(
        r#"{{"auths": {{"127.0.0.1:{}": {{"auth": "dGVzdDpzZWNyZXQ="}}}}}}"#,
        registry.port()
    );
    fs::write(docker.join("config.json"), auth).expect("the file is written");
    let variables = [("DOCKER_CONFIG", docker.to_str().expect("UTF-8"))];
    assert_ok(&to.wisp_with(&variables, &["images", "pull", &reference]));
    assert_eq!(to.tool_version(), Some(1));
}

#[test]
fn an_image_goes_through_a_file_to_another_store() {
    let (from, to) = (Store::new(), EmptyStore::new());
    let (key, public) = key(to.path());
    let files = ["1.tar", "2.tar"].map(|name| to.path().join(name).to_str().expect("UTF-8").to_owned());
    for file in &files {
        assert_ok(&from.wisp(&["images", "export", "base", file, "--sign", &key]));
    }
    let [first, second] = files.each_ref().map(|file| fs::read(file).expect("an archive"));
    assert!(first == second, "the same store gives the same bytes");
    let trusted = [("WISP_REGISTRY_TRUSTED_KEYS", public.as_str())];
    let cut = to.path().join("cut.tar");
    fs::write(&cut, &first[..first.len() / 2]).expect("the archive is cut");
    let said = refusal(&to.wisp_with(&trusted, &["images", "import", cut.to_str().expect("UTF-8")]));
    assert!(said.contains("cut off"), "{said}");
    assert!(to.files().is_empty());
    assert_ok(&to.wisp_with(&trusted, &["images", "import", &files[0]]));
    let ran = to.wisp(&["run", "base", "sh", "-c", "echo hello"]);
    assert_eq!(ran.stdout, b"hello\n", "{ran:?}");
}
