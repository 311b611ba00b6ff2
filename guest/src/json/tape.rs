//! Reads a document in one pass into a flat list of its values. The values are in the order in which they begin, each
//! with its place in the text.

use crate::json::plain::plain_length;
use crate::json::{MAX_DEPTH, MAX_VALUES};
use crate::number::{self, MAX_PLAIN_DIGITS};

/// The place of a value or a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// The first byte of its text.
    pub start: usize,
    /// The byte after its text.
    pub end: usize,
    /// The index of the span after this span and all spans inside it.
    pub next: usize,
    /// Whether the span is a string with escapes.
    pub escaped: bool,
}

/// The spans of a text. The members of an object are in turns: a key, then its value.
#[derive(Debug, Default)]
pub(super) struct Tape {
    pub spans: Vec<Span>,
    /// Whether there is white space between tokens.
    pub has_white_space: bool,
    /// Whether a string contains an escaped surrogate.
    pub has_surrogates: bool,
    /// Whether a number may be beyond the range of double precision.
    pub has_large_numbers: bool,
}

/// The bytes of text for each span that is reserved. Short objects make more spans than other text; the list grows if
/// the estimate is too low.
const BYTES_A_SPAN: usize = 24;

/// Returns the spans of a document, or `None` where the exact reader may find a fault.
pub(super) fn read(text: &str) -> Option<Tape> {
    let tape = Tape { spans: Vec::with_capacity(text.len() / BYTES_A_SPAN + 8), ..Tape::default() };
    let mut reader = Reader { bytes: text.as_bytes(), at: 0, tape };
    reader.white_space();
    reader.value(MAX_DEPTH)?;
    reader.white_space();
    (reader.at == text.len()).then_some(reader.tape)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    tape: Tape,
}

impl Reader<'_> {
    fn next(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.next() {
            self.at += 1;
            self.tape.has_white_space = true;
        }
    }

    /// Reads a value with at most `levels` levels of objects and lists.
    fn value(&mut self, levels: usize) -> Option<()> {
        match self.next()? {
            b'"' => self.string(),
            b'{' => self.container(levels, b'}', |reader, levels| {
                reader.string_after_quote()?;
                reader.white_space();
                reader.take(b':')?;
                reader.white_space();
                reader.value(levels)
            }),
            b'[' => self.container(levels, b']', Reader::value),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then(|| self.at += 1)
    }

    fn push(&mut self, start: usize, escaped: bool) -> Option<()> {
        let next = self.tape.spans.len() + 1;
        (next <= MAX_VALUES).then(|| self.tape.spans.push(Span { start, end: self.at, next, escaped }))
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let start = self.at;
        self.at += self.bytes[start..].starts_with(word).then_some(word.len())?;
        self.push(start, false)
    }

    fn container(&mut self, levels: usize, end: u8, entry: impl Fn(&mut Self, usize) -> Option<()>) -> Option<()> {
        let (levels, index, start) = (levels.checked_sub(1)?, self.tape.spans.len(), self.at);
        self.at += 1;
        self.push(start, false)?;
        self.white_space();
        if self.next()? != end {
            loop {
                entry(self, levels)?;
                self.white_space();
                match self.next()? {
                    b',' => self.at += 1,
                    byte if byte == end => break,
                    _ => return None,
                }
                self.white_space();
            }
        }
        self.at += 1;
        let next = self.tape.spans.len();
        let span = &mut self.tape.spans[index];
        (span.end, span.next) = (self.at, next);
        Some(())
    }

    fn string_after_quote(&mut self) -> Option<()> {
        if self.next()? == b'"' { self.string() } else { None }
    }

    fn string(&mut self) -> Option<()> {
        let (start, mut escaped) = (self.at, false);
        self.at += 1;
        loop {
            self.at += plain_length(&self.bytes[self.at..]);
            match self.next()? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return None,
            }
        }
        self.at += 1;
        self.push(start, escaped)
    }

    fn escape(&mut self) -> Option<()> {
        match self.bytes.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => {
                let digits = self.bytes.get(self.at + 2..self.at + 6)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                self.tape.has_surrogates |= matches!(digits, [b'd' | b'D', second, ..] if *second >= b'8');
                self.at += 6;
            }
            _ => return None,
        }
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        let length = number::length(&self.bytes[start..])?;
        self.at += length;
        let has_exponent = || self.bytes[start..self.at].iter().any(|byte| matches!(byte, b'e' | b'E'));
        self.tape.has_large_numbers |= length > MAX_PLAIN_DIGITS || has_exponent();
        self.push(start, false)
    }
}
