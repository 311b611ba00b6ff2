//! The events to emit: their kinds, their class, and how often.

use serde_json::Value;

use super::forms::{DAY_SECONDS, duration_seconds, whole_seconds};
use super::found::{kind, quoted};
use super::meant;
use super::near;
use super::reader::SettingsReader;
use super::types::{Class, EventKind, Version};

pub fn kinds(reader: &mut SettingsReader) -> Vec<EventKind> {
    const EXPECTED: &str = "a list of `secure-scores` and `secure-score-controls`";
    let Some(value) = reader.value("events").cloned() else { return EventKind::ALL.to_vec() };
    let names = || EventKind::ALL.iter().map(|kind| kind.name());
    let Value::Array(values) = value else {
        let meant = near::name(value.as_str().unwrap_or_default(), names());
        let meant = meant.map(|name| format!("; write [\"{name}\"]")).unwrap_or_default();
        reader.problem("events", kind(&value), &format!("{EXPECTED}{meant}"));
        return Vec::new();
    };
    if values.is_empty() {
        reader.problem("events", "an empty list", EXPECTED);
    }
    let mut events = Vec::new();
    for (index, value) in values.iter().enumerate() {
        match value.as_str().map(EventKind::named) {
            Some(Some(event)) => events.push(event),
            _ => reader.problem(
                &format!("events/{index}"),
                &value.as_str().map_or(kind(value).to_owned(), quoted),
                &format!("{EXPECTED}{}", meant::hint(value, names(), &[])),
            ),
        }
    }
    events.sort_unstable();
    events.dedup();
    events
}

/// Reads the class of the events.
pub fn class(reader: &mut SettingsReader) -> Class {
    reader.choice("class", &Class::ALL.map(|class| (class.name(), class)), meant::CLASSES)
}

/// Reads the version of OCSF.
pub fn version(reader: &mut SettingsReader) -> Version {
    let key = "ocsf_version";
    let Some(value) = reader.value(key).cloned() else { return Version::NEWEST };
    let names = Version::ALL.map(|version| format!("`{}`", version.name())).join(", ");
    let nearest = meant::version(&value, &Version::ALL.map(Version::name));
    let nearest = nearest.map(|name| format!("; the nearest is `{name}`")).unwrap_or_default();
    let expected = format!("one of {names}{nearest}");
    let Some(text) = reader.text(key, &expected) else { return Version::NEWEST };
    Version::ALL.into_iter().find(|version| version.name() == text).unwrap_or_else(|| {
        reader.problem(key, &quoted(&text), &expected);
        Version::NEWEST
    })
}

pub fn snapshot_seconds(reader: &mut SettingsReader) -> u64 {
    let key = "snapshot_every";
    let Some(value) = reader.value(key).cloned() else { return DAY_SECONDS };
    let seconds = match &value {
        Value::Number(number) => whole_seconds(number),
        Value::String(text) => duration_seconds(text),
        _ => None,
    };
    seconds.unwrap_or_else(|| {
        let meant = value.as_str().and_then(meant::duration);
        let meant = meant.map(|meant| format!("; write `{meant}`")).unwrap_or_default();
        reader.problem(
            key,
            &value.as_str().map_or(value.to_string(), quoted),
            &format!("whole seconds from 1 to 999999999, or a duration such as `30m`, `24h` or `7d`{meant}"),
        );
        DAY_SECONDS
    })
}

/// Reads the version of the OCSF extension.
pub fn extension_version(reader: &mut SettingsReader) -> String {
    reader.text("extension_version", "a version such as 1.0.0").unwrap_or_else(|| "1.0.0".to_owned())
}
