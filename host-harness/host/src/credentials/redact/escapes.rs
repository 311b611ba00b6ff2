//! Possible readings of a text: the one place that decodes the escapes of URLs, JSON and HTML.

use crate::credentials::redact::count;

/// The bytes with which an escape may begin.
pub(super) const ESCAPES: [u8; 4] = [b'%', b'\\', b'&', b'+'];

/// The longest reading, in bytes: an HTML entity whose every character is an entity has 14 times 14 bytes, 196.
pub(super) const REACH: usize = 256;

/// One byte, or one character that was escaped. Nothing, where the reading skips an ignorable character.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    bytes: [u8; 4],
    length: u8,
}

impl Read {
    const NOTHING: Read = Read { bytes: [0; 4], length: 0 };

    fn byte(byte: u8) -> Read {
        Read { bytes: [byte, 0, 0, 0], length: 1 }
    }

    fn character(character: char) -> Read {
        let mut bytes = [0; 4];
        let length = character.encode_utf8(&mut bytes).len();
        Read { bytes, length: u8::try_from(length).unwrap_or(0) }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// The reading at a place, and the place at which the text continues.
type Reading = Option<(Read, usize)>;

/// Says whether a character may appear between the characters of a secret: base64 is broken into lines, and undecoded
/// UTF-16 contains zeros.
pub(super) const fn is_ignorable(read: &[u8]) -> bool {
    matches!(read, [0 | b'\t' | b'\n' | 0xb | 0xc | b'\r' | b' '])
}

/// Returns the readings at a place, each with the place at which the text continues: the byte itself, and the character
/// that it escapes, once or twice, because there is JSON within JSON and a form within a form. An ignorable character
/// also has the empty reading.
pub(super) fn readings(text: &[u8], at: usize) -> impl Iterator<Item = (Read, usize)> {
    let mut readings = [None; 3];
    if let Some(byte) = text.get(at) {
        let next = at + 1;
        readings[0] = Some((Read::byte(*byte), next));
        if matches!(byte, b'%' | b'\\' | b'&') {
            let plain = |at| self::byte(text, at);
            let once = |at| unescaped(at, &plain);
            readings[1] = once(at).filter(|(_, end)| *end != next);
            let ends = [Some(next), readings[1].map(|(_, end)| end)];
            readings[2] = unescaped(at, &once).filter(|(_, end)| !ends.contains(&Some(*end)));
        }
    }
    // Forms encode a space as `+`.
    let space = |(read, next): (Read, usize)| (read.as_bytes() == b"+").then(|| (Read::byte(b' '), next));
    let spaces = readings.map(|reading| reading.and_then(space));
    let nothing = |(read, next): (Read, usize)| is_ignorable(read.as_bytes()).then_some((Read::NOTHING, next));
    let nothings = readings.map(|reading| reading.and_then(nothing));
    readings.into_iter().chain(spaces).chain(nothings).flatten()
}

/// Removes one layer of escapes from a text, which is read from its beginning; `None` if the text has none. Also says
/// whether the letters and digits stay as they are, with the same gaps: no escape was of a letter or digit, or had one.
pub(super) fn unescaped_text(text: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut rest = memchr::memchr3(b'%', b'\\', b'&', text)?;
    let (mut plain, mut has_same_letters) = (Vec::with_capacity(text.len()), true);
    plain.extend_from_slice(&text[..rest]);
    while let Some(skipped) = memchr::memchr3(b'%', b'\\', b'&', &text[rest..]) {
        let at = rest + skipped;
        plain.extend_from_slice(&text[rest..at]);
        let Some((read, next)) = unescaped(at, &|at| byte(text, at)) else { break };
        plain.extend_from_slice(read.as_bytes());
        has_same_letters &= !text[at..next].iter().chain(read.as_bytes()).any(u8::is_ascii_alphanumeric);
        rest = next;
    }
    plain.extend_from_slice(&text[rest..]);
    // Each escape is longer than the character that it stands for.
    (plain.len() < text.len()).then_some((plain, has_same_letters))
}

/// Says whether a letter or digit is escaped, or part of an escape, in any reading at any place of a text.
pub(super) fn has_escaped_letters(text: &[u8]) -> bool {
    memchr::memchr3_iter(b'%', b'\\', b'&', text).any(|at| {
        readings(text, at)
            .any(|(read, next)| text[at..next].iter().chain(read.as_bytes()).any(u8::is_ascii_alphanumeric))
    })
}

fn byte(text: &[u8], at: usize) -> Reading {
    count(1);
    text.get(at).map(|byte| (Read::byte(*byte), at + 1))
}

/// Reads one character at a place and removes one layer of escapes from the characters that `read` returns.
fn unescaped(at: usize, read: &impl Fn(usize) -> Reading) -> Reading {
    let (first, at) = read(at)?;
    let escaped = match first.as_bytes() {
        b"%" => number(at, read, 2).map(|(value, at)| (Read::byte((value & 0xff) as u8), at)),
        b"\\" => backslash(at, read),
        b"&" => entity(at, read),
        _ => None,
    };
    Some(escaped.unwrap_or((first, at)))
}

/// Reads this many hexadecimal digits.
fn number(mut at: usize, read: &impl Fn(usize) -> Reading, digits: usize) -> Option<(u32, usize)> {
    let mut value = 0;
    for _ in 0..digits {
        let (digit, next) = read(at)?;
        let [digit] = digit.as_bytes() else { return None };
        value = value * 16 + char::from(*digit).to_digit(16)?;
        at = next;
    }
    Some((value, at))
}

/// Reads an escape of JSON.
fn backslash(at: usize, read: &impl Fn(usize) -> Reading) -> Reading {
    let (kind, at) = read(at)?;
    let byte = match kind.as_bytes() {
        b"n" => b'\n',
        b"r" => b'\r',
        b"t" => b'\t',
        b"b" => 8,
        b"f" => 12,
        b"\\" | b"/" | b"\"" | b"'" => kind.bytes[0],
        b"u" => {
            let (high, at) = number(at, read, 4)?;
            if let Some(character) = char::from_u32(high) {
                return Some((Read::character(character), at));
            }
            let (backslash, at) = read(at)?;
            let (u, at) = read(at)?;
            let (low, at) = number(at, read, 4)?;
            let pair = backslash.as_bytes() == b"\\" && u.as_bytes() == b"u";
            let character = char::decode_utf16([high as u16, low as u16]).next()?.ok().filter(|_| pair)?;
            return Some((Read::character(character), at));
        }
        _ => return None,
    };
    Some((Read::byte(byte), at))
}

/// The longest known entity: `&#x0010ffff;`.
const ENTITY: usize = 12;

/// Reads an entity of HTML.
fn entity(mut at: usize, read: &impl Fn(usize) -> Reading) -> Reading {
    let (mut name, mut length) = ([0; ENTITY], 0);
    loop {
        let (found, next) = read(at)?;
        at = next;
        match (found.as_bytes(), name.get_mut(length)) {
            (b";", _) => break,
            // A name has no other characters, so that a text of nothing but `&` is read quickly.
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
        ("ast", ..) => '*',
        ("bsol", ..) => '\\',
        ("colon", ..) => ':',
        ("comma", ..) => ',',
        ("commat", ..) => '@',
        ("dollar", ..) => '$',
        ("equals", ..) => '=',
        ("excl", ..) => '!',
        ("grave", ..) => '`',
        ("Hat", ..) => '^',
        ("lcub", ..) => '{',
        ("lowbar", ..) => '_',
        ("lpar", ..) => '(',
        ("lsqb", ..) => '[',
        ("NewLine", ..) => '\n',
        ("num", ..) => '#',
        ("percnt", ..) => '%',
        ("period", ..) => '.',
        ("plus", ..) => '+',
        ("quest", ..) => '?',
        ("rcub", ..) => '}',
        ("rpar", ..) => ')',
        ("rsqb", ..) => ']',
        ("semi", ..) => ';',
        ("sol", ..) => '/',
        ("Tab", ..) => '\t',
        ("verbar", ..) => '|',
        (_, Some(digits), _) => char::from_u32(u32::from_str_radix(digits, 16).ok()?)?,
        (_, _, Some(digits)) => char::from_u32(digits.parse().ok()?)?,
        _ => return None,
    };
    Some((Read::character(character), at))
}
