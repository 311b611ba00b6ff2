//! The one reader of certificates and keys. It reads PEM in the forms in which people keep it (UTF-16, byte order
//! marks, `\n` as two characters, lines joined into one) and certificates in DER. It names every other format, with the
//! command that converts it.

use std::path::Path;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use zeroize::Zeroizing;

use crate::credentials::expiry::{self, Validity};
use crate::credentials::spelling;
use crate::limits::WORDS_BYTES;
use crate::text::{self, NotUtf8};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";

/// Some tools omit the padding, and some set bits after the last byte.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// One part of a PEM file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemPart {
    /// The words after `BEGIN`, such as `CERTIFICATE`.
    pub label: String,
    /// The line on which the part begins, counted from 1.
    pub line: usize,
    /// The bytes of the part; `None` where the part is damaged or encrypted.
    pub der: Option<Zeroizing<Vec<u8>>>,
}

impl PemPart {
    /// Says whether the part holds a certificate and nothing else.
    pub fn is_certificate(&self) -> bool {
        ["CERTIFICATE", "X509 CERTIFICATE"].contains(&self.label.as_str())
    }

    /// Says whether the part holds a private key of any format.
    pub fn is_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }
}

/// Returns the parts of PEM in their order; empty where the text has no PEM.
pub fn parts(text: &str) -> Vec<PemPart> {
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find(BEGIN) {
        let begin = at + found;
        at = begin + BEGIN.len();
        let Some((label, _)) = text[at..].split_once("-----") else { break };
        let line = text[..begin].matches('\n').count() + 1;
        at += label.len() + "-----".len();
        // A part without an end line stops where the next part begins.
        let rest = &text[at..];
        let body = &rest[..rest.find("-----").unwrap_or(rest.len())];
        let is_whole = rest[body.len()..].starts_with(END);
        at += body.len();
        parts.push(PemPart { label: label.to_owned(), line, der: is_whole.then(|| decoded(body)).flatten() });
    }
    parts
}

fn decoded(body: &str) -> Option<Zeroizing<Vec<u8>>> {
    // The capacity is enough for all digits: a string that grows would leave an unwiped copy behind.
    let mut digits = Zeroizing::new(String::with_capacity(body.len()));
    let mut rest = body.chars().peekable();
    while let Some(one) = rest.next() {
        // Shells, JSON and YAML turn line ends into two characters or into white space.
        if one == '\\' {
            rest.next_if(|after| ['r', 'n', 't'].contains(after));
        } else if !one.is_whitespace() && one != '\u{feff}' {
            digits.push(one);
        }
    }
    BASE64.decode(digits.as_bytes()).ok().filter(|der| !der.is_empty()).map(Zeroizing::new)
}

/// The format of a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// PKCS#8, for keys of any algorithm.
    Pkcs8,
    /// PKCS#1, for RSA keys.
    Pkcs1,
    /// SEC 1, for EC keys.
    Ec,
}

/// A private key and certificates that belong to others.
pub(super) const STRANGERS: &str = "a private key and a certificate that do not belong together";

/// Returns the private key of PEM with these parts, or what was found in place of it.
pub(super) fn private_key<'a>(pem: &str, parts: &'a [PemPart]) -> Result<(KeyKind, &'a [u8]), String> {
    if pem.contains("-----BEGIN ENCRYPTED") || pem.contains("4,ENCRYPTED") {
        return Err("a private key that is encrypted".to_owned());
    }
    let Some(private) = parts.iter().find(|part| part.is_key()) else {
        return Err(match look(pem.as_bytes()) {
            Some(Look::Pkcs7 | Look::Pkcs7Base64) => "PKCS#7, which holds no private key".to_owned(),
            Some(Look::Nothing) | None if parts.is_empty() => "no PEM".to_owned(),
            Some(look) if parts.is_empty() || [Look::Request, Look::PublicKey, Look::Revoked].contains(&look) => {
                look.name().to_owned()
            }
            _ => "no private key among its parts".to_owned(),
        });
    };
    let Some(der) = &private.der else { return Err("a private key that is cut off or not base64".to_owned()) };
    let kind = match private.label.as_str() {
        "PRIVATE KEY" => KeyKind::Pkcs8,
        "RSA PRIVATE KEY" => KeyKind::Pkcs1,
        "EC PRIVATE KEY" => KeyKind::Ec,
        "OPENSSH PRIVATE KEY" => return Err("a private key of OpenSSH".to_owned()),
        _ => return Err("a private key of an unknown format".to_owned()),
    };
    Ok((kind, der))
}

/// Returns the certificates beside a private key, at least one, or what was found in place of them.
pub(super) fn chain(parts: &[PemPart]) -> Result<Vec<&[u8]>, String> {
    let parts = parts.iter().filter(|part| part.is_certificate());
    let chain: Option<Vec<&[u8]>> = parts.map(|part| part.der.as_ref().map(|der| der.as_slice())).collect();
    match chain {
        None => Err("a certificate that is cut off or not base64".to_owned()),
        Some(chain) if chain.is_empty() => Err("a private key without its certificate".to_owned()),
        Some(chain) => Ok(chain),
    }
}

/// Trusted certificates, and the oddities of their file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorities {
    /// The certificates.
    pub roots: Vec<Root>,
    /// Whether the file also holds private keys, which this use does not need.
    pub has_key: bool,
}

/// A trusted certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The certificate in DER.
    pub der: CertificateDer<'static>,
    /// The name of its owner.
    pub subject: String,
    /// When the certificate is valid.
    pub validity: Validity,
}

impl Authorities {
    /// Returns the oddities of the file at this time, in Unix milliseconds.
    pub fn oddities(&self, now: u64) -> Vec<String> {
        let mut oddities: Vec<String> = self.roots.iter().filter_map(|root| root.oddity(now)).collect();
        if self.has_key {
            oddities
                .push("also holds a private key, which is not needed here: remove the key from the file".to_owned());
        }
        oddities
    }
}

impl Root {
    /// Returns what is odd about the certificate's validity at this time, in Unix milliseconds.
    pub fn oddity(&self, now: u64) -> Option<String> {
        let Validity { from, until } = self.validity;
        let subject = &self.subject;
        if until <= now {
            return Some(format!(
                "the certificate of {subject} expired on {}: put the new one there",
                expiry::date(until)
            ));
        }
        (from > now).then(|| {
            let from = expiry::date(from);
            format!("the certificate of {subject} is not valid before {from}: check the clock, or use the one that is valid now")
        })
    }
}

/// The reason why a file has no authority to trust: the content that was found and the content that is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnusableAuthorities(String);

/// Reads the certificates of authorities; `file` is used in error messages only.
pub fn authorities(bytes: &[u8], file: &Path) -> Result<Authorities, UnusableAuthorities> {
    authorities_or_words(bytes, file).map_err(UnusableAuthorities)
}

fn authorities_or_words(bytes: &[u8], file: &Path) -> Result<Authorities, String> {
    const EXPECTED: &str = "expected PEM with the certificate of a CA";
    if let Some(root) = root(bytes) {
        let root = root.map_err(|why| format!("found a certificate in DER in {}, which {why}", file.display()))?;
        return Ok(Authorities { roots: vec![root], has_key: false });
    }
    let found = |what: String| format!("found {what} in {}, {EXPECTED}", file.display());
    let text = match text::unicode_text(bytes) {
        Ok(text) => text,
        Err(foreign) => {
            return Err(match look(bytes) {
                Some(look) => look.message(file, Wanted::Authority),
                None => format!("{} {}", file.display(), foreign.message(file)),
            });
        }
    };
    let parts = parts(&text);
    let mut authorities = Authorities { has_key: parts.iter().any(PemPart::is_key), ..Authorities::default() };
    let certificates =
        parts.iter().filter(|part| part.label.contains("CERTIFICATE") && !part.label.contains("REQUEST"));
    for (index, part) in certificates.enumerate() {
        let number = format!("the {} certificate (line {})", ordinal(index + 1), part.line);
        if part.label == "TRUSTED CERTIFICATE" {
            let command = text::converting(file, "pem", |from, to| format!("openssl x509 -in {from} -out {to}"));
            return Err(found(format!("{number} with the label TRUSTED CERTIFICATE, which only OpenSSL reads,"))
                + &format!(": {command}"));
        }
        if !part.is_certificate() {
            return Err(found(format!("{number} with the label {}", text::plain(text::cut(&part.label, WORDS_BYTES)))));
        }
        let read = part.der.as_ref().map_or(Some(Err("is cut off or not base64".to_owned())), |der| root(der));
        match read.unwrap_or_else(|| Err("is damaged".to_owned())) {
            Ok(root) => authorities.roots.push(root),
            Err(why) => {
                return Err(format!(
                    "{number} in {} {why}: take it out of the file, or get it again from those who made it",
                    file.display()
                ));
            }
        }
    }
    if authorities.roots.is_empty() {
        return Err(match look(text.as_bytes()) {
            Some(look) => look.message(file, Wanted::Authority),
            None => found("no certificate".to_owned()),
        });
    }
    Ok(authorities)
}

fn ordinal(number: usize) -> String {
    let end = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

/// Reads a certificate in DER, or says why it cannot be trusted; `None` where the bytes are not a certificate.
pub(super) fn root(der: &[u8]) -> Option<Result<Root, String>> {
    let certificate = Certificate::from_der(der).ok()?;
    let certificate = certificate.tbs_certificate();
    let subject = text::plain(text::cut(&certificate.subject().to_string(), WORDS_BYTES));
    let subject = if subject.is_empty() { "nobody".to_owned() } else { format!("{subject:?}") };
    let validity = Validity::of(certificate);
    let der = CertificateDer::from(der.to_vec());
    Some(match RootCertStore::empty().add(der.clone()) {
        Ok(()) => Ok(Root { der, subject, validity }),
        Err(error) => Err(format!("belongs to {subject} and cannot be used ({error})")),
    })
}

/// A format that is not PEM of certificates or of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// White space only.
    Nothing,
    /// A web page.
    Page,
    /// PKCS#12, also called PFX.
    Pkcs12(Cipher),
    /// PKCS#12 in base64.
    Pkcs12Base64(Cipher),
    /// PKCS#7 in DER.
    Pkcs7Der,
    /// PKCS#7 in PEM.
    Pkcs7,
    /// A certificate in DER.
    CertificateDer,
    /// A certificate in base64 without the lines of PEM.
    Base64,
    /// A private key in base64 without the lines of PEM.
    KeyBase64,
    /// PKCS#7 in base64 without the lines of PEM.
    Pkcs7Base64,
    /// A private key in DER.
    KeyDer,
    /// A private key in PEM.
    Key,
    /// A certificate signing request.
    Request,
    /// A public key.
    PublicKey,
    /// A list of revoked certificates (CRL).
    Revoked,
    /// A Java key store.
    Java,
    /// An archive.
    Archive,
}

/// The encryption of a PKCS#12 file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// Encryption that OpenSSL reads without further options.
    Usual,
    /// RC2 or RC4, as Windows and OpenSSL 1 write it. OpenSSL 3 reads it only with `-legacy`.
    Legacy,
}

/// The purpose of a file of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// To trust the authorities in the file.
    Authority,
    /// To sign in with the file, which belongs to a setting that is a secret or a private key with its certificate.
    Credential,
}

type PartTest = fn(&PemPart) -> bool;

/// Recognises the format of a file; `None` for formats that people do not mistake for certificates.
pub fn look(bytes: &[u8]) -> Option<Look> {
    if bytes.starts_with(b"\xfe\xed\xfe\xed") {
        return Some(Look::Java);
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x1f\x8b") {
        return Some(Look::Archive);
    }
    if let Some(look) = look_of_der(bytes) {
        return Some(look);
    }
    let text = text::unicode_text(bytes).ok()?;
    let text = text.trim();
    if text.is_empty() {
        return Some(Look::Nothing);
    }
    let parts = parts(text);
    let has = |test: fn(&PemPart) -> bool| parts.iter().any(test);
    let tests: [(PartTest, Look); 5] = [
        (|part| ["PKCS7", "CMS", "PKCS #7 SIGNED DATA"].contains(&part.label.as_str()), Look::Pkcs7),
        (|part| part.label.ends_with("CERTIFICATE REQUEST"), Look::Request),
        (PemPart::is_key, Look::Key),
        (|part| part.label.ends_with("PUBLIC KEY"), Look::PublicKey),
        (|part| part.label == "X509 CRL", Look::Revoked),
    ];
    if let Some((_, look)) = tests.into_iter().find(|(test, _)| has(*test)) {
        return Some(look);
    }
    if spelling::is_page(text) {
        return Some(Look::Page);
    }
    Some(match look_of_der(&decoded(text)?)? {
        Look::Pkcs12(cipher) => Look::Pkcs12Base64(cipher),
        Look::Pkcs7Der => Look::Pkcs7Base64,
        Look::KeyDer => Look::KeyBase64,
        _ => Look::Base64,
    })
}

/// The common prefix of PKCS#12's object identifiers for encryption. The identifiers that end with 1, 2, 5 and 6 are
/// RC4 and RC2.
const PKCS12_CIPHERS: &[u8] = b"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01";

fn cipher(pkcs12: &[u8]) -> Cipher {
    let mut names = pkcs12.windows(PKCS12_CIPHERS.len() + 1);
    let is_legacy = |name: &[u8]| name.starts_with(PKCS12_CIPHERS) && matches!(name.last(), Some(1 | 2 | 5 | 6));
    if names.any(is_legacy) { Cipher::Legacy } else { Cipher::Usual }
}

/// Recognises a format of DER by its first elements.
fn look_of_der(bytes: &[u8]) -> Option<Look> {
    let (tag, length) = (bytes.first()?, *bytes.get(1)?);
    let header = match length {
        // Some programs write PKCS#12 without a length.
        0..=0x80 => 2,
        long => 2 + usize::from(long & 0x7f),
    };
    let inner = bytes.get(header..).filter(|_| *tag == 0x30 && header <= 6)?;
    match inner {
        [0x02, 0x01, 0x03, 0x30, ..] => Some(Look::Pkcs12(cipher(inner))),
        [0x02, 0x01, 0x00 | 0x01, 0x02 | 0x04 | 0x30, ..] => Some(Look::KeyDer),
        [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, ..] => Some(Look::Pkcs7Der),
        [0x30, ..] => Certificate::from_der(bytes).is_ok().then_some(Look::CertificateDer),
        _ => None,
    }
}

impl Look {
    /// The name of the format, without the file.
    pub fn name(self) -> &'static str {
        match self {
            Look::Nothing => "nothing",
            Look::Page => "a web page (HTML)",
            Look::Pkcs12(_) => "PKCS#12 (.pfx, .p12)",
            Look::Pkcs12Base64(_) => "PKCS#12 (.pfx, .p12) in base64",
            Look::Pkcs7Der => "PKCS#7 (.p7b) in DER",
            Look::Pkcs7 => "PKCS#7 (.p7b)",
            Look::CertificateDer => "a certificate in DER and no private key",
            Look::Base64 => "a certificate in base64 without the BEGIN and END lines of PEM",
            Look::KeyBase64 => "a private key in base64 without the BEGIN and END lines of PEM",
            Look::Pkcs7Base64 => "PKCS#7 (.p7b) in base64 without the BEGIN and END lines of PEM",
            Look::KeyDer => "a private key in DER",
            Look::Key => "a private key and no certificate",
            Look::Request => "a request for a certificate (CSR)",
            Look::PublicKey => "a public key and no certificate",
            Look::Revoked => "a list of revoked certificates (CRL)",
            Look::Java => "a key store of Java (JKS)",
            Look::Archive => "an archive (ZIP or gzip)",
        }
    }

    /// Names the format of a file and says how to convert it to PEM. The message begins with "found".
    pub fn message(self, file: &Path, wanted: Wanted) -> String {
        let expected = match wanted {
            Wanted::Authority => "PEM with the certificate of a CA",
            Wanted::Credential => "text: a secret alone, or PEM of a private key and its certificate",
        };
        let more = match (self, wanted) {
            (Look::CertificateDer | Look::Base64, Wanted::Credential) => {
                "; the private key has to follow in the PEM file"
            }
            (Look::KeyDer | Look::KeyBase64, Wanted::Credential) => "; the certificate has to follow in the PEM file",
            (Look::Pkcs12(Cipher::Legacy) | Look::Pkcs12Base64(Cipher::Legacy), _) => {
                "; its cipher, RC2 or RC4, is an old one, which OpenSSL 3 reads with -legacy, and OpenSSL 1 without"
            }
            _ => "",
        };
        // The command comes last, so that people can copy it up to the end of the line.
        let command = self.command(file, wanted).map(|command| format!(": {command}")).unwrap_or_default();
        format!("found {} in {}, expected {expected}{more}{command}", self.name(), file.display())
    }

    /// The command that converts the file to PEM; `None` where no command does.
    pub fn command(self, file: &Path, wanted: Wanted) -> Option<String> {
        let what = if wanted == Wanted::Authority { "-nokeys" } else { "-nodes" };
        let legacy = |cipher| if cipher == Cipher::Legacy { "-legacy " } else { "" };
        let command = text::converting(file, "pem", |from, to| match (self, wanted) {
            (Look::Pkcs12(cipher), _) => {
                format!("openssl pkcs12 {}-in {from} {what} -out {to}", legacy(cipher))
            }
            (Look::Pkcs12Base64(cipher), _) => {
                format!("base64 -d {from} | openssl pkcs12 {}{what} -out {to}", legacy(cipher))
            }
            (Look::Base64, _) => format!("base64 -d {from} | openssl x509 -inform DER -out {to}"),
            (Look::KeyDer, Wanted::Credential) => format!("openssl pkey -inform DER -in {from} -out {to}"),
            (Look::KeyBase64, Wanted::Credential) => {
                format!("base64 -d {from} | openssl pkey -inform DER -out {to}")
            }
            (Look::CertificateDer, _) => format!("openssl x509 -inform DER -in {from} -out {to}"),
            (Look::Pkcs7Base64, Wanted::Authority) => {
                format!("base64 -d {from} | openssl pkcs7 -inform DER -print_certs -out {to}")
            }
            (Look::Pkcs7Der, Wanted::Authority) => {
                format!("openssl pkcs7 -inform DER -in {from} -print_certs -out {to}")
            }
            (Look::Pkcs7, Wanted::Authority) => format!("openssl pkcs7 -in {from} -print_certs -out {to}"),
            (Look::Java, Wanted::Authority) => format!("keytool -list -rfc -keystore {from} > {to}"),
            _ => String::new(),
        });
        Some(command).filter(|command| !command.is_empty())
    }
}

/// The message about a file of secrets that is not text, where its format is known.
pub fn told_of_binary(bytes: &[u8], file: &Path) -> Option<String> {
    look(bytes).map(|look| look.message(file, Wanted::Credential))
}

/// Returns the text of a file that holds PEM in UTF-16; `None` for other files.
pub fn pem_of_utf16(bytes: &[u8], foreign: NotUtf8) -> Option<String> {
    let is_unicode = matches!(foreign, NotUtf8::Unicode(_));
    text::unicode_text(bytes).ok().filter(|text| is_unicode && text.contains(BEGIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str) -> rcgen::Certificate {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2020, 1, 2);
        params.not_after = rcgen::date_time_ymd(2030, 3, 4);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap()
    }

    fn subjects(bytes: &[u8]) -> Result<Vec<String>, String> {
        let found = authorities(bytes, Path::new("my ca")).map_err(|error| error.to_string())?;
        Ok(found.roots.into_iter().map(|root| root.subject).collect())
    }

    #[test]
    fn certificates_are_read_as_people_keep_them() {
        let one = certificate("One");
        let (pem, der) = (one.pem(), one.der().to_vec());
        let wide = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        for (name, bytes) in [
            ("PEM", pem.clone().into_bytes()),
            ("DER", der),
            ("byte order mark", format!("\u{feff}{pem}").into_bytes()),
            ("CRLF", pem.replace('\n', "\r\n").into_bytes()),
            ("CR", pem.replace('\n', "\r").into_bytes()),
            ("literal \\n", pem.replace('\n', "\\n").into_bytes()),
            ("literal \\r\\n", pem.replace('\n', "\\r\\n").into_bytes()),
            ("JSON", format!("{{\"ca\": {:?}}}", pem).into_bytes()),
            ("one line", pem.replace('\n', " ").into_bytes()),
            ("indented", pem.replace('\n', "\n    ").into_bytes()),
            ("X509 CERTIFICATE", pem.replace(" CERTIFICATE", " X509 CERTIFICATE").into_bytes()),
            ("UTF-16 with a mark", wide(&format!("\u{feff}{pem}"), u16::to_le_bytes)),
            ("UTF-16BE with a mark", wide(&format!("\u{feff}{pem}"), u16::to_be_bytes)),
            ("UTF-16 without a mark", wide(&pem, u16::to_le_bytes)),
            ("text around", format!("Bag Attributes\nsubject=/CN=Zürich\n{pem}\n# end\n").into_bytes()),
        ] {
            assert_eq!(subjects(&bytes), Ok(vec!["\"CN=One\"".to_owned()]), "{name}");
        }
        let two = format!("{pem}{}", certificate("Two").pem());
        assert_eq!(subjects(two.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn other_formats_are_named_with_the_command_that_converts_them() {
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = certificate("One").pem();
        let p7 = b"\x30\x82\x01\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0";
        let p12 = b"\x30\x82\x01\x00\x02\x01\x03\x30\x82";
        let with = |cipher: u8| [&p12[..], PKCS12_CIPHERS, &[cipher]].concat();
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let two = |second: &str| format!("{pem}{second}").into_bytes();
        let cut: String = pem.chars().take(300).collect();
        for (bytes, found) in [
            (b" \n".to_vec(), "found nothing in my ca"),
            (p12.to_vec(), "openssl pkcs12 -in 'my ca' -nokeys -out 'my ca.pem'"),
            (BASE64.encode(p12).into_bytes(), "base64 -d 'my ca' | openssl pkcs12 -nokeys -out 'my ca.pem'"),
            (with(3), "openssl pkcs12 -in 'my ca' -nokeys -out 'my ca.pem'"),
            (with(6), "OpenSSL 1 without: openssl pkcs12 -legacy -in 'my ca' -nokeys -out 'my ca.pem'"),
            (
                BASE64.encode(with(1)).into_bytes(),
                "base64 -d 'my ca' | openssl pkcs12 -legacy -nokeys -out 'my ca.pem'",
            ),
            (body.into_bytes(), "base64 -d 'my ca' | openssl x509 -inform DER -out 'my ca.pem'"),
            (p7.to_vec(), "openssl pkcs7 -inform DER -in 'my ca' -print_certs -out 'my ca.pem'"),
            (
                pem.replace("CERTIFICATE", "PKCS7").into_bytes(),
                "openssl pkcs7 -in 'my ca' -print_certs -out 'my ca.pem'",
            ),
            (pem.replace(" CERT", " TRUSTED CERT").into_bytes(), "openssl x509 -in 'my ca' -out 'my ca.pem'"),
            (pem.replace("CERTIFICATE", "CERTIFICATE REQUEST").into_bytes(), "found a request for a certificate"),
            (key.serialize_pem().into_bytes(), "found a private key and no certificate"),
            (key.serialize_der(), "found a private key in DER"),
            (key.public_key_pem().into_bytes(), "found a public key and no certificate"),
            (b"\xfe\xed\xfe\xed\0\0\0\x02".to_vec(), "keytool -list -rfc -keystore 'my ca' > 'my ca.pem'"),
            (b"PK\x03\x04\xff\xfe".to_vec(), "found an archive (ZIP or gzip)"),
            (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>".to_vec(), "found a web page (HTML)"),
            (b"hello".to_vec(), "found no certificate in my ca"),
            (two(&cut), "the 2nd certificate (line "),
            (two(&pem.replace("MII", "M!!")), "is cut off or not base64"),
            (two(&pem.replacen("MII", "MIA", 1)), "is damaged"),
            (b"\xff\xfe\0\0a\0\0\0".to_vec(), "my ca is UTF-32, expected UTF-8: iconv"),
        ] {
            let words = subjects(&bytes).unwrap_err();
            assert!(words.contains(found), "{found} in {words}");
        }
    }

    #[test]
    fn a_command_ends_the_words_of_a_credential_in_another_format() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_der();
        let certificate = certificate("One").der().to_vec();
        let (secret, of_key) =
            ("expected text: a secret alone, or PEM of a private key and its certificate", "the certificate");
        for (bytes, found, more, command) in [
            (key.clone(), "a private key in DER", of_key, "openssl pkey -inform DER -in k -out k.pem"),
            (
                BASE64.encode(key).into_bytes(),
                "a private key in base64 without the BEGIN and END lines of PEM",
                of_key,
                "base64 -d k | openssl pkey -inform DER -out k.pem",
            ),
            (
                certificate,
                "a certificate in DER and no private key",
                "the private key",
                "openssl x509 -inform DER -in k -out k.pem",
            ),
        ] {
            let words = told_of_binary(&bytes, Path::new("k")).unwrap();
            assert_eq!(words, format!("found {found} in k, {secret}; {more} has to follow in the PEM file: {command}"));
        }
        let words = told_of_binary(b"PK\x03\x04", Path::new("k")).unwrap();
        assert_eq!(words, format!("found an archive (ZIP or gzip) in k, {secret}"));
    }

    #[test]
    fn an_authority_outside_its_time_is_told_with_its_name_and_the_date() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let found = authorities(format!("{key}{}", certificate("One").pem()).as_bytes(), Path::new("ca")).unwrap();
        let told = |year: u64| found.oddities((year - 1970) * 31_557_600_000).join("; ");
        let key = "also holds a private key, which is not needed here: remove the key from the file";
        assert_eq!(told(2025), key);
        assert!(
            told(2019).starts_with("the certificate of \"CN=One\" is not valid before 2020-01-02"),
            "{}",
            told(2019)
        );
        assert!(told(2031).starts_with("the certificate of \"CN=One\" expired on 2030-03-04"), "{}", told(2031));
    }
}
