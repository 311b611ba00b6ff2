//! A search for the special bytes of JSON strings: quotes, backslashes and control characters. A JSON string contains
//! all other bytes unchanged, so the reader and the writer skip from one special byte to the next.

/// Returns the number of bytes before the first special byte, which needs a backslash in a JSON string or ends the
/// string.
pub fn plain_length(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let plain = plain_in_word(*word);
        if plain < 8 {
            return index * 8 + plain;
        }
    }
    words.len() * 8 + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
}

/// Returns the number of bytes before the first special byte of eight.
pub fn plain_in_word(word: [u8; 8]) -> usize {
    special(u64::from_le_bytes(word)).trailing_zeros() as usize / 8
}

/// Says whether a byte needs a backslash in a JSON string or ends the string.
pub fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// Marks the high bit of the first special byte of eight. A bit above the first marked bit may be wrong, because a
/// subtraction borrows from the byte above.
fn special(word: u64) -> u64 {
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGH;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    equal(b'"') | equal(b'\\') | below(word, 0x20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_plain_or_not_at_every_place() {
        for byte in 0..=u8::MAX {
            let plain = !matches!(byte, b'"' | b'\\' | 0..0x20);
            for (before, after) in (0..20).flat_map(|before| (0..10).map(move |after| (before, after))) {
                for filler in [b' ', 0xff] {
                    let mut bytes = vec![filler; before];
                    bytes.push(byte);
                    bytes.extend(vec![filler; after]);
                    let expected = if plain { bytes.len() } else { before };
                    assert_eq!(plain_length(&bytes), expected, "{bytes:?}");
                }
            }
        }
    }
}
