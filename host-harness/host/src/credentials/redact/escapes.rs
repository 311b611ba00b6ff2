//! What a text may mean: escapes of URLs, JSON and HTML, read at one place.

use crate::credentials::redact::count;

/// What an escape may begin with.
pub(super) const ESCAPES: [u8; 4] = [b'%', b'\\', b'&', b'+'];

/// No reading goes further: an entity of HTML whose every character is one has 14 times 14 bytes.
pub(super) const REACH: usize = 256;

/// One byte, or one character that was escaped; nothing where a text goes on behind what may be left out.
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

/// What stands at a place, and where it goes on.
type Reading = Option<(Read, usize)>;

/// Whether something may stand between the characters of a secret: base64 is broken into lines, a text in UTF-16 that
/// nobody decoded has zeros.
pub(super) fn is_ignorable(read: &[u8]) -> bool {
    matches!(read, [0 | b'\t' | b'\n' | 0xb | 0xc | b'\r' | b' '])
}

/// What may be read at a place, and where it goes on: the byte itself, and what it escapes, once or twice: there is JSON
/// within JSON, and a form within a form. Nothing is one more reading of what may be ignored.
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
    // A form writes a space so.
    let space = |(read, next): (Read, usize)| (read.as_bytes() == b"+").then(|| (Read::byte(b' '), next));
    let spaces = readings.map(|reading| reading.and_then(space));
    let nothing = |(read, next): (Read, usize)| is_ignorable(read.as_bytes()).then_some((Read::NOTHING, next));
    let nothings = readings.map(|reading| reading.and_then(nothing));
    readings.into_iter().chain(spaces).chain(nothings).flatten()
}

/// A text with one layer of escapes taken off, read from its beginning.
pub(super) fn unescaped_text(text: &[u8]) -> Vec<u8> {
    let (mut plain, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some((read, next)) = unescaped(at, &|at| byte(text, at)) {
        plain.extend_from_slice(read.as_bytes());
        at = next;
    }
    plain
}

fn byte(text: &[u8], at: usize) -> Reading {
    count(1);
    text.get(at).map(|byte| (Read::byte(*byte), at + 1))
}

/// One character with a layer of escapes taken off what `read` gives.
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

/// So many hexadecimal digits.
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

/// An escape of JSON.
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

/// The longest entity that is known: `&#x0010ffff;`.
const ENTITY: usize = 12;

/// An entity of HTML.
fn entity(mut at: usize, read: &impl Fn(usize) -> Reading) -> Reading {
    let (mut name, mut length) = ([0; ENTITY], 0);
    loop {
        let (found, next) = read(at)?;
        at = next;
        match (found.as_bytes(), name.get_mut(length)) {
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
