//! The charset of an answer's text (RFC 9110, section 8.3.2). The host searches answers for secrets as UTF-8, and
//! therefore decodes other charsets first.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use crate::network::{IncomingResponse, TransportError};

/// Characters of a charset's name that are shown; the longest registered name has 45.
const SHOWN_CHARACTERS: usize = 48;

/// A charset that the host decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    Known(&'static Encoding),
    /// UTF-32, with the lowest byte of a character first or last.
    Utf32 {
        is_little: bool,
    },
}

/// Converts a body to UTF-8 if its header declares another charset, and changes the header. A byte order mark takes
/// precedence over the header, and zeros among the first bytes identify UTF-16 and UTF-32. An unknown charset is an
/// error, and leaves the body unchanged.
pub fn decode(response: &mut IncomingResponse) -> Result<(), TransportError> {
    if response.body.is_empty() {
        return Ok(());
    }
    let Some(charset) = declared(&response.headers)? else { return Ok(()) };
    let is_of_ascii =
        |encoding: &'static Encoding| encoding == UTF_8 || encoding.is_ascii_compatible() && response.body.is_ascii();
    let text = match (unannounced_text(&response.body), charset) {
        (Some(text), _) => text,
        (None, Charset::Known(encoding)) if is_of_ascii(encoding) => return Ok(()),
        (None, charset) => decoded(charset, &response.body),
    };
    *response = with_text(response, text);
    Ok(())
}

/// Returns the answer in UTF-8 if its first bytes alone identify UTF-16 or UTF-32.
pub(crate) fn unannounced(response: &IncomingResponse) -> Option<IncomingResponse> {
    unannounced_text(&response.body).map(|text| with_text(response, text))
}

fn unannounced_text(body: &[u8]) -> Option<String> {
    match marked(body) {
        Some((charset, mark)) => Some(decoded(charset, &body[mark..])),
        None => strictly(zeros(body)?, body),
    }
}

fn with_text(response: &IncomingResponse, text: String) -> IncomingResponse {
    let mut headers = response.headers.clone();
    for (_, value) in headers.iter_mut().filter(|(name, _)| name == "content-type") {
        let media_type = value.split(';').next().unwrap_or_default().trim();
        *value = format!("{media_type}; charset=utf-8");
    }
    IncomingResponse { status: response.status, headers, body: text.into_bytes() }
}

/// A value of `accept` without the parameters that ask for a charset.
pub(crate) fn without_charset(accept: &str) -> String {
    let kept = |range: &str| {
        let parameters = range.split(';').filter(|parameter| !asks_for_charset(parameter));
        parameters.collect::<Vec<_>>().join(";")
    };
    accept.split(',').map(kept).collect::<Vec<_>>().join(",")
}

/// Says whether a parameter asks for a charset, under any name.
fn asks_for_charset(parameter: &str) -> bool {
    let parameter = parameter.to_ascii_lowercase();
    let value = parameter.split_once('=').map_or("", |(_, value)| value);
    let value = value.trim_matches(|one: char| one.is_whitespace() || one == '"' || one == '\'');
    parameter.contains("charset") || value.starts_with("utf") || Encoding::for_label(value.as_bytes()).is_some()
}

/// The charset that the headers declare; `None` if they declare none.
fn declared(headers: &[(String, String)]) -> Result<Option<Charset>, TransportError> {
    let lines = headers.iter().filter(|(name, _)| name == "content-type");
    let parameters = lines.flat_map(|(_, value)| value.split([';', ','])).filter_map(|one| one.split_once('='));
    let charsets = parameters.filter(|(name, _)| name.trim().to_ascii_lowercase().starts_with("charset"));
    let is_around = |one: char| one.is_whitespace() || one == '"' || one == '\'';
    let mut labels: Vec<String> =
        charsets.map(|(_, label)| label.trim_matches(is_around).to_ascii_lowercase()).collect();
    labels.retain(|label| !label.is_empty());
    labels.dedup();
    let known = match labels.as_slice() {
        [] => return Ok(None),
        [label] => known(label),
        _ => None,
    };
    let shown = || labels.join(", ").chars().take(SHOWN_CHARACTERS).flat_map(char::escape_default).collect();
    known.map(Some).ok_or_else(|| TransportError::Charset(shown()))
}

fn known(label: &str) -> Option<Charset> {
    match label {
        "utf-32" | "utf-32be" | "utf32" | "ucs-4" | "iso-10646-ucs-4" => Some(Charset::Utf32 { is_little: false }),
        "utf-32le" => Some(Charset::Utf32 { is_little: true }),
        // Without a mark, and without zeros that show the order, the higher byte comes first.
        "utf-16" => Some(Charset::Known(UTF_16BE)),
        _ => Encoding::for_label_no_replacement(label.as_bytes()).map(Charset::Known),
    }
}

/// The charset that a byte order mark identifies, and the length of the mark. Readers handle the mark of UTF-8
/// themselves.
fn marked(body: &[u8]) -> Option<(Charset, usize)> {
    let marks: [(&[u8], Charset); 4] = [
        (&[0xff, 0xfe, 0, 0], Charset::Utf32 { is_little: true }),
        (&[0, 0, 0xfe, 0xff], Charset::Utf32 { is_little: false }),
        (&[0xff, 0xfe], Charset::Known(UTF_16LE)),
        (&[0xfe, 0xff], Charset::Known(UTF_16BE)),
    ];
    marks.into_iter().find(|(mark, _)| body.starts_with(mark)).map(|(mark, charset)| (charset, mark.len()))
}

/// The charset that zeros among the first bytes identify, if the text begins with an ASCII character.
fn zeros(body: &[u8]) -> Option<Charset> {
    let is_zero = |place: usize| body.get(place).is_some_and(|byte| *byte == 0);
    match [0, 1, 2, 3].map(is_zero) {
        [true, true, true, false] => Some(Charset::Utf32 { is_little: false }),
        [false, true, true, true] => Some(Charset::Utf32 { is_little: true }),
        [true, false, ..] => Some(Charset::Known(UTF_16BE)),
        [false, true, ..] => Some(Charset::Known(UTF_16LE)),
        _ => None,
    }
}

/// Decodes the text, with a replacement for invalid bytes.
fn decoded(charset: Charset, body: &[u8]) -> String {
    match charset {
        Charset::Known(encoding) => encoding.decode_without_bom_handling(body).0.into_owned(),
        Charset::Utf32 { is_little } => {
            let (units, rest) = body.as_chunks::<4>();
            let one = |unit: &[u8; 4]| {
                let number = if is_little { u32::from_le_bytes(*unit) } else { u32::from_be_bytes(*unit) };
                char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER)
            };
            units.iter().map(one).chain((!rest.is_empty()).then_some(char::REPLACEMENT_CHARACTER)).collect()
        }
    }
}

/// Decodes the text; `None` if the bytes are invalid in this charset.
fn strictly(charset: Charset, body: &[u8]) -> Option<String> {
    match charset {
        Charset::Known(encoding) => {
            let text = encoding.decode_without_bom_handling_and_without_replacement(body)?;
            Some(text.into_owned())
        }
        Charset::Utf32 { .. } => {
            Some(decoded(charset, body)).filter(|text| !text.contains(char::REPLACEMENT_CHARACTER))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    fn utf32(text: &str, bytes: fn(u32) -> [u8; 4]) -> Vec<u8> {
        text.chars().map(u32::from).flat_map(bytes).collect()
    }

    /// Returns the body and the content types after decoding.
    fn read(types: &[&str], body: &[u8]) -> Result<(Vec<u8>, Vec<String>), String> {
        let headers = types.iter().map(|value| ("content-type".to_owned(), (*value).to_owned())).collect();
        let mut response = IncomingResponse { status: 200, headers, body: body.to_vec() };
        decode(&mut response).map_err(|error| error.to_string())?;
        Ok((response.body, response.headers.into_iter().map(|(_, value)| value).collect()))
    }

    #[test]
    fn a_charset_is_decoded_by_its_mark_its_zeros_or_its_name() {
        const TEXT: &str = "{\"a\":\"Schlüssel\"}";
        let marked = format!("\u{feff}{TEXT}");
        for (name, body) in [
            ("utf-16", utf16(&marked, u16::to_le_bytes)),
            ("utf-16", utf16(&marked, u16::to_be_bytes)),
            ("UTF-16LE", utf16(TEXT, u16::to_le_bytes)),
            ("utf-16be", utf16(TEXT, u16::to_be_bytes)),
            ("utf-16", utf16(TEXT, u16::to_be_bytes)),
            ("utf-16", utf16(TEXT, u16::to_le_bytes)),
            ("ucs-2", utf16(TEXT, u16::to_le_bytes)),
            ("utf-32", utf32(&marked, u32::to_le_bytes)),
            ("utf-32", utf32(&marked, u32::to_be_bytes)),
            ("utf-32le", utf32(TEXT, u32::to_le_bytes)),
            ("\"utf-32BE\"", utf32(TEXT, u32::to_be_bytes)),
            ("iso-8859-1", TEXT.chars().map(|one| u8::try_from(u32::from(one)).unwrap()).collect()),
        ] {
            let declared = format!("application/json; charset={name}");
            let told = vec!["application/json; charset=utf-8".to_owned()];
            assert_eq!(read(&[&declared], &body), Ok((TEXT.as_bytes().to_vec(), told)), "{declared}");
            // Without a declared charset, the body stays unchanged, and a search of the body decodes it.
            assert_eq!(read(&["application/json"], &body).map(|(body, _)| body), Ok(body.clone()), "{name}");
            let found = unannounced(&IncomingResponse { body, ..IncomingResponse::default() });
            assert_eq!(found.map(|found| found.body), (name != "iso-8859-1").then(|| TEXT.into()), "{name}");
        }
        // If the text does not begin with an ASCII character, only the name identifies the charset.
        let (body, _) = read(&["text/plain;charset=utf-16le"], &utf16("ü☃", u16::to_le_bytes)).unwrap();
        assert_eq!(body, "ü☃".as_bytes());
    }

    #[test]
    fn what_is_utf8_or_no_text_stays_to_the_byte() {
        for (types, body) in [
            (&[][..], &b"\xef\xbb\xbf{}"[..]),
            (&["application/json"], b"\xff\x01"),
            (&["application/json; charset=UTF-8"], b"\xffa"),
            (&["text/plain; charset=us-ascii", "text/plain"], b"a"),
            (&["text/plain; charset=\"\""], b"a"),
            // A video begins with zeros, too.
            (&["video/mp4; charset=utf-8"], b"\0\0\0\x1cftypisom\xff\xff\xff\xff\xff"),
            (&["application/x; charset=utf-7"], b""),
        ] {
            let told: Vec<String> = types.iter().map(|value| (*value).to_owned()).collect();
            assert_eq!(read(types, body), Ok((body.to_vec(), told)), "{types:?}");
        }
    }

    #[test]
    fn an_unknown_charset_is_named() {
        for (types, named) in [
            (&["text/plain; charset=utf-7"][..], "utf-7"),
            (&["text/plain; Charset = \"UTF-7\""], "utf-7"),
            (&["text/plain; charset=hz-gb-2312"], "hz-gb-2312"),
            (&["text/plain; charset=utf-8; charset=utf-16"], "utf-8, utf-16"),
            (&["text/plain; charset=utf-8", "text/plain; charset=latin1"], "utf-8, latin1"),
            (&["text/plain; charset=ebc\u{7}dic"], "ebc\\u{7}dic"),
        ] {
            let told = read(types, b"+AGEA").unwrap_err();
            assert_eq!(told, format!("the header `content-type`: found the charset {named}, expected UTF-8"));
        }
    }

    #[test]
    fn a_parameter_that_asks_for_a_charset_is_known() {
        for parameter in ["charset=utf-8", " CharSet*=x", "encoding=\"utf-16\"", "x=utf-7", "v=latin1"] {
            assert!(asks_for_charset(parameter), "{parameter}");
        }
        for parameter in ["q=0.5", "odata.metadata=full", " IEEE754Compatible=true", "profile=\"https://x\"", "v=2"] {
            assert!(!asks_for_charset(parameter), "{parameter}");
        }
        let accept = "application/json;odata.metadata=full; charset=utf-16, text/*;Encoding=UTF-7;q=0.5, */*";
        assert_eq!(without_charset(accept), "application/json;odata.metadata=full, text/*;q=0.5, */*");
        assert_eq!(without_charset("application/json"), "application/json");
    }
}
