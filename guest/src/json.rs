//! JSON as it came: objects whose values stay text, and where in a document something is.
//!
//! By hand, on serde: a library makes doubles of numbers, and its errors quote values. Here a fault names the path and the type
//! that it found, the depth and the members of an object are bounded, and of two equal keys the last counts.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::diagnoses::{ANSWER_INCOMPLETE, ANSWER_NOT_JSON, ANSWER_WRONG_TYPE, Diagnosis};
use crate::number::{MAX_NUMBER_BYTES, Number};

/// Deeper than this is an attack or a fault: the deepest answer of the service has 7 levels.
pub const MAX_DEPTH: usize = 64;

/// A fault of a document, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// For example `value[3].properties.score.current`; empty for the document itself.
    pub path: String,
    /// The value at `path`, in words.
    pub found: String,
    /// The value that belongs at `path`, in words.
    pub expected: String,
    /// Whether a value of another type stands at `path`, rather than none.
    pub wrong_type: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { path, found, expected, .. } = self;
        if path.is_empty() {
            write!(formatter, "found {found}, expected {expected}")
        } else {
            write!(formatter, "`{path}`: found {found}, expected {expected}")
        }
    }
}

impl Fault {
    /// The diagnosis of an answer of the service that has this fault.
    pub fn diagnosis(&self) -> &'static Diagnosis {
        match self {
            Fault { path, .. } if path.is_empty() => &ANSWER_NOT_JSON,
            Fault { wrong_type: true, .. } => &ANSWER_WRONG_TYPE,
            _ => &ANSWER_INCOMPLETE,
        }
    }

    /// Something of another type than expected, or nothing, stands at `path`.
    pub fn unfit(path: &str, value: Option<&RawValue>, expected: &str) -> Fault {
        Fault {
            path: path.to_owned(),
            found: value.map_or("nothing", kind).to_owned(),
            expected: expected.to_owned(),
            wrong_type: value.is_some(),
        }
    }

    /// The fault of a value at `path` that is too long.
    pub fn length(path: String, bytes: usize, at_most: usize) -> Fault {
        let expected = format!("at most {at_most} bytes");
        Fault { path, found: format!("{bytes} bytes"), expected, wrong_type: true }
    }

    /// The number at `path` is larger than double precision goes, in which most readers of JSON take it.
    pub fn range(path: String) -> Fault {
        let (found, expected) = ("a number beyond the range of double precision", "a number within it");
        Fault { path, found: found.to_owned(), expected: expected.to_owned(), wrong_type: true }
    }

    /// The document itself cannot be read.
    pub fn document(found: impl Into<String>, expected: &str) -> Fault {
        Fault { path: String::new(), found: found.into(), expected: expected.to_owned(), wrong_type: false }
    }
}

/// Some editors and servers open a text in UTF-8 with this.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A body without the byte order mark that it may open with: readers of JSON may ignore one (RFC 8259, section 8.1).
pub fn unmarked(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// Reads a body as one JSON document: UTF-8, not empty, at most [`MAX_DEPTH`] levels. A byte order mark before it is
/// skipped.
pub fn document(body: &[u8]) -> Result<&RawValue, Fault> {
    let body = unmarked(body);
    if let Some(encoding) = other_encoding(body) {
        return Err(Fault::document(encoding, "JSON in UTF-8"));
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| Fault::document(format!("invalid UTF-8 at byte {}", error.valid_up_to()), "JSON in UTF-8"))?;
    if text.trim().is_empty() {
        return Err(Fault::document("an empty body", "a JSON object"));
    }
    if depth(body) > MAX_DEPTH {
        return Err(Fault::document(format!("more than {MAX_DEPTH} levels of nesting"), "a few levels"));
    }
    serde_json::from_str(text).map_err(|error| {
        let what = if text.trim_start().starts_with('<') { "HTML or XML" } else { "text that is no JSON" };
        Fault::document(format!("{what} ({error})"), "a JSON object")
    })
}

/// The encoding of a body that is no UTF-8, where its first bytes tell: JSON begins with two characters of ASCII.
fn other_encoding(body: &[u8]) -> Option<&'static str> {
    match body {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => Some("text in UTF-16 or UTF-32"),
        _ if body.starts_with(BYTE_ORDER_MARK) => Some("two byte order marks"),
        _ => None,
    }
}

/// The deepest nesting of objects and lists.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The members of an object, each value as text. Of a key that stands twice, the last counts, as in most readers.
#[derive(Debug, Default)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// More members than this in one object is an attack: looking for a key that stands twice costs their square.
const MAX_MEMBERS: usize = 1_000;

impl<'a> Object<'a> {
    /// Reads `value`, which stands at `path`, as an object.
    pub fn read(value: &'a RawValue, path: &str) -> Result<Object<'a>, Fault> {
        if !value.get().starts_with('{') {
            return Err(Fault::unfit(path, Some(value), "an object"));
        }
        serde_json::from_str(value.get()).map_err(|error| Fault {
            path: path.to_owned(),
            found: format!("an object that cannot be read ({error})"),
            expected: "an object".to_owned(),
            wrong_type: true,
        })
    }

    /// The value of a key; none if it is absent or null.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.members.iter().find(|(name, _)| name == key).map(|(_, value)| *value).filter(|value| value.get() != "null")
    }

    /// All members as they came, null included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.members.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// The string of a key, none if absent or null.
    pub fn text(&self, path: &str, key: &str) -> Result<Option<Cow<'a, str>>, Fault> {
        self.get(key)
            .map(|value| string(value).ok_or_else(|| Fault::unfit(&join(path, key), Some(value), "a string")))
            .transpose()
    }

    /// The string of a key that must be there.
    pub fn required_text(&self, path: &str, key: &str) -> Result<Cow<'a, str>, Fault> {
        self.text(path, key)?.ok_or_else(|| Fault::unfit(&join(path, key), None, "a string"))
    }

    /// The number of a key to the letter, none if absent or null.
    pub fn number(&self, path: &str, key: &str) -> Result<Option<Number<'a>>, Fault> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = Number::read(value).ok_or_else(|| Fault::unfit(&join(path, key), Some(value), "a number"))?;
        if number.text().len() > MAX_NUMBER_BYTES {
            return Err(Fault::length(join(path, key), number.text().len(), MAX_NUMBER_BYTES));
        }
        if !number.is_within_range() {
            return Err(Fault::range(join(path, key)));
        }
        Ok(Some(number))
    }

    /// The object of a key, none if absent or null.
    pub fn object(&self, path: &str, key: &str) -> Result<Option<Object<'a>>, Fault> {
        self.get(key).map(|value| Object::read(value, &join(path, key))).transpose()
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<'de>, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some((MemberKey(key), value)) = map.next_entry::<MemberKey<'de>, &'de RawValue>()? {
                    match members.iter_mut().find(|(name, _)| *name == key) {
                        Some(member) => member.1 = value,
                        None => members.push((key, value)),
                    }
                    if members.len() > MAX_MEMBERS {
                        return Err(serde::de::Error::custom(format!("more than {MAX_MEMBERS} members in one object")));
                    }
                }
                Ok(Object { members })
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A key: borrowed where it has no escapes.
struct MemberKey<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for MemberKey<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MemberKey<'de>, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = MemberKey<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<MemberKey<'de>, E> {
                Ok(MemberKey(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<MemberKey<'de>, E> {
                Ok(MemberKey(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// Finds a number beyond the range of double precision, wherever it stands in a value; none if there is none.
pub fn beyond_range(value: &RawValue, path: &str) -> Option<Fault> {
    if !has_number_beyond_range(value.get()) {
        return None;
    }
    let inside = match value.get().as_bytes().first() {
        Some(b'{') => Object::read(value, path)
            .ok()
            .and_then(|object| object.iter().find_map(|(key, value)| beyond_range(value, &join(path, key)))),
        Some(b'[') => list(value, path).ok().and_then(|values| {
            let mut values = values.into_iter().enumerate();
            values.find_map(|(index, value)| beyond_range(value, &format!("{path}[{index}]")))
        }),
        _ => None,
    };
    Some(inside.unwrap_or_else(|| Fault::range(path.to_owned())))
}

/// A number of so many bytes without an exponent is within the range, whatever its digits are.
const MAX_PLAIN_DIGITS: usize = 308;

fn has_number_beyond_range(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at += string_length(&text[at..]),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &&u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let end = at + bytes[at..].iter().take_while(is_part).count();
                let number = &text[at..end];
                let may_be = number.len() > MAX_PLAIN_DIGITS || number.contains(['e', 'E']);
                if may_be && !Number::spelled(number).is_within_range() {
                    return true;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    false
}

/// The items of a list.
pub fn list<'a>(value: &'a RawValue, path: &str) -> Result<Vec<&'a RawValue>, Fault> {
    if !value.get().starts_with('[') {
        return Err(Fault::unfit(path, Some(value), "a list"));
    }
    serde_json::from_str(value.get()).map_err(|_| Fault::unfit(path, Some(value), "a list"))
}

/// The text of a JSON string; none for anything else, a lone surrogate included.
pub fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
    if !text.starts_with('"') {
        return None;
    }
    let inner = &text[1..text.len() - 1];
    if inner.contains('\\') { serde_json::from_str(text).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// The type of a value, in words.
fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') if string(value).is_none() => "a string with a lone surrogate",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// `path.key`.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The same value on one line: white space between tokens goes, numbers and strings stay to the letter, and half of a
/// surrogate pair, which many readers refuse, becomes U+FFFD.
pub fn compact(value: &RawValue) -> Cow<'_, RawValue> {
    let text = value.get();
    if !text.contains([' ', '\n', '\r', '\t']) && !text.contains("\\ud") && !text.contains("\\uD") {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('"') {
        out.extend(rest[..start].chars().filter(|character| !character.is_ascii_whitespace()));
        let end = start + string_length(&rest[start..]);
        push_string(&mut out, &rest[start..end]);
        rest = &rest[end..];
    }
    out.extend(rest.chars().filter(|character| !character.is_ascii_whitespace()));
    match RawValue::from_string(out) {
        Ok(value) => Cow::Owned(value),
        Err(_) => unreachable!("JSON without its white space is JSON"),
    }
}

/// The length of the JSON string at the start of `text`, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn push_string(out: &mut String, string: &str) {
    let mut rest = string;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match surrogate(rest) {
            Some(Half::High) if surrogate(&rest[6..]) == Some(Half::Low) => 12,
            Some(_) => {
                out.push('\u{fffd}');
                rest = &rest[6..];
                continue;
            }
            None => 2,
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out.push_str(rest);
}

#[derive(PartialEq)]
enum Half {
    High,
    Low,
}

fn surrogate(escape: &str) -> Option<Half> {
    let digits = escape.strip_prefix("\\u")?.get(..4)?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Half::High),
        0xdc00..=0xdfff => Some(Half::Low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compacted(text: &str) -> String {
        let value: &RawValue = serde_json::from_str(text).unwrap();
        compact(value).get().to_owned()
    }

    #[test]
    fn white_space_goes_and_numbers_stay_to_the_letter() {
        assert_eq!(compacted("{ \"a b\" :\n [1.50, -0, 1E+2 , \"x \\\" y\"] }"), r#"{"a b":[1.50,-0,1E+2,"x \" y"]}"#);
    }

    #[test]
    fn half_a_surrogate_pair_becomes_the_replacement_character() {
        assert_eq!(
            compacted(r#""\ud83d\ude00 \ud83d \ude00\\ud83d""#),
            "\"\\ud83d\\ude00 \u{fffd} \u{fffd}\\\\ud83d\""
        );
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_document() {
        let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
        assert_eq!(document(&marked(" {\"a\":1} ")).unwrap().get(), "{\"a\":1}");
        let found = |body: &[u8]| document(body).unwrap_err().found;
        assert_eq!(found(&marked("")), "an empty body");
        assert_eq!(found(&marked("\u{feff}{}")), "two byte order marks");
        for body in [&b"\xff\xfe{\0}\0"[..], b"\xfe\xff\0{\0}", b"{\0}\0", b"\0{\0}", b"\0\0\xfe\xff\0\0\0{"] {
            assert_eq!(found(body), "text in UTF-16 or UTF-32", "{body:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(document(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(document(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err().found.contains("64 levels"));
        assert!(document(format!("\"{}\"", "[".repeat(100)).as_bytes()).is_ok());
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        let object: Object<'_> = serde_json::from_str(r#"{"a":1,"\u0061":2,"b":null}"#).unwrap();
        assert_eq!(object.get("a").map(RawValue::get), Some("2"));
        assert!(object.get("b").is_none());
    }

    #[test]
    fn a_number_beyond_double_precision_is_found_wherever_it_stands() {
        let found = |text: &str| beyond_range(serde_json::from_str(text).unwrap(), "item").map(|fault| fault.path);
        let long = "1".repeat(309);
        for (text, path) in [
            ("1e400", "item"),
            ("-1e999", "item"),
            ("1.8e308", "item"),
            (&*format!("2{}", &long[1..]), "item"),
            (r#"{"a":[1,{"b":1E+309}]}"#, "item.a[1].b"),
            (r#"{"a":1e400,"a":1}"#, "item"),
            (r#"["\"1e400\\",-1e400]"#, "item[1]"),
        ] {
            assert_eq!(found(text).as_deref(), Some(path), "{text}");
        }
        for text in [
            "1.7976931348623157e308",
            "1e-400",
            "-0e999",
            "0.1",
            &long,
            r#""1e400""#,
            r#"{"1e400":"\"1e400","b":[]}"#,
            &format!("0.{}", "1".repeat(400)),
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
