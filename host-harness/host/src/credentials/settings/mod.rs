//! The settings of a feed as the host has them: plain values, and secrets that no plugin sees.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use x509_cert::der::DateTime;

use crate::contract::{Credential, CredentialKind, DeclaredCredential, Description};
use crate::credentials::assertion::{self, CredentialError, KeyPair};
use crate::credentials::certificates;
use crate::credentials::redact::SHORTEST;
use crate::credentials::sealed::{Sealed, fixed_placeholder, placeholder};
use crate::credentials::secret::Secret;
use crate::credentials::spelling::{self, Trimmed};
use crate::digest::ShortDigest;
use crate::limits::milliseconds;

#[cfg(feature = "schema")]
pub mod schema;

/// Settings with their secrets apart. Small: a collector holds thousands.
#[derive(Debug, Clone)]
pub struct Settings {
    /// One JSON object.
    plain: Box<str>,
    secrets: Box<[HeldCredential]>,
    /// What was taken off secrets, by setting.
    trimmed: Box<[(String, String)]>,
}

#[cfg(feature = "schema")]
use self::schema::oddity as found_by_schema;

/// Without the feature `schema` nothing is applied.
#[cfg(not(feature = "schema"))]
fn found_by_schema(_: &Value, _: &Secret) -> Option<String> {
    None
}

/// Keyword of a settings schema: a property that has it as `true` says, with the credentials, who signs in.
pub const IDENTITY: &str = "x-identity";

/// A credential that stays with the host.
#[derive(Debug, Clone)]
pub(crate) struct HeldCredential {
    pub setting: String,
    pub secret: Secret,
    /// How it reaches a request.
    pub kind: CredentialKind,
}

/// What was found of a credential: when its certificate is valid, in Unix milliseconds, where it has one.
pub type Examined = Result<Option<(u64, u64)>, CredentialError>;

/// What one call gets of settings.
#[derive(Default)]
pub(crate) struct Inside {
    /// Placeholders, and what they stand for.
    pub sealed: Vec<Sealed>,
    /// Credentials that only assertions are made of.
    pub held: Vec<HeldCredential>,
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
        let held = |(setting, secret)| HeldCredential { setting, secret, kind: CredentialKind::Secret };
        Settings { plain, secrets: secrets.into_iter().map(held).collect(), trimmed: Box::default() }
    }

    /// The same with what was taken off secrets, in words, by setting.
    pub fn with_trimmed(self, trimmed: Vec<(String, String)>) -> Settings {
        Settings { trimmed: trimmed.into(), ..self }
    }

    /// The settings that are no secrets.
    pub fn plain(&self) -> Map<String, Value> {
        serde_json::from_str(&self.plain).unwrap_or_default()
    }

    /// The settings of these credentials that are no text, which nobody could keep from the plugin.
    pub fn unsealed(&self, description: &Description) -> Vec<String> {
        let plain = self.plain();
        let left = description.credentials.iter().map(|credential| &credential.setting);
        left.filter(|setting| plain.get(*setting).is_some_and(|value| !value.is_null() && !value.is_string()))
            .cloned()
            .collect()
    }

    /// What is said of credentials that stand in the configuration itself, or are `opened`: to be plain values, which a
    /// credential never is.
    pub fn in_the_open(
        &self,
        description: &Description,
        feed: &str,
        opened: &[String],
    ) -> impl Iterator<Item = (String, String)> {
        let plain = self.plain();
        let told = description.credentials.iter().filter_map(move |credential| {
            let DeclaredCredential { setting, kind } = credential;
            let value = plain.get(setting)?.as_str().filter(|value| !value.trim().is_empty())?;
            let is_secret = match kind {
                CredentialKind::Secret => !spelling::refers(value.trim()),
                CredentialKind::KeyPair => value.contains("-----BEGIN "),
                CredentialKind::TokenFile => false,
            };
            let words = if opened.contains(setting) {
                "has `plain = true`, which means nothing for a credential: the plugin never gets it".to_owned()
            } else if is_secret {
                spelling::in_the_open(setting, &format!("{feed} {setting}"))
            } else {
                return None;
            };
            Some((setting.clone(), words))
        });
        told.collect::<Vec<_>>().into_iter()
    }

    /// Makes secrets of the strings that a plugin declares to be credentials, wherever they came from, and withholds what
    /// else stands there.
    pub fn sealing(self, description: &Description) -> Settings {
        let (mut plain, mut trimmed) = (self.plain(), self.trimmed.into_vec());
        let secrets = self.secrets.into_iter();
        let mut secrets: BTreeMap<String, Secret> = secrets.map(|held| (held.setting, held.secret)).collect();
        for credential in &description.credentials {
            if let Some(Value::String(value)) = plain.remove(&credential.setting) {
                let Trimmed { text, remark } = spelling::trimmed(&value);
                trimmed.extend(remark.map(|remark| (credential.setting.clone(), remark)));
                secrets.insert(credential.setting.clone(), Secret::new(text));
            }
        }
        let mut settings = Settings { trimmed: trimmed.into(), ..Settings::new(plain, secrets) };
        for credential in &description.credentials {
            for held in settings.secrets.iter_mut().filter(|held| held.setting == credential.setting) {
                held.kind = credential.kind;
            }
        }
        settings
    }

    /// The same with the paths in them under the folders that they are relative to.
    pub fn under(mut self, folder: impl Fn(&str) -> PathBuf) -> Settings {
        for held in self.secrets.iter_mut().filter(|held| held.kind == CredentialKind::TokenFile) {
            if !held.secret.expose().is_empty() && !assertion::is_token(held.secret.expose()) {
                let path = folder(&held.setting).join(held.secret.expose());
                held.secret = Secret::new(path.to_string_lossy());
            }
        }
        self
    }

    /// The files that hold signed tokens, each with its setting.
    pub fn token_files(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let files = self.secrets.iter().filter(|held| held.kind == CredentialKind::TokenFile);
        files.map(|held| (held.setting.as_str(), PathBuf::from(held.secret.expose())))
    }

    /// What is found of key pairs and token files, each under its setting.
    pub fn examined(&self) -> Vec<(String, Examined)> {
        let given = self.secrets.iter().filter(|held| !held.secret.expose().is_empty());
        let examined = given.filter_map(|held| {
            let value = held.secret.expose();
            let found = match held.kind {
                CredentialKind::Secret => return None,
                CredentialKind::KeyPair => KeyPair::read(value).map(|pair| Some(pair.valid)),
                CredentialKind::TokenFile if assertion::is_token(value) => {
                    Err(CredentialError::Unfit("the token itself, where the path of its file belongs".to_owned()))
                }
                CredentialKind::TokenFile => assertion::read_token(Path::new(value)).map(|_| None),
            };
            // Where it is something else altogether, that says more.
            let looks = match held.kind {
                CredentialKind::TokenFile => spelling::unreplaced(value),
                // A format that has a name says more, too.
                _ if value.contains("-----BEGIN ") || certificates::look(value.as_bytes()).is_some() => None,
                _ => spelling::look_alike(value),
            };
            let found = found.map_err(|error| match (error, looks) {
                (CredentialError::Unfit(found), Some(looks)) => {
                    CredentialError::Unfit(format!("{found} (the value {looks})"))
                }
                (CredentialError::Unreadable(found), Some(looks)) => {
                    CredentialError::Unreadable(format!("{found}; the value {looks}"))
                }
                (error, None) => error,
            });
            Some((held.setting.clone(), found))
        });
        examined.collect()
    }

    /// The same in memory of its own.
    pub fn copied(&self) -> Settings {
        let secrets = self
            .secrets
            .iter()
            .map(|held| HeldCredential { secret: Secret::new(held.secret.expose()), ..held.clone() });
        Settings { secrets: secrets.collect(), ..self.clone() }
    }

    /// Digest of the plain settings.
    pub fn digest(&self) -> ShortDigest {
        ShortDigest::of(&self.plain)
    }

    /// Digest of the plain settings that say, with the secrets, who signs in: those that the plugin's schema marks with
    /// [`IDENTITY`], or all of them where it marks none.
    pub fn identity(&self, description: &Description) -> ShortDigest {
        let schema: Value = serde_json::from_str(&description.settings_schema).unwrap_or_default();
        let marks = |name: &str| schema["properties"][name][IDENTITY] == true;
        let properties = schema["properties"].as_object();
        let has_marks = properties.is_some_and(|properties| properties.keys().any(|name| marks(name)));
        let given = self.plain().into_iter().filter(|(name, _)| !has_marks || marks(name));
        ShortDigest::of(&Value::Object(given.collect()).to_string())
    }

    /// Names the secrets without giving them away, to whom does not have the salt and guesses; equal secrets have equal
    /// names.
    pub fn credential_id(&self, salt: &str) -> ShortDigest {
        let secrets = self.secrets.iter().map(|held| format!("{}={}\n", held.setting, held.secret.expose()));
        ShortDigest::of(&format!("{salt}\n{}", secrets.collect::<String>()))
    }

    /// When a credential runs out, in Unix milliseconds, where the setting of its name and `_expires` says so.
    pub fn expiry(&self, credential: &str) -> Option<(String, u64)> {
        let date = self.plain().get(&format!("{credential}_expires"))?.as_str().and_then(midnight)?;
        Some((credential.to_owned(), date))
    }

    /// All secrets with their settings.
    pub fn named_secrets(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.secrets.iter().map(|held| (held.setting.as_str(), &held.secret))
    }

    /// Whether this setting is a secret, and not an empty one.
    pub fn has_secret(&self, setting: &str) -> bool {
        self.secrets.iter().any(|held| held.setting == setting && !held.secret.expose().is_empty())
    }

    /// All secrets, for redaction.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.iter().map(|held| &held.secret)
    }

    /// What is odd about the real values of credentials, which the plugin never sees: the key of the setting, and why. With
    /// the feature `schema` also what the plugin's schema finds odd. A value is never quoted.
    pub fn oddities(&self, description: &Description) -> Vec<(String, String)> {
        let Ok(schema) = serde_json::from_str::<Value>(&description.settings_schema) else {
            return vec![(String::new(), "the plugin's settings schema is no JSON".to_owned())];
        };
        let properties = schema.get("properties");
        let mut oddities = self.trimmed.to_vec();
        for HeldCredential { setting: key, secret, kind } in &self.secrets {
            let mut tell = |words: String| oddities.push((key.clone(), words));
            let spelled =
                if *kind == CredentialKind::Secret { spelling::oddities(secret.expose()) } else { Vec::new() };
            let is_spelled_well = spelled.is_empty();
            spelled.into_iter().for_each(&mut tell);
            if spelling::look_alike(secret.expose()).is_some() {
                // That something else is short, or does not fit the schema, follows from that alone.
                continue;
            }
            // A path is no secret.
            if *kind != CredentialKind::TokenFile && (1..SHORTEST).contains(&secret.expose().len()) {
                tell(format!(
                    "it has less than {SHORTEST} characters, too few to be recognised where it must not be shown"
                ));
            }
            // Where the host knows better what is odd, the schema has nothing to add.
            if let Some(property) = properties.and_then(|properties| properties.get(key)).filter(|_| is_spelled_well) {
                found_by_schema(property, secret).into_iter().for_each(tell);
            }
        }
        oddities
    }

    /// The settings as a plugin gets them: each secret a placeholder of its own, made anew for each call.
    pub(crate) fn sealed(&self) -> (String, Inside) {
        let mut settings = self.plain();
        let mut inside = Inside::default();
        for held in &self.secrets {
            let HeldCredential { setting, secret, kind } = held;
            // Nothing is nothing, and the plugin may say so.
            if secret.expose().is_empty() {
                settings.insert(setting.clone(), Value::from(""));
                continue;
            }
            if *kind != CredentialKind::Secret {
                // Stands for nothing: no request can carry a key or a path.
                settings.insert(setting.clone(), Value::from(placeholder()));
                inside.held.push(held.clone());
                continue;
            }
            let one = Sealed::new(Credential::Setting(setting.clone()), secret.clone());
            settings.insert(setting.clone(), Value::from(one.placeholder.clone()));
            inside.sealed.push(one);
        }
        (Value::Object(settings).to_string(), inside)
    }

    /// The settings for a call that is a function of its arguments: each secret has the same placeholder every time.
    pub(crate) fn with_fixed_placeholders(&self) -> String {
        let mut settings = self.plain();
        for (index, HeldCredential { setting, secret, .. }) in self.secrets.iter().enumerate() {
            let placeholder = if secret.expose().is_empty() { String::new() } else { fixed_placeholder(index) };
            settings.insert(setting.clone(), Value::from(placeholder));
        }
        Value::Object(settings).to_string()
    }

    /// The settings without any secret.
    pub(crate) fn without_credentials(&self) -> &str {
        &self.plain
    }
}

/// The beginning of a date such as `2027-06-30` in UTC, in Unix milliseconds.
fn midnight(date: &str) -> Option<u64> {
    let midnight: DateTime = format!("{}T00:00:00Z", date.trim()).parse().ok()?;
    Some(milliseconds(midnight.unix_duration()))
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
        for date in ["June", "1969-12-31", "2026-02-29", "2026-11-24T00:00:00Z", "20261124", ""] {
            assert_eq!(settings(date), None, "{date}");
        }
    }

    #[test]
    fn a_credential_that_is_no_text_is_withheld_and_named() {
        let mut description = Description::with_schema("{}");
        for (setting, kind) in [("pin", CredentialKind::Secret), ("key", CredentialKind::Secret)] {
            description.credentials.push(DeclaredCredential { setting: setting.to_owned(), kind });
        }
        let plain = serde_json::json!({ "pin": 1_234_567_890, "key": "a-secret-of-tests", "other": 1 });
        let settings = Settings::new(plain.as_object().unwrap().clone(), BTreeMap::new());
        assert_eq!(settings.unsealed(&description), ["pin"]);
        let inside = settings.sealing(&description);
        assert!(!inside.without_credentials().contains("1234567890"));
        assert!(inside.plain().contains_key("other") && !inside.plain().contains_key("key"));
    }

    #[test]
    fn an_equal_secret_of_another_application_is_another_credential() {
        let id = |schema: &str, plain: Value| {
            let description = Description::with_schema(schema);
            let secrets = BTreeMap::from([("key".to_owned(), Secret::new("a-secret-of-tests"))]);
            let settings = Settings::new(plain.as_object().unwrap().clone(), secrets).sealing(&description);
            (settings.identity(&description), settings.credential_id("salt"))
        };
        let marked = r#"{"properties":{"client":{"x-identity":true},"scope":{"type":"string"}}}"#;
        let [one, scope, other] = [("a", "x"), ("a", "y"), ("b", "x")]
            .map(|(client, scope)| serde_json::json!({ "client": client, "scope": scope }));
        assert_eq!(id(marked, one.clone()), id(marked, scope.clone()));
        assert_ne!(id(marked, one.clone()), id(marked, other));
        for unmarked in ["{}", "no JSON", r#"{"properties":{"client":{"x-identity":false}}}"#] {
            assert_ne!(id(unmarked, one.clone()), id(unmarked, scope.clone()), "{unmarked}");
        }
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
