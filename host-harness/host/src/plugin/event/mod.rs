//! The rules for the body of an event: one JSON object on one line that every reader understands in the same way. The
//! check reads the body once and builds nothing from it.

pub mod plainly;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::limits::EVENT_LEVELS;
use crate::text::{cut, plain};

/// Returns the fault in the body of the event with this uid. Readers disagree about lone surrogates, unescaped control
/// characters, duplicate keys in one object, and more levels than [`EVENT_LEVELS`].
pub fn judge(uid: &str, body: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(body).map_err(|_| "it is not UTF-8".to_owned())?;
    if !text.starts_with('{') {
        return Err("it does not begin with {".to_owned());
    }
    if memchr::memchr2(b'\n', b'\r', body).is_some() {
        return Err("it has a line end".to_owned());
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let part = EventPart { uid, level: 0, kind: PartKind::Event };
    part.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|error| error.to_string())
}

/// A value within an event, and the number of levels around it.
#[derive(Clone, Copy)]
struct EventPart<'a> {
    uid: &'a str,
    level: usize,
    kind: PartKind,
}

/// The part of the event, as far as the rules distinguish parts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PartKind {
    Event,
    Metadata,
    Uid,
    Elsewhere,
}

impl EventPart<'_> {
    /// Refuses a value other than the event's uid in the place of the metadata's uid, by which sinks and readers
    /// distinguish events.
    fn other_than_uid<E: Error>(self) -> Result<(), E> {
        if self.kind == PartKind::Uid { Err(E::custom("metadata.uid is not the uid of the event")) } else { Ok(()) }
    }

    /// Describes a value one level deeper.
    fn inside<E: Error>(self, key: &str) -> Result<Self, E> {
        if self.level >= EVENT_LEVELS {
            return Err(E::custom(format_args!("it has more than {EVENT_LEVELS} levels")));
        }
        let kind = match (self.kind, key) {
            (PartKind::Event, "metadata") => PartKind::Metadata,
            (PartKind::Metadata, "uid") => PartKind::Uid,
            _ => PartKind::Elsewhere,
        };
        Ok(EventPart { level: self.level + 1, kind, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for EventPart<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EventPart<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.other_than_uid()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.other_than_uid()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.other_than_uid()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.other_than_uid()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.other_than_uid()
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if text == self.uid { Ok(()) } else { self.other_than_uid() }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.other_than_uid()?;
        let inside = self.inside("")?;
        // The items of a list are not members of the event or its metadata.
        let inside = EventPart { kind: PartKind::Elsewhere, ..inside };
        while items.next_element_seed(inside)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.other_than_uid()?;
        let mut seen = Keys::default();
        self.inside::<A::Error>("")?;
        while let Some(key) = members.next_key_seed(MemberName)? {
            let inside = self.inside(&key)?;
            if let Err(twice) = seen.add(key) {
                return Err(A::Error::custom(format_args!("the key {:?} appears twice", plain(cut(&twice, 64)))));
            }
            members.next_value_seed(inside)?;
        }
        Ok(())
    }
}

/// The keys of one object. A few keys are compared one by one, which costs less than hashing them.
#[derive(Default)]
struct Keys<'de> {
    few: Vec<Cow<'de, str>>,
    more: HashSet<Cow<'de, str>>,
}

impl<'de> Keys<'de> {
    /// Number of keys that are compared one by one.
    const FEW: usize = 16;

    /// Adds a key; returns it if it is already there.
    fn add(&mut self, key: Cow<'de, str>) -> Result<(), Cow<'de, str>> {
        if self.few.contains(&key) {
            return Err(key);
        }
        if self.few.len() < Self::FEW {
            self.few.push(key);
            return Ok(());
        }
        self.more.replace(key).map_or(Ok(()), Err)
    }
}

/// A key, copied only if it has escapes.
struct MemberName;

impl<'de> DeserializeSeed<'de> for MemberName {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for MemberName {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        let inner = levels - 1;
        format!("{{\"a\":{}{}}}", "[".repeat(inner), "]".repeat(inner))
    }

    #[test]
    fn an_event_is_one_object_that_every_reader_takes_for_the_same() {
        for good in [
            "{}",
            "{ \"a\" : [1, -2.5e3, true, null, \"\\u00e9\\ud83d\\ude00\\n\"] } ",
            "{\"metadata\":{\"uid\":\"u\"},\"a\":{\"metadata\":{\"uid\":\"other\"}},\"uid\":\"other\"}",
            "{\"metadata\":{\"u\\u0069d\":\"\\u0075\"}}",
            "{\"metadata\":[{\"uid\":\"other\"}]}",
            "{\"a\":{\"b\":1},\"b\":{\"b\":1}}",
            "{\"\u{2028}\":1}",
            &nested(EVENT_LEVELS),
        ] {
            assert_eq!(judge("u", good.as_bytes()), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", "does not begin with {"),
            ("[]", "does not begin with {"),
            (" {}", "does not begin with {"),
            ("{\"a\":\n1}", "a line end"),
            ("{}\r", "a line end"),
            ("{\"a\":1", "EOF"),
            ("{\"a\":1,}", "trailing comma"),
            ("{} {}", "trailing characters"),
            ("{\"a\":01}", "invalid number"),
            ("{\"a\":NaN}", "expected value"),
            ("{\"a\":\"\t\"}", "control character"),
            ("{\"a\\u0000\t\":1}", "control character"),
            ("{\"a\":\"\\ud800\"}", "hex escape"),
            ("{\"a\":\"\\udc00\"}", "hex escape"),
            ("{\"a\":\"\\ud800\\ud800\"}", "hex escape"),
            ("{\"\\ud800\":1}", "hex escape"),
            ("{\"a\":[[\"\\ud800 \"]]}", "hex escape"),
            ("{\"a\":1,\"b\":2,\"a\":1}", "the key \"a\" appears twice"),
            ("{\"a\":1,\"\\u0061\":1}", "the key \"a\" appears twice"),
            ("{\"b\":[{\"a\":1,\"a\":2}]}", "the key \"a\" appears twice"),
            ("{\"metadata\":{\"uid\":\"u\"},\"metadata\":{\"uid\":\"v\"}}", "the key \"metadata\" appears twice"),
            ("{\"metadata\":{\"uid\":\"v\"}}", "metadata.uid"),
            ("{\"met\\u0061data\":{\"uid\":\"v\"}}", "metadata.uid"),
            ("{\"metadata\":{\"uid\":1}}", "metadata.uid"),
            ("{\"metadata\":{\"uid\":[\"u\"]}}", "metadata.uid"),
            ("{\"metadata\":{\"uid\":{\"uid\":\"u\"}}}", "metadata.uid"),
            ("{\"metadata\":{\"uid\":null}}", "metadata.uid"),
            (&nested(EVENT_LEVELS + 1), "more than 64 levels"),
            (&nested(32_000), "more than 64 levels"),
            (&format!("{}1{}", "{\"a\":".repeat(65), "}".repeat(65)), "more than 64 levels"),
            (&format!("{}{{{}", "{\"a\":".repeat(64), "}".repeat(65)), "more than 64 levels"),
        ] {
            let found = judge("u", bad.as_bytes());
            assert!(found.as_ref().is_err_and(|words| words.contains(why)), "{bad}: {found:?}, expected {why}");
        }
        assert!(judge("u", b"{\"a\":\"\xff\"}").is_err());
        for (first, again) in [(0, 0), (0, 99), (40, 0), (40, 99)] {
            let keys = (0..100).map(|key| format!("\"{}\":{key}", if key == again { first } else { key }));
            let text = format!("{{{}}}", keys.collect::<Vec<_>>().join(","));
            assert_eq!(judge("u", text.as_bytes()).is_err(), first != again, "{first} again at {again}");
        }
    }

    #[test]
    fn the_judgement_is_that_of_a_parser_that_makes_a_tree() {
        const WORDS: [&str; 20] = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"a\"",
            "\"\\u0061\"",
            "\"b\"",
            "\"\\ud800\"",
            "\"\\ud83d\\ude00\"",
            "1",
            "-0.5",
            "null",
            " ",
            "\"",
            "\\",
            "{\"a\":",
            "[[",
            "]}",
        ];
        let mut state = 1_u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut good = 0;
        for _ in 0..200_000 {
            let count = next(9);
            let text = "{".to_owned() + &(0..count).map(|_| WORDS[next(WORDS.len())]).collect::<String>() + "}";
            let expected = plainly::is_good("u", text.as_bytes());
            assert_eq!(judge("u", text.as_bytes()).is_ok(), expected, "{text}");
            good += usize::from(expected && text.len() > 2);
        }
        assert!(good > 200, "{good}");
    }
}
