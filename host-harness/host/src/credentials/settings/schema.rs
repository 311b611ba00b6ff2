//! What the schema of a plugin says of the real values, those of credentials too, which the plugin never sees.

use jsonschema::PatternOptions;
use serde_json::Value;

use crate::credentials::secret::Secret;
use crate::limits::{CREDENTIAL_SCHEMA_BYTES, PATTERN_BYTES, WORDS_BYTES};
use crate::text;

/// What the schema of a setting finds odd about its real value, in the words of the schema. The value is never quoted.
pub(super) fn oddities(property: &Value, secret: &Secret) -> Vec<String> {
    if !is_simple(property) {
        return vec![format!(
            "the plugin's schema of it is not applied: it has more than {CREDENTIAL_SCHEMA_BYTES} bytes or refers to others"
        )];
    }
    let Ok(validator) = validator(property) else {
        return vec!["the plugin's schema of it cannot be read".to_owned()];
    };
    let value = Value::from(secret.expose());
    validator.iter_errors(&value).map(|error| words(property, error.schema_path().as_str())).collect()
}

/// Why a plugin's schema is none.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NotASchema(Box<jsonschema::ValidationError<'static>>);

/// Reads a plugin's schema. Its patterns have no look-around, so that they take time and room that follow from their length.
pub fn validator(schema: &Value) -> Result<jsonschema::Validator, NotASchema> {
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
    jsonschema::options().with_pattern_options(patterns).build(schema).map_err(|error| NotASchema(Box::new(error)))
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

    use super::super::Settings;
    use super::super::tests::description;
    use super::*;

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
