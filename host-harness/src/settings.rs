//! The settings of a feed as the host has them: plain values, and secrets that no plugin sees.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::contract::{Credential, Description};
use crate::egress::Sealed;
use crate::sandbox::placeholder;
use crate::secret::Secret;

/// Settings with their secrets apart.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    plain: Map<String, Value>,
    secrets: BTreeMap<String, Secret>,
    trimmed: Vec<String>,
}

impl Settings {
    /// Plain settings and secrets, each under its top-level key.
    pub fn new(plain: Map<String, Value>, secrets: BTreeMap<String, Secret>) -> Settings {
        Settings { plain, secrets, trimmed: Vec::new() }
    }

    /// Makes secrets of the strings that a plugin declares to be credentials, wherever they came from.
    pub fn sealing(mut self, description: &Description) -> Settings {
        for credential in &description.credentials {
            if let Some(Value::String(value)) = self.plain.get(&credential.setting) {
                if value.trim() != value {
                    self.trimmed.push(credential.setting.clone());
                }
                self.secrets.insert(credential.setting.clone(), Secret::new(value.trim()));
                self.plain.remove(&credential.setting);
            }
        }
        self
    }

    /// All secrets, for redaction.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.values()
    }

    /// What of the real values the plugin's schema finds odd, the credentials included, which the plugin never sees:
    /// the key of the setting, and the words of the schema. A value is never quoted.
    pub fn oddities(&self, description: &Description) -> Vec<(String, String)> {
        let Ok(schema) = serde_json::from_str::<Value>(&description.settings_schema) else {
            return vec![(String::new(), "the plugin's settings schema is no JSON".to_owned())];
        };
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
        let trimmed = self.trimmed.iter();
        let mut oddities: Vec<_> =
            trimmed.map(|setting| (setting.clone(), "white space around it was removed".to_owned())).collect();
        for (key, secret) in &self.secrets {
            let Some(property) = properties.get(key) else { continue };
            let Ok(validator) = jsonschema::validator_for(property) else {
                oddities.push((key.clone(), "the plugin's schema of it cannot be read".to_owned()));
                continue;
            };
            for error in validator.iter_errors(&Value::from(secret.expose())) {
                oddities.push((key.clone(), words(property, error.schema_path().as_str())));
            }
        }
        oddities
    }

    /// The settings as a plugin gets them: each secret a placeholder of its own, made anew for each call.
    pub(crate) fn sealed(&self) -> (String, Vec<Sealed>) {
        let mut settings = self.plain.clone();
        let mut sealed = Vec::new();
        for (setting, secret) in &self.secrets {
            // Nothing is nothing, and the plugin may say so.
            let placeholder = if secret.expose().is_empty() { String::new() } else { placeholder() };
            settings.insert(setting.clone(), Value::from(placeholder.clone()));
            if !placeholder.is_empty() {
                sealed.push(Sealed {
                    placeholder,
                    credential: Credential::Setting(setting.clone()),
                    secret: secret.clone(),
                });
            }
        }
        (Value::Object(settings).to_string(), sealed)
    }

    /// The settings without any secret.
    pub(crate) fn without_credentials(&self) -> String {
        Value::Object(self.plain.clone()).to_string()
    }
}

/// The description of the innermost part of the schema that a value did not fit.
fn words(property: &Value, path: &str) -> String {
    let mut path = path.trim_end_matches('/');
    loop {
        let part = if path.is_empty() { Some(property) } else { property.pointer(path) };
        if let Some(description) = part.and_then(|part| part.get("description")).and_then(Value::as_str) {
            return description.to_owned();
        }
        match path.rfind('/') {
            Some(end) => path = &path[..end],
            None => return "it does not fit the plugin's schema".to_owned(),
        }
    }
}
