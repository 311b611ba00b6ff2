//! Applies the schema of a plugin to the real values, also to those of credentials, which the plugin never sees.

use std::sync::Arc;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::credentials::secret::Secret;
use crate::credentials::settings::Validators;
use crate::limits::{CREDENTIAL_PATTERNS, CREDENTIAL_SCHEMA_BYTES, PATTERN_BYTES};
use crate::text;

/// Returns a remark if the real value of a setting does not fit its schema: one remark in the host's words, however
/// many rules the value breaks. The schema comes from the plugin: its words, their number and their order would reveal
/// parts of the value.
pub(super) fn oddity(property: &Value, secret: &Secret, validators: &Validators) -> Option<String> {
    let text = property.to_string();
    if !is_simple(&text) {
        return Some(format!(
            "the plugin's schema of it is not applied: it has more than {CREDENTIAL_SCHEMA_BYTES} bytes or {CREDENTIAL_PATTERNS} patterns, or refers to others"
        ));
    }
    let Some(validator) = validators.of(property, text) else {
        return Some("the plugin's schema of it cannot be read".to_owned());
    };
    let is_odd = !validator.is_valid(&Value::from(secret.expose()));
    is_odd.then(|| form(secret.expose()).to_owned())
}

impl Validators {
    /// The number of schemas whose validators are kept, so that the schemas of a malicious plugin do not fill the memory.
    const KEPT: usize = 16;

    /// Returns the validator of a schema; `None` if the schema cannot be read.
    fn of(&self, schema: &Value, text: String) -> Option<Arc<Validator>> {
        let mut kept = self.0.lock();
        if let Some(known) = kept.get(&text) {
            return known.clone();
        }
        let built = validator(schema).ok().map(Arc::new);
        if kept.len() < Validators::KEPT {
            kept.insert(text, built.clone());
        }
        built
    }
}

/// The form of a value that does not fit, as far as the host can tell.
fn form(value: &str) -> &'static str {
    let is_of_token = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if value.is_empty() {
        "is empty"
    } else if text::is_guid(value) {
        "is a GUID, as the ID of a secret is: the secret's value belongs here"
    } else if value.starts_with("eyJ") && value.split('.').count() == 3 && value.split('.').all(is_of_token) {
        "is a token, which the host fetches by itself: the secret's value belongs here"
    } else if value.contains(char::is_whitespace) {
        "has white space inside, which the plugin's schema does not allow"
    } else {
        "does not have the form that the plugin's schema describes for it"
    }
}

/// The reason why a plugin's schema is not a JSON Schema.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NotASchema(Box<jsonschema::ValidationError<'static>>);

/// Reads a plugin's schema. Its patterns have no look-around, so that their time and memory are bounded by their
/// length.
pub fn validator(schema: &Value) -> Result<Validator, NotASchema> {
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
    jsonschema::options().with_pattern_options(patterns).build(schema).map_err(|error| NotASchema(Box::new(error)))
}

/// Says whether the schema is applied in about the time that it takes to read it. A schema that refers to itself twice
/// at every step takes for ever, and the schema comes from the plugin.
fn is_simple(text: &str) -> bool {
    text.len() <= CREDENTIAL_SCHEMA_BYTES
        && text.matches("\"pattern").count() <= CREDENTIAL_PATTERNS
        && !["\"$ref\"", "\"$dynamicRef\"", "\"$recursiveRef\""].iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Map;

    use super::super::Settings;
    use super::*;
    use crate::contract::Description;

    #[test]
    fn a_schema_that_takes_for_ever_is_not_applied() {
        let mut definitions = Map::new();
        for level in 0..60 {
            let next = serde_json::json!({ "$ref": format!("#/$defs/{}", level + 1) });
            definitions.insert(level.to_string(), serde_json::json!({ "allOf": [next, next] }));
        }
        definitions.insert("60".to_owned(), serde_json::json!({ "minLength": 100 }));
        let schema = serde_json::json!({ "properties": { "key": { "$defs": definitions, "$ref": "#/$defs/0" } } });
        let description = Description::with_schema(&schema.to_string());
        let secrets = BTreeMap::from([("key".to_owned(), Secret::new("a-secret-of-tests"))]);
        let oddities = Settings::new(Map::new(), secrets).oddities(&description, &Validators::default());
        assert!(oddities[0].words.contains("refers to others"), "{oddities:?}");
    }

    #[test]
    fn a_schema_with_more_patterns_than_are_read_at_once_is_not_applied() {
        let property =
            |count: usize| serde_json::json!({ "allOf": vec![serde_json::json!({ "pattern": "^a" }); count] });
        let told = |count| oddity(&property(count), &Secret::new("a-secret-of-tests"), &Validators::default());
        assert_eq!(told(CREDENTIAL_PATTERNS), None);
        assert!(told(CREDENTIAL_PATTERNS + 1).unwrap().contains("8 patterns"), "{:?}", told(CREDENTIAL_PATTERNS + 1));
    }

    #[test]
    fn the_validator_of_a_schema_is_built_once_and_only_so_many_are_kept() {
        let validators = Validators::default();
        let of = |length: usize| {
            let schema = serde_json::json!({ "minLength": length });
            validators.of(&schema, schema.to_string()).unwrap()
        };
        let first = of(0);
        assert!(Arc::ptr_eq(&first, &of(0)));
        for length in 0..2 * Validators::KEPT {
            assert_eq!(of(length).is_valid(&Value::from("")), length == 0, "{length}");
        }
        assert_eq!(validators.0.lock().len(), Validators::KEPT);
        assert!(Arc::ptr_eq(&first, &of(0)));
    }

    #[test]
    fn a_schema_that_cannot_be_read_is_told_each_time() {
        let validators = Validators::default();
        for _ in 0..2 {
            let told = oddity(&serde_json::json!({ "type": 1 }), &Secret::new("a-secret-of-tests"), &validators);
            assert_eq!(told.as_deref(), Some("the plugin's schema of it cannot be read"));
        }
    }

    #[test]
    fn a_schema_cannot_spell_a_secret_in_the_log() {
        // One pattern for each character at each place: the patterns that fail would reveal the secret.
        let test = |place: usize, letter: char| {
            let pattern = format!("^.{{{place}}}[^{letter}]");
            serde_json::json!({ "description": format!("{place}{letter}"), "pattern": pattern })
        };
        let places = (0..2).flat_map(|place| ('a'..='d').map(move |letter| (place, letter)));
        let tests: Vec<Value> = places.map(|(place, letter)| test(place, letter)).collect();
        let property = serde_json::json!({ "description": "the-words-of-a-plugin", "allOf": tests });
        let oddity = |secret: &str| oddity(&property, &Secret::new(secret), &Validators::default());
        let told = oddity("abcdefgh").unwrap();
        assert_eq!(oddity("ddddzzzz"), Some(told.clone()), "another secret, the same words");
        assert!(!told.contains("the-words") && !told.contains("0a"), "{told}");
        assert_eq!(oddity("zzzzzzzz"), None);
    }
}
