//! The settings of a feed as the host has them: plain values, and secrets that no plugin sees.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::contract::{Credential, Description};
use crate::egress::Sealed;
use crate::mark::Mark;
use crate::redact::SHORTEST;
use crate::secret::Secret;

/// Settings with their secrets apart. Small: a collector holds thousands.
#[derive(Debug, Clone)]
pub struct Settings {
    /// One JSON object.
    plain: Box<str>,
    secrets: Box<[(String, Secret)]>,
    trimmed: Box<[String]>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::new(Map::new(), BTreeMap::new())
    }
}

impl Settings {
    /// Plain settings and secrets, each under its top-level key.
    pub fn new(plain: Map<String, Value>, secrets: BTreeMap<String, Secret>) -> Settings {
        let plain = Value::Object(plain).to_string().into_boxed_str();
        Settings { plain, secrets: secrets.into_iter().collect(), trimmed: Box::default() }
    }

    fn plain(&self) -> Map<String, Value> {
        serde_json::from_str(&self.plain).unwrap_or_default()
    }

    /// Makes secrets of the strings that a plugin declares to be credentials, wherever they came from.
    pub fn sealing(self, description: &Description) -> Settings {
        let (mut plain, mut trimmed) = (self.plain(), self.trimmed.into_vec());
        let mut secrets: BTreeMap<String, Secret> = self.secrets.into_iter().collect();
        for credential in &description.credentials {
            if let Some(Value::String(value)) = plain.get(&credential.setting) {
                if value.trim() != value {
                    trimmed.push(credential.setting.clone());
                }
                secrets.insert(credential.setting.clone(), Secret::new(value.trim()));
                plain.remove(&credential.setting);
            }
        }
        Settings { trimmed: trimmed.into(), ..Settings::new(plain, secrets) }
    }

    /// The same in memory of its own.
    pub fn copied(&self) -> Settings {
        let secrets = self.secrets.iter().map(|(setting, secret)| (setting.clone(), Secret::new(secret.expose())));
        Settings { plain: self.plain.clone(), secrets: secrets.collect(), trimmed: self.trimmed.clone() }
    }

    /// Digest of the plain settings.
    pub fn digest(&self) -> Mark {
        Mark::of(&self.plain)
    }

    /// Names the secrets without giving them away, to whom does not have the salt and guesses; equal secrets have equal
    /// names.
    pub fn credential_id(&self, salt: &str) -> Mark {
        let secrets = self.secrets.iter().map(|(setting, secret)| format!("{setting}={}\n", secret.expose()));
        Mark::of(&format!("{salt}\n{}", secrets.collect::<String>()))
    }

    /// When a credential runs out, in Unix milliseconds, where the setting of its name and `_expires` says so.
    pub fn expiry(&self, credential: &str) -> Option<(String, u64)> {
        let date = self.plain().get(&format!("{credential}_expires"))?.as_str().and_then(midnight)?;
        Some((credential.to_owned(), date))
    }

    /// Whether this setting is a secret, and not an empty one.
    pub fn has_secret(&self, setting: &str) -> bool {
        self.secrets.iter().any(|(name, secret)| name == setting && !secret.expose().is_empty())
    }

    /// All secrets, for redaction.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.iter().map(|(_, secret)| secret)
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
            if (1..SHORTEST).contains(&secret.expose().len()) {
                let words = format!(
                    "it has less than {SHORTEST} characters, too few to be recognised where it must not be shown"
                );
                oddities.push((key.clone(), words));
            }
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
        let mut settings = self.plain();
        let mut sealed = Vec::new();
        for (setting, secret) in &self.secrets {
            // Nothing is nothing, and the plugin may say so.
            if secret.expose().is_empty() {
                settings.insert(setting.clone(), Value::from(""));
                continue;
            }
            let one = Sealed::new(Credential::Setting(setting.clone()), secret.clone());
            settings.insert(setting.clone(), Value::from(one.placeholder.clone()));
            sealed.push(one);
        }
        (Value::Object(settings).to_string(), sealed)
    }

    /// The settings without any secret.
    pub(crate) fn without_credentials(&self) -> &str {
        &self.plain
    }
}

/// The beginning of a date such as `2027-06-30` in UTC, in Unix milliseconds.
fn midnight(date: &str) -> Option<u64> {
    let date = time::Date::parse(date.trim(), &time::format_description::well_known::Iso8601::DATE).ok()?;
    u64::try_from(date.midnight().assume_utc().unix_timestamp()).ok()?.checked_mul(1_000)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_beside_a_credential_is_its_end() {
        let settings = |date: &str| {
            let plain = serde_json::json!({ "client_secret_expires": date });
            Settings::new(plain.as_object().cloned().unwrap_or_default(), BTreeMap::new()).expiry("client_secret")
        };
        assert_eq!(settings("2026-11-24"), Some(("client_secret".to_owned(), 1_795_478_400_000)));
        assert_eq!(settings("June"), None);
    }

    #[test]
    fn credentials_are_told_apart_without_being_told() {
        let id = |secret: &str, salt: &str| {
            let secrets = BTreeMap::from([("client_secret".to_owned(), Secret::new(secret))]);
            Settings::new(Map::new(), secrets).credential_id(salt)
        };
        assert_eq!(id("a", "salt"), id("a", "salt"));
        assert_ne!(id("a", "salt"), id("b", "salt"));
        assert_ne!(id("a", "salt"), id("a", "pepper"));
    }
}
