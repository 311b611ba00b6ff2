//! The reader that names the exact fault of a document or an object. It uses `serde_json`, one level at a time, and
//! reads the documents that the tape refuses. A fuzzer compares the two readers.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::{Fault, MAX_DEPTH, MAX_MEMBERS, ValuePath, unmarked};

/// The byte order mark of UTF-8. Some editors and servers write it before a text.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a body as one JSON document: UTF-8, not empty, at most [`MAX_DEPTH`] levels. A byte order mark before the
/// document is skipped.
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
        let what = if text.trim_start().starts_with('<') { "HTML or XML" } else { "text that is not JSON" };
        Fault::document(format!("{what} ({error})"), "a JSON object")
    })
}

/// Names the encoding of a body that is not UTF-8, if its first bytes show it: JSON begins with two ASCII characters.
fn other_encoding(body: &[u8]) -> Option<&'static str> {
    match body {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => Some("text in UTF-16 or UTF-32"),
        _ if body.starts_with(BYTE_ORDER_MARK) => Some("two byte order marks"),
        _ => None,
    }
}

/// Returns the deepest nesting of objects and lists.
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

/// Returns the members of the object `text`, which is at `path`, each value as text. If a key appears twice, the last
/// member counts, as in most readers.
pub fn object<'a>(text: &'a str, path: &ValuePath<'_>) -> Result<Vec<(Cow<'a, str>, &'a RawValue)>, Fault> {
    let members: serde_json::Result<ExactMembers<'a>> = serde_json::from_str(text);
    members.map(|ExactMembers(members)| members).map_err(|error| Fault {
        path: path.to_string(),
        found: format!("an object that cannot be read ({error})"),
        expected: "an object".to_owned(),
        wrong_type: true,
    })
}

struct ExactMembers<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for ExactMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ExactMembers<'de>, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = ExactMembers<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ExactMembers<'de>, A::Error> {
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
                Ok(ExactMembers(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// A key, borrowed if it has no escapes.
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
