//! The parts of a text that count, in the order in which they stand: some of its bytes, or the numbers that it spells.

use crate::credentials::redact::escapes::is_ignorable;

/// Every byte except those that may stand between the bytes of a secret, for which the table has zero.
pub(super) static PLAIN: [u8; 256] = kept(false);

/// The ASCII letters and digits in lower case, without the characters that divide them.
pub(super) static ALPHANUMERIC: [u8; 256] = kept(true);

const fn kept(letters_alone: bool) -> [u8; 256] {
    let (mut kept, mut byte) = ([0; 256], 0_u8);
    loop {
        let is_kept = if letters_alone { byte.is_ascii_alphanumeric() } else { !is_ignorable(&[byte]) };
        if is_kept {
            kept[byte as usize] = if letters_alone { byte.to_ascii_lowercase() } else { byte };
        }
        if byte == u8::MAX {
            return kept;
        }
        byte += 1;
    }
}

/// Returns the bytes of a text that a view keeps.
pub(super) fn view(text: &[u8], kept: &[u8; 256]) -> Vec<u8> {
    let (mut view, mut length) = (vec![0; text.len()], 0);
    // The loop does not branch on a byte that is skipped, because the processor cannot foresee such a branch.
    for byte in text {
        let byte = kept[usize::from(*byte)];
        view[length] = byte;
        length += usize::from(byte != 0);
    }
    view.truncate(length);
    view
}

/// The bases of numbers.
pub(super) const BASES: [u32; 3] = [16, 10, 8];

/// The value of each digit in base 16, and a value beyond all bases for every other byte.
pub(super) static DIGITS: [u8; 256] = digits();
pub(super) const NO_DIGIT: u8 = u8::MAX;

const fn digits() -> [u8; 256] {
    let (mut digits, mut value) = ([NO_DIGIT; 256], 0);
    while value < 16 {
        let digit = b"0123456789abcdef"[value as usize];
        digits[digit as usize] = value;
        digits[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    digits
}

/// Gives `take` the numbers of a text as bytes, each with the place of its base in [`BASES`], without the characters
/// that divide them, until `take` says that it found something. In base 16 each pair of digits is a number. Numbers
/// beyond a byte and ignorable ones are left out.
pub(super) fn numbers(text: &[u8], take: &mut impl FnMut(usize, u8) -> bool) -> bool {
    let mut takes = |base: usize, number: u8| PLAIN[usize::from(number)] != 0 && take(base, number);
    let value = |byte: &u8| DIGITS[usize::from(*byte)];
    let is_digit = |byte: &u8| value(byte) != NO_DIGIT;
    let mut rest = text;
    while let Some(begin) = rest.iter().position(is_digit) {
        let run = &rest[begin..];
        let (run, after) = run.split_at(run.iter().position(|byte| !is_digit(byte)).unwrap_or(run.len()));
        rest = after;
        let (single, pairs) = run.split_at(run.len() % 2);
        let (pairs, _) = pairs.as_chunks::<2>();
        let pairs = pairs.iter().map(|[high, low]| value(high) << 4 | value(low));
        if single.iter().map(value).chain(pairs).any(|number| takes(0, number)) {
            return true;
        }
        // Most runs are letters of words.
        if !run.iter().any(u8::is_ascii_digit) {
            continue;
        }
        for (place, base) in BASES.into_iter().enumerate().skip(1) {
            let mut number = None;
            for digit in run.iter().map(value).chain([NO_DIGIT]).map(u32::from) {
                if digit < base {
                    number = Some(number.map_or(digit, |high: u32| high.saturating_mul(base).saturating_add(digit)));
                } else if let Some(Ok(number)) = number.take().map(u8::try_from)
                    && takes(place, number)
                {
                    return true;
                }
            }
        }
    }
    false
}
