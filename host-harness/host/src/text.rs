//! Text: reads the bytes of files as text, and makes texts of plugins and services safe for terminals, logs and limits.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Component, Path};

use unicode_general_category::{GeneralCategory, get_general_category};

use crate::limits::FILE_BYTES;

/// The reason why a file is not read as text.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The file cannot be read.
    #[error("cannot be read")]
    Io(#[from] std::io::Error),
    /// The file is not UTF-8; the message says what it is.
    #[error("{0}")]
    NotUtf8(String),
    /// The file has a known format; the message names the format and the file.
    #[error("{0}")]
    Named(String),
}

impl Unread {
    /// The reason as a sentence that begins with the file.
    pub fn of(&self, file: &Path) -> String {
        match self {
            Unread::Io(error) => format!("cannot read {}: {error}", file.display()),
            Unread::NotUtf8(message) => format!("{} {message}", file.display()),
            Unread::Named(message) => message.clone(),
        }
    }
}

/// Opens a file that is read as a whole: a regular file, or a stream of the process, such as `/dev/stdin` or what a shell
/// makes of `<(…)`. Everything else is refused: a named pipe may never get a writer, and a device may have no end.
pub fn open(file: &Path) -> std::io::Result<File> {
    if is_stream(file) {
        return File::open(file);
    }
    // Opening alone may wait for a writer, or start what a device does.
    refuse_special(fs::metadata(file)?.file_type())?;
    // Somebody may put a pipe in the place of the file meanwhile.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(file)?;
    refuse_special(opened.metadata()?.file_type())?;
    Ok(opened)
}

fn refuse_special(kind: FileType) -> std::io::Result<()> {
    let found = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_dir() => "a folder",
        _ if kind.is_fifo() => "a named pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    };
    let words = format!("found {found}, expected a regular file");
    Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, words))
}

/// Says whether a path leads to an open file of a process: the system itself keeps these links.
fn is_stream(path: &Path) -> bool {
    let is_number = || path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
    if path.components().any(|part| part == Component::ParentDir) {
        return false;
    }
    match path.parent() {
        Some(folder) if folder == Path::new("/dev/fd") => is_number(),
        Some(folder) if folder.starts_with("/proc") && folder.ends_with("fd") => is_number(),
        _ => path == Path::new("/dev/stdin"),
    }
}

/// Reads the bytes of a file up to a limit, because some files have no end.
pub fn bytes(file: &Path) -> std::io::Result<Vec<u8>> {
    let bytes = bytes_up_to(file, FILE_BYTES)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(std::io::Error::other(format!("it has more than {FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Reads the bytes of a file, at most one beyond `most`. The bytes do not move while they are read: a file may hold a
/// secret, and wiping the bytes would leave a copy behind.
pub(crate) fn bytes_up_to(file: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let file = open(file)?;
    let expected = file.metadata()?.len().min(most) + 1;
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    file.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the text of a file, without its byte order mark.
pub fn read(file: &Path) -> Result<String, Unread> {
    utf8(bytes(file)?).map_err(|foreign| Unread::NotUtf8(foreign.message(file)))
}

/// The kinds of bytes that are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotUtf8 {
    /// Another encoding of Unicode, with its name for `iconv`.
    Unicode(&'static str),
    /// Text of an encoding with one byte a character, or damaged UTF-8, with the first line that is not UTF-8.
    Bytes {
        /// The line, counted from 1.
        line: usize,
    },
    /// Bytes that are not text.
    Binary,
}

/// Reads UTF-8 without its byte order mark.
pub fn utf8(bytes: Vec<u8>) -> Result<String, NotUtf8> {
    with_mark(bytes).map(|mut text| {
        if text.starts_with('\u{feff}') {
            text.remove(0);
        }
        text
    })
}

/// Reads UTF-8 or UTF-16 without its byte order marks.
pub fn unicode_text(bytes: &[u8]) -> Result<String, NotUtf8> {
    let unit: fn([u8; 2]) -> u16 = match unicode(bytes) {
        Some("UTF-16") if bytes[0] == 0xfe => u16::from_be_bytes,
        Some("UTF-16BE") => u16::from_be_bytes,
        Some("UTF-16" | "UTF-16LE") => u16::from_le_bytes,
        Some(_) | None => return utf8(bytes.to_vec()),
    };
    let (pairs, _) = bytes.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    let text = String::from_utf16(&units).map_err(|_| NotUtf8::Binary)?;
    Ok(text.replace('\u{feff}', ""))
}

pub(crate) fn with_mark(bytes: Vec<u8>) -> Result<String, NotUtf8> {
    if let Some(name) = unicode(&bytes) {
        return Err(NotUtf8::Unicode(name));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            let control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
            if bytes.iter().any(control) {
                return Err(NotUtf8::Binary);
            }
            let before = &bytes[..good];
            Err(NotUtf8::Bytes { line: before.iter().filter(|byte| **byte == b'\n').count() + 1 })
        }
    }
}

/// Names the encoding, if it is another one of Unicode. Windows PowerShell writes UTF-16 with a mark.
fn unicode(bytes: &[u8]) -> Option<&'static str> {
    let marks: [(&[u8], _); 4] = [
        (&[0xff, 0xfe, 0, 0], "UTF-32"),
        (&[0, 0, 0xfe, 0xff], "UTF-32"),
        (&[0xff, 0xfe], "UTF-16"),
        (&[0xfe, 0xff], "UTF-16"),
    ];
    if let Some((_, name)) = marks.into_iter().find(|(mark, _)| bytes.starts_with(mark)) {
        return Some(name);
    }
    // Without a mark, most characters of our files have a NUL as their other half, and no text contains NUL.
    let (pairs, rest) = bytes.as_chunks::<2>();
    let many = |half: usize| {
        let nul = pairs.iter().filter(|pair| pair[half] == 0).count();
        let other = pairs.iter().filter(|pair| pair[1 - half] == 0).count();
        rest.is_empty() && nul > 0 && other == 0 && nul * 2 > pairs.len()
    };
    if many(1) {
        Some("UTF-16LE")
    } else if many(0) {
        Some("UTF-16BE")
    } else {
        None
    }
}

impl NotUtf8 {
    /// Says what the file is, and how to convert it to UTF-8.
    pub fn message(self, file: &Path) -> String {
        let command = |from: &str| {
            converting(file, "utf8", |from_file, to| format!("iconv -f {from} -t UTF-8 {from_file} > {to}"))
        };
        match self {
            NotUtf8::Unicode(name) => format!("is {name}, expected UTF-8: {}", command(name)),
            NotUtf8::Bytes { line } => {
                let command = command("WINDOWS-1252");
                format!("is not UTF-8 from line {line} on, expected UTF-8; if an editor of Windows wrote it: {command}")
            }
            NotUtf8::Binary => "is not text, expected UTF-8".to_owned(),
        }
    }
}

/// A command that converts this file to another beside it, with both names quoted for a shell where needed.
pub fn converting(file: &Path, ending: &str, command: impl Fn(&str, &str) -> String) -> String {
    let quoted = |path: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,".contains(&byte);
        match !path.is_empty() && !path.starts_with('-') && path.bytes().all(plain) {
            true => path.to_owned(),
            false => format!("'{}'", path.replace('\'', r"'\''")),
        }
    };
    let path = file.display().to_string();
    command(&quoted(&path), &quoted(&format!("{path}.{ending}")))
}

/// Returns every GUID of a text, unchanged.
pub fn guids(text: &str) -> impl Iterator<Item = &str> {
    let mut next = 0;
    std::iter::from_fn(move || {
        while next + GUID <= text.len() {
            let at = next;
            next += 1;
            if let Some(found) = text.get(at..at + GUID).filter(|found| is_guid(found)) {
                next = at + GUID;
                return Some(found);
            }
        }
        None
    })
}

/// Length of a GUID with its hyphens.
const GUID: usize = 36;

/// Says whether a text is a GUID with its hyphens.
pub fn is_guid(text: &str) -> bool {
    text.len() == GUID
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Makes a text of another party safe for terminals and lines of a log: no character in it may move the cursor, begin a
/// line, change the direction of text, or hide.
pub fn plain(text: &str) -> String {
    replaced(text, |_| true)
}

/// The same for text of several lines.
pub fn plain_lines(text: &str) -> String {
    replaced(text, |one| one != '\n')
}

/// Says whether a JSON text is safe; white space of its layout is allowed.
pub fn is_plain_json(text: &str) -> bool {
    commands(text).all(|(_, one)| one.is_ascii_whitespace())
}

/// Says whether `plain` leaves a text unchanged.
pub fn is_plain(text: &str) -> bool {
    commands(text).next().is_none()
}

fn replaced(text: &str, is_replaced: impl Fn(char) -> bool) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = 0;
    for (at, one) in commands(text).filter(|(_, one)| is_replaced(*one)) {
        plain.push_str(&text[rest..at]);
        plain.push(' ');
        rest = at + one.len_utf8();
    }
    plain + &text[rest..]
}

/// Returns the characters of a text that control a terminal or a reader of lines, or that are invisible, with their
/// places.
fn commands(text: &str) -> impl Iterator<Item = (usize, char)> {
    // Most texts are printable ASCII, and the processor looks at all bytes of a block at once. The last byte that is skipped
    // is read again, because the character after it may depend on it.
    let is_printable = |block: &&[u8]| block.iter().fold(true, |all, byte| all & matches!(byte, b' '..=b'~'));
    let skipped = text.as_bytes().chunks(32).take_while(is_printable).map(<[u8]>::len).sum::<usize>().saturating_sub(1);
    let (mut before, rest) = (' ', text[skipped..].char_indices().map(move |(at, one)| (skipped + at, one)));
    rest.filter(move |(_, one)| {
        let is_one = match one {
            // Most texts are ASCII.
            ' '..='~' => false,
            '\u{200c}' | '\u{200d}' => !shapes(before),
            '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => !has_variants(before),
            one => is_command(*one),
        };
        // A space replaces the character, and a space has no shape to join.
        before = if is_one { ' ' } else { *one };
        is_one
    })
}

/// Says whether a character controls a terminal or a reader of lines, or is invisible, wherever it stands.
fn is_command(character: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator};
    match character {
        // The number signs and other marks that surround the following digits or letters are visible.
        '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}' => false,
        '\u{110bd}' | '\u{110cd}' => false,
        // Invisible letters and marks, and code points that Unicode reserves for such characters.
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' => true,
        '\u{2065}' | '\u{3164}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{e0000}'..='\u{e0fff}' => true,
        _ => matches!(get_general_category(character), Control | Format | LineSeparator | ParagraphSeparator),
    }
}

/// Says whether a joiner or non-joiner after a character changes its shape, as in Persian and Indic names and in emoji
/// of several parts. Elsewhere a joiner is invisible.
fn shapes(before: char) -> bool {
    use GeneralCategory::{ModifierSymbol, NonspacingMark, OtherLetter, OtherSymbol, SpacingMark};
    match before {
        // Arabic to Mongolian, and the scripts of South and South-East Asia beyond.
        '\u{600}'..='\u{1aff}' | '\u{a800}'..='\u{abff}' | '\u{fb50}'..='\u{fdff}' | '\u{10a00}'..='\u{11fff}' => {
            !is_command(before) && matches!(get_general_category(before), NonspacingMark | OtherLetter | SpacingMark)
        }
        '\u{fe0f}' => true,
        _ => !before.is_ascii() && matches!(get_general_category(before), OtherSymbol | ModifierSymbol),
    }
}

/// Says whether a character may have variants, of which a selector after it chooses one: an emoji, a sign, an
/// ideograph, the digit on a key.
fn has_variants(before: char) -> bool {
    use GeneralCategory::{MathSymbol, OtherLetter, OtherPunctuation, OtherSymbol};
    matches!(before, '0'..='9' | '#' | '*')
        || !before.is_ascii()
            && !is_command(before)
            && matches!(get_general_category(before), MathSymbol | OtherLetter | OtherPunctuation | OtherSymbol)
}

/// Cuts a text to a number of bytes, at the boundary of a character.
pub fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn only_regular_files_and_streams_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        fs::write(at("file"), "text").unwrap();
        for (link, target) in [("to-file", "file"), ("to-pipe", "pipe"), ("to-folder", "."), ("to-device", "/dev/zero")]
        {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        for (name, found) in [
            ("pipe", "a named pipe"),
            ("to-pipe", "a named pipe"),
            ("socket", "a socket"),
            (".", "a folder"),
            ("to-folder", "a folder"),
            ("to-device", "a device"),
        ] {
            let told = read(&at(name)).unwrap_err().of(&at(name));
            let expected = format!("cannot read {}: found {found}, expected a regular file", at(name).display());
            assert_eq!(told, expected);
        }
        assert_eq!([read(&at("file")).unwrap(), read(&at("to-file")).unwrap()], ["text", "text"]);
        // A shell opens the other end of `<(…)`, and names it like this.
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, b"piped").unwrap();
        drop(writer);
        let number = std::os::fd::AsRawFd::as_raw_fd(&reader);
        assert_eq!(read(Path::new(&format!("/dev/fd/{number}"))).unwrap(), "piped");
        for path in ["/dev/fd", "/dev/fd/../zero", "/proc/kmsg", "/proc/fd/x", "/proc/../any/fd/7", "/dev/stdout"] {
            assert!(!is_stream(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn text_is_utf8_with_or_without_a_mark_and_anything_else_is_named() {
        for (bytes, expected) in [
            (b"a = 1\n".to_vec(), Ok("a = 1\n")),
            (b"".to_vec(), Ok("")),
            (b"\xef\xbb\xbfa".to_vec(), Ok("a")),
            ("Schlüssel".into(), Ok("Schlüssel")),
            // Callers that refuse NUL check for it themselves.
            (b"secret\0".to_vec(), Ok("secret\0")),
            (utf16("\u{feff}a = 1", u16::to_le_bytes), Err(NotUtf8::Unicode("UTF-16"))),
            (utf16("\u{feff}a = 1", u16::to_be_bytes), Err(NotUtf8::Unicode("UTF-16"))),
            (utf16("a = 1", u16::to_le_bytes), Err(NotUtf8::Unicode("UTF-16LE"))),
            (utf16("Schlüssel ☃", u16::to_be_bytes), Err(NotUtf8::Unicode("UTF-16BE"))),
            (b"\xff\xfe\0\0a\0\0\0".to_vec(), Err(NotUtf8::Unicode("UTF-32"))),
            (b"a\n# Schl\xfcssel\n".to_vec(), Err(NotUtf8::Bytes { line: 2 })),
            (b"PK\x03\x04\xff\xff".to_vec(), Err(NotUtf8::Binary)),
        ] {
            assert_eq!(utf8(bytes.clone()), expected.map(str::to_owned), "{bytes:?}");
        }
    }

    #[test]
    fn the_command_that_converts_is_ready_to_be_typed() {
        assert_eq!(
            NotUtf8::Unicode("UTF-16").message(Path::new("/etc/azure.toml")),
            "is UTF-16, expected UTF-8: iconv -f UTF-16 -t UTF-8 /etc/azure.toml > /etc/azure.toml.utf8"
        );
        let told = NotUtf8::Bytes { line: 3 }.message(Path::new("it's mine"));
        let command = r"iconv -f WINDOWS-1252 -t UTF-8 'it'\''s mine' > 'it'\''s mine.utf8'";
        assert!(told.starts_with("is not UTF-8 from line 3 on") && told.ends_with(command), "{told}");
    }

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }

    #[test]
    fn words_are_plain_without_commands_and_without_what_nobody_sees() {
        let unseen = "\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{2060}\u{2064}\u{2065}\
                      \u{206a}\u{3164}\u{fe0f}\u{feff}\u{fff9}\u{e0001}\u{e0041}\u{e007f}\u{e0100}\u{1d173}";
        for one in
            unseen.chars().chain("\0\n\r\t\u{1b}\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\u{202e}\u{2066}\u{2069}".chars())
        {
            for (before, after) in [("a", "b"), ("", ""), ("é", "é"), (" ", " ")] {
                let text = format!("{before}{one}{after}");
                assert!(!is_plain(&text), "{text:?}");
                assert_eq!(plain(&text), format!("{before} {after}"), "{text:?}");
            }
        }
        assert_eq!(plain("a\u{fe0f}\u{200c}b"), "a  b", "a joiner behind one that gave way");
        assert_eq!(plain_lines("a\nb\u{202e}"), "a\nb ");
        assert_eq!(plain("☃\u{fe0f}\u{fe0f}م\u{200c}\u{200c}"), "☃\u{fe0f} م\u{200c} ", "one at a time");
        assert!(is_plain_json("{\n\t\"a\": 1\r\n}") && !is_plain_json("\u{200b}"));
    }

    #[test]
    fn names_of_people_and_products_are_left_as_they_are() {
        for text in [
            "Schlüssel – 100 % “naïve” 東京",
            // Persian, Hindi, Sinhala and Malayalam need joiners.
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "ශ්\u{200d}රී ලංකා",
            "അവന്\u{200d}",
            "שלום عليكم",
            "\u{600}12",
            "👩🏽\u{200d}💻 ❤\u{fe0f} 👁\u{fe0f}\u{200d}🗨\u{fe0f} 1\u{fe0f}\u{20e3}",
            "葛\u{e0100}飾",
        ] {
            assert!(is_plain(text), "{text:?}");
            assert_eq!(plain(text), text);
        }
    }

    #[test]
    fn guids_are_found_anywhere() {
        let text = "x20ff7fc3-e762-44dd-bd96-b71116dcdc23é/20FF7FC3-e762-44dd-bd96-b71116dcdc2";
        assert_eq!(guids(text).collect::<Vec<_>>(), ["20ff7fc3-e762-44dd-bd96-b71116dcdc23"]);
    }
}
