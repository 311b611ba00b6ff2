//! The spelling of a secret: surrounding characters are removed, and oddities of the rest are reported. The rest itself
//! stays unchanged, and no remark shows any part of it.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use unicode_general_category::{GeneralCategory, get_general_category};

/// A text without the characters around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trimmed<'a> {
    /// The text itself.
    pub text: &'a str,
    /// The characters that were removed, in words, where that is worth a remark.
    pub remark: Option<String>,
}

/// Removes white space, control characters and format characters, such as a byte order mark, from both ends of a text.
pub fn trimmed(text: &str) -> Trimmed<'_> {
    let begun = text.trim_start_matches(surrounds);
    let inner = begun.trim_end_matches(surrounds);
    let (before, after) = (named(&text[..text.len() - begun.len()]), named(&begun[inner.len()..]));
    let were = |what: &str| if what.contains(" and ") { "were" } else { "was" };
    let remark = match (before.as_str(), after.as_str()) {
        ("", "") => None,
        (before, "") => Some(format!("{before} at its beginning {} removed", were(before))),
        ("", after) => Some(format!("{after} at its end {} removed", were(after))),
        (before, after) if before == after => Some(format!("{before} around it {} removed", were(before))),
        (before, after) => Some(format!("{before} at its beginning and {after} at its end were removed")),
    };
    Trimmed { text: inner, remark }
}

/// The text of a file without the end of its last line, which does not belong to the content.
pub fn without_line_end(text: &str) -> &str {
    let line = text.strip_suffix('\n').unwrap_or(text);
    line.strip_suffix('\r').unwrap_or(line)
}

/// Returns the oddities of a secret; each remark follows the secret's name in a sentence. There are oddities if the
/// value looks like something other than a secret, or has characters that secrets seldom have.
pub fn oddities(secret: &str) -> Vec<String> {
    let looks = look_alike(secret);
    let mut oddities: Vec<String> = looks.map(str::to_owned).into_iter().collect();
    let lines = secret.lines().count();
    if lines > 1 && looks.is_none() {
        oddities.push(format!("has {lines} lines, where a secret has one; it is sent unchanged"));
    }
    let mut places: Vec<(String, Vec<usize>)> = Vec::new();
    let mut characters = secret.chars().enumerate().peekable();
    while let Some((at, character)) = characters.next() {
        let ends_line =
            character == '\n' || character == '\r' && characters.peek().is_some_and(|(_, next)| *next == '\n');
        if (' '..='~').contains(&character) || ends_line || looks.is_some() && character.is_whitespace() {
            continue;
        }
        let name = name(character);
        match places.iter_mut().find(|(known, _)| *known == name) {
            Some((_, places)) => places.push(at + 1),
            None => places.push((name, vec![at + 1])),
        }
    }
    let told = places.iter().take(NAMED).map(|(name, places)| {
        format!("has {name} as {}, where secrets have printable ASCII; it is sent unchanged", numbered(places))
    });
    oddities.extend(told);
    oddities
}

/// Largest number of kinds of characters that a remark names, and of places for each kind.
const NAMED: usize = 4;

/// Says what the whole of a secret looks like, if it looks like something else.
pub fn look_alike(text: &str) -> Option<&'static str> {
    let mut tests = LOOK_ALIKES.iter();
    tests.find(|(is_so, _)| is_so(text)).map(|(_, words)| *words)
}

/// Says whether a value refers to a secret instead of being one.
pub fn refers(text: &str) -> bool {
    is_reference(text) || is_path(text) || is_constant(text)
}

/// The remark about a secret that is written in the configuration itself under this key; the suggested variable's name
/// is made of `words`.
pub fn in_the_open(key: &str, words: &str) -> String {
    let letter = |one: char| if one.is_ascii_alphanumeric() { one.to_ascii_uppercase() } else { '_' };
    let variable: String = words.chars().map(letter).collect();
    let key = if is_name(key, |one| one != '.' && one != '+') { key.to_owned() } else { format!("{key:?}") };
    format!(
        "found the secret itself, which every reader of the configuration sees; better: \
         `{key} = {{ env = {variable:?} }}` or `{{ file = \"…\" }}`"
    )
}

/// Says whether a header or a parameter carries a credential, by its name or by the look of its value.
pub fn is_credential(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    names_credential(&name) || name == "code" || is_authorization(value) || may_be_secret(value)
}

/// Says whether a name, in lower case, is that of a credential.
pub fn names_credential(name: &str) -> bool {
    let words = [
        "apikey",
        "api-key",
        "auth",
        "bearer",
        "cookie",
        "credential",
        "dpop",
        "jwt",
        "passw",
        "secret",
        "session",
        "signature",
        "token",
    ];
    // These names are of keys that group events, and of places where a list continues.
    let others = ["continuation", "idempotency", "partition", "routing", "sharding", "sort"];
    let is_other = others.iter().any(|word| name.contains(word));
    !is_other && (words.iter().any(|word| name.contains(word)) || name.ends_with("key"))
        || ["sig", "pwd"].contains(&name)
}

/// Says which reference a value looks like, if a program should have replaced it by another value.
pub fn unreplaced(text: &str) -> Option<&'static str> {
    is_reference(text).then_some(REFERENCE)
}

/// Says whether a text may be a secret in the place of another value; it is then not shown. Names and paths seldom mix
/// characters in this way.
pub fn may_be_secret(text: &str) -> bool {
    text.len() >= SHORTEST_SECRET
        && !text.contains(['/', '\\', ' '])
        && text.contains(|one: char| one.is_ascii_lowercase())
        && text.contains(|one: char| one.is_ascii_uppercase())
        && text.contains(|one: char| one.is_ascii_digit())
}

/// Length in bytes of the shortest secrets that services make.
const SHORTEST_SECRET: usize = 16;

/// Says whether a text can be the name of an environment variable.
pub fn is_variable(text: &str) -> bool {
    is_name(text, |one| one.is_ascii_alphanumeric() || one == '_')
}

type ValueTest = fn(&str) -> bool;

const REFERENCE: &str =
    "looks like a reference that nothing replaces here: write `{ env = \"NAME\" }` for the variable NAME";

/// The first test that fits decides. None of them fits random characters of the alphabet from which Entra ID makes its
/// secrets.
const LOOK_ALIKES: &[(ValueTest, &str)] = &[
    (|text| text.contains("-----BEGIN "), "looks like PEM, where a secret belongs"),
    (is_reference, REFERENCE),
    (
        is_encrypted,
        "is encrypted, as SOPS, Ansible or eyaml keep secrets, and nothing decrypts it here: give it in plain text",
    ),
    (is_page, "looks like a web page (HTML), where the secret itself belongs"),
    (is_json, "looks like JSON, where one value of it belongs, without its quotes"),
    (is_address, "looks like an address, where the secret itself belongs"),
    (
        is_authorization,
        "begins as a header of HTTP does, with a scheme such as `Bearer`, where the secret alone belongs",
    ),
    (is_assignment, "looks like `NAME=value`, where the value alone belongs"),
    (is_quoted, "is written in quotes, which became part of it"),
    (is_masked, "is masked, as secrets are shown once they cannot be read any more: make a new one"),
    (is_placeholder, "looks like a placeholder that somebody should have replaced by the secret"),
    (is_path, "looks like the path of a file: write `{ file = \"…\" }` to have the file read"),
    (is_constant, "looks like the name of a variable: write `{ env = \"…\" }` to have the variable read"),
    (is_base64, "looks like base64; the secret may be the decoded text"),
    (is_hexadecimal, "looks like hexadecimal; the secret may be the decoded text"),
    (is_percent_encoded, "looks percent-encoded, where the unescaped secret belongs: %7E stands for ~"),
    (has_escapes, "has escapes, such as &amp; of HTML or \\u007e of JSON, where the unescaped secret belongs"),
];

fn is_reference(text: &str) -> bool {
    let within = |begin: &str, end: &str| text.find(begin).is_some_and(|at| text[at + begin.len()..].contains(end));
    let whole = |begin: &str, end: &str| {
        let inner = text.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
        inner.is_some_and(|inner| is_name(inner, |_| true))
    };
    [("${", "}"), ("$(", ")"), ("{{", "}}"), ("<%", "%>"), ("#{", "}")].iter().any(|(begin, end)| within(begin, end))
        || [("$", ""), ("$env:", ""), ("%", "%"), ("!", "!"), ("@@", "@@"), ("__", "__")]
            .iter()
            .any(|(begin, end)| whole(begin, end))
        || [("env:", ""), ("env.", ""), ("env(", ")"), ("ENV:", "")].iter().any(|(begin, end)| {
            let inner = text.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
            inner.is_some_and(|inner| {
                is_name(inner, |one| one.is_ascii_uppercase() || one.is_ascii_digit() || one == '_')
            })
        })
        || text.len() > 2 && text.starts_with('`') && text.ends_with('`') && text.contains(' ')
        // A platform that replaces such references may host the collector, whatever service a plugin polls.
        || text.starts_with("@Microsoft.KeyVault(")
}

/// Says whether a text is a web page.
pub fn is_page(text: &str) -> bool {
    let start: String = text.chars().take(400).collect::<String>().to_ascii_lowercase();
    start.starts_with('<') && ["<html", "<!doctype html", "<head", "<body"].iter().any(|tag| start.contains(tag))
}

fn is_json(text: &str) -> bool {
    let brackets = [("{", "}"), ("[", "]")].iter().any(|(begin, end)| text.starts_with(begin) && text.ends_with(end));
    brackets && (serde_json::from_str::<serde_json::Value>(text).is_ok() || text.contains([':', '"']))
}

fn is_address(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        scheme.len() > 1 && is_name(scheme, |one| one.is_ascii_lowercase() || "+-.".contains(one))
    }) || ["vault:", "arn:aws:", "awssm:", "gcpsm:"].iter().any(|begin| text.starts_with(begin))
}

/// Names of schemes that people copy together with a token, of any service or receiver.
fn is_authorization(text: &str) -> bool {
    let scheme = text.split_once(char::is_whitespace).map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| {
        ["bearer", "basic", "digest", "splunk", "token", "apikey", "sharedaccesssignature"].contains(&scheme.as_str())
    })
}

/// Names in the style of shells, configurations and headers. A random text seldom has names in one case only.
fn is_assignment(text: &str) -> bool {
    let command = ["export ", "set ", "setx ", "env ", "declare ", "$env:", "-e ", "--"];
    let rest = command.iter().find_map(|begin| text.strip_prefix(begin)).unwrap_or(text);
    let one_case = |name: &str| {
        is_name(name, |one| one.is_ascii_uppercase() || one.is_ascii_digit() || one == '_')
            || is_name(name, |one| one.is_ascii_lowercase() || "_-.".contains(one))
    };
    let telling = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["secret", "password", "token", "key", "value", "authorization"].iter().any(|word| name.ends_with(word))
    };
    let is_key = |name: &str| name.len() > 2 && (one_case(name) || telling(name) && is_name(name, |_| true));
    let equals = rest.split_once('=').is_some_and(|(name, value)| {
        // The padding of base64 is not an assignment.
        is_key(name.trim_end()) && !value.is_empty() && !value.starts_with('=')
    });
    equals || rest.split_once(": ").is_some_and(|(name, value)| is_key(name.trim_matches('"')) && !value.is_empty())
}

fn is_quoted(text: &str) -> bool {
    // Python prints bytes in this form.
    let text = text.strip_prefix('b').filter(|rest| rest.starts_with(['"', '\''])).unwrap_or(text);
    text.len() > 1 && ['"', '\'', '`'].iter().any(|quote| text.starts_with(*quote) && text.ends_with(*quote))
}

fn is_encrypted(text: &str) -> bool {
    text.starts_with("ENC[") && text.ends_with(']') || text.starts_with("$ANSIBLE_VAULT;")
}

fn is_masked(text: &str) -> bool {
    ["*****", "•••••", "●●●●●"].iter().any(|mask| text.ends_with(mask))
}

fn is_placeholder(text: &str) -> bool {
    let word: String = text.to_ascii_lowercase().chars().filter(|one| !"-_. ".contains(*one)).collect();
    let wrapped = [("<", ">"), ("[", "]"), ("{", "}")];
    let same = |text: &str| text.len() > 2 && text.chars().all(|one| text.starts_with(one));
    let begins = ["your", "my", "the", "enter", "insert", "putyour", "replace", "paste", "some", "example", "dummy"];
    let ends =
        ["secret", "secrethere", "secretvalue", "password", "passwordhere", "token", "tokenhere", "key", "value", "me"];
    wrapped.iter().any(|(begin, end)| text.starts_with(begin) && text.ends_with(end))
        || same(text)
        || ["xxxxx", "....", "…"].iter().any(|filler| text.ends_with(filler))
        || PLACEHOLDERS.contains(&word.as_str())
        || word.chars().all(|one| one.is_ascii_lowercase())
            && begins.iter().any(|begin| word.starts_with(begin))
            && ends.iter().any(|end| word.ends_with(end))
        || text.strip_prefix("SECRET-").is_some_and(|number| number.parse::<u32>().is_ok())
}

const PLACEHOLDERS: &[&str] = &[
    "changeit",
    "changeme",
    "clientsecret",
    "fixme",
    "none",
    "null",
    "password",
    "placeholder",
    "redacted",
    "secret",
    "tbd",
    "todo",
    "undefined",
    "value",
];

/// Recognises a path that begins at the root, a home folder or a drive, or that has an ending of files with secrets.
fn is_path(text: &str) -> bool {
    // curl and other programs mark a file by `@`.
    let text = text.strip_prefix('@').unwrap_or(text);
    let ending = |text: &str| {
        let endings = [
            "cer", "conf", "crt", "env", "ini", "json", "key", "p12", "pem", "pfx", "secret", "toml", "txt", "yaml",
            "yml",
        ];
        text.rsplit_once('.').is_some_and(|(_, end)| endings.contains(&end))
    };
    let root = text.strip_prefix('/').and_then(|rest| rest.split_once('/')).map(|(first, _)| first);
    let of_root = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || "._-".contains(one);
    let drive = text.as_bytes();
    let is_plain = !text.contains(char::is_whitespace);
    is_plain && root.is_some_and(|first| first.len() > 1 && (is_name(first, of_root) || first == "Users"))
        || ["~/", "./", "../", "\\\\", "file:"].iter().any(|begin| text.starts_with(begin))
        || matches!(drive, [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic())
        || is_plain && ending(text)
}

fn is_constant(text: &str) -> bool {
    text.contains('_') && is_name(text, |one| one.is_ascii_uppercase() || one.is_ascii_digit() || one == '_')
}

/// Says whether a text is a name: letters, digits and the characters between them, all of the wanted kind.
fn is_name(text: &str, kind: impl Fn(char) -> bool) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|one| (one.is_ascii_alphanumeric() || "_-.+".contains(one)) && kind(one))
}

/// Shortest text in bytes that is decoded; a shorter text may be readable by chance.
const SHORTEST_DECODED: usize = 12;

fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let decoded = BASE64_STANDARD_NO_PAD.decode(digits).or_else(|_| BASE64_URL_SAFE_NO_PAD.decode(digits));
    decoded.is_ok_and(|bytes| is_readable(&bytes))
}

fn is_hexadecimal(text: &str) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks_exact(2);
    let whole = pairs.remainder().is_empty();
    let bytes: Option<Vec<u8>> = pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
    whole && bytes.is_some_and(|bytes| is_readable(&bytes))
}

/// Says whether bytes are a line of printable ASCII, also in UTF-16, which PowerShell uses.
fn is_readable(bytes: &[u8]) -> bool {
    let line = bytes.trim_ascii_end();
    let printable = |byte: &u8| (b' '..=b'~').contains(byte);
    let wide = || {
        bytes.len().is_multiple_of(2)
            && bytes.chunks(2).all(|pair| pair[1] == 0 && (printable(&pair[0]) || b"\r\n".contains(&pair[0])))
    };
    line.len() >= SHORTEST_DECODED && (line.iter().all(printable) || wide())
}

fn is_percent_encoded(text: &str) -> bool {
    let mut parts = text.split('%');
    let plain = |part: &str| part.chars().all(|one| one.is_ascii_alphanumeric() || "-._~+".contains(one));
    let begins = parts.next().is_some_and(plain);
    let escaped =
        |part: &str| part.len() > 1 && part.bytes().take(2).all(|digit| digit.is_ascii_hexdigit()) && plain(part);
    begins && text.contains('%') && parts.all(escaped)
}

fn has_escapes(text: &str) -> bool {
    let entity = |part: &str| {
        let name = part.split(';').next().unwrap_or_default();
        part.contains(';') && (["amp", "lt", "gt", "quot", "apos"].contains(&name) || name.starts_with('#'))
    };
    let unicode = |part: &str| part.len() > 3 && part.bytes().take(4).all(|digit| digit.is_ascii_hexdigit());
    text.split('&').skip(1).any(entity) || text.split("\\u").skip(1).any(unicode) || text.ends_with("\\n")
}

/// Says whether a character at an end is not part of a secret.
fn surrounds(character: char) -> bool {
    character.is_whitespace()
        || matches!(get_general_category(character), GeneralCategory::Control | GeneralCategory::Format)
}

/// Names the kinds of characters, each once.
fn named(characters: &str) -> String {
    let mut names: Vec<String> = Vec::new();
    for character in characters.chars() {
        let name = if character.is_whitespace() { "white space".to_owned() } else { name(character) };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" and ")
}

/// The name of a character for people.
fn name(character: char) -> String {
    let name = match character {
        '\0' => "a NUL",
        '\t' => "a tab",
        '\r' => "a carriage return",
        '\u{a0}' | '\u{202f}' => "a non-breaking space",
        '\u{ad}' => "a soft hyphen",
        '\u{200b}' => "a zero-width space",
        '\u{200c}' | '\u{200d}' | '\u{2060}' => "a zero-width joiner",
        '\u{feff}' => "a byte order mark",
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            "a mark of writing direction"
        }
        '«' | '»' | '‘'..='‟' | '′'..='‷' | '‹' | '›' | '「'..='』' | '〝'..='〟' | '＂' | '＇' => {
            "a typographic quotation mark"
        }
        '‐'..='―' | '−' | '﹘' | '﹣' | '－' => "a typographic dash",
        '˜' | '∼' | '～' => "something like a tilde",
        '…' => "an ellipsis",
        '\u{ff01}'..='\u{ff5e}' => "a full-width character",
        '\u{fffd}' => "a replacement character, which replaces characters that were read in the wrong encoding,",
        _ if character.is_whitespace() => "white space",
        _ if character.is_alphabetic() => "a letter outside ASCII",
        _ if character.is_control() => return format!("a control character (U+{:04X})", u32::from(character)),
        _ if surrounds(character) => return format!("a format character (U+{:04X})", u32::from(character)),
        _ => "a character outside ASCII",
    };
    name.to_owned()
}

/// Writes the first few places in a text.
fn numbered(places: &[usize]) -> String {
    let shown: Vec<String> = places.iter().take(NAMED).map(usize::to_string).collect();
    match (shown.as_slice(), places.len().saturating_sub(NAMED)) {
        ([one], _) => format!("character {one}"),
        (_, 0) => format!("characters {}", shown.join(", ")),
        (_, more) => format!("characters {} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
