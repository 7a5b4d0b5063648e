//! The files tools read to learn of the machine.

use guests::{ROOT, contents};

fn main() {
    let text = |name: &str| {
        let bytes = contents(ROOT, format!("proc/{name}")).unwrap_or_else(|errno| panic!("{name}: {errno:?}"));
        String::from_utf8(bytes).expect("text")
    };
    assert!(
        text("meminfo").starts_with("MemTotal:         524288 kB\nMemFree: "),
        "{}",
        text("meminfo")
    );
    assert!(text("uptime").split(' ').next().expect("a word").parse::<f64>().is_ok());
    assert!(text("cpuinfo").starts_with("processor\t: 0\n"));
    assert_eq!(text("loadavg").split_whitespace().count(), 5);
    assert!(text("version").starts_with("Linux version "));
    assert!(text("mounts").starts_with("wisp / "));
    assert_eq!(text("sys/kernel/hostname"), "machine\n");
    assert_eq!(text("sys/kernel/ostype"), "Linux\n");
    assert!(text("version").contains(text("sys/kernel/osrelease").trim()));
    assert!(text("stat").starts_with("cpu "));
}
