//! `wait` for any child gives each of them once, then `child`.

use guests::{ANY, Errno, Start, Status, role, wait};

fn main() {
    if let Some(code) = role().and_then(|role| role.parse().ok()) {
        std::process::exit(code);
    }
    let mut children: Vec<(u32, u32)> = (10..20)
        .map(|code| (Start::role(&code.to_string()).spawn().expect("spawning"), code))
        .collect();
    while !children.is_empty() {
        let (pid, status) = wait(ANY, 0).expect("waiting");
        let at = children
            .iter()
            .position(|(child, _)| *child == pid)
            .expect("a child not seen before");
        assert_eq!(status, Status::Exited(children.remove(at).1));
    }
    assert_eq!(wait(ANY, 0), Err(Errno::CHILD));
}
