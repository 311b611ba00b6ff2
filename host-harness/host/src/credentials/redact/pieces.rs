//! Finds remains of a secret in a text. Sixteen bytes of a secret are enough for an attacker who could place the other
//! bytes in another answer. The host withholds a text with such a piece; it does not clean the text.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::credentials::redact::count;
use crate::credentials::redact::escapes::unescaped_text;
use crate::credentials::redact::traces::{LAYERS, Traces};
use crate::credentials::redact::views::{ALPHANUMERIC, PLAIN, numbers, view};
use crate::credentials::secret::Secret;
use crate::text::{guids, is_guid};

/// Length in bytes of a piece of a secret.
pub const PIECE: usize = 16;

/// Number of bytes that are compared at once.
const GRAM: usize = 8;

/// Distance between the indexed grams of a form. Each piece contains a gram that begins at a multiple of it.
const STRIDE: usize = PIECE - GRAM + 1;

/// Fewest letters and digits of a secret that is looked for by its letters and digits alone.
const LETTERS: usize = 12;

/// Comparisons allowed for each byte of a text. A text that needs more was made to be slow, and counts as a text with a
/// piece.
const COMPARISONS: usize = 64;

/// The pieces to look for: pieces of secrets in plain form, in base64 of both alphabets, of UTF-8 and UTF-16, and in
/// hexadecimal. Each form is found under up to four layers of escapes, and with zeros and ASCII white space between its
/// bytes. The letters and digits of a secret, of its base64 and of its hexadecimal are found in any case, with any other
/// characters in between, and those of the secret backwards, too; the bytes of a secret also as numbers in base 8, 10 and 16.
pub struct Pieces {
    secrets: Vec<Secret>,
    /// Made for the first text.
    traces: OnceLock<Traces>,
    /// Made for the first text that has a trace.
    index: OnceLock<Index>,
}

/// The grams of all forms.
struct Index {
    forms: Vec<Form>,
    grams: Vec<Gram>,
    /// For each hash of a gram, the last gram with it; [`NO_GRAM`] where there is none.
    heads: Vec<u32>,
    /// Two bits of a word for each gram, to skip most places of a text quickly.
    bits: Vec<u64>,
}

/// Bits of a hash by which grams are found. A token of 1.5 KB has some 8,000 grams in all its forms.
const HEAD_BITS: u32 = 13;

/// Bits of a hash by which places are skipped. The words take 16 KiB, which fit in a processor's first cache; of that
/// token, one place of a hundred is looked at in vain.
const SKIP_BITS: u32 = 11;

const NO_GRAM: u32 = u32::MAX;

/// Bytes around an id in JSON that belong to the end of one key and the beginning of the next: `id":"` and `","ve`.
const AROUND: usize = 6;

/// A gram, the number of its form, its place in the form, and the gram before it with the same hash.
struct Gram {
    bytes: u64,
    form: u32,
    place: u32,
    before: u32,
}

/// The part of a secret that counts, in one of its forms.
struct Form {
    /// The form without ignorable characters.
    text: Vec<u8>,
    /// The length of a piece of this form.
    piece: usize,
    /// Ranges that are not secret, in order.
    public: Vec<Range<usize>>,
}

impl Pieces {
    /// Prepares a search for pieces of these secrets.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Pieces {
        let secrets = secrets.into_iter().cloned().collect();
        Pieces { secrets, traces: OnceLock::new(), index: OnceLock::new() }
    }

    /// Says whether a text holds a piece.
    pub fn are_in(&self, text: &[u8]) -> bool {
        // No spelling of a piece is shorter.
        text.len() >= LETTERS && self.traces().may_be_in(text) && self.index().holds_piece(text, COMPARISONS)
    }

    /// Says the same without regard to time, for tests and fuzzers.
    pub fn are_plainly_in(&self, text: &[u8]) -> bool {
        self.index().holds_piece(text, usize::MAX)
    }

    fn traces(&self) -> &Traces {
        self.traces.get_or_init(|| Traces::of(self.secrets.iter().flat_map(|secret| spellings(secret.expose()))))
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::of(&self.secrets))
    }
}

impl Index {
    fn of(secrets: &[Secret]) -> Index {
        let forms: Vec<Form> = secrets.iter().flat_map(|secret| forms(secret.expose())).collect();
        let count = forms.iter().map(|form| form.text.len().div_ceil(STRIDE)).sum();
        let (mut grams, mut heads) = (Vec::with_capacity(count), vec![NO_GRAM; 1 << HEAD_BITS]);
        let mut bits = vec![0; 1 << SKIP_BITS];
        for (form, Form { text, .. }) in (0..).zip(&forms) {
            for (place, bytes) in (0..).zip(text.windows(GRAM)).step_by(STRIDE) {
                let bytes = gram(bytes);
                let hash = hash(bytes);
                let (word, bits_of_gram) = skip_bits(hash);
                bits[word] |= bits_of_gram;
                let number = u32::try_from(grams.len()).unwrap_or(NO_GRAM);
                let before = std::mem::replace(&mut heads[head(hash)], number);
                grams.push(Gram { bytes, form, place, before });
            }
        }
        Index { forms, grams, heads, bits }
    }

    /// Says whether a text holds a piece, with this many comparisons for each byte.
    fn holds_piece(&self, text: &[u8], comparisons: usize) -> bool {
        let most = |layer: &[u8]| layer.len().saturating_mul(comparisons);
        if self.are_in_letters(text, most(text)) || self.are_in_bytes(text, most(text)) {
            return true;
        }
        let mut layer = Cow::Borrowed(text);
        for _ in 0..LAYERS {
            let Some((next, has_same_letters)) = unescaped_text(&layer) else { break };
            let most = most(&next);
            if !has_same_letters && self.are_in_letters(&next, most) || self.are_in_bytes(&next, most) {
                return true;
            }
            layer = Cow::Owned(next);
        }
        false
    }

    /// Says whether a text holds a piece, without decoding escapes, by the bytes between which others may stand.
    fn are_in_bytes(&self, layer: &[u8], mut left: usize) -> bool {
        self.are_in_view(View::of_bytes(layer, &PLAIN), &mut left)
    }

    /// Says whether a text holds a piece by its letters and digits alone.
    fn are_in_letters(&self, layer: &[u8], mut left: usize) -> bool {
        if self.are_in_view(View::of_bytes(layer, &ALPHANUMERIC), &mut left) {
            return true;
        }
        let mut views = [0, 1, 2].map(|base| View::of_numbers(layer, base));
        numbers(layer, &mut |base, number| {
            let view = &mut views[base];
            (view.last, view.length) = (read(view.last, number), view.length + 1);
            self.may_end(view.last) && self.surround(view, &mut left)
        })
    }

    /// Says whether a view of bytes holds a piece.
    fn are_in_view(&self, mut view: View<'_>, left: &mut usize) -> bool {
        let (mut last, mut length) = (0, 0);
        // The loop does not branch on a byte that is skipped, because the processor cannot foresee such a branch.
        for byte in view.layer {
            let kept = view.kept[usize::from(*byte)];
            last = if kept == 0 { last } else { read(last, kept) };
            length += usize::from(kept != 0);
            if self.may_end(last) && kept != 0 {
                (view.last, view.length) = (last, length);
                if self.surround(&mut view, left) {
                    return true;
                }
            }
        }
        false
    }

    /// Says, quickly and seldom in vain, whether a gram may be equal to these bytes.
    fn may_end(&self, last: u64) -> bool {
        let (word, bits) = skip_bits(hash(last));
        self.bits[word] & bits == bits
    }

    /// Says whether a piece surrounds the last bytes of a view. Also if no comparisons are `left`.
    fn surround(&self, view: &mut View<'_>, left: &mut usize) -> bool {
        let mut next = self.heads[head(hash(view.last))];
        while let Some(gram) = self.grams.get(next as usize) {
            let form = &self.forms[gram.form as usize];
            let is_same = gram.bytes == view.last;
            let at = view.length.saturating_sub(GRAM);
            if is_same && form.is_piece(gram.place as usize, view.text(), at) {
                return true;
            }
            let cost = if is_same { 2 * form.piece } else { 1 };
            count(cost);
            match left.checked_sub(cost) {
                Some(less) => *left = less,
                None => return true,
            }
            next = gram.before;
        }
        false
    }
}

/// The part of a text that counts, which is read byte by byte. Few texts hold a gram, and only for those the whole view
/// is made.
struct View<'a> {
    layer: &'a [u8],
    /// The byte to read in the place of each byte; zero where a byte is skipped.
    kept: &'a [u8; 256],
    /// The base whose numbers are read, in place of bytes.
    base: Option<usize>,
    /// The last bytes, the latest in the lowest place.
    last: u64,
    /// The number of bytes.
    length: usize,
    text: Option<Vec<u8>>,
}

impl<'a> View<'a> {
    fn of_bytes(layer: &'a [u8], kept: &'a [u8; 256]) -> View<'a> {
        View { layer, kept, base: None, last: 0, length: 0, text: None }
    }

    fn of_numbers(layer: &'a [u8], base: usize) -> View<'a> {
        View { base: Some(base), ..View::of_bytes(layer, &PLAIN) }
    }

    /// Returns the whole view.
    fn text(&mut self) -> &[u8] {
        let View { layer, kept, base, .. } = *self;
        self.text.get_or_insert_with(|| {
            let Some(base) = base else { return view(layer, kept) };
            let mut text = Vec::new();
            numbers(layer, &mut |of, number| {
                text.extend((of == base).then_some(number));
                false
            });
            text
        })
    }
}

impl Form {
    /// Says whether a whole piece of the form surrounds a gram: the gram is at `place` in the form and at `at` in the
    /// text.
    fn is_piece(&self, place: usize, text: &[u8], at: usize) -> bool {
        let (before, after) = (&self.text[..place], &self.text[place..]);
        let most = self.piece;
        let same = |(one, other): &(&u8, &u8)| one == other;
        let back = before.iter().rev().zip(text[..at].iter().rev()).take(most - GRAM).take_while(same).count();
        let on = after.iter().zip(&text[at..]).take(most).take_while(same).count();
        let found = place - back..place + on;
        found.len() >= most && !self.public.iter().any(|public| public.start <= found.start && found.end <= public.end)
    }
}

/// Returns the part of a secret that counts, in all its forms.
fn forms(secret: &str) -> Vec<Form> {
    let (whole, public) = counting(secret);
    if whole.len() < PIECE {
        return Vec::new();
    }
    let form = |text: &[u8], piece: usize| Form { text: view(text, &PLAIN), piece, public: Vec::new() };
    let of_letters = |text: &[u8], piece: usize| form(&view(text, &ALPHANUMERIC), piece);
    let mut forms = Vec::new();
    let plain = of_letters(whole.as_bytes(), PIECE);
    if plain.text.len() >= LETTERS {
        let piece = PIECE.min(plain.text.len());
        forms.push(form(&plain.text.iter().rev().copied().collect::<Vec<u8>>(), piece));
        let place = |at: usize| view(&whole.as_bytes()[..at], &ALPHANUMERIC).len();
        let public = public.iter().map(|public| place(public.start)..place(public.end)).collect();
        forms.push(Form { piece, public, ..plain });
    }
    forms.push(Form { public, ..form(whole.as_bytes(), PIECE) });
    if whole.contains(' ') {
        forms.push(form(whole.replace(' ', "+").as_bytes(), PIECE));
    }
    for (standard, piece, is_wide) in in_base64(whole) {
        let of_urls = standard.replace('+', "-").replace('/', "_");
        if of_urls != standard {
            forms.push(form(of_urls.as_bytes(), piece));
        }
        // Base64 of UTF-16 is rare enough to be looked for in its usual spelling alone.
        if !is_wide {
            forms.push(of_letters(standard.as_bytes(), piece));
        }
        forms.push(form(standard.as_bytes(), piece));
    }
    forms.push(form(&in_hexadecimal(whole), 2 * PIECE));
    forms
}

/// Returns spellings of a secret, each with the length of its pieces: the letters and digits of each piece of each form
/// are among the letters and digits of a piece of one of these. The others differ in their signs alone.
pub(super) fn spellings(secret: &str) -> Vec<(Vec<u8>, usize)> {
    let (whole, _) = counting(secret);
    if whole.len() < PIECE {
        return Vec::new();
    }
    let letters = view(whole.as_bytes(), &ALPHANUMERIC);
    let mut spellings = vec![(view(whole.replace(' ', "+").as_bytes(), &PLAIN), PIECE)];
    if letters.len() >= LETTERS {
        let piece = PIECE.min(letters.len());
        spellings.push((letters.iter().rev().copied().collect(), piece));
        // Without its ignorable characters, a secret may be shorter than a piece.
        spellings.push((letters, piece));
    }
    spellings.extend(in_base64(whole).map(|(standard, piece, _)| (standard.into_bytes(), piece)));
    spellings.push((in_hexadecimal(whole), 2 * PIECE));
    spellings
}

/// Returns a text in base64 of UTF-8 and of UTF-16, wherever it begins: the characters that depend on the text alone, the
/// length of a piece, and whether they are of UTF-16.
fn in_base64(whole: &str) -> impl Iterator<Item = (String, usize, bool)> {
    let wide = |bytes: fn(u16) -> [u8; 2]| whole.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let of_bytes = |(bytes, is_wide): (Vec<u8>, bool)| {
        let piece_bytes = if is_wide { 2 * PIECE } else { PIECE };
        (0..3).map(move |before| (base64_after(before, &bytes), (piece_bytes * 8 - 4) / 6, is_wide))
    };
    let utf8 = whole.as_bytes().to_vec();
    [(utf8, false), (wide(u16::to_le_bytes), true), (wide(u16::to_be_bytes), true)].into_iter().flat_map(of_bytes)
}

/// Returns a text in hexadecimal. The view of letters and digits has capital digits in lower case.
fn in_hexadecimal(whole: &str) -> Vec<u8> {
    let digits = b"0123456789abcdef";
    whole.bytes().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

/// Returns the part of a secret that counts, and the ranges in it that are not secret. The head of a JWT is the same
/// for all tokens of a service. Its claims hold ids and addresses, which answers also hold, in base64 where they are
/// part of a link.
fn counting(secret: &str) -> (&str, Vec<Range<usize>>) {
    let Some((_, rest)) = secret.split_once('.').filter(|(head, _)| head.starts_with("ey")) else {
        return (secret, Vec::new());
    };
    let claims = rest.split('.').next().unwrap_or_default();
    let Ok(decoded) = URL_SAFE_NO_PAD.decode(claims) else { return (rest, Vec::new()) };
    let Ok(text) = std::str::from_utf8(&decoded) else { return (rest, Vec::new()) };
    if !serde_json::from_str::<Value>(text).is_ok_and(|claims| claims.is_object()) {
        return (rest, Vec::new());
    }
    let quoted = text.split('"').filter(|one| is_guid(one) || one.starts_with("https://"));
    let known = guids(text).chain(quoted);
    let place = |one: &str| one.as_ptr() as usize - text.as_ptr() as usize;
    let around = |from: usize, to: usize| from.saturating_sub(AROUND)..(to + AROUND).min(text.len());
    let public = known.map(|one| around(place(one), place(one) + one.len()));
    (rest, public.map(|bytes| bytes.start * 8 / 6..(bytes.end * 8).div_ceil(6)).collect())
}

/// The base64 of bytes that follow `before` others, as far as it depends on these bytes alone.
fn base64_after(before: usize, bytes: &[u8]) -> String {
    let mut all = vec![0; before];
    all.extend_from_slice(bytes);
    let mut encoded = STANDARD_NO_PAD.encode(&all);
    encoded.truncate(all.len() * 8 / 6);
    encoded.drain(..(before * 8).div_ceil(6));
    encoded
}

fn gram(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn hash(gram: u64) -> u64 {
    gram.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The place of the head of a gram's list.
fn head(hash: u64) -> usize {
    (hash >> (64 - HEAD_BITS)) as usize
}

/// The word that has a gram's bits, and the bits.
fn skip_bits(hash: u64) -> (usize, u64) {
    ((hash >> (64 - SKIP_BITS)) as usize, 1 << (hash >> 40 & 63) | 1 << (hash >> 34 & 63))
}

/// Adds a byte to the last ones.
fn read(last: u64, byte: u8) -> u64 {
    last << 8 | u64::from(byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::redact::escapes::{has_escaped_letters, is_ignorable};
    use crate::credentials::redact::views::BASES;
    use crate::credentials::redact::{Watch, take_steps};

    const SECRET: &str = "kR9wQ~sim.contoso~1eef/möre+of%it&so";

    fn holds(secret: &str, text: &[u8]) -> bool {
        Pieces::of(&[Secret::new(secret)]).are_in(text)
    }

    /// The spellings in which services write a piece.
    fn spellings(piece: &str) -> Vec<Vec<u8>> {
        let json = |text: &str| Value::from(text).to_string().trim_matches('"').to_owned();
        let percent = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let hexadecimal = piece.bytes().map(|byte| format!("{byte:02X}")).collect();
        let html = piece.chars().map(|one| format!("&#x{:x};", u32::from(one))).collect::<String>();
        let units = piece.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        let lines: String = piece.chars().flat_map(|one| [one, '\r', '\n']).collect();
        let mut all = vec![piece.to_owned(), json(piece), json(&json(piece)), percent(piece), percent(&percent(piece))];
        all.extend([hexadecimal, html.clone(), percent(&html), units, lines]);
        let mut all: Vec<Vec<u8>> = all.into_iter().map(String::into_bytes).collect();
        all.push(piece.bytes().flat_map(|byte| [byte, 0]).collect());
        let wide = |bytes: fn(u16) -> [u8; 2]| piece.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        for bytes in [piece.as_bytes().to_vec(), wide(u16::to_le_bytes), wide(u16::to_be_bytes)] {
            for before in ["", "x", "xx"] {
                let bytes = [before.as_bytes(), &bytes, b"xx"].concat();
                for encoded in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
                    let lines: Vec<&[u8]> = encoded.as_bytes().chunks(7).collect();
                    all.extend([lines.join(&b"\r\n"[..]), lines.join(&b"\\n"[..]), encoded.into_bytes()]);
                }
            }
        }
        all
    }

    #[test]
    fn sixteen_bytes_are_found_wherever_they_are_from_and_however_they_are_spelled() {
        let pieces = Pieces::of(&[Secret::new(SECRET)]);
        let bounds: Vec<usize> = SECRET.char_indices().map(|(at, _)| at).chain([SECRET.len()]).collect();
        for start in &bounds {
            // For UTF-16, the test counts characters.
            let is_piece = |end: &&usize| *end > start && SECRET[*start..**end].chars().count() >= PIECE;
            let Some(end) = bounds.iter().find(is_piece) else { continue };
            for spelled in spellings(&SECRET[*start..*end]) {
                let text = [b"<p class=\"\\\">".as_slice(), &spelled, b"</p>"].concat();
                assert!(pieces.are_in(&text), "{start}: {}", String::from_utf8_lossy(&text));
            }
        }
    }

    /// A whole secret in spellings that no well-meaning service would use.
    fn odd_spellings(secret: &str) -> Vec<String> {
        let each =
            |one: &dyn Fn(u8) -> String, between: &str| secret.bytes().map(one).collect::<Vec<_>>().join(between);
        let cut = |text: &str, between: &str| {
            let characters: Vec<char> = text.chars().collect();
            characters.chunks(8).map(String::from_iter).collect::<Vec<_>>().join(between)
        };
        let json = |text: &str| Value::from(text).to_string();
        let mut all: Vec<String> = [":", "-", ", ", ",", "=\r\n", "."]
            .into_iter()
            .flat_map(|between| {
                [each(&|byte| format!("{byte:02x}"), between), each(&|byte| format!("{byte:02X}"), between)]
            })
            .collect();
        all.extend([
            each(&|byte| format!("0x{byte:02x}"), ", "),
            each(&|byte| format!("={byte:02X}"), ""),
            each(&|byte| format!("\\x{byte:02x}"), ""),
            each(&|byte| format!("\\u{{{byte:x}}}"), ""),
            each(&|byte| format!("\\U{byte:08x}"), ""),
            each(&|byte| format!("%u{byte:04x}"), ""),
            each(&|byte| format!("&#{byte}"), ""),
            each(&|byte| format!("&#x{byte:09x};"), ""),
            each(&|byte| format!("\\{byte:03o}"), ""),
            each(&|byte| byte.to_string(), ","),
            json(&json(&json(&json(&each(&|byte| format!("\\u{byte:04x}"), ""))))),
            secret.chars().rev().collect(),
            secret.to_ascii_uppercase(),
        ]);
        for between in ["\u{200b}", "\u{ad}", "\u{a0}", "\u{2028}", "\", \"", "\\\n", "' + '", ", "] {
            all.push(cut(secret, between));
            all.extend(
                ["", "x", "xx"].map(|before| cut(&STANDARD_NO_PAD.encode(format!("{before}{secret}")), between)),
            );
        }
        all
    }

    #[test]
    fn a_whole_secret_is_found_in_spellings_of_those_who_hide_it() {
        const TOKEN: &str = "tkQ7~Zp.4vN-secret+token/of=tenant%A&9xLmR2wEuT8";
        let pieces = Pieces::of(&[Secret::new(TOKEN)]);
        for text in odd_spellings(TOKEN) {
            assert!(pieces.are_in(format!("{{\"echo\":\"{text}\"}}").as_bytes()), "{text}");
        }
        let named =
            TOKEN.replace('&', "&amp;").replace('.', "&period;").replace('+', "&plus;").replace('%', "&percnt;");
        assert!(pieces.are_in(named.as_bytes()), "{named}");
        for text in ["A token of the tenant, and 116 of 107 secrets", "0123456789abcdef".repeat(20).as_str()] {
            assert!(!pieces.are_in(text.as_bytes()), "{text}");
        }
    }

    /// The numbers of a text in one base, read by themselves.
    fn numbers_of_one_base(text: &[u8], base: u32) -> Vec<u8> {
        let is_digit = |byte: &u8| char::from(*byte).is_digit(base);
        let mut bytes = Vec::new();
        for run in text.split(|byte| !is_digit(byte)).filter(|run| !run.is_empty()) {
            let size = if base == 16 { 2 } else { run.len() };
            for number in run.rchunks(size).rev() {
                let number = std::str::from_utf8(number).unwrap();
                bytes.extend(u8::from_str_radix(number, base).ok().filter(|number| !is_ignorable(&[*number])));
            }
        }
        bytes
    }

    #[test]
    fn numbers_and_layers_are_those_that_each_view_alone_has() {
        const PARTS: [&str; 18] = [
            "\\\"", "\\/", "\\\\", "\\n", "\\u0041", "&amp;", "&", "%", "%2f", "%41", "a", "f", "x", "0", "7", "255",
            "256", "-",
        ];
        let mut state = 1_u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let (mut same, mut without) = (0, 0);
        for _ in 0..20_000 {
            let text: String = (0..next(12)).map(|_| PARTS[next(PARTS.len())]).collect();
            let views = |text: &[u8]| [0, 1, 2].map(|base| View::of_numbers(text, base).text().to_vec());
            let views_of_text = views(text.as_bytes());
            assert_eq!(views_of_text, BASES.map(|base| numbers_of_one_base(text.as_bytes(), base)), "{text}");
            let same_text = || (text.as_bytes().to_vec(), true);
            let (unescaped, has_same_letters) = unescaped_text(text.as_bytes()).unwrap_or_else(same_text);
            if has_same_letters {
                assert_eq!(views(&unescaped), views_of_text, "{text}");
                assert_eq!(view(&unescaped, &ALPHANUMERIC), view(text.as_bytes(), &ALPHANUMERIC), "{text}");
                same += usize::from(unescaped != text.as_bytes());
            }
            // The escapes that a removed layer uncovers are escapes of the text itself.
            if !has_escaped_letters(text.as_bytes()) {
                let mut layer = text.into_bytes();
                while let Some((next, has_same_letters)) = unescaped_text(&layer) {
                    assert!(has_same_letters, "{}", String::from_utf8_lossy(&layer));
                    layer = next;
                    without += 1;
                }
            }
        }
        assert!(same > 200 && without > 200, "{same}, {without}");
    }

    #[test]
    fn a_text_without_a_trace_holds_no_piece() {
        let secrets = [
            SECRET.to_owned(),
            "tkQ7~Zp.4vN-secret+token/of=tenant%A&9xLmR2wEuT8".to_owned(),
            "a-b_c.d~e+f=g&h%i/j a-b_c.d~e+f=g&h%i/j".to_owned(),
            format!("eyJ0eXAiOiJKV1QifQ.{}.{}", "Claims-of_theToken".repeat(9), "Sig-natureOf_theToken".repeat(9)),
        ];
        let (mut texts, mut held) = (0, 0);
        for secret in &secrets {
            let pieces = Pieces::of(&[Secret::new(secret.as_str())]);
            let watch = Watch::of(Vec::new(), vec![Secret::new(secret.as_str())]);
            let part = &secret[secret.len() / 2 - 16..];
            let part = &part[..part.char_indices().map(|(at, _)| at).nth(20).unwrap_or(part.len())];
            let odd = odd_spellings(secret).into_iter().map(String::into_bytes);
            for spelled in spellings(part).into_iter().chain(spellings(secret)).chain(odd) {
                // The bounds of a piece are where the search for traces could miss it.
                let bound = |of: usize| (0..=of.min(12)).map(move |cut| cut * of / of.clamp(1, 12));
                for (begin, end) in
                    bound(spelled.len()).flat_map(|begin| [(begin, 0), (0, begin), (begin / 2, begin / 2)])
                {
                    let part = &spelled[begin..(spelled.len() - end).max(begin)];
                    for text in [part.to_vec(), [b"{\"12-ab\":\"", part, b"\\u0041 7f"].concat()] {
                        let is_in = pieces.are_plainly_in(&text);
                        assert!(pieces.are_in(&text) || !is_in, "{}", String::from_utf8_lossy(&text));
                        assert!(!is_in || !watch.excludes(&text), "{}", String::from_utf8_lossy(&text));
                        (texts, held) = (texts + 1, held + usize::from(is_in));
                    }
                }
            }
        }
        assert!(held > 1_000 && texts - held > 1_000, "{held} of {texts}");
    }

    #[test]
    fn fifteen_are_not_and_a_short_secret_has_no_pieces() {
        for start in 0..20 {
            let end = start + PIECE - 1;
            let Some(piece) = SECRET.get(start..end) else { continue };
            for text in [format!("<{piece}>"), piece.bytes().map(|byte| format!("%{byte:02x}")).collect()] {
                assert!(!holds(SECRET, text.as_bytes()), "{text}");
            }
            let hexadecimal: String = piece.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert!(!holds(SECRET, hexadecimal.as_bytes()), "{piece}");
        }
        assert!(!holds("fifteen-bytes-x", b"fifteen-bytes-x"));
        assert!(!holds("", b"") && !holds(SECRET, b""));
    }

    #[test]
    fn of_a_jwt_neither_its_head_nor_its_ids_and_addresses_are_secret() {
        const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
        let head = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"RS256","kid":"the-key-of-the-service"}"#);
        let claims = format!(
            r#"{{"aud":"https://management.azure.com","iss":"https://sts.windows.net/{TENANT}/","rh":"1.AXYZ","tid":"{TENANT}","uti":"qwertzuiopasdfghjk"}}"#
        );
        let token = format!("{head}.{}.{}", URL_SAFE_NO_PAD.encode(claims), "Sig-natureOf_theToken".repeat(10));
        let pieces = Pieces::of(&[Secret::new(&*token)]);
        assert!(!pieces.are_in(head.as_bytes()));
        for before in ["", "a", "ab"] {
            for text in
                [format!("{before}{{\"tenantId\":\"{TENANT}\"}}"), format!("{before}https://management.azure.com")]
            {
                let link = format!("?$skipToken={}", URL_SAFE_NO_PAD.encode(text));
                assert!(!pieces.are_in(link.as_bytes()), "{link}");
            }
        }
        let signature = token.rfind('.').unwrap();
        let claim = signature - 24;
        for start in [claim, token.len() - PIECE, token.len() - 100] {
            assert!(pieces.are_in(&token.as_bytes()[start..start + PIECE]), "{start}");
        }
        assert!(holds("eySimulated.0123456789abcdef0123456789abcdef", b"0123456789abcdef"));
        assert!(!holds("eySimulated.0123456789abcdef0123456789abcdef", b"eySimulated.0123"));
    }

    #[test]
    fn a_text_of_nothing_but_the_letters_of_a_secret_is_searched() {
        assert!(holds("ab-cd-ef-gh-ij-kl", b"abcdefghijkl"));
        assert!(!holds("ab-cd-ef-gh-ij-kl", b"abcdefghijk"));
        assert!(holds("ab\tcd\tef\tgh\tij\tkl", b"abcdefghijkl"));
    }

    #[test]
    fn no_text_and_no_secret_makes_the_search_long() {
        for (secret, text) in [
            ("a".repeat(5_000), "aaaaaaaaaaaaaaab".repeat(4_000)),
            ("a".repeat(5_000), "61616161616161616161616161616162".repeat(2_000)),
            ("ab".repeat(2_000), "YWJhYmFiYWJhYmFiYWI,".repeat(3_000)),
            ("\\".repeat(2_000), "\\\\\\\\\\\\\\\\!".repeat(7_000)),
        ] {
            let pieces = Pieces::of(&[Secret::new(secret)]);
            take_steps();
            pieces.are_in(text.as_bytes());
            let (steps, most) = (take_steps(), text.len() * (LAYERS + 1) * (COMPARISONS + 50));
            assert!(steps <= most, "{steps} steps, which is more than {most}");
        }
    }
}
