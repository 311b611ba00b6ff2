//! Settings that a plugin does not know but that belong to another place of this configuration.

use serde_json::Value;

use super::reference::REFERENCE;
use super::{feeds, reader, suggestion};

/// Returns the advice about a setting that a plugin does not know, if it is a key of another table.
pub fn misplaced(name: &str) -> Option<String> {
    if feeds::FEED.contains(&name) {
        return Some(feeds::BELOW_SETTINGS.to_owned());
    }
    reader::places(name).map(|places| format!("unknown setting; it belongs to {places}"))
}

/// Returns the advice about a table in place of a value, if it is meant to be a reference.
pub fn reference(value: &Value) -> Option<String> {
    let table =
        value.as_object().filter(|table| table.values().all(|value| value.is_string() || value.is_boolean()))?;
    let names = || REFERENCE.iter().copied().filter(|name| *name != "plain");
    let (written, meant) = table.keys().find_map(|key| Some((key, suggestion::key(key, names())?)))?;
    Some(format!("found the unknown key `{written}`; the nearest is `{meant}`: {{ {meant} = \"…\" }}"))
}

/// Names the kind of a value.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}
