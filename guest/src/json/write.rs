//! JSON as this plugin writes it: compact, appended to a text, and with the members in the given order.

use std::io::Write;

use crate::json::plain::{is_special, plain_in_word};
use crate::number::Exact;

/// A value that can be written.
pub trait Json {
    /// Appends the value to a text.
    fn write(&self, out: &mut Vec<u8>);
}

/// Returns a value as a new text.
pub fn text(value: &(impl Json + ?Sized)) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    value.write(&mut out);
    out
}

/// Members of an object that is being written.
pub struct MembersWriter<'a> {
    out: &'a mut Vec<u8>,
}

/// Writes an object.
pub fn object(out: &mut Vec<u8>, members: impl FnOnce(&mut MembersWriter<'_>)) {
    out.push(b'{');
    let begin = out.len();
    members(&mut MembersWriter { out });
    // Each member ends with a comma, and the last comma is removed.
    if out.len() > begin {
        out.pop();
    }
    out.push(b'}');
}

impl MembersWriter<'_> {
    /// Appends members that are already JSON, without a comma after the last.
    pub fn written(&mut self, members: impl AsRef<[u8]>) {
        self.out.extend_from_slice(members.as_ref());
        self.out.push(b',');
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
    pub fn foreign(&mut self, key: &str, value: impl AsRef<[u8]>) {
        key.write(self.out);
        self.out.push(b':');
        self.written(value);
    }

    /// Appends a member with a key that may need escapes.
    pub fn found(&mut self, key: &str, value: &(impl Json + ?Sized)) {
        key.write(self.out);
        self.out.push(b':');
        value.write(self.out);
        self.out.push(b',');
    }

    /// Appends a member whose value is written by `write`.
    pub fn value_of(&mut self, key: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        write(self.out);
        self.out.push(b',');
    }
}

impl<T: Json + ?Sized> Json for &T {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
}

impl<T: Json> Json for [T] {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, item) in self.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            item.write(out);
        }
        out.push(b']');
    }
}

impl Json for u64 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
    }
}

impl Json for usize {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
    }
}

impl Json for u8 {
    fn write(&self, out: &mut Vec<u8>) {
        u64::from(*self).write(out);
    }
}

impl Json for Exact {
    fn write(&self, out: &mut Vec<u8>) {
        let _ = write!(out, "{self}");
    }
}

impl Json for String {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_str().write(out);
    }
}

/// A string. Eight bytes are copied at a time, and the rest is taken back from the first byte that needs an escape.
impl Json for str {
    fn write(&self, out: &mut Vec<u8>) {
        let mut rest = self.as_bytes();
        out.reserve(rest.len() + 2);
        out.push(b'"');
        while let Some((word, after)) = rest.split_first_chunk::<8>() {
            out.extend_from_slice(word);
            let plain = plain_in_word(*word);
            rest = match rest.get(plain).filter(|_| plain < word.len()) {
                None => after,
                Some(special) => {
                    out.truncate(out.len() - (word.len() - plain));
                    escape(*special, out);
                    &rest[plain + 1..]
                }
            };
        }
        for byte in rest {
            if is_special(*byte) { escape(*byte, out) } else { out.push(*byte) }
        }
        out.push(b'"');
    }
}

fn escape(special: u8, out: &mut Vec<u8>) {
    let short = match special {
        b'"' | b'\\' => special,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        control => {
            let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(control >> 4), digit(control & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_escaped_as_by_others() {
        let all: String = (0..0x300).filter_map(char::from_u32).chain("plain \u{2028} \u{1f600}".chars()).collect();
        assert_eq!(text(all.as_str()), serde_json::to_vec(&all).unwrap());
        for character in all.chars() {
            for before in 0..18 {
                let one = format!("{}{character}z\"", "x".repeat(before));
                assert_eq!(text(one.as_str()), serde_json::to_vec(&one).unwrap());
            }
        }
    }

    #[test]
    fn members_have_commas_between_them() {
        let mut out = Vec::new();
        object(&mut out, |members| {
            members.object("none", |_| {});
            members.member("list", &[1_u64, 20][..]);
            members.optional("absent", None::<&str>);
            members.written(r#""a":1,"b":2"#);
            members.foreign("k\"", "[ ]");
        });
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"none":{},"list":[1,20],"a":1,"b":2,"k\"":[ ]}"#);
    }
}
