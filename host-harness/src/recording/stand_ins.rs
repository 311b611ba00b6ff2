//! Placeholders for all values that a recording must not disclose.

use std::collections::BTreeMap;

use source_host::credentials::redact::Search;
use source_host::credentials::secret::Secret;
use source_host::text::is_guid;

/// Placeholders for values that a recording must not disclose. The same value has the same placeholder everywhere, in
/// the same form: a GUID replaces a GUID, so that people can read the recording and the plugin can replay it.
#[derive(Debug, Default)]
pub struct StandIns {
    /// Placeholders by value; GUIDs and domains in lower case.
    known: BTreeMap<String, (StandInKind, String)>,
    counts: BTreeMap<StandInKind, usize>,
    /// Members of JSON objects whose values are names.
    named_by: Vec<String>,
}

/// The kind of value that a placeholder replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StandInKind {
    /// A secret of the settings.
    Secret,
    /// A token, an assertion, or the opaque part of a link.
    Token,
    /// Id of a tenant, an application or a principal: a GUID or a domain.
    Identity,
    /// Id of a scope, for example a subscription.
    Scope,
    /// Name of a scope.
    Name,
}

impl StandIns {
    /// Makes an empty set of placeholders; the values of these members are names.
    pub fn naming<'a>(members: impl Iterator<Item = &'a str>) -> StandIns {
        StandIns { named_by: members.map(str::to_owned).collect(), ..StandIns::default() }
    }

    /// Returns the placeholder of a value, or makes one.
    pub fn of(&mut self, kind: StandInKind, value: &str) -> String {
        let key = if folds(kind) { value.to_ascii_lowercase() } else { value.to_owned() };
        if let Some((_, known)) = self.known.get(&key) {
            return known.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let stand_in = match kind {
            StandInKind::Secret => format!("SECRET-{count}"),
            StandInKind::Token => format!("TOKEN-{count}"),
            StandInKind::Identity if is_guid(value) => format!("aaaaaaaa-0000-4000-8000-{count:012}"),
            StandInKind::Identity => format!("tenant-{count}.example"),
            StandInKind::Scope => format!("bbbbbbbb-0000-4000-8000-{count:012}"),
            StandInKind::Name => format!("Name {count}"),
        };
        self.known.insert(key, (kind, stand_in.clone()));
        stand_in
    }

    /// Returns the placeholder of a value, if it has one.
    pub fn known(&self, value: &str) -> Option<&str> {
        self.known.get(value).map(|(_, stand_in)| stand_in.as_str())
    }

    /// Replaces values by placeholders in a text. A name is replaced if it is the whole value of a member that names
    /// something, and anywhere if it contains a space: a short name may be a word of the service.
    pub fn put(&self, text: &str) -> String {
        let mut known: Vec<_> = self.known.iter().collect();
        // The longest value comes first, because one value may be a part of another.
        known.sort_by_key(|(value, (kind, _))| (*kind, std::cmp::Reverse(value.len())));
        let mut text = text.to_owned();
        for (value, (kind, stand_in)) in known {
            if folds(*kind) {
                text = replaced(&text, value, stand_in);
                continue;
            }
            if *kind == StandInKind::Name {
                text = self.renamed(&text, value, stand_in);
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

    /// Replaces a name that is the whole value of a member.
    fn renamed(&self, text: &str, value: &str, stand_in: &str) -> String {
        let quoted = serde_json::Value::from(value).to_string();
        let names = |before: &str, member: &str| {
            let key = format!("\"{member}\"");
            let at = before.len().checked_sub(key.len()).and_then(|at| before.get(at..));
            at.is_some_and(|found| found.eq_ignore_ascii_case(&key))
        };
        let mut result = String::with_capacity(text.len());
        let mut done = 0;
        for (at, _) in text.match_indices(&quoted) {
            let before = text[..at].trim_end().strip_suffix(':').map(str::trim_end);
            let is_name = before.is_some_and(|before| self.named_by.iter().any(|member| names(before, member)));
            if at >= done && is_name {
                result += &text[done..at];
                result += &format!("\"{stand_in}\"");
                done = at + quoted.len();
            }
        }
        result + &text[done..]
    }
}

/// Says whether letter case does not matter.
fn folds(kind: StandInKind) -> bool {
    matches!(kind, StandInKind::Identity | StandInKind::Scope)
}

/// Replaces a value in any letter case.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_value_has_the_same_stand_in_of_the_same_shape() {
        let mut stand_ins = StandIns::default();
        let tenant = stand_ins.of(StandInKind::Identity, "AAAABBBB-0000-cccc-1111-dddd2222eeee");
        assert!(is_guid(&tenant));
        assert_eq!(stand_ins.of(StandInKind::Identity, "aaaabbbb-0000-CCCC-1111-dddd2222eeee"), tenant);
        assert_ne!(stand_ins.of(StandInKind::Scope, "20ff7fc3-e762-44dd-bd96-b71116dcdc23"), tenant);
        stand_ins.of(StandInKind::Secret, "pa~ss&word");
        assert_eq!(
            stand_ins.put("/AAAAbbbb-0000-cccc-1111-dddd2222eeee/é pa%7Ess%26word"),
            format!("/{tenant}/é SECRET-1")
        );
    }

    #[test]
    fn a_name_is_taken_out_where_it_is_one() {
        let mut stand_ins = StandIns::naming(["displayname"].into_iter());
        stand_ins.of(StandInKind::Name, "max");
        stand_ins.of(StandInKind::Name, "Contoso one");
        let text = r#"{"max":10,"displayName" : "max","about":"max of Contoso one"}"#;
        assert_eq!(stand_ins.put(text), r#"{"max":10,"displayName" : "Name 1","about":"max of Name 2"}"#);
    }
}
