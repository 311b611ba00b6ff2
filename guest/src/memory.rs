//! The comparison of texts in WebAssembly, in place of the compiler's own function, which takes one byte at a time. The
//! ids of one subscription share their first hundred bytes, and a poll compares them thousands of times.

use std::cmp::Ordering;

/// Compares two slices of the same length, eight bytes at a time.
fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<8>(), right.as_chunks::<8>());
    for (left, right) in left.iter().zip(right) {
        let (left, right) = (u64::from_be_bytes(*left), u64::from_be_bytes(*right));
        if left != right {
            return left.cmp(&right);
        }
    }
    for (left, right) in left_rest.iter().zip(right_rest) {
        if left != right {
            return left.cmp(right);
        }
    }
    Ordering::Equal
}

/// The function that the compiler calls for comparisons of texts.
///
/// # Safety
///
/// Both pointers must lead to `bytes` bytes.
#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "the name and the pointers are those of the C library")]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    // SAFETY: the caller keeps the condition above.
    let (left, right) = unsafe { (std::slice::from_raw_parts(left, bytes), std::slice::from_raw_parts(right, bytes)) };
    compare(left, right) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_different_byte_decides() {
        for length in 0..40 {
            let left = vec![b'x'; length];
            assert_eq!(compare(&left, &left), Ordering::Equal);
            for (at, other) in (0..length).flat_map(|at| [0, b'w', b'y', 0xff].map(|other| (at, other))) {
                let mut right = left.clone();
                right[at] = other;
                // The bytes after the first difference must not decide.
                right[at + 1..].fill(if other < b'x' { 0xff } else { 0 });
                assert_eq!(compare(&left, &right), left.cmp(&right), "{at} of {length}: {other}");
                assert_eq!(compare(&right, &left), right.cmp(&left), "{at} of {length}: {other}");
            }
        }
    }
}
