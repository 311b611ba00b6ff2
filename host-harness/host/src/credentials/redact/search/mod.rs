//! Finds secrets in texts that others wrote, in every spelling. The time depends on the length of the text alone:
//! whoever chooses the text may know the secrets, and a plugin chooses some of the secrets itself.
//!
//! Each place of a text has a few readings: the byte at that place, and the character that it escapes. The search
//! follows all needles and all readings together, from the end of the text to its beginning. Each place has one bit for
//! each byte of each needle: whether the needle can be read from that byte to its end, beginning at this place.

mod plainly;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::credentials::redact::escapes::{ESCAPES, REACH, is_ignorable, readings};
use crate::credentials::redact::traces::Traces;
use crate::credentials::redact::{REDACTED, SHORTEST, count};
use crate::credentials::secret::Secret;
use crate::text::cut;

/// A longer secret is searched for by its first bytes: as many as a word has bits.
const KNOWN_BY: usize = 64;

/// The bit of a needle's first byte.
const FIRST: u64 = 1;

/// Number of bytes of a secret that are searched for in base64 and in hexadecimal. The digits that follow in the text
/// are removed with them.
const OPENING: usize = 24;

/// The secrets to look for: in plain form, percent-encoded, as in JSON and as in HTML, in any mixture of these; in
/// base64 of both alphabets, of UTF-8 and UTF-16, wherever it began; and in hexadecimal; with or without zeros and
/// ASCII white space between the characters. Secrets of less than [`SHORTEST`] bytes are not found.
#[derive(Clone)]
pub struct Search {
    needles: Vec<Needle>,
    /// The secrets in lower case.
    lower: Vec<String>,
    /// The row of `places` for each byte. Most bytes are in no needle, and share the first row.
    rows: [usize; 256],
    /// For each row and needle, the positions of the row's bytes in the needle: the lowest bit is the needle's
    /// beginning.
    places: Vec<u64>,
    /// The bit of each needle's last byte.
    lasts: Vec<u64>,
    /// One bit for each pair of bytes, set where a needle ends with the pair, or with its second byte after an ignorable
    /// first one.
    ends: Box<[u64; 1024]>,
    /// For each byte, the needles that end with it, in order.
    ending: Box<[Vec<u32>; 256]>,
    traces: Traces,
}

/// The progress at one place, sorted by needle: the bits of the bytes from which the needle can be read to its end,
/// beginning at the place. Needles without a bit are left out: few needles are in progress at a time.
type InProgress = Vec<(u32, u64)>;

#[derive(Clone)]
struct Needle {
    text: Vec<u8>,
    /// The texts that may follow the needle and belong to its secret.
    rests: Vec<Rest>,
}

/// The text that follows a needle and belongs to its secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Rest {
    /// As much of these bytes as follows.
    Of(Vec<u8>),
    /// All characters of the base64 alphabet that follow.
    Base64,
}

impl Search {
    /// Prepares a search for these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Search {
        let (mut needles, mut lower) = (BTreeMap::<_, Vec<Rest>>::new(), Vec::new());
        for secret in secrets.into_iter().map(Secret::expose).filter(|secret| secret.len() >= SHORTEST) {
            lower.push(secret.to_ascii_lowercase());
            // Tokens of one service begin with the same bytes.
            for (text, rest) in known_by(secret) {
                let rests = needles.entry(text).or_default();
                if !rests.contains(&rest) {
                    rests.push(rest);
                }
            }
        }
        let needles: Vec<Needle> = needles.into_iter().map(|(text, rests)| Needle { text, rests }).collect();
        let (mut rows, mut places) = ([0; 256], vec![0; needles.len()]);
        let (mut lasts, mut ends) = (Vec::with_capacity(needles.len()), Box::new([0; 1024]));
        let mut ending = Box::new([const { Vec::new() }; 256]);
        for (number, needle) in needles.iter().enumerate() {
            for (place, byte) in needle.text.iter().enumerate() {
                let row = &mut rows[usize::from(*byte)];
                if *row == 0 {
                    *row = places.len() / needles.len();
                    places.resize(places.len() + needles.len(), 0);
                }
                places[*row * needles.len() + number] |= FIRST << place;
            }
            lasts.push(FIRST << (needle.text.len() - 1));
            if let [.., before, last] = &*needle.text {
                ending[usize::from(*last)].push(u32::try_from(number).unwrap_or(u32::MAX));
                let befores = (0..=u8::MAX).filter(|byte| is_ignorable(&[*byte])).chain([*before]);
                for (word, bit) in befores.map(|before| pair(before, *last)) {
                    ends[word] |= bit;
                }
            }
        }
        let traces = Traces::of(needles.iter().map(|needle| (&*needle.text, needle.text.len())));
        Search { needles, lower, rows, places, lasts, ends, ending, traces }
    }

    /// Says whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    /// The number of spellings that the search looks for. Together with the length of a text, this number decides the
    /// cost of a search.
    pub fn spellings(&self) -> usize {
        self.needles.len()
    }

    /// Says whether a text contains a secret.
    pub fn is_in(&self, text: &[u8]) -> bool {
        !self.begins(text).is_empty()
    }

    /// Returns the place of the first secret: the longest that begins there.
    pub fn find(&self, text: &[u8]) -> Option<Range<usize>> {
        self.all(text).next()
    }

    /// Says whether the name of a header contains a secret. Names of headers are in lower case.
    pub fn is_in_name(&self, name: &str) -> bool {
        self.lower.iter().any(|secret| name.contains(secret.as_str())) || self.is_in(name.as_bytes())
    }

    /// The text without its secrets; `None` if it has none.
    pub fn clean(&self, text: &[u8]) -> Option<Vec<u8>> {
        self.replaced(text, REDACTED)
    }

    /// The text with `stand_in` in place of each secret; `None` if it has none.
    pub fn replaced(&self, text: &[u8], stand_in: &str) -> Option<Vec<u8>> {
        let mut all = self.all(text).peekable();
        all.peek()?;
        let (mut clean, mut read) = (Vec::with_capacity(text.len()), 0);
        for found in all {
            clean.extend_from_slice(&text[read..found.start]);
            clean.extend_from_slice(stand_in.as_bytes());
            read = found.end;
        }
        clean.extend_from_slice(&text[read..]);
        Some(clean)
    }

    /// Returns the places of the secrets, one after the other: the longest that begins at each place.
    pub fn all<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Range<usize>> + 'a {
        let begins = self.begins(text);
        let (mut from, mut window) = (0, [0; REACH]);
        std::iter::from_fn(move || {
            let begin = begins.next(from)?;
            from = self.end(text, begin, &mut window);
            Some(begin..from)
        })
    }

    /// Returns every place at which a needle begins that can be read to its end.
    fn begins(&self, text: &[u8]) -> Positions {
        let mut begins = Positions::default();
        if self.is_empty() || !self.traces.may_be_read_in(text) {
            return begins;
        }
        let (mut ahead, mut left) = (Ahead::new(), InProgress::new());
        let mut worth = places_of_escapes(text);
        for at in (0..text.len()).rev() {
            if !self.ends_at(text, at) && !worth.has(at) {
                continue;
            }
            for (read, next) in readings(text, at) {
                left.clear();
                left.extend_from_slice(ahead.at(next));
                if read.as_bytes().is_empty() {
                    // A needle does not begin with an ignorable character.
                    left.iter_mut().for_each(|(_, left)| *left &= !FIRST);
                    left.retain(|(_, left)| *left != 0);
                }
                for byte in read.as_bytes().iter().rev() {
                    self.read_back(&mut left, *byte);
                }
                count(1 + left.len());
                ahead.add(at, &left);
                if at > 0 && !left.is_empty() {
                    worth.add(at - 1, text.len());
                }
            }
            if ahead.at(at).iter().any(|(_, left)| left & FIRST == FIRST) {
                begins.add(at, text.len());
            }
        }
        begins
    }

    /// Reads the byte before those that were read.
    fn read_back(&self, left: &mut InProgress, byte: u8) {
        let (places, ending) = (self.places(byte), &self.ending[usize::from(byte)]);
        count(left.len() + ending.len());
        left.retain_mut(|(number, left)| {
            *left = *left >> 1 & places[*number as usize];
            *left != 0
        });
        for number in ending {
            merge(left, *number, self.lasts[*number as usize]);
        }
    }

    /// Says whether a needle may end with an unescaped byte that follows another unescaped byte or an ignorable one.
    fn ends_at(&self, text: &[u8], at: usize) -> bool {
        let before = if at > 0 { text[at - 1] } else { 0 };
        let (word, bit) = pair(before, text[at]);
        self.ends[word] & bit != 0
    }

    /// Returns the end of the longest needle that begins here, including the text that belongs to its secret.
    fn end(&self, text: &[u8], begin: usize, window: &mut [u64; REACH]) -> usize {
        let firsts = readings(text, begin).filter_map(|(read, _)| read.as_bytes().first().copied());
        let firsts: Vec<&[u64]> = firsts.map(|first| self.places(first)).collect();
        let begins = |number: &usize| firsts.iter().any(|places| places[*number] & FIRST == FIRST);
        let ends = (0..self.needles.len()).filter(begins).filter_map(|number| {
            let end = self.end_of(number, text, begin, window)?;
            self.needles[number].rests.iter().map(|rest| rest.end(text, end)).max()
        });
        ends.max().unwrap_or(begin + 1)
    }

    /// Returns the end of a needle that begins here; the furthest end if the needle can be read in two ways. `window`
    /// is all zeros before and after the call.
    fn end_of(&self, number: usize, text: &[u8], begin: usize, window: &mut [u64; REACH]) -> Option<usize> {
        let (mut at, mut here, mut furthest, mut end) = (begin, 0, begin, None);
        loop {
            for (read, next) in readings(text, at) {
                let mut read_on: u64 = here;
                // The needle begins at the first place only, and not with an empty reading.
                let mut first = if at == begin { FIRST } else { 0 };
                for byte in read.as_bytes() {
                    read_on = (read_on << 1 | first) & self.places(*byte)[number];
                    first = 0;
                }
                if read_on & self.lasts[number] != 0 {
                    end = end.max(Some(next));
                }
                if read_on & !self.lasts[number] != 0 {
                    window[next % REACH] |= read_on & !self.lasts[number];
                    furthest = furthest.max(next);
                }
            }
            here = 0;
            while here == 0 {
                count(1);
                at += 1;
                if at > furthest {
                    return end;
                }
                here = std::mem::take(&mut window[at % REACH]);
            }
        }
    }

    /// Returns the positions of a byte in each needle.
    fn places(&self, byte: u8) -> &[u64] {
        &self.places[self.rows[usize::from(byte)] * self.needles.len()..][..self.needles.len()]
    }
}

/// Returns all spellings in which a secret is searched for, except for escapes.
pub(super) fn known_by(secret: &str) -> Vec<(Vec<u8>, Rest)> {
    let plain = cut(secret, KNOWN_BY);
    let mut known_by = vec![(plain.as_bytes().to_vec(), Rest::Of(secret.as_bytes()[plain.len()..].to_vec()))];
    let opening = &secret.as_bytes()[..secret.len().min(OPENING)];
    // UTF-7 is base64 of UTF-16, too.
    let wide = |bytes: fn(u16) -> [u8; 2]| secret.encode_utf16().take(OPENING / 2).flat_map(bytes).collect();
    for opening in [opening.to_vec(), wide(u16::to_le_bytes), wide(u16::to_be_bytes)] {
        for before in 0..3 {
            let encoded = [STANDARD, URL].map(|alphabet| base64_after(before, &opening, alphabet));
            known_by.extend(encoded.map(|encoded| (encoded, Rest::Base64)));
        }
    }
    for digits in [b"0123456789abcdef", b"0123456789ABCDEF"] {
        let pairs = opening.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
        known_by.push((pairs.collect(), Rest::Base64));
    }
    known_by
}

impl Rest {
    /// Returns where the rest of the secret ends, from this place on.
    fn end(&self, text: &[u8], mut at: usize) -> usize {
        match self {
            Rest::Of(rest) => {
                let mut left = rest.as_slice();
                while let Some((read, next)) = follows(text, at, false, |read| left.starts_with(read)) {
                    (left, at) = (&left[read..], next);
                }
            }
            Rest::Base64 => {
                while let Some((_, next)) = follows(text, at, true, is_base64) {
                    at = next;
                }
            }
        }
        at
    }
}

/// Returns the length of a wanted reading at this place or behind ignorable characters, and the place at which the text
/// continues. Where `needs_break`, a reading that only spaces and tabs separate from the text before is not taken.
fn follows(text: &[u8], at: usize, needs_break: bool, is_wanted: impl Fn(&[u8]) -> bool) -> Option<(usize, usize)> {
    let (mut place, mut is_near) = (at, true);
    loop {
        let mut read = readings(text, place).filter(|(read, _)| !read.as_bytes().is_empty());
        if is_near && let Some((read, next)) = read.find(|(read, _)| is_wanted(read.as_bytes())) {
            return Some((read.as_bytes().len(), next));
        }
        let nothings = readings(text, place).filter(|(read, _)| read.as_bytes().is_empty());
        let next = nothings.map(|(_, next)| next).max()?;
        let is_break = |read: &[u8]| !matches!(read, [] | [b' ' | b'\t']);
        let breaks = readings(text, place).any(|(read, end)| end == next && is_break(read.as_bytes()));
        is_near = !needs_break || breaks || is_near && place != at;
        count(1);
        place = next;
    }
}

/// The place of a pair's bit.
fn pair(first: u8, second: u8) -> (usize, u64) {
    let pair = usize::from(first) << 8 | usize::from(second);
    (pair >> 6, 1 << (pair & 63))
}

/// Returns the places at which an escape may begin, and those right after an escape.
fn places_of_escapes(text: &[u8]) -> Positions {
    let mut places = Positions::default();
    let [percent, backslash, ampersand, plus] = ESCAPES;
    let begins = memchr::memchr3_iter(percent, backslash, ampersand, text).chain(memchr::memchr_iter(plus, text));
    for at in begins {
        places.add(at, text.len());
        for (_, end) in readings(text, at).filter(|(_, end)| *end < text.len()) {
            places.add(end, text.len());
        }
    }
    places
}

/// The progress at the places around the current one that a reading can reach.
struct Ahead {
    /// The place for which each slot is used, and the progress there.
    slots: Vec<(usize, InProgress)>,
}

impl Ahead {
    fn new() -> Ahead {
        Ahead { slots: Vec::new() }
    }

    fn at(&self, place: usize) -> &[(u32, u64)] {
        let slot = self.slots.get(place % REACH).filter(|(used_for, _)| *used_for == place);
        slot.map_or(&[], |(_, progress)| progress)
    }

    /// Adds to the progress at a place.
    fn add(&mut self, place: usize, known: &[(u32, u64)]) {
        if known.is_empty() {
            return;
        }
        // Most texts need no slot.
        self.slots.resize_with(REACH, || (usize::MAX, InProgress::new()));
        let (used_for, progress) = &mut self.slots[place % REACH];
        if *used_for == place {
            known.iter().for_each(|(number, left)| merge(progress, *number, *left));
        } else {
            *used_for = place;
            progress.clear();
            progress.extend_from_slice(known);
        }
    }
}

/// Adds bits of one needle.
fn merge(progress: &mut InProgress, number: u32, left: u64) {
    match progress.binary_search_by_key(&number, |(number, _)| *number) {
        Ok(place) => progress[place].1 |= left,
        Err(place) => progress.insert(place, (number, left)),
    }
}

/// A set of places in a text, one bit for each place: the set takes an eighth of the text's length.
#[derive(Default)]
struct Positions(Vec<u64>);

impl Positions {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, place: usize, length: usize) {
        self.0.resize(length.div_ceil(64), 0);
        self.0[place / 64] |= 1 << (place % 64);
    }

    fn has(&self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|word| word & 1 << (place % 64) != 0)
    }

    /// The first place at or after this one.
    fn next(&self, from: usize) -> Option<usize> {
        let first = self.0.get(from / 64)? & (u64::MAX << (from % 64));
        let words = std::iter::once(first).chain(self.0[from / 64 + 1..].iter().copied());
        let (number, word) = words.enumerate().find(|(_, word)| *word != 0)?;
        Some((from / 64 + number) * 64 + word.trailing_zeros() as usize)
    }
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn is_base64(read: &[u8]) -> bool {
    matches!(read, [byte] if byte.is_ascii_alphanumeric() || b"+/-_".contains(byte))
}

/// The characters of base64 for bytes that follow `before` others, as far as they depend on these bytes alone.
fn base64_after(before: usize, bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    let bit = |index: usize| (bytes[index / 8] >> (7 - index % 8)) & 1;
    let skipped = (6 - before * 8 % 6) % 6;
    let bits = bytes.len() * 8 - skipped;
    (0..bits / 6)
        .map(|character| {
            let first = skipped + character * 6;
            let value = (first..first + 6).fold(0, |value, index| value << 1 | bit(index));
            alphabet[usize::from(value)]
        })
        .collect()
}

#[cfg(test)]
mod tests;
