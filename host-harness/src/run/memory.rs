//! What the program asks of the C library, so that thousands of feeds that wait take little.

use crate::limits;

/// Has the C library keep one heap for all threads and give larger pieces back as soon as they are free; to be called
/// before a thread starts. Left to itself it learns from the largest piece that was ever freed, such as a configuration
/// of ten thousand feeds, and holds on to twice as much in a heap of each thread that is of no use to the others.
pub fn hold_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "a function of the C library that takes numbers")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, limits::HELD_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, limits::HELD_BYTES);
    }
}

/// Gives free memory between what is in use back to the system.
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
