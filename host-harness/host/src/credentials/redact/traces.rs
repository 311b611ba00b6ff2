//! Says of most texts, quickly, that they hold no secret, so that only the others are searched in every spelling.
//!
//! In every spelling that is looked for, letters and digits of the secret follow each other, whatever stands between them.
//! A trace is eight of them in lower case. A text without any trace of a secret holds no spelling of it.

use std::borrow::Cow;

use crate::credentials::redact::escapes::{has_escaped_letters, unescaped_text};
use crate::credentials::redact::views::{ALPHANUMERIC, DIGITS, NO_DIGIT, view};

/// Number of letters and digits of a trace.
const TRACE: usize = 8;

/// Layers of escapes that are removed from a text.
pub(super) const LAYERS: usize = 4;

/// Bits for each trace, of which one is set: of two hundred places without a trace, at most one is looked up in vain.
const BITS_OF_TRACE: usize = 200;

/// The most bits. They take 32 KiB, which fit in a processor's first cache, and are enough for a token of 1.5 KB.
const MOST_BITS: usize = 1 << 18;

/// The traces of secrets.
#[derive(Clone)]
pub(super) struct Traces {
    /// A bit for each hash of a trace.
    bits: Vec<u64>,
    /// The number of bits in a word that are not in a hash.
    shift: u32,
    /// A table at least half of whose places are free, which have zero: each trace is at the place that its hash chooses,
    /// or at the first free place after it.
    table: Vec<u64>,
    /// Whether each spelling has a trace. Of a secret with many signs, a spelling may have too few letters and digits.
    are_complete: bool,
}

impl Traces {
    /// Returns the traces of spellings, each with the number of its bytes in succession that are enough to be found.
    pub fn of(spellings: impl IntoIterator<Item = (impl AsRef<[u8]>, usize)>) -> Traces {
        let (mut traces, mut are_complete) = (Vec::new(), true);
        for (spelling, piece) in spellings {
            let spelling = spelling.as_ref();
            if spelling.len() < piece {
                continue;
            }
            // Each piece has at least this many letters and digits, and with one trace in each of this distance, a whole
            // trace is among them.
            match (fewest_letters(spelling, piece) + 1).saturating_sub(TRACE) {
                0 => are_complete = false,
                distance => {
                    let letters = letters_of(spelling);
                    traces.extend(letters.windows(TRACE).step_by(distance).map(trace_of));
                }
            }
        }
        let most_bits = (traces.len() * BITS_OF_TRACE).clamp(64, MOST_BITS).next_power_of_two();
        let places = (2 * traces.len() + 1).next_power_of_two();
        let (bits, table, shift) = (vec![0; most_bits / 64], vec![0; places], 64 - most_bits.trailing_zeros());
        let mut all = Traces { bits, shift, table, are_complete };
        for trace in traces {
            let (word, bit) = all.bit(trace);
            all.bits[word] |= bit;
            let place = all.place(trace);
            all.table[place] = trace;
        }
        all
    }

    /// The word that has the bit of a trace, and the bit.
    fn bit(&self, trace: u64) -> (usize, u64) {
        let hash = hash(trace) >> self.shift;
        ((hash >> 6) as usize, 1 << (hash & 63))
    }

    /// The place of a trace in the table, or the free place where it belongs.
    fn place(&self, trace: u64) -> usize {
        let last = self.table.len() - 1;
        let mut place = (hash(trace) >> 32) as usize & last;
        while self.table[place] != 0 && self.table[place] != trace {
            place = (place + 1) & last;
        }
        place
    }

    /// Says whether these letters and digits are a trace.
    fn has(&self, letters: u64) -> bool {
        let (word, bit) = self.bit(letters);
        self.bits[word] & bit != 0 && self.is_in_table(letters)
    }

    #[cold]
    #[inline(never)]
    fn is_in_table(&self, letters: u64) -> bool {
        self.table[self.place(letters)] == letters
    }

    /// Says whether a text may hold a piece of a secret, or a piece as numbers, under layers of escapes.
    pub fn may_be_in(&self, text: &[u8]) -> bool {
        if !self.are_complete || self.are_in_layer(text) {
            return true;
        }
        // Without an escaped letter, each layer has the letters and digits of the text.
        if !has_escaped_letters(text) {
            return false;
        }
        let mut layer = Cow::Borrowed(text);
        for _ in 0..LAYERS {
            let Some((next, has_same_letters)) = unescaped_text(&layer) else { break };
            if !has_same_letters && self.are_in_layer(&next) {
                return true;
            }
            layer = Cow::Owned(next);
        }
        false
    }

    /// Says whether a text may hold a whole secret, whichever of its escapes are read.
    pub fn may_be_read_in(&self, text: &[u8]) -> bool {
        !self.are_complete || has_escaped_letters(text) || self.are_in_letters(text)
    }

    /// Says whether a text may hold a whole secret or a piece, in any spelling of either.
    pub fn may_be_anyhow_in(&self, text: &[u8]) -> bool {
        !self.are_complete || has_escaped_letters(text) || self.are_in_layer(text)
    }

    fn are_in_layer(&self, layer: &[u8]) -> bool {
        self.are_in_letters(layer) || self.are_in_numbers(layer)
    }

    fn are_in_letters(&self, text: &[u8]) -> bool {
        self.are_among(&view(text, &ALPHANUMERIC))
    }

    fn are_among(&self, letters: &[u8]) -> bool {
        letters.windows(TRACE).any(|letters| self.has(trace_of(letters)))
    }

    /// Says whether the numbers of a text in one of the bases are a trace. Letters and digits have numbers from 48 to 122,
    /// whose first digit is a decimal one in each base, so that other digits of base 16 need not be read by themselves.
    fn are_in_numbers(&self, text: &[u8]) -> bool {
        let mut letters = [(); 3].map(|()| Letters::of_numbers_in(text));
        let mut from = 0;
        while let Some(digit) = next_decimal(text, from) {
            let before = text[from..digit].iter().rposition(|byte| !is_digit(byte));
            let begin = before.map_or(from, |before| from + before + 1);
            let after = text[digit..].iter().position(|byte| !is_digit(byte));
            let end = after.map_or(text.len(), |after| digit + after);
            read_run(&text[begin..end], &mut letters);
            from = end;
        }
        letters.iter().any(|letters| self.are_among(&letters.text[..letters.length]))
    }
}

/// The letters and digits among the numbers of a text in one base.
struct Letters {
    text: Vec<u8>,
    length: usize,
}

impl Letters {
    fn of_numbers_in(text: &[u8]) -> Letters {
        // A number has two digits, or another character before it.
        Letters { text: vec![0; text.len() / 2 + 2], length: 0 }
    }

    /// Adds those of the numbers that are a letter or digit, without a branch, because the processor cannot foresee which
    /// are.
    fn extend(&mut self, numbers: impl Iterator<Item = u8>) {
        let (text, mut length) = (self.text.as_mut_slice(), self.length);
        for number in numbers {
            let letter = ALPHANUMERIC[usize::from(number)];
            text[length] = letter;
            length += usize::from(letter != 0);
        }
        self.length = length;
    }
}

/// Reads the numbers of a run of digits of base 16 in the bases 16, 10 and 8.
fn read_run(run: &[u8], [hexadecimal, decimal, octal]: &mut [Letters; 3]) {
    let (pairs, _) = run[run.len() % 2..].as_chunks::<2>();
    hexadecimal.extend(pairs.iter().map(|[high, low]| value(high) << 4 | value(low)));
    decimal.extend(ended_numbers::<10>(run));
    octal.extend(ended_numbers::<8>(run));
}

/// Returns for each byte of a run, and for its end, the number that ends there, or zero.
fn ended_numbers<const BASE: u16>(run: &[u8]) -> impl Iterator<Item = u8> {
    let mut number = 0_u16;
    run.iter().map(|byte| u16::from(value(byte))).chain([u16::from(NO_DIGIT)]).map(move |digit| {
        let is_digit = digit < BASE;
        let ended = if is_digit { 0 } else { number as u8 };
        // No letter or digit has the largest number, which stands for all beyond a byte, too.
        let longer = (number * BASE + digit).min(u16::from(u8::MAX));
        number = if is_digit { longer } else { 0 };
        ended
    })
}

/// Returns the letters and digits of a spelling. Most spellings have nothing else.
fn letters_of(spelling: &[u8]) -> Vec<u8> {
    match are_all_letters(spelling) {
        true => spelling.to_ascii_lowercase(),
        false => view(spelling, &ALPHANUMERIC),
    }
}

/// Says whether a spelling has nothing but letters and digits. The processor looks at several bytes at once.
fn are_all_letters(spelling: &[u8]) -> bool {
    spelling.iter().fold(true, |all, byte| all & byte.is_ascii_alphanumeric())
}

/// The fewest letters and digits among this many bytes in succession.
fn fewest_letters(spelling: &[u8], piece: usize) -> usize {
    if are_all_letters(spelling) {
        return piece;
    }
    let is_letter = |byte: &u8| usize::from(ALPHANUMERIC[usize::from(*byte)] != 0);
    let mut letters: usize = spelling[..piece].iter().map(is_letter).sum();
    let mut fewest = letters;
    for (gone, come) in spelling.iter().zip(&spelling[piece..]) {
        letters = letters + is_letter(come) - is_letter(gone);
        fewest = fewest.min(letters);
    }
    fewest
}

/// Finds the next decimal digit.
fn next_decimal(text: &[u8], mut from: usize) -> Option<usize> {
    // Most texts have few digits. The processor looks at all bytes of a block at once.
    while let Some(block) = text[from..].first_chunk::<32>()
        && !block.iter().fold(false, |found, byte| found | byte.is_ascii_digit())
    {
        from += block.len();
    }
    text[from..].iter().position(u8::is_ascii_digit).map(|skipped| from + skipped)
}

fn value(digit: &u8) -> u8 {
    DIGITS[usize::from(*digit)]
}

fn is_digit(byte: &u8) -> bool {
    value(byte) != NO_DIGIT
}

fn trace_of(letters: &[u8]) -> u64 {
    letters.first_chunk().map_or(0, |letters| u64::from_le_bytes(*letters))
}

fn hash(trace: u64) -> u64 {
    trace.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
