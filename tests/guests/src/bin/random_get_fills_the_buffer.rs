//! Random bytes differ from call to call and fill the whole buffer, also a large one.

use guests::{address, call};

fn main() {
    let mut buffers = [[0u8; 64]; 2];
    for buffer in &mut buffers {
        assert_eq!(call!(preview1::random_get(address(buffer.as_mut_ptr()), 64)), Ok(()));
    }
    assert_ne!(buffers[0], buffers[1]);
    let mut large = vec![0u8; 1 << 20];
    assert_eq!(
        call!(preview1::random_get(address(large.as_mut_ptr()), 1 << 20)),
        Ok(())
    );
    for block in large.chunks(4096) {
        assert!(block.iter().any(|byte| *byte != 0), "a block was left out");
    }
    assert_eq!(call!(preview1::random_get(address(large.as_mut_ptr()), 0)), Ok(()));
}
