//! The same rules with a parser that builds a tree, for tests and fuzzers. Properties that a tree does not show are
//! counted in the text.

use serde_json::Value;

use crate::limits::EVENT_LEVELS;

/// Says whether the body of the event with this uid is valid.
pub fn is_good(uid: &str, body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    let Ok(tree) = serde_json::from_str::<Value>(text) else { return false };
    let uid_within = tree.get("metadata").and_then(|metadata| metadata.get("uid"));
    text.starts_with('{')
        && !text.contains(['\n', '\r'])
        && levels(&tree) <= EVENT_LEVELS
        && members(&tree) == colons(text)
        && uid_within.is_none_or(|within| *within == *uid)
}

fn levels(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(levels).max(),
        Value::Object(members) => members.values().map(levels).max(),
        _ => return 0,
    };
    inner.unwrap_or_default() + 1
}

/// Counts the members of all objects; a tree has each key once.
fn members(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(members).sum(),
        Value::Object(inner) => inner.len() + inner.values().map(members).sum::<usize>(),
        _ => 0,
    }
}

/// Counts the colons outside of strings, one for each member.
fn colons(text: &str) -> usize {
    let (mut colons, mut is_string, mut is_escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b':' if !is_string => colons += 1,
            _ => {}
        }
    }
    colons
}
