//! Settings of the C library, so that thousands of idle feeds take little memory.

use crate::limits;

/// Makes the C library keep one heap for all threads and return larger pieces as soon as they are free. Must be called
/// before a thread starts. By default, the library adapts to the largest piece that was ever freed, such as a
/// configuration of ten thousand feeds, and then keeps twice as much in a heap of each thread, which other threads
/// cannot use.
pub fn hold_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "a function of the C library that takes numbers")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, limits::HELD_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, limits::HELD_BYTES);
    }
}

/// Returns free memory between used blocks to the system.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(
        unsafe_code,
        reason = "a function of the C library that takes a number and touches nothing but free memory"
    )]
    unsafe {
        libc::malloc_trim(0);
    }
}
