//! Arguments and environment arrive as the starter gave them, with `PWD` as the directory it chose.

use guests::{Start, Status, address, call, play};

fn child() {
    let mut sizes = [0u32; 2];
    let [count, size] = [address(&raw mut sizes[0]), address(&raw mut sizes[1])];
    assert_eq!(call!(preview1::args_sizes_get(count, size)), Ok(()));
    let arguments: Vec<String> = std::env::args().collect();
    let bytes: usize = arguments.iter().map(|argument| argument.len() + 1).sum();
    assert_eq!(sizes, [4, bytes as u32]);
    assert_eq!(&arguments[1..], ["child", "", "ä b"]);
    let mut environment: Vec<(String, String)> = std::env::vars().collect();
    environment.sort();
    let expected = [("EMPTY", ""), ("PWD", "/usr"), ("X", "a=b")].map(|(name, value)| (name.into(), value.into()));
    assert_eq!(environment, expected);
}

fn main() {
    play("child", child);
    let mut start = Start::role("child").argument("").argument("ä b");
    start.cwd = b"/usr".to_vec();
    start.environment = [&b"X=a=b"[..], b"EMPTY=", b"PWD=/forged"].map(<[u8]>::to_vec).to_vec();
    assert_eq!(start.run(), Ok(Status::Exited(0)));
}
