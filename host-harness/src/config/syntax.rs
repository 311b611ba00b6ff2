//! The faults of a file that is not TOML, in words that lead to the fix: the parser names what it expected, but not
//! what the user meant.

use std::num::NonZeroUsize;

use toml::de::{DeTable, DeValue, Error};

// Texts of the parser, which has one type for all its errors. `the_parser_says_the_words_by_which_it_is_known` provokes
// each.

/// A key or a table appears twice.
const DUPLICATE_KEY: &str = "duplicate key";

/// A backslash begins no valid escape.
const NO_ESCAPE: &str = "escaped value";

/// An escape has the number of no character.
const NO_CHARACTER: &str = "unicode value";

/// A word has no quotes.
const NO_QUOTES: &str = "string values must be quoted";

/// A number or a date is invalid. The parser says the same of strings, together with [`STRING`].
const INVALID: &str = "invalid";

/// The invalid value is a string.
const STRING: &str = "string";

/// There is no `=` between a key and its value.
const NO_EQUALS_SIGN: &str = "expected `=`";

/// Something follows a value.
const NO_LINE_END: &str = "unexpected key or value";

/// Returns the line of the fault, counted from 1, and its message.
pub fn message(text: &str, error: &Error) -> (NonZeroUsize, String) {
    let span = error.span().unwrap_or_default();
    let at = span.start.min(text.len());
    let number = line_number(text, at);
    if let Some(other) = language(text) {
        let expected = "expected TOML, with tables such as [[feed]] and lines such as `id = \"contoso\"`";
        return (number, format!("is not TOML: this looks like {other}, {expected}"));
    }
    if text.contains('\r') && !text.contains('\n') {
        return (
            NonZeroUsize::MIN,
            "is not TOML: the lines end in CR alone, expected LF or CR LF: tr '\\r' '\\n'".to_owned(),
        );
    }
    let words = error.message();
    let line = text.lines().nth(number.get() - 1).unwrap_or_default();
    let found = text.get(span).unwrap_or_default();
    let before = text[..at].rsplit('\n').next().unwrap_or_default();
    let after = text[at..].lines().next().unwrap_or_default();
    let advice = match words {
        DUPLICATE_KEY => Some(duplicate(text, found, at)),
        _ => odd_character(line)
            .or_else(|| backslash(line, words))
            .or_else(|| unquoted(before, found, words))
            // In a date with dots, the parser stops within the value.
            .or_else(|| line.split_once('=').and_then(|(key, value)| date(key.trim(), value.trim())))
            .or_else(|| punctuation(line, after, words)),
    };
    (number, format!("is not TOML: {}", advice.unwrap_or_else(|| words.to_owned())))
}

fn line_number(text: &str, offset: usize) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count())
}

/// Names another language in which the file is written.
fn language(text: &str) -> Option<&'static str> {
    let text = text.trim_start();
    let is_json =
        text.starts_with('{') || text.starts_with('[') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if is_json {
        return Some("JSON");
    }
    if text.starts_with('<') {
        return Some("HTML or XML");
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next()?;
    let name = first.split(':').next().unwrap_or_default();
    let is_name =
        !name.is_empty() && name.chars().all(|character| character.is_alphanumeric() || "_-.".contains(character));
    let is_key = first.contains(':') && is_name && first[name.len() + 1..].starts_with([' ', '\t'])
        || first.strip_suffix(':') == Some(name) && is_name;
    (first == "---" || first.starts_with("- ") || is_key).then_some("YAML")
}

/// Names the key and its first place.
fn duplicate(text: &str, found: &str, at: usize) -> String {
    let key = found.trim().trim_matches(['"', '\'']);
    // The text above is valid; of two tables, the parser keeps only the second.
    let above = &text[..text[..at].rfind('\n').map_or(0, |end| end + 1)];
    let (table, _) = DeTable::parse_recoverable(above);
    let line = first(table.get_ref(), key, at).map_or(line_number(text, at), |first| line_number(text, first));
    let expected = match key {
        "feed" | "sink" => format!("expected [[{key}]] above each, and what belongs to it below"),
        _ => "expected it once in its table".to_owned(),
    };
    format!("found `{key}` a second time, the first is in line {line}, {expected}")
}

/// Returns the last key of this name before an offset, which is the one in the same table.
fn first(table: &DeTable<'_>, name: &str, before: usize) -> Option<usize> {
    let inside = |value: &DeValue<'_>| match value {
        DeValue::Table(table) => first(table, name, before),
        DeValue::Array(items) => {
            items.iter().filter_map(|item| item.as_ref().as_table().and_then(|table| first(table, name, before))).max()
        }
        _ => None,
    };
    let own = |key: &toml::Spanned<_>| key.span().start;
    let found = table.iter().flat_map(|(key, value)| {
        let own = (key.as_ref() == name).then(|| own(key)).filter(|start| *start < before);
        [own, inside(value.as_ref())]
    });
    found.flatten().max()
}

/// Finds a character that looks like another: such characters come with text from a web page or a word processor.
fn odd_character(line: &str) -> Option<String> {
    const QUOTES: &str = "“”„‟″‘’‚‛′«»‹›＂＇`´";
    let outside = outside_of_strings(line);
    let found = |character: char| match character {
        _ if QUOTES.contains(character) => Some(format!("found the quote {character}, expected a straight one, \"")),
        '＝' | '﹦' => Some(format!("found {character}, expected =")),
        '–' | '—' | '−' | '‑' => {
            Some(format!("found the dash {character}, expected - in a key, and a value in quotes"))
        }
        _ if !character.is_ascii() && (character.is_whitespace() || is_invisible(character)) => {
            Some(format!("found the invisible character U+{:04X}, expected a space or nothing", u32::from(character)))
        }
        _ => None,
    };
    outside.chars().find_map(found)
}

/// Zero-width characters, marks of direction, the soft hyphen and the byte order mark.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// Removes the text in straight quotes and the comment from a line.
fn outside_of_strings(line: &str) -> String {
    let (mut outside, mut quote, mut escaped) = (String::new(), None, false);
    for character in line.chars() {
        match quote {
            Some(open) if character == open && !escaped => quote = None,
            Some(open) => escaped = open == '"' && character == '\\' && !escaped,
            None if character == '#' => break,
            None if character == '"' || character == '\'' => quote = Some(character),
            None => outside.push(character),
        }
    }
    outside
}

/// Recognises a Windows path in double quotes.
fn backslash(line: &str, words: &str) -> Option<String> {
    let is_escape = [NO_ESCAPE, NO_CHARACTER].iter().any(|what| words.contains(what));
    (is_escape && line.contains('\\')).then(|| {
        "found a backslash in double quotes, where it begins an escape, expected single quotes around the value, such as \
         'C:\\secrets\\azure.txt', or / in place of each \\"
            .to_owned()
    })
}

/// Recognises a value without quotes, which may be a secret: the message shows it only if it looks like a number or a
/// word of TOML.
fn unquoted(before: &str, found: &str, words: &str) -> Option<String> {
    let is_value = words.starts_with(NO_QUOTES) || words.starts_with(INVALID) && !words.contains(STRING);
    let key =
        before.trim_end().strip_suffix('=').filter(|_| is_value)?.rsplit(['{', ',']).next().unwrap_or_default().trim();
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.\"'".contains(&byte));
    if !is_key {
        return None;
    }
    let found = found.trim();
    if let Some(words) = date(key, found) {
        return Some(words);
    }
    Some(match found.to_ascii_lowercase().as_str() {
        "" => format!("found no value for `{key}`, expected one, or no such line"),
        "true" | "false" => format!("found {found}, expected {}", found.to_ascii_lowercase()),
        "yes" | "no" | "on" | "off" => format!("found {found}, expected true or false"),
        "null" | "none" | "nil" => format!("found {found}, which TOML does not have, expected no such line"),
        word if word.starts_with('$') || word.starts_with("env(") => {
            format!("found a reference to the environment, expected `{key} = {{ env = \"NAME\" }}`")
        }
        _ => format!("string values must be quoted: `{key} = \"{}\"`", if is_measure(found) { found } else { "…" }),
    })
}

/// Recognises a date that does not exist, or that is not written as in TOML.
fn date(key: &str, found: &str) -> Option<String> {
    const EXPECTED: &str = "expected a date as year, month and day, such as 2027-06-30";
    let day = found.split(['T', 't', ' ']).next().unwrap_or_default();
    let parts: Vec<&str> = day.split(['-', '.', '/']).collect();
    let is_number = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
    if parts.len() != 3 || !parts.iter().all(is_number) {
        return None;
    }
    match (parts[0].len(), parts[1].len(), parts[2].len()) {
        (4, 2, 2) if day.contains('-') && !day.contains(['.', '/']) => {
            let [year, month, day_of_month] =
                [parts[0], parts[1], parts[2]].map(|part| part.parse::<u16>().unwrap_or(0));
            let month = u8::try_from(month).ok().and_then(|month| time::Month::try_from(month).ok());
            let days = month.map_or(0, |month| month.length(i32::from(year)));
            let exists = (1..=u16::from(days)).contains(&day_of_month);
            (!exists).then(|| format!("found the date {day} for `{key}`, which does not exist, expected another"))
        }
        (4, 1 | 2, 1 | 2) | (1 | 2, 1 | 2, 4) => Some(format!("found {day} for `{key}`, {EXPECTED}")),
        _ => None,
    }
}

/// Recognises digits with a unit.
fn is_measure(text: &str) -> bool {
    let unit = text.trim_start_matches(|character: char| character.is_ascii_digit());
    unit.len() < text.len() && unit.len() <= 3 && text.len() <= 8 && unit.chars().all(char::is_alphabetic)
}

/// Recognises punctuation of other languages between and after values, and before comments.
fn punctuation(line: &str, after: &str, words: &str) -> Option<String> {
    let start = line.trim_start();
    if start.starts_with("//") || start.starts_with(';') || start.starts_with("--") || start.starts_with("/*") {
        return Some("found a comment of another language, expected # before it".to_owned());
    }
    if start.starts_with("export ") {
        return Some("found a line for a shell, expected `key = \"value\"`".to_owned());
    }
    if words.contains(NO_EQUALS_SIGN) && outside_of_strings(line).contains(':') {
        return Some("found `:`, expected `=`".to_owned());
    }
    let sign = after.trim_start().chars().next()?;
    (words.starts_with(NO_LINE_END) && ",;".contains(sign))
        .then(|| format!("found `{sign}` after the value, expected a new line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_of(text: &str) -> String {
        let (_, errors) = DeTable::parse_recoverable(text);
        let (line, words) = message(text, errors.first().expect("is not TOML"));
        format!("{line}: {}", words.strip_prefix("is not TOML: ").unwrap())
    }

    #[test]
    fn the_parser_says_the_words_by_which_it_is_known() {
        for (text, known) in [
            ("a = 1\na = 2\n", DUPLICATE_KEY),
            ("a = \"\\s\"\n", NO_ESCAPE),
            ("a = \"\\Users\"\n", NO_CHARACTER),
            ("a = hunter2\n", NO_QUOTES),
            ("a = 2026-02-30\n", INVALID),
            ("a = \"x\n", STRING),
            ("a: 1\n", NO_EQUALS_SIGN),
            ("a = 1,\n", NO_LINE_END),
        ] {
            let (_, errors) = DeTable::parse_recoverable(text);
            assert!(errors[0].message().contains(known), "{known:?} in {:?}", errors[0].message());
        }
    }

    #[test]
    fn what_is_no_toml_is_told_with_what_mends_it() {
        let again = |key: &str, line| format!("found `{key}` a second time, the first is in line {line}, expected ");
        let table = format!("3: {}it once in its table", again("t", 1));
        let inner = format!("3: {}it once in its table", again("x", 2));
        let settings = format!("6: {}it once in its table", again("settings", 4));
        let feed = format!("3: {}[[feed]] above each, and what belongs to it below", again("feed", 1));
        let language = |name: &str| {
            format!(
                "1: this looks like {name}, expected TOML, with tables such as [[feed]] and lines such as `id = \"contoso\"`"
            )
        };
        let (yaml, json) = (language("YAML"), language("JSON"));
        let backslash = "1: found a backslash in double quotes, where it begins an escape, expected single quotes around \
                         the value, such as 'C:\\secrets\\azure.txt', or / in place of each \\";
        for (text, expected) in [
            ("[t]\nx = 1\n[t]\n", table.as_str()),
            ("[t]\nx = 1\nx = 2\n", &inner),
            (
                "x = 1\n[t]\nx = 1\n[u]\n[t]\n",
                "5: found `t` a second time, the first is in line 2, expected it once in its table",
            ),
            ("[[feed]]\nx = 1\n[feed.t]\n[feed.settings]\nx = 1\n[feed.settings]\n", &settings),
            ("[feed]\nid = 1\n[feed]\nid = 2\n", &feed),
            ("[feed.settings]\nid = 1\n[[feed]]\nid = 2\n", &feed),
            (
                "[[sink]]\na = { x = 1, x = 2 }\n",
                "2: found `x` a second time, the first is in line 2, expected it once in its table",
            ),
            ("p = \"C:\\secrets\\x.txt\"\n", backslash),
            ("p = \"C:\\Users\\x.txt\"\n", backslash),
            ("p = { file = \"D:\\x\" }\n", backslash),
            ("a = 1h\n", "1: string values must be quoted: `a = \"1h\"`"),
            ("a = 256MB # much\n", "1: string values must be quoted: `a = \"256MB\"`"),
            // The value may be a secret.
            ("[t]\na = hunter2\n", "2: string values must be quoted: `a = \"…\"`"),
            ("a = aaaabbbb-0000-cccc-1111-dddd2222eeee\n", "1: string values must be quoted: `a = \"…\"`"),
            ("a = 11111111-2222-3333-4444-555555555555\n", "1: string values must be quoted: `a = \"…\"`"),
            ("a = { env = HUNTER }\n", "1: string values must be quoted: `env = \"…\"`"),
            (
                "x_expires = 2026-02-30\n",
                "1: found the date 2026-02-30 for `x_expires`, which does not exist, expected another",
            ),
            (
                "a = { x = 2026-13-01T00:00:00Z }\n",
                "1: found the date 2026-13-01 for `x`, which does not exist, expected another",
            ),
            (
                "a = 30-12-2026\n",
                "1: found 30-12-2026 for `a`, expected a date as year, month and day, such as 2027-06-30",
            ),
            (
                "a = 30.12.2026\n",
                "1: found 30.12.2026 for `a`, expected a date as year, month and day, such as 2027-06-30",
            ),
            ("a = True\n", "1: found True, expected true"),
            ("a = yes\n", "1: found yes, expected true or false"),
            ("a = null\n", "1: found null, which TOML does not have, expected no such line"),
            ("a = $HUNTER2\n", "1: found a reference to the environment, expected `a = { env = \"NAME\" }`"),
            ("a = env(\"X\")\n", "1: found a reference to the environment, expected `a = { env = \"NAME\" }`"),
            ("a =\n", "1: found no value for `a`, expected one, or no such line"),
            ("a = \"x\",\n", "1: found `,` after the value, expected a new line"),
            ("a = \"x\";\n", "1: found `;` after the value, expected a new line"),
            ("b = 1\na: \"x\"\n", "2: found `:`, expected `=`"),
            ("a = { env: \"X\" }\n", "1: found `:`, expected `=`"),
            ("// x\na = 1\n", "1: found a comment of another language, expected # before it"),
            ("; x\n", "1: found a comment of another language, expected # before it"),
            ("export A=b\n", "1: found a line for a shell, expected `key = \"value\"`"),
            ("a = “x”\n", "1: found the quote “, expected a straight one, \""),
            ("a = { env = ”X” }\n", "1: found the quote ”, expected a straight one, \""),
            ("a = \"“x”\" y\n", "1: unexpected key or value, expected newline, `#`"),
            ("a\u{a0}= \"x\"\n", "1: found the invisible character U+00A0, expected a space or nothing"),
            ("a = \u{200b}\"x\"\n", "1: found the invisible character U+200B, expected a space or nothing"),
            ("a = 1\rb = 2\r", "1: the lines end in CR alone, expected LF or CR LF: tr '\\r' '\\n'"),
            ("feeds:\n  - id: contoso\n", &yaml),
            ("---\nfeed: x\n", &yaml),
            ("# all\n\n- id: contoso\n", &yaml.replace("1: this", "3: this")),
            ("{\"feed\": [{\"id\": \"contoso\"}]}\n", &json),
            ("[{\"id\": \"contoso\"}]\n", &json),
            ("<html>\n", &language("HTML or XML")),
            ("a = \"x\n", "1: invalid basic string, expected `\"`"),
            ("[feed\n", "1: unclosed table, expected `]`"),
        ] {
            assert_eq!(told_of(text), expected, "{text}");
        }
    }
}
