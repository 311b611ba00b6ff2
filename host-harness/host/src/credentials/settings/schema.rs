//! What the schema of a plugin says of the real values, those of credentials too, which the plugin never sees.

use jsonschema::PatternOptions;
use serde_json::Value;

use super::{Held, Settings};
use crate::contract::{CredentialKind, Description};
use crate::credentials::redact::SHORTEST;
use crate::credentials::spelling;
use crate::limits::{CREDENTIAL_SCHEMA_BYTES, PATTERN_BYTES, WORDS_BYTES};
use crate::text;

impl Settings {
    /// What of the real values the plugin's schema finds odd, the credentials included, which the plugin never sees:
    /// the key of the setting, and the words of the schema. A value is never quoted.
    pub fn oddities(&self, description: &Description) -> Vec<(String, String)> {
        let Ok(schema) = serde_json::from_str::<Value>(&description.settings_schema) else {
            return vec![(String::new(), "the plugin's settings schema is no JSON".to_owned())];
        };
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
        let mut oddities = self.trimmed.to_vec();
        for Held { setting: key, secret, kind } in &self.secrets {
            if *kind == CredentialKind::Secret {
                oddities.extend(spelling::oddities(secret.expose()).into_iter().map(|words| (key.clone(), words)));
            }
            // That something else is short follows, and a path is no secret.
            let is_secret = *kind != CredentialKind::TokenFile && spelling::look_alike(secret.expose()).is_none();
            if is_secret && (1..SHORTEST).contains(&secret.expose().len()) {
                let words = format!(
                    "it has less than {SHORTEST} characters, too few to be recognised where it must not be shown"
                );
                oddities.push((key.clone(), words));
            }
            let Some(property) = properties.get(key) else { continue };
            if spelling::look_alike(secret.expose()).is_some() {
                // What the schema says of something else follows from that alone.
                continue;
            }
            if !is_simple(property) {
                let words = format!(
                    "the plugin's schema of it is not applied: it has more than {CREDENTIAL_SCHEMA_BYTES} bytes or refers to others"
                );
                oddities.push((key.clone(), words));
                continue;
            }
            let Ok(validator) = validator(property) else {
                oddities.push((key.clone(), "the plugin's schema of it cannot be read".to_owned()));
                continue;
            };
            for error in validator.iter_errors(&Value::from(secret.expose())) {
                oddities.push((key.clone(), words(property, error.schema_path().as_str())));
            }
        }
        oddities
    }
}

/// Reads a plugin's schema. Its patterns have no look-around, so that they take time and room that follow from their length.
pub fn validator(schema: &Value) -> Result<jsonschema::Validator, String> {
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
    jsonschema::options().with_pattern_options(patterns).build(schema).map_err(|error| error.to_string())
}

/// Whether applying a schema takes no longer than reading it: one that refers to itself twice at every step takes for ever,
/// and it is the plugin's.
fn is_simple(schema: &Value) -> bool {
    let text = schema.to_string();
    text.len() <= CREDENTIAL_SCHEMA_BYTES
        && !["\"$ref\"", "\"$dynamicRef\"", "\"$recursiveRef\""].iter().any(|word| text.contains(word))
}

/// The description of the innermost part of the schema that a value did not fit.
fn words(property: &Value, path: &str) -> String {
    let mut path = path.trim_end_matches('/');
    loop {
        let part = if path.is_empty() { Some(property) } else { property.pointer(path) };
        if let Some(description) = part.and_then(|part| part.get("description")).and_then(Value::as_str) {
            return text::plain(text::cut(description, WORDS_BYTES));
        }
        match path.rfind('/') {
            Some(end) => path = &path[..end],
            None => return "it does not fit the plugin's schema".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Map;

    use super::super::tests::description;
    use super::*;
    use crate::credentials::secret::Secret;

    #[test]
    fn a_schema_that_takes_for_ever_is_not_applied() {
        let mut definitions = Map::new();
        for level in 0..60 {
            let next = serde_json::json!({ "$ref": format!("#/$defs/{}", level + 1) });
            definitions.insert(level.to_string(), serde_json::json!({ "allOf": [next, next] }));
        }
        definitions.insert("60".to_owned(), serde_json::json!({ "minLength": 100 }));
        let schema = serde_json::json!({ "properties": { "key": { "$defs": definitions, "$ref": "#/$defs/0" } } });
        let description = description(&schema.to_string());
        let secrets = BTreeMap::from([("key".to_owned(), Secret::new("a-secret-of-tests"))]);
        let oddities = Settings::new(Map::new(), secrets).oddities(&description);
        assert!(oddities[0].1.contains("refers to others"), "{oddities:?}");
    }
}
