//! The subscriptions to poll.

use std::collections::BTreeSet;

use serde_json::Value;

use super::forms::is_guid;
use super::found::{kind, quoted};
use super::meant;
use super::reader::SettingsReader;
use super::types::Subscriptions;

/// The settings that name subscriptions.
pub const KEYS: [&str; 3] = ["subscription_id", "exclude_subscriptions", "delegated"];

/// Reads the subscriptions to poll.
pub fn read(reader: &mut SettingsReader) -> Subscriptions {
    const EXPECTED: &str = "a subscription ID (GUID), a list of them, or \"*\"";
    let key = "subscription_id";
    let all = reader.value(key).and_then(Value::as_str).is_some_and(|text| text.trim() == "*");
    if all {
        return Subscriptions::All {
            exclude: guids(reader, "exclude_subscriptions", EXPECTED),
            delegated: reader.boolean("delegated", false),
        };
    }
    for alone in ["exclude_subscriptions", "delegated"] {
        if reader.has(alone) {
            reader.problem(alone, "a setting that goes with `subscription_id = \"*\"`", "nothing");
        }
    }
    if !reader.has(key) {
        reader.missing(&[key], EXPECTED);
    }
    Subscriptions::List(guids(reader, key, EXPECTED))
}

/// Reads one GUID or a list of them, each once, in lower case.
fn guids(reader: &mut SettingsReader, key: &str, expected: &str) -> Vec<String> {
    let values = match reader.value(key) {
        None => return Vec::new(),
        Some(Value::Array(values)) => values.clone(),
        Some(value) => vec![value.clone()],
    };
    let many = matches!(reader.value(key), Some(Value::Array(_)));
    if many && values.is_empty() && key == "subscription_id" {
        reader.problem(key, "an empty list", expected);
    }
    let (mut guids, mut known) = (Vec::new(), BTreeSet::new());
    for (index, value) in values.iter().enumerate() {
        let place = if many { format!("{key}/{index}") } else { key.to_owned() };
        match value {
            Value::String(text) if is_guid(text.trim()) => {
                if text.trim() != text {
                    reader.warn(&place, "white space around the value, which was trimmed", "the value alone");
                }
                let guid = text.trim().to_ascii_lowercase();
                if known.insert(guid.clone()) {
                    guids.push(guid);
                } else {
                    reader.warn(&place, "a subscription that is already in the list", "each once");
                }
            }
            Value::String(text) => {
                let meant = meant::subscriptions(text).map(|meant| format!("; write {meant}"));
                reader.problem(&place, &quoted(text), &format!("{expected}{}", meant.unwrap_or_default()));
            }
            other => reader.problem(&place, kind(other), expected),
        }
    }
    guids
}
