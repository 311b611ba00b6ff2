//! JSON as the service sent it: values that stay text, and the place of each value in its document.
//!
//! This module is written by hand, beside serde: a library turns numbers into doubles, and its errors quote values.
//! Here a fault names the path and the type that was found, the depth and the number of members of an object are
//! bounded, and of two equal keys the last counts. The tape reads a valid document once. If the tape refuses a
//! document, the exact reader reads it again to name its fault.

pub mod exact;
mod plain;
mod tape;
pub mod write;

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::diagnoses::{ANSWER_INCOMPLETE, ANSWER_NOT_JSON, ANSWER_WRONG_TYPE, Diagnosis};
use crate::json::exact::BYTE_ORDER_MARK;
use crate::json::tape::Tape;
use crate::number::{MAX_NUMBER_BYTES, MAX_PLAIN_DIGITS, Number};

/// The largest number of levels of a document. The deepest answer of the service has 7 levels; a deeper document is an
/// attack or a fault.
pub const MAX_DEPTH: usize = 64;

/// The largest number of values and keys of a document, which the tape keeps in 16 bytes each. A list of the service
/// has one value in some 20 bytes, and the host accepts bodies of 8 MiB; a document with more values is an attack or a
/// fault.
pub const MAX_VALUES: usize = 1_000_000;

/// A fault of a document, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The place, for example `value[3].properties.score.current`; empty for the document itself.
    pub path: String,
    /// The value found at `path`, in words.
    pub found: String,
    /// The value that belongs at `path`, in words.
    pub expected: String,
    /// Whether `path` has a value of another type, rather than no value.
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
    /// Returns the diagnosis of an answer of the service that has this fault.
    pub fn diagnosis(&self) -> &'static Diagnosis {
        match self {
            Fault { path, .. } if path.is_empty() => &ANSWER_NOT_JSON,
            Fault { wrong_type: true, .. } => &ANSWER_WRONG_TYPE,
            _ => &ANSWER_INCOMPLETE,
        }
    }

    /// Returns the fault of a missing value, or of a value of another type than expected, at `path`.
    pub fn unfit(path: &ValuePath<'_>, value: Option<JsonValue<'_>>, expected: &str) -> Fault {
        Fault {
            path: path.to_string(),
            found: value.map_or("nothing", kind).to_owned(),
            expected: expected.to_owned(),
            wrong_type: value.is_some(),
        }
    }

    /// Returns the fault of a value at `path` that is too long.
    pub fn length(path: &ValuePath<'_>, bytes: usize, at_most: usize) -> Fault {
        let expected = format!("at most {at_most} bytes");
        Fault { path: path.to_string(), found: format!("{bytes} bytes"), expected, wrong_type: true }
    }

    /// Returns the fault of a number at `path` beyond the range of double precision, which most readers of JSON use.
    pub fn range(path: &ValuePath<'_>) -> Fault {
        let (found, expected) = ("a number beyond the range of double precision", "a number within it");
        Fault { path: path.to_string(), found: found.to_owned(), expected: expected.to_owned(), wrong_type: true }
    }

    /// Returns the fault of a document that cannot be read.
    pub fn document(found: impl Into<String>, expected: &str) -> Fault {
        Fault { path: String::new(), found: found.into(), expected: expected.to_owned(), wrong_type: false }
    }
}

/// The place of a value in its document. A path is built while the document is read, and becomes text only for a fault.
#[derive(Debug, Clone, Copy)]
pub enum ValuePath<'a> {
    /// The document itself.
    Root,
    /// The value of a key.
    Key(&'a ValuePath<'a>, &'a str),
    /// An item of a list.
    Index(&'a ValuePath<'a>, usize),
}

impl<'a> ValuePath<'a> {
    /// Returns the path of a key's value in the object at this place.
    pub fn key(&'a self, key: &'a str) -> ValuePath<'a> {
        ValuePath::Key(self, key)
    }

    /// Returns the path of an item of the list at this place.
    pub fn index(&'a self, index: usize) -> ValuePath<'a> {
        ValuePath::Index(self, index)
    }
}

impl fmt::Display for ValuePath<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValuePath::Root => Ok(()),
            ValuePath::Key(ValuePath::Root, key) => formatter.write_str(key),
            ValuePath::Key(path, key) => write!(formatter, "{path}.{key}"),
            ValuePath::Index(path, index) => write!(formatter, "{path}[{index}]"),
        }
    }
}

/// Returns a body without the byte order mark at its start, which readers of JSON may ignore (RFC 8259, section 8.1).
pub fn unmarked(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// A document, read once, whose values are found through its tape.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    tape: Tape,
}

impl<'a> Document<'a> {
    /// Reads a body as one JSON document: UTF-8, not empty, at most [`MAX_DEPTH`] levels, at most
    /// [`MAX_VALUES`] values and keys. A byte order mark before the document is skipped.
    pub fn read(body: &'a [u8]) -> Result<Document<'a>, Fault> {
        let text = std::str::from_utf8(unmarked(body)).ok();
        match text.and_then(|text| Some(Document { text, tape: tape::read(text)? })) {
            Some(document) => Ok(document),
            None => Err(exact::document(body).err().unwrap_or_else(|| {
                // The exact reader accepts all that the tape accepts, and documents with more values.
                Fault::document(format!("more than {MAX_VALUES} values"), "some thousand values")
            })),
        }
    }

    /// Returns the whole document as one value.
    pub fn root(&self) -> JsonValue<'_> {
        JsonValue { document: self, index: 0 }
    }
}

/// A value in a document.
#[derive(Clone, Copy)]
pub struct JsonValue<'a> {
    document: &'a Document<'a>,
    index: usize,
}

impl fmt::Debug for JsonValue<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.get())
    }
}

impl<'a> JsonValue<'a> {
    fn span(self) -> tape::Span {
        self.document.tape.spans[self.index]
    }

    /// Returns the text of the value, unchanged.
    pub fn get(self) -> &'a str {
        let span = self.span();
        &self.document.text[span.start..span.end]
    }

    fn first_byte(self) -> u8 {
        self.document.text.as_bytes()[self.span().start]
    }

    /// Returns whether the value is an object.
    pub fn is_object(self) -> bool {
        self.first_byte() == b'{'
    }

    /// Returns whether the value is `null`.
    pub fn is_null(self) -> bool {
        self.first_byte() == b'n'
    }

    /// Returns the parts of the value: the items of a list, or the keys and values of an object in turns.
    fn inside(self) -> Values<'a> {
        Values { document: self.document, index: self.index + 1, end: self.span().next }
    }

    /// Returns the text between the quotes of a string.
    fn between_quotes(self) -> &'a str {
        let span = self.span();
        &self.document.text[span.start + 1..span.end - 1]
    }
}

/// An iterator over consecutive values of one list or object.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    document: &'a Document<'a>,
    index: usize,
    end: usize,
}

impl<'a> Iterator for Values<'a> {
    type Item = JsonValue<'a>;

    fn next(&mut self) -> Option<JsonValue<'a>> {
        let value = (self.index < self.end).then_some(JsonValue { document: self.document, index: self.index })?;
        self.index = value.span().next;
        Some(value)
    }
}

/// The members of an object. If a key appears twice, the last member counts, as in most readers.
#[derive(Debug)]
pub struct Object<'a> {
    members: ObjectMembers<'a>,
}

#[derive(Debug)]
enum ObjectMembers<'a> {
    /// No key has escapes, and no key appears twice.
    AsWritten(JsonValue<'a>),
    /// Each key appears once, with its escapes decoded.
    Settled(Vec<(Cow<'a, str>, JsonValue<'a>)>),
}

impl Default for Object<'_> {
    fn default() -> Self {
        Object { members: ObjectMembers::Settled(Vec::new()) }
    }
}

/// The largest number of members of one object; more members are an attack.
const MAX_MEMBERS: usize = 1_000;

/// The largest number of keys that are compared each with each, which is faster for few keys. More keys are sorted.
const FEW_MEMBERS: usize = 16;

impl<'a> Object<'a> {
    /// Reads `value`, which is at `path`, as an object.
    pub fn read(value: JsonValue<'a>, path: &ValuePath<'_>) -> Result<Object<'a>, Fault> {
        if !value.is_object() {
            return Err(Fault::unfit(path, Some(value), "an object"));
        }
        if has_plain_keys(value) {
            return Ok(Object { members: ObjectMembers::AsWritten(value) });
        }
        match settled(value) {
            Some(members) => Ok(Object { members: ObjectMembers::Settled(members) }),
            None => Err(exact::object(value.get(), path).err().unwrap_or_else(|| {
                // The two readers accept the same objects, so only a fault of this plugin leads here.
                Fault::unfit(path, Some(value), "an object")
            })),
        }
    }

    /// Returns the value of a key, or `None` if the key is absent or its value is null.
    pub fn get(&self, key: &str) -> Option<JsonValue<'a>> {
        let found = match &self.members {
            ObjectMembers::AsWritten(value) => {
                pairs(*value).find(|(name, _)| name.between_quotes() == key).map(|pair| pair.1)
            }
            ObjectMembers::Settled(members) => members.iter().find(|(name, _)| name == key).map(|(_, value)| *value),
        };
        found.filter(|value| !value.is_null())
    }

    /// Returns all members in the order of the text, null included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, JsonValue<'a>)> {
        let (written, settled) = match &self.members {
            ObjectMembers::AsWritten(value) => (Some(pairs(*value)), &[][..]),
            ObjectMembers::Settled(members) => (None, members.as_slice()),
        };
        let written = written.into_iter().flatten().map(|(key, value)| (key.between_quotes(), value));
        written.chain(settled.iter().map(|(key, value)| (key.as_ref(), *value)))
    }

    /// Returns the string of a key, or `None` if the key is absent or its value is null.
    pub fn text(&self, path: &ValuePath<'_>, key: &str) -> Result<Option<Cow<'a, str>>, Fault> {
        let Some(value) = self.get(key) else { return Ok(None) };
        string(value).map(Some).ok_or_else(|| Fault::unfit(&path.key(key), Some(value), "a string"))
    }

    /// Returns the string of a required key.
    pub fn required_text(&self, path: &ValuePath<'_>, key: &str) -> Result<Cow<'a, str>, Fault> {
        self.text(path, key)?.ok_or_else(|| Fault::unfit(&path.key(key), None, "a string"))
    }

    /// Returns the unchanged number of a key, or `None` if the key is absent or its value is null.
    pub fn number(&self, path: &ValuePath<'_>, key: &str) -> Result<Option<Number<'a>>, Fault> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = Number::read(value.get()).ok_or_else(|| Fault::unfit(&path.key(key), Some(value), "a number"))?;
        if number.text().len() > MAX_NUMBER_BYTES {
            return Err(Fault::length(&path.key(key), number.text().len(), MAX_NUMBER_BYTES));
        }
        if !number.is_within_range() {
            return Err(Fault::range(&path.key(key)));
        }
        Ok(Some(number))
    }

    /// Returns the object of a key, or `None` if the key is absent or its value is null.
    pub fn object(&self, path: &ValuePath<'_>, key: &str) -> Result<Option<Object<'a>>, Fault> {
        self.get(key).map(|value| Object::read(value, &path.key(key))).transpose()
    }
}

/// Returns the members of an object as they are written, keys with their quotes.
fn pairs<'a>(object: JsonValue<'a>) -> impl Iterator<Item = (JsonValue<'a>, JsonValue<'a>)> + Clone {
    let mut inside = object.inside();
    std::iter::from_fn(move || Some((inside.next()?, inside.next()?)))
}

/// Returns whether each key of an object appears once and has no escapes. For an object with too many members, the
/// result is `false`.
fn has_plain_keys(object: JsonValue<'_>) -> bool {
    let keys = pairs(object).map(|(key, _)| key);
    let count = keys.clone().take(MAX_MEMBERS + 1).take_while(|key| !key.span().escaped).count();
    // An escaped key is not counted, and neither are the keys behind it.
    if count > MAX_MEMBERS || keys.clone().nth(count).is_some() {
        return false;
    }
    let mut names = keys.map(JsonValue::between_quotes);
    if count <= FEW_MEMBERS {
        let all = names.clone();
        return names.enumerate().all(|(index, name)| !all.clone().take(index).any(|other| other == name));
    }
    let mut known = BTreeSet::new();
    names.all(|name| known.insert(name))
}

/// Returns the members of an object, each key once, or `None` if a key is not text or there are too many members.
fn settled(object: JsonValue<'_>) -> Option<Vec<(Cow<'_, str>, JsonValue<'_>)>> {
    let mut members: Vec<(Cow<'_, str>, JsonValue<'_>)> = Vec::new();
    let mut places: BTreeMap<Cow<'_, str>, usize> = BTreeMap::new();
    for (key, value) in pairs(object) {
        let key = string(key)?;
        match places.entry(key) {
            Entry::Occupied(place) => members[*place.get()].1 = value,
            Entry::Vacant(place) => {
                members.push((place.key().clone(), value));
                place.insert(members.len() - 1);
            }
        }
        if members.len() > MAX_MEMBERS {
            return None;
        }
    }
    Some(members)
}

/// Returns the fault of the first number beyond the range of double precision at any level of a value.
pub fn beyond_range(value: JsonValue<'_>, path: &ValuePath<'_>) -> Option<Fault> {
    if !value.document.tape.has_large_numbers || !has_number_beyond_range(value.get()) {
        return None;
    }
    let inside = match value.first_byte() {
        b'{' => Object::read(value, path)
            .ok()
            .and_then(|object| object.iter().find_map(|(key, value)| beyond_range(value, &path.key(key)))),
        b'[' => value.inside().enumerate().find_map(|(index, value)| beyond_range(value, &path.index(index))),
        _ => None,
    };
    Some(inside.unwrap_or_else(|| Fault::range(path)))
}

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

/// Returns the items of a list.
pub fn list<'a>(value: JsonValue<'a>, path: &ValuePath<'_>) -> Result<Values<'a>, Fault> {
    match value.first_byte() {
        b'[' => Ok(value.inside()),
        _ => Err(Fault::unfit(path, Some(value), "a list")),
    }
}

/// Returns the text of a JSON string, or `None` for any other value and for a string with a lone surrogate.
pub fn string(value: JsonValue<'_>) -> Option<Cow<'_, str>> {
    if value.first_byte() != b'"' {
        return None;
    }
    if value.span().escaped {
        serde_json::from_str(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(value.between_quotes()))
    }
}

/// Returns the type of a value, in words.
fn kind(value: JsonValue<'_>) -> &'static str {
    match value.first_byte() {
        b'{' => "an object",
        b'[' => "a list",
        b'"' if string(value).is_none() => "a string with a lone surrogate",
        b'"' => "a string",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        _ => "a number",
    }
}

/// Returns the same value on one line. White space between tokens is removed, and numbers and strings stay unchanged,
/// except that half of a surrogate pair, which many readers refuse, becomes U+FFFD.
pub fn compact(value: JsonValue<'_>) -> Cow<'_, str> {
    let (text, tape) = (value.get(), &value.document.tape);
    if !tape.has_white_space && !tape.has_surrogates {
        return Cow::Borrowed(text);
    }
    if !text.contains([' ', '\n', '\r', '\t']) && !text.contains("\\ud") && !text.contains("\\uD") {
        return Cow::Borrowed(text);
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
    Cow::Owned(out)
}

/// Returns the length of the JSON string at the start of `text`, quotes included.
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
        compact(Document::read(text.as_bytes()).unwrap().root()).into_owned()
    }

    #[test]
    fn a_document_of_many_small_values_is_refused() {
        let list = |items: usize| format!("{{\"value\":[],\"x\":[{}0]}}", "0,".repeat(items - 1));
        assert!(Document::read(list(MAX_VALUES - 5).as_bytes()).is_ok());
        let fault = Document::read(list(MAX_VALUES - 4).as_bytes()).unwrap_err();
        assert_eq!(fault.to_string(), "found more than 1000000 values, expected some thousand values");
        assert_eq!(fault.diagnosis().code, ANSWER_NOT_JSON.code);
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
        assert_eq!(Document::read(&marked(" {\"a\":1} ")).unwrap().root().get(), "{\"a\":1}");
        let found = |body: &[u8]| Document::read(body).unwrap_err().found;
        assert_eq!(found(&marked("")), "an empty body");
        assert_eq!(found(&marked("\u{feff}{}")), "two byte order marks");
        for body in [&b"\xff\xfe{\0}\0"[..], b"\xfe\xff\0{\0}", b"{\0}\0", b"\0{\0}", b"\0\0\xfe\xff\0\0\0{"] {
            assert_eq!(found(body), "text in UTF-16 or UTF-32", "{body:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Document::read(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(Document::read(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err().found.contains("64 levels"));
        assert!(Document::read(format!("\"{}\"", "[".repeat(100)).as_bytes()).is_ok());
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        for text in [r#"{"a":1,"\u0061":2,"b":null}"#, r#"{"a":1,"b":0,"a":2,"b":null}"#] {
            let document = Document::read(text.as_bytes()).unwrap();
            let object = Object::read(document.root(), &ValuePath::Root).unwrap();
            assert_eq!(object.get("a").map(JsonValue::get), Some("2"));
            assert!(object.get("b").is_none());
            let members: Vec<_> = object.iter().map(|(key, value)| (key, value.get())).collect();
            assert_eq!(members, [("a", "2"), ("b", "null")]);
        }
    }

    #[test]
    fn an_object_has_its_keys_once_whether_there_are_few_or_many() {
        let read = |count: usize, more: &str| {
            let members: Vec<String> = (0..count).map(|key| format!("\"k{key}\":{key}")).collect();
            let text = format!("{{{}{more}}}", members.join(","));
            let document = Document::read(text.as_bytes()).unwrap();
            let object = Object::read(document.root(), &ValuePath::Root).map_err(|fault| fault.found)?;
            let members: Vec<_> = object.iter().map(|(key, value)| format!("{key}={}", value.get())).collect();
            Ok::<_, String>((members.len(), members[0].clone(), members[count - 1].clone()))
        };
        for count in [1, 2, FEW_MEMBERS - 1, FEW_MEMBERS, FEW_MEMBERS + 1, MAX_MEMBERS] {
            let (last, none) = (format!("k{}={}", count - 1, count - 1), "k0=0".to_owned());
            assert_eq!(read(count, ""), Ok((count, none, last.clone())));
            for again in [r#","k0":"x""#, r#","\u006b0":"x""#] {
                let last = if count == 1 { "k0=\"x\"".to_owned() } else { last.clone() };
                assert_eq!(read(count, again), Ok((count, "k0=\"x\"".to_owned(), last)), "{count}{again}");
            }
        }
        for more in ["", r#","\u006b0":0"#] {
            let found = read(MAX_MEMBERS + 1, more).unwrap_err();
            assert!(found.contains("more than 1000 members in one object"), "{found}");
        }
    }

    #[test]
    fn a_number_beyond_double_precision_is_found_wherever_it_stands() {
        let found = |text: &str| {
            let document = Document::read(text.as_bytes()).unwrap();
            beyond_range(document.root(), &ValuePath::Root.key("item")).map(|fault| fault.path)
        };
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
