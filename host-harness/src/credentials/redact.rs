//! The one redaction for everything that people, programs or plugins read: finds secrets however they are spelled.

mod escapes;
mod search;

use std::collections::BTreeMap;

use crate::credentials::secret::Secret;

pub use self::search::Search;

/// Stands for a secret.
pub const REDACTED: &str = "[redacted]";

/// Shorter secrets would take ordinary words out of a text.
pub const SHORTEST: usize = 8;

/// Replaces secrets in a text.
pub fn redact<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    match Search::new(secrets).clean(text.as_bytes()) {
        Some(clean) => String::from_utf8_lossy(&clean).into_owned(),
        None => text.to_owned(),
    }
}

/// Searching a text of this size takes some ten milliseconds at most, whatever is in it.
const LONG: usize = 8 << 10;

/// Does what reads a text of so many bytes, which others may have filled with what is slow to search: a long one is read
/// beside the runtime, so that nobody waits for it. None if it broke down.
pub async fn aside<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if bytes > LONG { tokio::task::spawn_blocking(work).await.ok() } else { Some(work()) }
}

/// Stand-ins for what a recording is not to give away. The same value has the same one everywhere, of the same shape: a
/// GUID where a GUID stood, so that what is recorded can still be read and played.
#[derive(Debug, Default)]
pub struct StandIns {
    /// By value, GUIDs and domains in lower case.
    known: BTreeMap<String, (Kind, String)>,
    counts: BTreeMap<Kind, usize>,
}

/// What a stand-in stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A secret of the settings.
    Secret,
    /// A token, an assertion, or the opaque part of a link.
    Token,
    /// A tenant, an application, a principal: a GUID or a domain.
    Identity,
    /// What is polled, for example a subscription.
    Scope,
    /// What people call it.
    Name,
}

impl StandIns {
    /// The stand-in for a value, the one that it has already or another.
    pub fn of(&mut self, kind: Kind, value: &str) -> String {
        let key = if folds(kind) { value.to_ascii_lowercase() } else { value.to_owned() };
        if let Some((_, known)) = self.known.get(&key) {
            return known.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let stand_in = match kind {
            Kind::Secret => format!("SECRET-{count}"),
            Kind::Token => format!("TOKEN-{count}"),
            Kind::Identity if is_guid(value) => format!("aaaaaaaa-0000-4000-8000-{count:012}"),
            Kind::Identity => format!("tenant-{count}.example"),
            Kind::Scope => format!("bbbbbbbb-0000-4000-8000-{count:012}"),
            Kind::Name => format!("Name {count}"),
        };
        self.known.insert(key, (kind, stand_in.clone()));
        stand_in
    }

    /// The stand-in that a value has.
    pub fn known(&self, value: &str) -> Option<&str> {
        self.known.get(value).map(|(_, stand_in)| stand_in.as_str())
    }

    /// A text with the stand-ins in it. Names are taken out where they are a whole text of JSON under the key
    /// `displayName`, and anywhere if they have a space: a short one may be a word of the service.
    pub fn put(&self, text: &str) -> String {
        let mut known: Vec<_> = self.known.iter().collect();
        // The longest first: one value may be a part of another.
        known.sort_by_key(|(value, (kind, _))| (*kind, std::cmp::Reverse(value.len())));
        let mut text = text.to_owned();
        for (value, (kind, stand_in)) in known {
            if folds(*kind) {
                text = replaced(&text, value, stand_in);
                continue;
            }
            if *kind == Kind::Name {
                text = renamed(&text, value, stand_in);
                if !value.contains(' ') {
                    continue;
                }
            }
            if let Some(replaced) = Search::new([&Secret::new(value.as_str())]).replaced(text.as_bytes(), stand_in) {
                text = String::from_utf8_lossy(&replaced).into_owned();
            }
        }
        text
    }
}

/// Whether letter case does not matter.
fn folds(kind: Kind) -> bool {
    matches!(kind, Kind::Identity | Kind::Scope)
}

/// Replaces in whatever letter case.
fn replaced(text: &str, value: &str, stand_in: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in lower.match_indices(value) {
        result += &text[done..at];
        result += stand_in;
        done = at + value.len();
    }
    result + &text[done..]
}

/// Replaces a whole text under the key `displayName`.
fn renamed(text: &str, value: &str, stand_in: &str) -> String {
    const KEY: &str = "\"displayName\"";
    let quoted = serde_json::Value::from(value).to_string();
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in text.match_indices(&quoted) {
        let before = text[..at].trim_end();
        let key = before.strip_suffix(':').map(|before| before.trim_end().as_bytes());
        let key = key.and_then(|key| key.get(key.len().checked_sub(KEY.len())?..));
        if at >= done && key.is_some_and(|key| key.eq_ignore_ascii_case(KEY.as_bytes())) {
            result += &text[done..at];
            result += &format!("\"{stand_in}\"");
            done = at + quoted.len();
        }
    }
    result + &text[done..]
}

/// Every GUID of a text, as it is written.
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

/// Characters of a GUID with its hyphens.
const GUID: usize = 36;

/// Whether a text is a GUID with its hyphens.
pub fn is_guid(text: &str) -> bool {
    text.len() == GUID
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Words of others are shown on terminals and in lines of a log: nothing in them may move a cursor, begin a line or turn
/// what stands around them.
pub fn plain(text: &str) -> String {
    text.replace(is_command, " ")
}

/// The same in several lines.
pub fn plain_lines(text: &str) -> String {
    text.replace(|one| is_command(one) && one != '\n', " ")
}

/// Whether a terminal or a reader of lines obeys it.
pub fn is_command(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cuts a text to a number of bytes, at a character.
pub fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// Counts what a search costs, for tests: how long it takes depends on the machine.
fn count(steps: usize) {
    #[cfg(test)]
    tests::STEPS.set(tests::STEPS.get() + steps);
    #[cfg(not(test))]
    let _ = steps;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// What searches of this test cost.
        pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn the_same_value_has_the_same_stand_in_of_the_same_shape() {
        let mut stand_ins = StandIns::default();
        let tenant = stand_ins.of(Kind::Identity, "AAAABBBB-0000-cccc-1111-dddd2222eeee");
        assert!(is_guid(&tenant));
        assert_eq!(stand_ins.of(Kind::Identity, "aaaabbbb-0000-CCCC-1111-dddd2222eeee"), tenant);
        assert_ne!(stand_ins.of(Kind::Scope, "20ff7fc3-e762-44dd-bd96-b71116dcdc23"), tenant);
        stand_ins.of(Kind::Secret, "pa~ss&word");
        assert_eq!(
            stand_ins.put("/AAAAbbbb-0000-cccc-1111-dddd2222eeee/é pa%7Ess%26word"),
            format!("/{tenant}/é SECRET-1")
        );
    }

    #[test]
    fn a_name_is_taken_out_where_it_is_one() {
        let mut stand_ins = StandIns::default();
        stand_ins.of(Kind::Name, "max");
        stand_ins.of(Kind::Name, "Contoso one");
        let text = r#"{"max":10,"displayName" : "max","about":"max of Contoso one"}"#;
        assert_eq!(stand_ins.put(text), r#"{"max":10,"displayName" : "Name 1","about":"max of Name 2"}"#);
    }

    #[test]
    fn guids_are_found_anywhere() {
        let text = "x20ff7fc3-e762-44dd-bd96-b71116dcdc23é/20FF7FC3-e762-44dd-bd96-b71116dcdc2";
        assert_eq!(guids(text).collect::<Vec<_>>(), ["20ff7fc3-e762-44dd-bd96-b71116dcdc23"]);
    }

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }
}
