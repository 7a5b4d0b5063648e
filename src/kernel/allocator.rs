//! The allocator of the C library.

/// Gives back all free pages. Takes a moment: not for threads that serve requests.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library's allocator has no other interface")]
pub fn give_memory_back() {
    // SAFETY: malloc_trim(3) may be called at any time by any thread; it touches only memory nobody uses.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give back what is freed by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_memory_back() {}
