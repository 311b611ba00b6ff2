//! Finds secrets in a text of others, however they are spelled, in a time that follows from the length of the text alone:
//! whoever chooses the text may know the secrets, and a plugin chooses some of them itself.
//!
//! Each place of a text can be read in a few ways: as the byte that stands there, and as what it escapes. All needles and
//! all readings are followed together, from the end of the text to its beginning. A place has one bit for each byte of each
//! needle: whether the needle can be read from that byte to its end, beginning at this place.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::credentials::redact::escapes::{ESCAPES, REACH, readings};
use crate::credentials::redact::{REDACTED, SHORTEST, count};
use crate::credentials::secret::Secret;
use crate::text::cut;

/// A longer secret is known by so much of it: as many bytes as a word has bits.
const KNOWN_BY: usize = 64;

/// The first place of a needle.
const FIRST: u64 = 1;

/// So much of a secret is looked for in base64 and in hexadecimal: what follows it there is taken out with it.
const OPENING: usize = 24;

/// What to look for: secrets plain, percent-encoded, as in JSON and as in HTML, in any mixture of these; and in base64
/// of both alphabets, wherever it began, and in hexadecimal. Secrets of less than [`SHORTEST`] bytes are not found.
#[derive(Clone)]
pub struct Search {
    needles: Vec<Needle>,
    /// Plain, in lower case.
    lower: Vec<String>,
    /// Which of the rows of `places` a byte has; most bytes are in no needle, and share the first.
    rows: [usize; 256],
    /// For each needle, where in it the bytes of a row are: the lowest bit is its beginning.
    places: Vec<u64>,
    /// The last place of each needle.
    lasts: Vec<u64>,
    /// One bit for each pair of bytes, set where a needle ends with it.
    ends: Box<[u64; 1024]>,
}

#[derive(Clone)]
struct Needle {
    text: Vec<u8>,
    /// What may belong to it.
    rests: Vec<Rest>,
}

/// What belongs to a needle that was found.
#[derive(Clone, PartialEq, Eq)]
enum Rest {
    /// As much of this as follows.
    Of(Vec<u8>),
    /// Whatever follows in the alphabet of base64.
    Base64,
}

impl Search {
    /// Looks for these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Search {
        let (mut needles, mut lower) = (BTreeMap::<_, Vec<Rest>>::new(), Vec::new());
        for secret in secrets.into_iter().map(Secret::expose).filter(|secret| secret.len() >= SHORTEST) {
            lower.push(secret.to_ascii_lowercase());
            // Tokens of one service begin alike.
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
                let (word, bit) = pair(*before, *last);
                ends[word] |= bit;
            }
        }
        Search { needles, lower, rows, places, lasts, ends }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    /// Whether a secret stands in a text.
    pub fn is_in(&self, text: &[u8]) -> bool {
        !self.begins(text).is_empty()
    }

    /// Where the first secret stands: the longest that begins there.
    pub fn find(&self, text: &[u8]) -> Option<Range<usize>> {
        self.all(text).next()
    }

    /// Whether a secret stands in the name of a header, which has no upper case any more.
    pub fn is_in_name(&self, name: &str) -> bool {
        self.lower.iter().any(|secret| name.contains(secret.as_str())) || self.is_in(name.as_bytes())
    }

    /// The text without secrets; none if it has none.
    pub fn clean(&self, text: &[u8]) -> Option<Vec<u8>> {
        self.replaced(text, REDACTED)
    }

    /// The text with a stand-in for each secret; none if it has none.
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

    /// Where secrets stand, one after the other: the longest that begins at each place.
    fn all<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Range<usize>> + 'a {
        let begins = self.begins(text);
        let (mut from, mut window) = (0, [0; REACH]);
        std::iter::from_fn(move || {
            let begin = begins.next(from)?;
            from = self.end(text, begin, &mut window);
            Some(begin..from)
        })
    }

    /// Every place at which a needle begins that can be read to its end.
    fn begins(&self, text: &[u8]) -> Positions {
        let mut begins = Positions::default();
        if self.is_empty() {
            return begins;
        }
        let (mut ahead, mut left) = (Window::new(self.needles.len()), vec![0; self.needles.len()]);
        let mut escape = Escape::before(text, text.len());
        for at in (0..text.len()).rev() {
            if escape.is_at(at) {
                escape = Escape::before(text, at);
            } else if ahead.latest != at + 1 && !escape.reaches(at) && !self.ends_at(text, at) {
                continue;
            }
            for (read, next) in readings(text, at) {
                match ahead.at(next) {
                    Some(next) => left.copy_from_slice(next),
                    None => left.fill(0),
                }
                for byte in read.as_bytes().iter().rev() {
                    count(self.needles.len());
                    for ((left, last), places) in left.iter_mut().zip(&self.lasts).zip(self.places(*byte)) {
                        *left = (*left >> 1 | last) & places;
                    }
                }
                ahead.add(at, &left);
            }
            if ahead.at(at).is_some_and(|begun| begun.iter().any(|left| left & FIRST == FIRST)) {
                begins.add(at, text.len());
            }
        }
        begins
    }

    /// Whether a needle may end with a byte that stands for itself after another that does.
    fn ends_at(&self, text: &[u8], at: usize) -> bool {
        let (word, bit) = pair(if at > 0 { text[at - 1] } else { 0 }, text[at]);
        self.ends[word] & bit != 0
    }

    /// Where the longest needle ends that begins here, with what belongs to it.
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

    /// Where a needle ends that begins here; the furthest place if it can be read in two ways. `window` is left as empty as
    /// it is given.
    fn end_of(&self, number: usize, text: &[u8], begin: usize, window: &mut [u64; REACH]) -> Option<usize> {
        let (mut at, mut here, mut furthest, mut end) = (begin, 0, begin, None);
        loop {
            for (read, next) in readings(text, at) {
                let mut read_on: u64 = here;
                // The needle begins at the first place alone.
                let mut first = if at == begin { FIRST } else { 0 };
                for byte in read.as_bytes() {
                    read_on = (read_on << 1 | first) & self.places(*byte)[number];
                    first = 0;
                }
                if read_on & self.lasts[number] != 0 {
                    end = end.max(Some(next));
                }
                if read_on & !self.lasts[number] != 0 {
                    window[next % REACH] |= read_on;
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

    /// Where in each needle a byte is.
    fn places(&self, byte: u8) -> &[u64] {
        &self.places[self.rows[usize::from(byte)] * self.needles.len()..][..self.needles.len()]
    }
}

/// All spellings in which a secret is looked for, as far as escapes have no part in them.
fn known_by(secret: &str) -> Vec<(Vec<u8>, Rest)> {
    let plain = cut(secret, KNOWN_BY);
    let mut known_by = vec![(plain.as_bytes().to_vec(), Rest::Of(secret.as_bytes()[plain.len()..].to_vec()))];
    let opening = &secret.as_bytes()[..secret.len().min(OPENING)];
    for before in 0..3 {
        let encoded = [STANDARD, URL].map(|alphabet| base64_after(before, opening, alphabet));
        known_by.extend(encoded.map(|encoded| (encoded, Rest::Base64)));
    }
    for digits in [b"0123456789abcdef", b"0123456789ABCDEF"] {
        let pairs = opening.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
        known_by.push((pairs.collect(), Rest::Base64));
    }
    known_by
}

impl Rest {
    /// How far it goes on from here.
    fn end(&self, text: &[u8], mut at: usize) -> usize {
        match self {
            Rest::Of(rest) => {
                let mut left = rest.as_slice();
                let follows = |left: &[u8], at| readings(text, at).find(|(read, _)| left.starts_with(read.as_bytes()));
                while let Some((read, next)) = follows(left, at) {
                    (left, at) = (&left[read.as_bytes().len()..], next);
                }
            }
            Rest::Base64 => {
                while let Some((_, next)) = readings(text, at).find(|(read, _)| is_base64(read.as_bytes())) {
                    at = next;
                }
            }
        }
        at
    }
}

/// Where a pair of bytes has its bit.
fn pair(first: u8, second: u8) -> (usize, u64) {
    let pair = usize::from(first) << 8 | usize::from(second);
    (pair >> 6, 1 << (pair & 63))
}

/// The last place before another at which an escape may begin.
struct Escape(Option<usize>);

impl Escape {
    fn before(text: &[u8], at: usize) -> Escape {
        Escape(text[..at].iter().rposition(|byte| ESCAPES.contains(byte)))
    }

    fn is_at(&self, at: usize) -> bool {
        self.0 == Some(at)
    }

    /// Whether it may go on to here.
    fn reaches(&self, at: usize) -> bool {
        self.0.is_some_and(|begin| at - begin < REACH)
    }
}

/// What is known at the places around one: those that a reading can reach.
struct Window {
    /// The place that each slot is used for.
    used_for: [usize; REACH],
    /// The last place that was added to.
    latest: usize,
    needles: usize,
    slots: Vec<u64>,
}

impl Window {
    fn new(needles: usize) -> Window {
        Window { used_for: [usize::MAX; REACH], latest: usize::MAX, needles, slots: Vec::new() }
    }

    /// What is known at a place; none where no needle is on its way.
    fn at(&self, place: usize) -> Option<&[u64]> {
        let slot = place % REACH;
        (self.used_for[slot] == place).then(|| &self.slots[slot * self.needles..][..self.needles])
    }

    /// Adds to what is known at a place.
    fn add(&mut self, place: usize, known: &[u64]) {
        if known.iter().all(|known| *known == 0) {
            return;
        }
        self.slots.resize(REACH * self.needles, 0);
        let number = place % REACH;
        let slot = &mut self.slots[number * self.needles..][..self.needles];
        if self.used_for[number] == place {
            slot.iter_mut().zip(known).for_each(|(slot, known)| *slot |= known);
        } else {
            slot.copy_from_slice(known);
            (self.used_for[number], self.latest) = (place, place);
        }
    }
}

/// A set of places in a text: a text of nothing but beginnings takes an eighth of its length.
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

    /// The first at or after this one.
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

/// The characters that bytes have in base64 after so many others, as far as they depend on these bytes alone.
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
mod tests {
    use super::*;
    use crate::credentials::redact::redact;
    use crate::credentials::redact::tests::STEPS;

    const SECRET: &str = "pa~ss \"word\"&möre/+%25";

    /// The base64 of a text, by hand.
    fn base64(text: &str, alphabet: &[u8; 64]) -> String {
        let mut padded = text.as_bytes().to_vec();
        padded.resize(text.len().next_multiple_of(3), 0);
        String::from_utf8(base64_after(0, &padded, alphabet)).unwrap()
    }

    fn spellings() -> Vec<String> {
        let form: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
        let twice: String = form_urlencoded::byte_serialize(form.as_bytes()).collect();
        let json = |text: &str| serde_json::Value::from(text).to_string().trim_matches('"').to_owned();
        let every = SECRET.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let units = SECRET.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        let html = SECRET.replace('&', "&amp;").replace('"', "&#34;").replace('ö', "&#xf6;");
        let json_of_json = json(&json(SECRET));
        vec![SECRET.to_owned(), form.replace('+', "%20"), form, twice, json(SECRET), json_of_json, every, units, html]
    }

    #[test]
    fn a_secret_is_taken_out_in_every_spelling() {
        let secret = Secret::new(SECRET);
        for text in spellings() {
            assert_eq!(redact(&format!("<{text}>"), [&secret]), "<[redacted]>", "{text}");
        }
    }

    #[test]
    fn base64_is_known_wherever_it_began_and_however_it_is_escaped() {
        let secret = Secret::new(SECRET);
        for alphabet in [STANDARD, URL] {
            for before in ["", "a", "ab", "abc"] {
                let text = base64(&format!("{before}{SECRET}, and more"), alphabet);
                for text in [text.replace('/', "\\/"), text.replace('/', "%2F").replace('+', "%2B"), text] {
                    let clean = redact(&format!("\"{text}\""), [&secret]);
                    assert!(clean.contains(REDACTED) && clean.len() < 20, "{before}: {clean}");
                }
            }
        }
    }

    #[test]
    fn a_name_of_a_header_is_known_in_lower_case() {
        let search = Search::new(&[Secret::new("A-Secret-Of-Tests")]);
        assert!(search.is_in_name("x-a-secret-of-tests") && !search.is_in_name("x-a-secret"));
    }

    #[test]
    fn hexadecimal_is_known() {
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        for text in [hex.to_uppercase(), hex] {
            assert_eq!(redact(&format!("({text})"), [&Secret::new(SECRET)]), "([redacted])");
        }
    }

    #[test]
    fn a_text_that_can_be_read_in_many_ways_takes_no_longer_for_it() {
        let secret = Secret::new("%25".repeat(20) + "x");
        let text = "%25".repeat(4_000);
        assert_eq!(redact(&text, [&secret]), text);
    }

    #[test]
    fn a_long_secret_is_known_by_its_beginning_and_goes_with_all_that_follows() {
        let secret = Secret::new(format!("{}{}", "0123456789".repeat(10), "end"));
        assert_eq!(redact(&format!("<{}>", secret.expose()), [&secret]), "<[redacted]>");
        assert_eq!(redact(&format!("<{}…", &secret.expose()[..80]), [&secret]), "<[redacted]…");
        let escaped: String = secret.expose().bytes().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(redact(&format!("<{escaped}>"), [&secret]), "<[redacted]>");
    }

    #[test]
    fn a_service_that_knows_the_secret_cannot_make_the_search_long() {
        let secret = Secret::new("a".repeat(50_000) + "b");
        let text = format!("{}c", "a".repeat(KNOWN_BY - 1)).repeat(1_000);
        assert_eq!(redact(&text, [&secret]), text);
        assert!(redact(&"a".repeat(200_000), [&secret]).len() < 100);
    }

    #[test]
    fn what_only_looks_alike_stays() {
        let secrets = [Secret::new("a-secret-of-tests"), Secret::new("short")];
        for text in ["a-secret-of-test", "a-secret-of tests", "short", "%", "\\", "\\u12", "&", "&amp", "%61", ""] {
            assert_eq!(redact(text, &secrets), text);
        }
    }

    #[test]
    fn every_place_and_every_secret_is_found_the_longest_first() {
        let secrets = [Secret::new("12345678"), Secret::new("1234567890")];
        assert_eq!(redact("1234567890 12345678, 123456789", &secrets), "[redacted] [redacted], [redacted]9");
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are() {
        let search = Search::new(&[Secret::new("12345678")]);
        assert_eq!(search.clean(b"\xff12345678\xfe").unwrap(), b"\xff[redacted]\xfe");
        assert_eq!(search.clean(b"\xff1234567\xfe"), None);
    }

    /// The search as it would be if time did not matter: every way to read every place is gone to its end.
    fn plainly(secrets: &[Secret], text: &[u8]) -> Vec<Range<usize>> {
        fn spelled(text: &[u8], at: usize, left: &[u8]) -> Option<usize> {
            let further = readings(text, at).filter_map(|(read, next)| {
                let left = left.strip_prefix(read.as_bytes())?;
                spelled(text, next, left)
            });
            if left.is_empty() { Some(at) } else { further.max() }
        }
        let needles: Vec<_> = secrets.iter().flat_map(|secret| known_by(secret.expose())).collect();
        let (mut found, mut at) = (Vec::<Range<usize>>::new(), 0);
        while at < text.len() {
            let ends = needles.iter().filter_map(|(needle, rest)| Some(rest.end(text, spelled(text, at, needle)?)));
            match ends.max() {
                Some(end) => {
                    found.push(at..end);
                    at = end;
                }
                None => at += 1,
            }
        }
        found
    }

    /// Numbers that look like chance, and are the same in each run.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % bound as u64).unwrap_or_default()
        }

        fn pieces(&mut self, pieces: &[&str], least: usize) -> String {
            let mut text = String::new();
            while text.len() < least {
                text += pieces[self.below(pieces.len())];
            }
            text
        }

        /// A text in one of its spellings.
        fn spelled(&mut self, text: &str, layers: usize) -> String {
            let one = |character: char, choice: usize| match (choice, character) {
                (0, _) => character.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect(),
                (1, _) => character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect(),
                (2, _) => format!("&#{};", u32::from(character)),
                (3, _) => format!("&#x{:x};", u32::from(character)),
                (_, '\\') => "\\\\".to_owned(),
                (_, '&') => "&amp;".to_owned(),
                (_, '%') => "%25".to_owned(),
                (_, ' ') => "+".to_owned(),
                _ => character.to_string(),
            };
            let mut text = text.to_owned();
            for _ in 0..layers {
                text = text.chars().map(|character| one(character, self.below(8))).collect();
            }
            text
        }
    }

    #[test]
    fn all_is_found_that_a_search_without_haste_finds_and_no_more() {
        const PIECES: [&str; 20] = [
            "%",
            "\\",
            "&",
            "+",
            "25",
            "5c",
            "amp;",
            "\\\\",
            "\\u0025",
            "&#x25;",
            "%5C",
            "%25",
            "a",
            "b",
            ";",
            " ",
            "ö",
            "%c3%b6",
            "&#xf6;",
            "\\ud83d\\ude00",
        ];
        let (mut chance, mut hits) = (Chance(0x9e37_79b9_7f4a_7c15), 0);
        for _ in 0..4_000 {
            let pieces: Vec<&str> = (0..1 + chance.below(5)).map(|_| PIECES[chance.below(PIECES.len())]).collect();
            let secrets: Vec<String> = (0..1 + chance.below(2)).map(|_| chance.pieces(&pieces, 8)).collect();
            let mut text = String::new();
            for secret in &secrets {
                let (before, layers) = (chance.below(12), chance.below(3));
                text += &chance.pieces(&pieces, before);
                let spelled = chance.spelled(secret, layers);
                // Some are cut: what is left is no secret.
                let bytes = spelled.len() - chance.below(8) / 7;
                text += cut(&spelled, bytes);
            }
            let secrets: Vec<Secret> = secrets.into_iter().map(Secret::new).collect();
            let found: Vec<_> = Search::new(&secrets).all(text.as_bytes()).collect();
            assert_eq!(found, plainly(&secrets, text.as_bytes()), "{text:?}");
            hits += found.len();
        }
        assert!(hits > 4_000, "{hits}");
    }

    /// Texts that can be read in many ways, for secrets that look like them.
    fn traps(bytes: usize) -> Vec<(&'static str, Vec<Secret>, String)> {
        let filled = |piece: &str| piece.repeat(bytes / piece.len());
        let almost = |piece: &str| Secret::new(piece.repeat(KNOWN_BY / piece.len() - 1) + "!");
        let entity: String = "&#x0000005c;".bytes().map(|byte| format!("&#x{byte:08x};")).collect();
        let jwt = |number: usize| Secret::new(format!("{}{number:08}", "eyJ0eXAiOiJKV1QifQ.".repeat(60)));
        let numbered = |number: usize| Secret::new(format!("{number:08}{}", "\\".repeat(1_000)));
        let long = || Secret::new("a".repeat(50_000) + "b");
        vec![
            ("backslashes", vec![almost("\\")], filled("\\")),
            ("percents", vec![almost("%")], filled("%")),
            ("ampersands", vec![almost("&")], filled("&")),
            ("pluses", vec![almost("+")], filled("+")),
            ("spaces", vec![almost(" ")], filled("+")),
            ("percents within percents", vec![almost("%25")], filled("%25")),
            ("and once more", vec![almost("%25")], filled("%2525")),
            ("entities within entities", vec![almost("&amp;")], filled("&amp;amp;")),
            ("entities for entities", vec![almost("&")], filled("&amp;")),
            ("backslashes by number", vec![almost("\\")], filled("\\u005c")),
            ("numbers by number", vec![almost("\\u005c")], filled("\\u005cu005c")),
            ("entities by number", vec![almost("\\"), almost("&")], filled(&entity)),
            ("all at once", vec![almost("\\%&+"), almost("%5c")], filled("\\%26&#92;%255c+&amp;")),
            ("what is found", vec![Secret::new("\\".repeat(SHORTEST)), almost("\\")], filled("\\")),
            ("what is found over and over", vec![Secret::new("a".repeat(SHORTEST)), almost("a")], filled("a")),
            ("the beginning of a long one", vec![long()], filled(&("a".repeat(KNOWN_BY - 1) + "c"))),
            ("a long one", vec![long()], filled("a")),
            ("many that begin alike", (0..100).map(jwt).collect(), filled(&jwt(0).expose()[..100])),
            ("many that do not", (0..20).map(numbered).collect(), filled("\\")),
            ("base64 of one", vec![almost("\\")], filled("XFxc")),
            ("hexadecimal of one", vec![almost("\\")], filled("5c")),
        ]
    }

    /// What a search for these in a text costs.
    fn cost(secrets: &[Secret], text: &str) -> usize {
        let search = Search::new(secrets);
        STEPS.set(0);
        search.clean(text.as_bytes());
        STEPS.get()
    }

    #[test]
    fn no_text_and_no_secret_makes_the_search_long() {
        const BYTES: usize = 8 << 10;
        for ((name, secrets, text), (_, _, twice)) in traps(BYTES).into_iter().zip(traps(2 * BYTES)) {
            let (once, twice) = (cost(&secrets, &text), cost(&secrets, &twice));
            assert!(twice <= 2 * once + once / 10, "{name}: {once} steps, and {twice} for twice the text");
            let most = BYTES * (100 + 4 * Search::new(&secrets).needles.len());
            assert!(once <= most, "{name}: {once} steps, which is more than {most}");
        }
    }

    #[test]
    fn the_largest_answer_costs_next_to_nothing_where_it_looks_like_no_secret() {
        let text = r#"{"id":"/subscriptions/20ff7fc3-e762","name":"ascScore"},"#.repeat((8 << 20) / 55);
        let steps = cost(&[Secret::new("kR9wQ~sim.contoso~1eef")], &text);
        assert!(steps < text.len() / 10, "{steps}");
    }

    #[test]
    fn a_long_secret_is_known_wherever_its_beginning_ends() {
        for before in KNOWN_BY - 4..KNOWN_BY {
            let secret = format!("{}ööö", "a".repeat(before));
            let html = secret.replace('ö', "&#xf6;");
            assert_eq!(redact(&format!("<{html}>"), [&Secret::new(secret)]), "<[redacted]>", "{before}");
        }
    }
}
