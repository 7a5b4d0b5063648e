//! Attacks by names: of files, of the machine outside, of devices and processes.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;

use crate::attack::Expected::{Contained, Fails, TimesOut};
use crate::attack::{Attack, Verdict, python_3_13, shell, steps};
use crate::check;
use crate::scene::Scene;
use crate::server_support::api::answer;

pub fn attacks() -> Vec<Attack> {
    vec![
        shell("the root's parent", "cd /; cd ../../../..; pwd; ls ../../../../work 2>/dev/null", Contained).within(3),
        shell("a link out", "ln -s /../../../../../../root /tmp/out; cat /tmp/out/.bashrc", Fails).within(3),
        shell("a link to itself", "ln -s l /tmp/l; cat /tmp/l", Fails).within(3),
        shell("two links to each other", "ln -s b /tmp/a; ln -s a /tmp/b; cat /tmp/a/x", Fails).within(3),
        shell("the working directory in itself", "cat /proc/self/cwd/proc/self/cwd/proc/self/cwd/proc/self/cwd/etc/passwd >/dev/null", Contained)
            .within(3),
        shell("the root of other processes", "cat /proc/1/root/etc/shadow /proc/self/root/etc/shadow", Fails).within(3),
        shell("the environment of other processes", "cat /proc/*/environ | tr '\\0' '\\n' | grep -c CARGO", Fails).within(3),
        shell("writes to /proc", "echo x >/proc/self/stat; echo x >/proc/sys/kernel/hostname; echo 1 >/proc/sysrq-trigger", Fails)
            .within(3),
        shell("devices of the host", "cat /dev/mem /dev/kmem /dev/sda /dev/vda /dev/kvm /dev/fuse", Fails).within(3),
        shell("a full device", "echo x >/dev/full", Fails).within(3),
        shell("devices removed and made anew", "rm -f /dev/null; echo x >/dev/null; cat /dev/null", Contained).within(3),
        shell("names with control characters", "cd /tmp; : >\"$(printf 'a\\033[2Jb\\nc')\"; : >\"$(printf '\\377\\376')\"; ls | wc -l", Contained)
            .within(3),
        shell("a name of 255 bytes and one of 256", "cd /tmp; : >$(printf '%0255d' 0) && : >$(printf '%0256d' 0)", Fails).within(3),
        shell("a path of 5,000 bytes", "cat /$(printf '%05000d' 0 | sed 's/0/.\\//g')etc/passwd", Fails).within(3),
        shell("a rename of a directory into itself", "mkdir -p /tmp/a/b; mv /tmp/a /tmp/a/b/c", Fails).within(3),
        shell("a rename through a link with a slash behind", "mkdir /tmp/d; ln -s d /tmp/l; mv /tmp/l/ /tmp/m; ls -d /tmp/d", Contained)
            .within(3),
        shell("a file opened as a directory through a link", "echo x >/tmp/f; ln -s f/ /tmp/l; cat /tmp/l", Fails).within(3),
        shell("mounts over everything", "mount -t tmpfs none /; umount /proc; chroot / true", Fails).within(3),
        shell("/dev/fd above itself", "cat /dev/fd/../../etc/passwd /dev/fd/0/../../x /dev/stdin/x", Contained).within(3),
        shell("find over /proc again and again", "while :; do find /proc; done >/dev/null 2>&1", TimesOut),
        shell("a pattern of many stars", "cd /tmp; : >aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; echo *a*a*a*a*a*a*a*a*a*a*a*a*a*b", Contained)
            .within(3),
        python_3_13("os.listdir of every descriptor", "
import os
for n in range(300):
    try: os.listdir(n)
    except OSError: pass
print('done')", Contained)
        .within(5),
        steps("paths that leave the sandbox over the API", leaving_paths),
        steps("links out of the sandbox over the API", links_out),
        steps("hostile patterns over the API", patterns),
        steps("the control device", control_device),
        steps("files of /proc and /dev over the API", special_files),
    ]
}

async fn leaving_paths(scene: Arc<Scene>) -> Verdict {
    let files = format!("{}/files", scene.named);
    for path in [
        "/../etc/passwd",
        "/tmp/../../etc/shadow",
        "/tmp/..",
        "..",
        "etc/passwd",
        "/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/tmp/%00/../x",
        "/tmp/..%5c..%5cetc",
        "//../x",
    ] {
        for (method, route) in [
            (Method::GET, ""),
            (Method::PUT, ""),
            (Method::DELETE, ""),
            (Method::GET, "/list"),
            (Method::GET, "/stat"),
            (Method::GET, "/archive"),
        ] {
            let target = format!("{files}{route}?path={path}");
            let refused = answer(scene.a.request(method.clone(), &target)).await;
            let harmless = path.contains("%5c") && refused.status < 500;
            check!(refused.status == 400 || harmless, "{method} {target}: {refused:?}");
        }
    }
    Ok("400 each".to_owned())
}

async fn links_out(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
    sandbox
        .run("cd /tmp; ln -s /../../../../../../etc/hostname h; ln -s ../../../../../../../../proc/1 p; ln -s / r")
        .await;
    let hostname = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    for path in ["/tmp/h", "/tmp/p/environ", "/tmp/r/etc/hostname", "/tmp/r/proc/1/cmdline"] {
        let read = scene.a.get(&format!("{}/files?path={path}", sandbox.path)).await;
        check!(read.status < 500, "{path}: {read:?}");
        let leaks = read.status == 200 && !hostname.trim().is_empty() && read.body.trim() == hostname.trim();
        check!(!leaks && !read.body.contains("wisp\0serve"), "{path} is the host's");
    }
    scene.a.delete(&sandbox.path).await;
    Ok("its own only".to_owned())
}

async fn patterns(scene: Arc<Scene>) -> Verdict {
    for pattern in [
        "/[".to_owned(),
        format!("/{}{}", "{a,".repeat(1000), "}".repeat(1000)),
        format!("/{}{}", "{".repeat(2000), "}".repeat(2000)),
        format!("/{}", "*a".repeat(1000)),
        format!("/{}", "**/".repeat(1000)),
        format!("/{}", "{a,b}".repeat(500)),
        format!("/{}", "?".repeat(4000)),
        format!("/{}", "[!a]".repeat(900)),
    ] {
        let mut url = reqwest::Url::parse("http://unused").expect("a URL");
        url.query_pairs_mut().append_pair("pattern", &pattern);
        let target = format!("{}/files/glob?{}", scene.named, url.query().unwrap_or_default());
        let answer = scene.a.get(&target).await;
        check!(answer.status < 500, "{pattern:.20}: {answer:?}");
        check!(answer.elapsed.as_secs() < 5, "{pattern:.20}: {:?}", answer.elapsed);
    }
    Ok("answered".to_owned())
}

/// `/dev/wisp` takes requests of programs without the `wisp` module.
async fn control_device(scene: Arc<Scene>) -> Verdict {
    let sandbox = scene.sandbox(json!({"image": "base", "memory_mb": 64, "disk_mb": 16})).await;
    let command = "for i in 1 2 3 4 5 6 7 8; do head -c 100000 /dev/urandom >/dev/wisp; head -c 8 /dev/wisp; \
                   printf 'spawn\\0\\377\\377\\377\\377' >/dev/wisp; done 2>/dev/null; echo over";
    let ran = sandbox.run_with(json!({"command": command, "timeout": "5s"})).await;
    scene.a.delete(&sandbox.path).await;
    check!(ran.stdout.ends_with("over\n"), "{ran:?}");
    Ok("refused".to_owned())
}

async fn special_files(scene: Arc<Scene>) -> Verdict {
    for path in ["/dev/zero", "/dev/random", "/proc/self/environ", "/proc/1/mem", "/dev/stdin", "/dev/fd/0", "/dev/wisp"] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let target = format!("{}/files?path={path}", scene.named);
            let request = scene.a.request(method.clone(), &target).body("x");
            // An endless device must not be an endless answer.
            let asked = tokio::time::timeout(std::time::Duration::from_secs(5), answer(request)).await;
            let Ok(answer) = asked else {
                return Err(format!("{method} {path} does not end"));
            };
            check!(answer.status < 500, "{method} {path}: {answer:?}");
        }
    }
    Ok("refused".to_owned())
}
