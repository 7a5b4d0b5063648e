//! Reading from cookie 0 shows the directory as it is now.

use guests::{create_with, names, rename, scratch, unlink};

fn main() {
    let dir = scratch();
    create_with(dir, "a", b"");
    assert_eq!(names(dir, 4096), Ok(vec!["a".to_owned()]));
    create_with(dir, "b", b"");
    unlink(dir, "a").expect("unlinking");
    assert_eq!(names(dir, 4096), Ok(vec!["b".to_owned()]));
    rename(dir, "b", "c").expect("renaming");
    assert_eq!(names(dir, 4096), Ok(vec!["c".to_owned()]));
}
