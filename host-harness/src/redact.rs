//! The one redaction for everything that people, programs or plugins read: finds secrets however they are spelled.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::secret::Secret;

/// Stands for a secret.
pub const REDACTED: &str = "[redacted]";

/// Shorter secrets would take ordinary words out of a text.
pub const SHORTEST: usize = 8;

/// A longer secret is known by so much of it, so that a service that knows the secret cannot make the search long.
const KNOWN_BY: usize = 64;

/// So much of a secret is looked for in base64 and in hexadecimal: what follows it there is taken out with it.
const OPENING: usize = 24;

/// What an escape may begin with.
const ESCAPES: [u8; 4] = [b'%', b'\\', b'&', b'+'];

/// Replaces secrets in a text.
pub fn redact<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    match Search::new(secrets).clean(text.as_bytes()) {
        Some(clean) => String::from_utf8_lossy(&clean).into_owned(),
        None => text.to_owned(),
    }
}

/// Stand-ins for what a recording is not to give away. The same value has the same one everywhere, of the same shape: a
/// GUID where a GUID stood, so that what is recorded can still be read and played.
#[derive(Debug, Default)]
pub struct StandIns {
    /// By value, GUIDs and domains in lower case.
    known: BTreeMap<String, (Kind, String)>,
    counts: BTreeMap<Kind, usize>,
}

/// What a stand-in stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A secret of the settings.
    Secret,
    /// A token, an assertion, or the opaque part of a link.
    Token,
    /// A tenant, an application, a principal: a GUID or a domain.
    Identity,
    /// What is polled, for example a subscription.
    Scope,
    /// What people call it.
    Name,
}

impl StandIns {
    /// The stand-in for a value, the one that it has already or another.
    pub fn of(&mut self, kind: Kind, value: &str) -> String {
        let key = if folds(kind) { value.to_ascii_lowercase() } else { value.to_owned() };
        if let Some((_, known)) = self.known.get(&key) {
            return known.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let stand_in = match kind {
            Kind::Secret => format!("SECRET-{count}"),
            Kind::Token => format!("TOKEN-{count}"),
            Kind::Identity if is_guid(value) => format!("aaaaaaaa-0000-4000-8000-{count:012}"),
            Kind::Identity => format!("tenant-{count}.example"),
            Kind::Scope => format!("bbbbbbbb-0000-4000-8000-{count:012}"),
            Kind::Name => format!("Name {count}"),
        };
        self.known.insert(key, (kind, stand_in.clone()));
        stand_in
    }

    /// The stand-in that a value has.
    pub fn known(&self, value: &str) -> Option<&str> {
        self.known.get(value).map(|(_, stand_in)| stand_in.as_str())
    }

    /// A text with the stand-ins in it. Names are taken out where they are a whole text of JSON under the key
    /// `displayName`, and anywhere if they have a space: a short one may be a word of the service.
    pub fn put(&self, text: &str) -> String {
        let mut known: Vec<_> = self.known.iter().collect();
        // The longest first: one value may be a part of another.
        known.sort_by_key(|(value, (kind, _))| (*kind, std::cmp::Reverse(value.len())));
        let mut text = text.to_owned();
        for (value, (kind, stand_in)) in known {
            if folds(*kind) {
                text = replaced(&text, value, stand_in);
                continue;
            }
            if *kind == Kind::Name {
                text = renamed(&text, value, stand_in);
                if !value.contains(' ') {
                    continue;
                }
            }
            if let Some(replaced) = Search::new([&Secret::new(value.as_str())]).replaced(text.as_bytes(), stand_in) {
                text = String::from_utf8_lossy(&replaced).into_owned();
            }
        }
        text
    }
}

/// Whether letter case does not matter.
fn folds(kind: Kind) -> bool {
    matches!(kind, Kind::Identity | Kind::Scope)
}

/// Replaces in whatever letter case.
fn replaced(text: &str, value: &str, stand_in: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in lower.match_indices(value) {
        result += &text[done..at];
        result += stand_in;
        done = at + value.len();
    }
    result + &text[done..]
}

/// Replaces a whole text under the key `displayName`.
fn renamed(text: &str, value: &str, stand_in: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in text.match_indices(&quoted) {
        let before = text[..at].trim_end();
        let key = before.strip_suffix(':').map(|before| before.trim_end().to_ascii_lowercase());
        if at >= done && key.is_some_and(|key| key.ends_with("\"displayname\"")) {
            result += &text[done..at];
            result += &format!("\"{stand_in}\"");
            done = at + quoted.len();
        }
    }
    result + &text[done..]
}

/// Every GUID of a text, as it is written.
pub fn guids(text: &str) -> impl Iterator<Item = &str> {
    let mut next = 0;
    std::iter::from_fn(move || {
        while next + GUID <= text.len() {
            let at = next;
            next += 1;
            if let Some(found) = text.get(at..at + GUID).filter(|found| is_guid(found)) {
                next = at + GUID;
                return Some(found);
            }
        }
        None
    })
}

/// Characters of a GUID with its hyphens.
const GUID: usize = 36;

/// Whether a text is a GUID with its hyphens.
pub fn is_guid(text: &str) -> bool {
    text.len() == GUID
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Words of others are shown on terminals and in lines of a log: nothing in them may move a cursor, begin a line or turn
/// what stands around them.
pub fn plain(text: &str) -> String {
    text.replace(is_command, " ")
}

/// The same in several lines.
pub fn plain_lines(text: &str) -> String {
    text.replace(|one| is_command(one) && one != '\n', " ")
}

/// Whether a terminal or a reader of lines obeys it.
pub fn is_command(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cuts a text to a number of bytes, at a character.
pub fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// What to look for: secrets plain, percent-encoded, as in JSON and as in HTML, in any mixture of these; and in base64
/// of both alphabets, wherever it began, and in hexadecimal. Secrets of less than [`SHORTEST`] bytes are not found.
#[derive(Clone)]
pub struct Search {
    needles: Vec<Needle>,
    /// Plain, in lower case.
    lower: Vec<String>,
    /// One bit for each pair of bytes, set where a needle may begin with it.
    begins: Box<[u64; 1024]>,
}

#[derive(Clone)]
struct Needle {
    text: Vec<u8>,
    rest: Rest,
}

/// What belongs to a needle that was found.
#[derive(Clone)]
enum Rest {
    /// As much of this as follows.
    Of(Vec<u8>),
    /// Whatever follows in the alphabet of base64.
    Base64,
}

impl Search {
    /// Looks for these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Search {
        let mut search = Search { needles: Vec::new(), lower: Vec::new(), begins: Box::new([0; 1024]) };
        for secret in secrets.into_iter().filter(|secret| secret.expose().len() >= SHORTEST) {
            search.lower.push(secret.expose().to_ascii_lowercase());
            search.add(secret.expose().as_bytes());
        }
        search
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    fn add(&mut self, secret: &[u8]) {
        let (known_by, rest) = secret.split_at(secret.len().min(KNOWN_BY));
        self.needle(known_by.to_vec(), Rest::Of(rest.to_vec()));
        let opening = &secret[..secret.len().min(OPENING)];
        for before in 0..3 {
            for alphabet in [STANDARD, URL] {
                self.needle(base64_after(before, opening, alphabet), Rest::Base64);
            }
        }
        for digits in [b"0123456789abcdef", b"0123456789ABCDEF"] {
            let pairs =
                opening.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
            self.needle(pairs.collect(), Rest::Base64);
        }
    }

    fn needle(&mut self, text: Vec<u8>, rest: Rest) {
        let base64 = matches!(rest, Rest::Base64);
        if base64 && self.needles.iter().any(|known| known.text == text) {
            return;
        }
        let mut set = |first: u8, second: u8| {
            let pair = usize::from(first) << 8 | usize::from(second);
            self.begins[pair >> 6] |= 1 << (pair & 63);
        };
        for second in ESCAPES.into_iter().chain([text[1]]) {
            set(text[0], second);
        }
        // Anything may be behind an escape: all pairs that begin with one, four words of bits each.
        for first in ESCAPES {
            self.begins[usize::from(first) << 2..][..4].fill(u64::MAX);
        }
        self.needles.push(Needle { text, rest });
    }

    /// Where a secret stands at or after a place: the longest that begins there.
    pub fn find(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        let may_begin = |at: &usize| {
            let pair = usize::from(text[*at]) << 8 | usize::from(text[at + 1]);
            self.begins[pair >> 6] >> (pair & 63) & 1 == 1
        };
        (from..text.len().saturating_sub(1)).filter(may_begin).find_map(|begin| {
            let mut reads = readings(text, begin).map(|(read, _)| read);
            let firsts: [Option<Read>; 6] = std::array::from_fn(|_| reads.next());
            let begins =
                |needle: &&Needle| firsts.iter().flatten().any(|read| needle.text.starts_with(read.as_bytes()));
            let ends = self.needles.iter().filter(begins).filter_map(|needle| needle.end(text, begin));
            ends.max().map(|end| begin..end)
        })
    }

    /// Whether a secret stands in the name of a header, which has no upper case any more.
    pub fn is_in_name(&self, name: &str) -> bool {
        self.lower.iter().any(|secret| name.contains(secret.as_str())) || self.find(name.as_bytes(), 0).is_some()
    }

    /// The text without secrets; none if it has none.
    pub fn clean(&self, text: &[u8]) -> Option<Vec<u8>> {
        self.replaced(text, REDACTED)
    }

    fn replaced(&self, text: &[u8], stand_in: &str) -> Option<Vec<u8>> {
        let mut found = self.find(text, 0)?;
        let (mut clean, mut read) = (Vec::with_capacity(text.len()), 0);
        loop {
            clean.extend_from_slice(&text[read..found.start]);
            clean.extend_from_slice(stand_in.as_bytes());
            read = found.end;
            match self.find(text, read) {
                Some(next) => found = next,
                None => break,
            }
        }
        clean.extend_from_slice(&text[read..]);
        Some(clean)
    }
}

impl Needle {
    /// Where the needle ends if it begins here.
    fn end(&self, text: &[u8], begin: usize) -> Option<usize> {
        let mut end = spelled(text, begin, &self.text)?;
        let mut left = match &self.rest {
            Rest::Of(rest) => rest.as_slice(),
            Rest::Base64 => {
                let base64 = |end| readings(text, end).find(|(read, _)| is_base64(read.as_bytes()));
                while let Some((_, next)) = base64(end) {
                    end = next;
                }
                return Some(end);
            }
        };
        let follows = |left: &[u8], end| readings(text, end).find(|(read, _)| left.starts_with(read.as_bytes()));
        while let Some((read, next)) = follows(left, end) {
            (left, end) = (&left[read.as_bytes().len()..], next);
        }
        Some(end)
    }
}

/// Where a text ends that spells these bytes from here on; the furthest place if it can be read in two ways. A service
/// chooses the text: no place is looked at twice for the same bytes.
fn spelled(text: &[u8], at: usize, bytes: &[u8]) -> Option<usize> {
    let (mut at, mut left, mut furthest) = (at, bytes, None);
    let (mut others, mut seen) = (Vec::new(), BTreeSet::new());
    loop {
        // Most bytes stand for themselves.
        let pairs = left.iter().zip(text.get(at..).unwrap_or_default());
        let plain = pairs.take_while(|(wanted, byte)| wanted == byte && !ESCAPES.contains(byte)).count();
        (left, at) = (&left[plain..], at + plain);
        if left.is_empty() {
            furthest = furthest.max(Some(at));
        }
        let mut ahead = None;
        for (read, next) in readings(text, at).filter(|_| !left.is_empty()) {
            let Some(rest) = left.strip_prefix(read.as_bytes()) else { continue };
            if rest.is_empty() {
                furthest = furthest.max(Some(next));
            } else if ahead.is_none() {
                ahead = Some((rest, next));
            } else if seen.insert((rest.len(), next)) {
                others.push((rest, next));
            }
        }
        (left, at) = match ahead.or_else(|| others.pop()) {
            Some(ahead) => ahead,
            None => return furthest,
        };
    }
}

/// One byte, or one character that was escaped.
#[derive(Clone, Copy)]
struct Read {
    bytes: [u8; 4],
    length: u8,
}

impl Read {
    fn byte(byte: u8) -> Read {
        Read { bytes: [byte, 0, 0, 0], length: 1 }
    }

    fn character(character: char) -> Read {
        let mut bytes = [0; 4];
        let length = character.encode_utf8(&mut bytes).len();
        Read { bytes, length: u8::try_from(length).unwrap_or(0) }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// What may be read at a place, and where it goes on: the byte itself, and what it escapes, once or twice: there is JSON
/// within JSON, and a form within a form.
fn readings(text: &[u8], at: usize) -> impl Iterator<Item = (Read, usize)> {
    let byte = text.get(at).copied();
    let plain = byte.map(|byte| (Read::byte(byte), at + 1));
    let escapes = byte.is_some_and(|byte| matches!(byte, b'%' | b'\\' | b'&'));
    let once = escapes.then(|| unescaped(text, at, 1)).flatten();
    let twice = escapes.then(|| unescaped(text, at, 2)).flatten();
    let escaped = once.into_iter().chain(twice.filter(|(_, next)| once.is_none_or(|(_, end)| end != *next)));
    plain.into_iter().chain(escaped).flat_map(|(read, next)| {
        // A form writes a space so.
        let space = (read.as_bytes() == b"+").then(|| (Read::byte(b' '), next));
        std::iter::once((read, next)).chain(space)
    })
}

/// One character with so many layers of escapes taken off.
fn unescaped(text: &[u8], at: usize, depth: usize) -> Option<(Read, usize)> {
    let Some(depth) = depth.checked_sub(1) else {
        return text.get(at).map(|byte| (Read::byte(*byte), at + 1));
    };
    let (first, at) = unescaped(text, at, depth)?;
    let escaped = match first.as_bytes() {
        b"%" => number(text, at, depth, 2, 16).map(|(value, at)| (Read::byte((value & 0xff) as u8), at)),
        b"\\" => backslash(text, at, depth),
        b"&" => entity(text, at, depth),
        _ => None,
    };
    Some(escaped.unwrap_or((first, at)))
}

/// So many digits.
fn number(text: &[u8], mut at: usize, depth: usize, digits: usize, radix: u32) -> Option<(u32, usize)> {
    let mut value = 0;
    for _ in 0..digits {
        let (digit, next) = unescaped(text, at, depth)?;
        let [digit] = digit.as_bytes() else { return None };
        value = value * radix + char::from(*digit).to_digit(radix)?;
        at = next;
    }
    Some((value, at))
}

/// An escape of JSON.
fn backslash(text: &[u8], at: usize, depth: usize) -> Option<(Read, usize)> {
    let (kind, at) = unescaped(text, at, depth)?;
    let byte = match kind.as_bytes() {
        b"n" => b'\n',
        b"r" => b'\r',
        b"t" => b'\t',
        b"b" => 8,
        b"f" => 12,
        b"\\" | b"/" | b"\"" | b"'" => kind.bytes[0],
        b"u" => {
            let (high, at) = number(text, at, depth, 4, 16)?;
            if let Some(character) = char::from_u32(high) {
                return Some((Read::character(character), at));
            }
            let (backslash, at) = unescaped(text, at, depth)?;
            let (u, at) = unescaped(text, at, depth)?;
            let (low, at) = number(text, at, depth, 4, 16)?;
            let pair = backslash.as_bytes() == b"\\" && u.as_bytes() == b"u";
            let character = char::decode_utf16([high as u16, low as u16]).next()?.ok().filter(|_| pair)?;
            return Some((Read::character(character), at));
        }
        _ => return None,
    };
    Some((Read::byte(byte), at))
}

/// The longest entity that is known: `&#x0010ffff;`.
const ENTITY: usize = 12;

/// An entity of HTML.
fn entity(text: &[u8], mut at: usize, depth: usize) -> Option<(Read, usize)> {
    let (mut name, mut length) = ([0; ENTITY], 0);
    loop {
        let (read, next) = unescaped(text, at, depth)?;
        at = next;
        match (read.as_bytes(), name.get_mut(length)) {
            (b";", _) => break,
            // Nothing else is in a name: a text of nothing but `&` is read in no time.
            ([byte], Some(place)) if byte.is_ascii_alphanumeric() || *byte == b'#' => *place = *byte,
            _ => return None,
        }
        length += 1;
    }
    let name = std::str::from_utf8(&name[..length]).ok()?;
    let character = match (name, name.strip_prefix("#x").or_else(|| name.strip_prefix("#X")), name.strip_prefix('#')) {
        ("amp", ..) => '&',
        ("lt", ..) => '<',
        ("gt", ..) => '>',
        ("quot", ..) => '"',
        ("apos", ..) => '\'',
        (_, Some(digits), _) => char::from_u32(u32::from_str_radix(digits, 16).ok()?)?,
        (_, _, Some(digits)) => char::from_u32(digits.parse().ok()?)?,
        _ => return None,
    };
    Some((Read::character(character), at))
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
    fn the_same_value_has_the_same_stand_in_of_the_same_shape() {
        let mut stand_ins = StandIns::default();
        let tenant = stand_ins.of(Kind::Identity, "AAAABBBB-0000-cccc-1111-dddd2222eeee");
        assert!(is_guid(&tenant));
        assert_eq!(stand_ins.of(Kind::Identity, "aaaabbbb-0000-CCCC-1111-dddd2222eeee"), tenant);
        assert_ne!(stand_ins.of(Kind::Scope, "20ff7fc3-e762-44dd-bd96-b71116dcdc23"), tenant);
        stand_ins.of(Kind::Secret, "pa~ss&word");
        assert_eq!(
            stand_ins.put("/AAAAbbbb-0000-cccc-1111-dddd2222eeee/é pa%7Ess%26word"),
            format!("/{tenant}/é SECRET-1")
        );
    }

    #[test]
    fn a_name_is_taken_out_where_it_is_one() {
        let mut stand_ins = StandIns::default();
        stand_ins.of(Kind::Name, "max");
        stand_ins.of(Kind::Name, "Contoso one");
        let text = r#"{"max":10,"displayName" : "max","about":"max of Contoso one"}"#;
        assert_eq!(stand_ins.put(text), r#"{"max":10,"displayName" : "Name 1","about":"max of Name 2"}"#);
    }

    #[test]
    fn guids_are_found_anywhere() {
        let text = "x20ff7fc3-e762-44dd-bd96-b71116dcdc23é/20FF7FC3-e762-44dd-bd96-b71116dcdc2";
        assert_eq!(guids(text).collect::<Vec<_>>(), ["20ff7fc3-e762-44dd-bd96-b71116dcdc23"]);
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

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }
}
