//! The encoding of an answer's body (RFC 9110, section 8.4). The host checks all headers about the encoding before it
//! decodes anything, and counts decoded bytes as they arrive.

use std::io::{self, Write};

use flate2::write::GzDecoder;

use crate::cause::Cause;
use crate::limits::GZIP_MEMBERS;
use crate::network::TransportError;

/// The encoding that this host asks for.
pub(crate) const ACCEPTED: &str = "gzip";

/// Characters of an encoding's name that are shown; no registered name has more than twelve.
const SHOWN_CHARACTERS: usize = 32;

/// The one transfer coding that the HTTP client removes (RFC 9112, section 7): under another, a body stays encoded.
const CHUNKED: &str = "chunked";

/// The body of one answer.
pub(crate) enum Body {
    Plain(Bounded),
    Gzip(Box<Gzip>),
}

/// A gzip stream, which consists of members.
pub(crate) struct Gzip {
    member: GzDecoder<Bounded>,
    members: usize,
    encoded_bytes: usize,
}

/// Bytes up to a limit.
#[derive(Default)]
pub(crate) struct Bounded {
    bytes: Vec<u8>,
    most: usize,
    is_full: bool,
}

impl Body {
    /// Makes a body of at most `most` bytes, encoded as these headers say; the headers' names are in lower case.
    pub(crate) fn new(headers: &[(String, String)], most: usize) -> Result<Body, TransportError> {
        let transfers: Vec<String> = named(headers, "transfer-encoding").filter(|coding| coding != CHUNKED).collect();
        if !transfers.is_empty() {
            let found = shown(&transfers);
            let words = format!("the header `transfer-encoding`: found {found}, expected {CHUNKED} or none");
            return Err(TransportError::Malformed(Cause::new(words)));
        }
        let codings: Vec<String> = named(headers, "content-encoding").collect();
        let bounded = Bounded { most, ..Bounded::default() };
        match codings.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => Ok(Body::Plain(bounded)),
            ["gzip" | "x-gzip"] => {
                let member = GzDecoder::new(bounded);
                Ok(Body::Gzip(Box::new(Gzip { member, members: 1, encoded_bytes: 0 })))
            }
            _ => Err(TransportError::Encoded(shown(&codings))),
        }
    }

    /// Takes the next bytes of the wire.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        match self {
            Body::Plain(bounded) => {
                let taken = bounded.write_all(bytes);
                taken.map_err(|_| TransportError::TooLarge(bounded.most))
            }
            Body::Gzip(gzip) => gzip.take(bytes),
        }
    }

    /// The same body with the next bytes of the wire.
    pub(crate) fn taking(mut self, bytes: &[u8]) -> Result<Body, TransportError> {
        self.take(bytes)?;
        Ok(self)
    }

    /// Returns the whole body. A body that ends within a member is cut off; a body without any byte is empty, whatever
    /// its headers say.
    pub(crate) fn end(self) -> Result<Vec<u8>, TransportError> {
        match self {
            Body::Plain(bounded) => Ok(bounded.bytes),
            Body::Gzip(gzip) if gzip.encoded_bytes == 0 => Ok(Vec::new()),
            Body::Gzip(gzip) => gzip.end(),
        }
    }
}

impl Gzip {
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), TransportError> {
        let most = self.member.get_ref().most;
        self.encoded_bytes += bytes.len();
        if self.encoded_bytes > most {
            return Err(TransportError::TooLarge(most));
        }
        while !bytes.is_empty() {
            match self.member.write(bytes) {
                // The member is complete: another member follows, or bytes that are not gzip.
                Ok(0) => self.next_member()?,
                Ok(taken) => bytes = &bytes[taken..],
                Err(_) if self.member.get_ref().is_full => return Err(TransportError::TooLarge(most)),
                Err(error) => return Err(bad(error)),
            }
        }
        Ok(())
    }

    fn next_member(&mut self) -> Result<(), TransportError> {
        self.members += 1;
        if self.members > GZIP_MEMBERS {
            return Err(TransportError::Undecodable(Cause::new(format!("it has more than {GZIP_MEMBERS} members"))));
        }
        let whole = std::mem::replace(&mut self.member, GzDecoder::new(Bounded::default()));
        self.member = GzDecoder::new(whole.finish().map_err(bad)?);
        Ok(())
    }

    fn end(mut self) -> Result<Vec<u8>, TransportError> {
        let ended = self.member.try_finish();
        let most = self.member.get_ref().most;
        match ended {
            Err(_) if self.member.get_ref().is_full => Err(TransportError::TooLarge(most)),
            Err(error) => Err(bad(error)),
            Ok(()) => self.member.finish().map(|bounded| bounded.bytes).map_err(bad),
        }
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            self.is_full = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The codings that the lines of a header name, except those that change nothing.
fn named<'a>(headers: &'a [(String, String)], header: &'a str) -> impl Iterator<Item = String> + 'a {
    let lines = headers.iter().filter(move |(name, _)| name == header);
    let codings = lines.flat_map(|(_, value)| value.split(',')).map(|coding| coding.trim().to_ascii_lowercase());
    codings.filter(|coding| !coding.is_empty() && coding != "identity")
}

fn shown(codings: &[String]) -> String {
    codings.join(", ").chars().take(SHOWN_CHARACTERS).flat_map(char::escape_default).collect()
}

fn bad(error: io::Error) -> TransportError {
    let early = error.kind() == io::ErrorKind::UnexpectedEof;
    TransportError::Undecodable(if early { Cause::new("it ends early") } else { Cause::new(error) })
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    /// Decodes a body that arrives in pieces of every size.
    fn decoded(lines: &[&str], body: &[u8], most: usize) -> Result<String, String> {
        let headers: Vec<_> = lines.iter().map(|line| ("content-encoding".to_owned(), (*line).to_owned())).collect();
        let mut results = [1, 2, 7, body.len().max(1)].map(|size| {
            let mut decoding = Body::new(&headers, most)?;
            body.chunks(size).try_for_each(|chunk| decoding.take(chunk))?;
            decoding.end()
        });
        results.rotate_left(1);
        let [first, rest @ ..] = results;
        assert!(rest.iter().all(|other| *other == first), "{lines:?} {first:?} {rest:?}");
        first.map(|body| String::from_utf8(body).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn gzip_has_many_names_and_nothing_has_some() {
        for lines in [
            &["gzip"][..],
            &["GZIP"],
            &["x-gzip"],
            &[" X-GZip "],
            &["gzip, identity"],
            &["identity,Gzip"],
            &["", "gzip"],
            &["identity", "gzip,"],
        ] {
            assert_eq!(decoded(lines, &gzip(b"body"), 100), Ok("body".to_owned()), "{lines:?}");
            assert_eq!(decoded(lines, b"", 100), Ok(String::new()), "{lines:?}");
        }
        for lines in [&[][..], &[""], &["identity"], &["Identity , ,"], &["", "identity"]] {
            assert_eq!(decoded(lines, b"body", 100), Ok("body".to_owned()), "{lines:?}");
        }
    }

    #[test]
    fn what_was_not_asked_for_is_named_before_anything_is_decoded() {
        for (lines, named) in [
            (&["br"][..], "br"),
            (&["deflate"], "deflate"),
            (&["Zstd"], "zstd"),
            (&["gzip, gzip"], "gzip, gzip"),
            (&["gzip", "gzip"], "gzip, gzip"),
            (&["gzip", "identity", "br"], "gzip, br"),
            (&["gz\u{7}ip"], "gz\\u{7}ip"),
            (&[&*"x".repeat(1_000)], &*"x".repeat(32)),
        ] {
            let expected = format!("the header `content-encoding`: found {named}, expected gzip or none");
            assert_eq!(decoded(lines, &gzip(&gzip(b"body")), 100), Err(expected));
        }
    }

    #[test]
    fn a_body_that_stays_encoded_on_its_way_is_not_taken() {
        let told = |value: &str| Body::new(&[("transfer-encoding".to_owned(), value.to_owned())], 100).err();
        for value in ["chunked", "Chunked", "identity", "identity, chunked"] {
            assert!(told(value).is_none(), "{value}");
        }
        for (value, named) in [("gzip, chunked", "gzip"), ("x-gzip,chunked", "x-gzip"), ("GZIP", "gzip")] {
            let words = format!("the header `transfer-encoding`: found {named}, expected chunked or none");
            assert_eq!(told(value), Some(TransportError::Malformed(Cause::new(words))), "{value}");
        }
    }

    #[test]
    fn all_members_are_one_body() {
        let members = [gzip(b"a"), gzip(b""), gzip(b"bc")].concat();
        assert_eq!(decoded(&["gzip"], &members, 100), Ok("abc".to_owned()));
        let empty = gzip(b"");
        assert_eq!(decoded(&["gzip"], &empty.repeat(GZIP_MEMBERS), 1 << 20), Ok(String::new()));
        let told = decoded(&["gzip"], &empty.repeat(GZIP_MEMBERS + 1), 1 << 20).unwrap_err();
        assert_eq!(told, format!("the body is not valid gzip: it has more than {GZIP_MEMBERS} members"));
    }

    #[test]
    fn what_is_cut_or_goes_on_is_no_body() {
        let whole = gzip(b"a body of some length");
        for end in 1..whole.len() {
            let told = decoded(&["gzip"], &whole[..end], 100).unwrap_err();
            assert!(told.starts_with("the body is not valid gzip: "), "{end}: {told}");
        }
        let two = [whole.as_slice(), &whole[..5]].concat();
        assert_eq!(decoded(&["gzip"], &two, 100).unwrap_err(), "the body is not valid gzip: it ends early");
        // The damage is in the checksum; other damage may decode to any body.
        let mut damaged = whole.clone();
        damaged[whole.len() - 8] ^= 0x55;
        for bad in
            [&b"body"[..], &[&whole[..], &b"garbage!!!"[..]].concat(), &[&whole[..], &[0; 16]].concat(), &damaged]
        {
            let told = decoded(&["gzip"], bad, 100).unwrap_err();
            assert!(told.starts_with("the body is not valid gzip: "), "{told}");
        }
    }

    #[test]
    fn a_body_has_its_limit_whatever_it_is_encoded_as() {
        let too_large = |most: usize| Err(format!("the body exceeds {most} bytes"));
        let bomb = gzip(&vec![b' '; 1 << 20]);
        assert_eq!(decoded(&["gzip"], &bomb, 1 << 20).map(|body| body.len()), Ok(1 << 20));
        assert_eq!(decoded(&["gzip"], &bomb, (1 << 20) - 1), too_large((1 << 20) - 1));
        assert_eq!(decoded(&[], b"body", 4), Ok("body".to_owned()));
        assert_eq!(decoded(&[], b"body", 3), too_large(3));
        // Encoded bytes count as well as decoded ones.
        assert_eq!(decoded(&["gzip"], &gzip(b"").repeat(10), 100), too_large(100));
    }
}
