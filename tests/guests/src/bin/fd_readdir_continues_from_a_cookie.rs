//! Reading goes on where a cookie says, also in pages that cut an entry, and sees every entry once.

use guests::{create_with, names, readdir, scratch};

fn main() {
    let dir = scratch();
    let expected: Vec<String> = (0..200).map(|number| format!("file-{number:03}")).collect();
    for name in &expected {
        create_with(dir, name, b"");
    }
    for capacity in [40, 64, 100, 1000, 1 << 16] {
        let mut found = names(dir, capacity).expect("listing");
        found.sort();
        assert_eq!(found, expected, "in pages of {capacity} bytes");
    }
    let (all, _) = readdir(dir, 0, 1 << 16).expect("listing");
    for at in [1, 2, 3, 50, 150, 201] {
        let (rest, _) = readdir(dir, all[at - 1].next, 1 << 16).expect("listing");
        assert_eq!(
            rest.first(),
            all.get(at),
            "from entry {at} on, whatever was read before"
        );
    }
}
