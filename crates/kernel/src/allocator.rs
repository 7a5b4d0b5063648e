//! The allocator of the C library.

/// Bytes of free memory at the end of an arena above which they are given back, and size from which an allocation has
/// pages of its own.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 1 << 20;

/// Gives back all free pages. Takes a moment: not for threads that serve requests.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library's allocator has no other interface")]
pub fn give_memory_back() {
    // SAFETY: malloc_trim(3) may be called at any time by any thread; it touches only memory nobody uses.
    unsafe { libc::malloc_trim(0) };
}

/// Bounds the free memory that each arena keeps. glibc raises this bound by itself, to 64 MiB an arena, once something
/// large was freed, and [`give_memory_back`] does not reach what is free at the end of an arena. To be called at the start
/// of a program.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library's allocator has no other interface")]
pub fn bound_free_memory() {
    // SAFETY: mallopt(3) may be called at any time. What it refuses stays as it was.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT);
    }
}

/// Other C libraries give back what is freed by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_memory_back() {}

/// Other C libraries give back what is freed by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn bound_free_memory() {}
