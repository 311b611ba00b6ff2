//! JSON as this plugin writes it: compact, appended to a text, and with the members in the given order.

use std::fmt::Write;

use crate::json::plain::plain_length;
use crate::number::Exact;

/// A value that can be written.
pub trait Json {
    /// Appends the value to a text.
    fn write(&self, out: &mut String);
}

/// Returns a value as a new text.
pub fn text(value: &(impl Json + ?Sized)) -> String {
    let mut out = String::with_capacity(128);
    value.write(&mut out);
    out
}

/// Members of an object that is being written.
pub struct MembersWriter<'a> {
    out: &'a mut String,
}

/// Writes an object.
pub fn object(out: &mut String, members: impl FnOnce(&mut MembersWriter<'_>)) {
    out.push('{');
    let begin = out.len();
    members(&mut MembersWriter { out });
    // Each member ends with a comma, and the last comma is removed.
    if out.len() > begin {
        out.pop();
    }
    out.push('}');
}

impl MembersWriter<'_> {
    /// Appends members that are already JSON, without a comma after the last.
    pub fn written(&mut self, members: &str) {
        self.out.push_str(members);
        self.out.push(',');
    }

    /// Appends a member whose key needs no escapes.
    pub fn member(&mut self, key: &'static str, value: &(impl Json + ?Sized)) {
        self.value_of(key, |out| value.write(out));
    }

    /// Appends a member if there is a value.
    pub fn optional(&mut self, key: &'static str, value: Option<&(impl Json + ?Sized)>) {
        if let Some(value) = value {
            self.member(key, value);
        }
    }

    /// Appends a member whose value is an object.
    pub fn object(&mut self, key: &'static str, members: impl FnOnce(&mut MembersWriter<'_>)) {
        self.value_of(key, |out| object(out, members));
    }

    /// Appends a member with a key that may need escapes and a value that is already JSON.
    pub fn foreign(&mut self, key: &str, value: &str) {
        key.write(self.out);
        self.out.push(':');
        self.written(value);
    }

    /// Appends a member with a key that may need escapes.
    pub fn found(&mut self, key: &str, value: &(impl Json + ?Sized)) {
        key.write(self.out);
        self.out.push(':');
        value.write(self.out);
        self.out.push(',');
    }

    /// Appends a member whose value is written by `write`.
    pub fn value_of(&mut self, key: &'static str, write: impl FnOnce(&mut String)) {
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
        write(self.out);
        self.out.push(',');
    }
}

impl<T: Json + ?Sized> Json for &T {
    fn write(&self, out: &mut String) {
        (**self).write(out);
    }
}

impl<T: Json> Json for [T] {
    fn write(&self, out: &mut String) {
        out.push('[');
        for (index, item) in self.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            item.write(out);
        }
        out.push(']');
    }
}

impl Json for u64 {
    fn write(&self, out: &mut String) {
        out.push_str(itoa::Buffer::new().format(*self));
    }
}

impl Json for usize {
    fn write(&self, out: &mut String) {
        out.push_str(itoa::Buffer::new().format(*self));
    }
}

impl Json for u8 {
    fn write(&self, out: &mut String) {
        u64::from(*self).write(out);
    }
}

impl Json for Exact {
    fn write(&self, out: &mut String) {
        let _ = write!(out, "{self}");
    }
}

impl Json for String {
    fn write(&self, out: &mut String) {
        self.as_str().write(out);
    }
}

/// A string. Each part that needs no escape is copied in one piece.
impl Json for str {
    fn write(&self, out: &mut String) {
        let mut rest = self;
        out.reserve(rest.len() + 2);
        out.push('"');
        loop {
            let length = plain_length(rest.as_bytes());
            out.push_str(&rest[..length]);
            let Some(special) = rest.as_bytes().get(length) else { break };
            escape(*special, out);
            rest = &rest[length + 1..];
        }
        out.push('"');
    }
}

fn escape(special: u8, out: &mut String) {
    match special {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        0x08 => out.push_str("\\b"),
        0x0c => out.push_str("\\f"),
        control => {
            let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
            out.push_str("\\u00");
            out.push(digit(control >> 4));
            out.push(digit(control & 15));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_escaped_as_by_others() {
        let all: String = (0..0x300).filter_map(char::from_u32).chain("plain \u{2028} \u{1f600}".chars()).collect();
        assert_eq!(text(all.as_str()), serde_json::to_string(&all).unwrap());
        for character in all.chars() {
            for before in 0..18 {
                let one = format!("{}{character}z\"", "x".repeat(before));
                assert_eq!(text(one.as_str()), serde_json::to_string(&one).unwrap());
            }
        }
    }

    #[test]
    fn members_have_commas_between_them() {
        let mut out = String::new();
        object(&mut out, |members| {
            members.object("none", |_| {});
            members.member("list", &[1_u64, 20][..]);
            members.optional("absent", None::<&str>);
            members.written(r#""a":1,"b":2"#);
            members.foreign("k\"", "[ ]");
        });
        assert_eq!(out, r#"{"none":{},"list":[1,20],"a":1,"b":2,"k\"":[ ]}"#);
    }
}
