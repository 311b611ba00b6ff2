//! The settings object: returns its values, and collects every problem and warning with the name that the user wrote.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::found::{kind, quoted};
use super::keys::KEYS;
use super::meant;
use super::near;
use crate::contract::Problem;

/// The settings object, with the problems found so far.
pub struct SettingsReader {
    object: BTreeMap<String, Value>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    /// Settings that misspelled ones mean: their absence only follows.
    meant: Vec<&'static str>,
}

impl SettingsReader {
    /// Reads the object, without the settings `skipped`.
    pub fn new(text: &str, skipped: &[&str]) -> Result<SettingsReader, Vec<Problem>> {
        let object = || -> serde_json::Result<BTreeMap<String, Value>> {
            let mut values: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            values.retain(|key, _| !skipped.contains(&key.as_str()));
            values.into_iter().map(|(key, value)| Ok((key, serde_json::from_str(value.get())?))).collect()
        };
        let words = match object() {
            Ok(object) => {
                return Ok(SettingsReader { object, problems: Vec::new(), warnings: Vec::new(), meant: Vec::new() });
            }
            Err(error) => match serde_json::from_str::<Value>(text) {
                Ok(other) if !other.is_object() => kind(&other).to_owned(),
                _ => format!("text that is not JSON ({error})"),
            },
        };
        Err(vec![Problem { setting: String::new(), found: words, expected: "a JSON object of settings".to_owned() }])
    }

    /// Returns the value of a setting.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.object.get(key)
    }

    pub fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    pub fn problem(&mut self, key: &str, found: &str, expected: &str) {
        self.problems.push(problem(key, found, expected));
    }

    pub fn warn(&mut self, key: &str, found: &str, expected: &str) {
        self.warnings.push(problem(key, found, expected));
    }

    pub fn is_meant(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }

    /// Reports that a setting is missing, unless it is there with a misspelled name.
    pub fn missing(&mut self, keys: &[&str], expected: &str) {
        if !keys.iter().any(|key| self.is_meant(key)) {
            self.problem(keys[0], "nothing", expected);
        }
    }

    pub fn refuse_unknown_keys(&mut self) {
        let keys: Vec<String> = self.object.keys().filter(|key| !KEYS.contains(&key.as_str())).cloned().collect();
        for key in keys {
            let meant = near::name(&key, KEYS.iter().copied());
            self.meant.extend(meant);
            let expected = match meant.or_else(|| near::nearest(&key, KEYS.iter().copied())) {
                Some(nearest) => format!("a known setting; the nearest is `{nearest}`"),
                None => format!("a known setting: {}", KEYS.join(", ")),
            };
            self.problem(&key, "an unknown setting", &expected);
        }
    }

    /// Returns the name that the user wrote, of two names for the same setting.
    pub fn either(&mut self, first: &'static str, second: &'static str) -> &'static str {
        match (self.has(first), self.has(second)) {
            (true, true) => {
                self.problem(second, &format!("`{first}` as well, which is the same setting"), "one of the two");
                first
            }
            (false, true) => second,
            _ => first,
        }
    }

    /// Returns a string without surrounding white space; reports a value that is not a string, or is empty.
    pub fn text(&mut self, key: &str, expected: &str) -> Option<String> {
        let found = match self.object.get(key) {
            None => return None,
            Some(Value::String(text)) if !text.trim().is_empty() => {
                let trimmed = text.trim().to_owned();
                if trimmed.len() != text.len() {
                    self.warn(key, "white space around the value, which was trimmed", "the value alone");
                }
                return Some(trimmed);
            }
            Some(Value::String(_)) => "an empty string",
            Some(other) => kind(other),
        };
        self.problem(key, found, expected);
        None
    }

    /// Reads one of several words; the first is the default. `others` are the words of other programs.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&'static str, T)], others: meant::Others) -> T {
        // Each call of the plugin reads the settings, and almost all are good: words are made only for others.
        let Some(value) = self.object.get(key) else { return choices[0].1 };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| value == name) {
            return *choice;
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
        let hint = meant::hint(value, choices.iter().map(|(name, _)| *name), others);
        let expected = names.join(" or ") + &hint;
        let Some(text) = self.text(key, &expected) else { return choices[0].1 };
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, choice)) => *choice,
            None => {
                self.problem(key, &quoted(&text), &expected);
                choices[0].1
            }
        }
    }

    pub fn boolean(&mut self, key: &str, default: bool) -> bool {
        match self.object.get(key) {
            None => default,
            Some(Value::Bool(value)) => *value,
            Some(other) => {
                let in_quotes = matches!(other.as_str(), Some("true" | "false"));
                let (found, quotes) = (kind(other), if in_quotes { ", without quotes" } else { "" });
                self.problem(key, found, &format!("true or false{quotes}"));
                default
            }
        }
    }
}

fn problem(key: &str, found: &str, expected: &str) -> Problem {
    Problem { setting: format!("/{key}"), found: found.to_owned(), expected: expected.to_owned() }
}
