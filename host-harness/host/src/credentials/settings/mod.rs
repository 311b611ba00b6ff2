//! The settings of a feed in the host: plain values, and secrets that no plugin sees.

use std::borrow::Cow;
use std::collections::BTreeMap;
#[cfg(feature = "schema")]
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "schema")]
use parking_lot::Mutex;
use serde_json::{Map, Value};
use x509_cert::der::DateTime;

use crate::contract::{Credential, CredentialKind, DeclaredCredential, Description};
use crate::credentials::assertion::{self, CredentialError, KeyPair};
use crate::credentials::certificates;
use crate::credentials::expiry::Validity;
use crate::credentials::redact::SHORTEST;
use crate::credentials::sealed::{Sealed, fixed_placeholder, placeholder};
use crate::credentials::secret::Secret;
use crate::credentials::spelling::{self, Trimmed};
use crate::digest::ShortDigest;
use crate::limits::milliseconds;

mod pool;
#[cfg(feature = "schema")]
pub mod schema;

pub use self::pool::SettingsPool;

/// Settings with their secrets kept apart. The type is small, because a collector holds thousands.
#[derive(Debug, Clone)]
pub struct Settings {
    /// One JSON object without the secrets, or the members of it that other settings have, too.
    plain: Arc<str>,
    /// The other members as one JSON object; empty if there are none.
    own: Box<str>,
    secrets: Arc<[HeldCredential]>,
    /// The characters that were removed from secrets, in words, by setting.
    trimmed: Box<[Oddity]>,
}

#[cfg(feature = "schema")]
use self::schema::oddity as found_by_schema;

/// The validators of a plugin's schemas of credentials, each built once for all feeds of the plugin.
#[derive(Default)]
pub(crate) struct Validators(
    /// By the text of the schema; `None` if the schema cannot be read.
    #[cfg(feature = "schema")]
    Mutex<HashMap<String, Option<Arc<jsonschema::Validator>>>>,
);

/// Without the feature `schema`, no schema is applied.
#[cfg(not(feature = "schema"))]
fn found_by_schema(_: &Value, _: &Secret, _: &Validators) -> Option<String> {
    None
}

/// Keyword of a settings schema: a property with `true` here says, together with the credentials, who signs in.
pub const IDENTITY: &str = "x-identity";

/// A credential that stays with the host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeldCredential {
    pub setting: String,
    pub secret: Secret,
    /// How the credential reaches a request.
    pub kind: CredentialKind,
}

/// The result of reading a credential: the validity of its certificate, if it has one.
pub type Examined = Result<Option<Validity>, CredentialError>;

/// Something odd about the settings of a feed. No value is quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oddity {
    /// Key of the setting; `None` if the remark is about the plugin itself.
    pub setting: Option<String>,
    /// The remark, as a clause that goes after the name.
    pub words: String,
}

impl Oddity {
    /// Something odd about a setting.
    pub fn of(setting: &str, words: impl Into<String>) -> Oddity {
        Oddity { setting: Some(setting.to_owned()), words: words.into() }
    }
}

/// The credentials that one call may use.
#[derive(Default)]
pub(crate) struct Inside {
    /// Placeholders with the credentials that they represent.
    pub sealed: Vec<Sealed>,
    /// Credentials that are used for assertions only.
    pub held: Vec<HeldCredential>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::new(Map::new(), BTreeMap::new())
    }
}

impl Settings {
    /// Makes settings of plain values and secrets, each under its top-level key. A secret takes the place of a plain value
    /// with the same key.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use source_host::{Secret, Settings};
    ///
    /// let plain = serde_json::from_str(r#"{ "account": "contoso" }"#)?;
    /// let secrets = BTreeMap::from([("password".to_owned(), Secret::new("the value"))]);
    /// let settings = Settings::new(plain, secrets);
    /// assert!(settings.plain().contains_key("account"));
    /// assert!(!settings.plain().contains_key("password"));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn new(mut plain: Map<String, Value>, secrets: BTreeMap<String, Secret>) -> Settings {
        plain.retain(|setting, _| !secrets.contains_key(setting));
        let plain = Value::Object(plain).to_string().into();
        let held = |(setting, secret)| HeldCredential { setting, secret, kind: CredentialKind::Secret };
        let secrets = secrets.into_iter().map(held).collect();
        Settings { plain, own: Box::default(), secrets, trimmed: Box::default() }
    }

    /// The same settings with the characters that were removed from secrets, in words, by setting.
    pub fn with_trimmed(self, trimmed: Vec<Oddity>) -> Settings {
        Settings { trimmed: trimmed.into(), ..self }
    }

    /// The settings that are not secrets.
    pub fn plain(&self) -> Map<String, Value> {
        let members = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
        let mut plain = members(&self.plain);
        plain.extend(members(&self.own));
        plain
    }

    /// The settings that are not secrets, as one JSON object.
    fn text(&self) -> Cow<'_, str> {
        match self.own.is_empty() {
            true => Cow::Borrowed(&self.plain),
            false => Cow::Owned(Value::Object(self.plain()).to_string()),
        }
    }

    /// Returns the credential settings whose values are not strings, so that the host cannot seal them.
    pub fn unsealed(&self, description: &Description) -> Vec<String> {
        let plain = self.plain();
        let left = description.credentials.iter().map(|credential| &credential.setting);
        left.filter(|setting| plain.get(*setting).is_some_and(|value| !value.is_null() && !value.is_string()))
            .cloned()
            .collect()
    }

    /// Returns a remark for each credential that is written in the configuration itself, or that is listed in `opened`,
    /// the keys that the configuration says are plain values.
    pub fn in_the_open(
        &self,
        description: &Description,
        feed: &str,
        opened: &[String],
    ) -> impl Iterator<Item = Oddity> {
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
                "has `plain = true`, which has no effect on a credential: the plugin never gets the value".to_owned()
            } else if is_secret {
                spelling::in_the_open(setting, &format!("{feed} {setting}"))
            } else {
                return None;
            };
            Some(Oddity::of(setting, words))
        });
        told.collect::<Vec<_>>().into_iter()
    }

    /// Makes secrets of the strings that a plugin declares to be credentials, wherever they came from, and removes
    /// values of other types from those settings.
    pub fn sealing(self, description: &Description) -> Settings {
        let (mut plain, mut trimmed) = (self.plain(), self.trimmed.to_vec());
        let secrets = self.secrets.iter();
        let mut secrets: BTreeMap<String, Secret> =
            secrets.map(|held| (held.setting.clone(), held.secret.clone())).collect();
        for credential in &description.credentials {
            if let Some(Value::String(value)) = plain.remove(&credential.setting) {
                let Trimmed { text, remark } = spelling::trimmed(&value);
                trimmed.extend(remark.map(|remark| Oddity::of(&credential.setting, remark)));
                secrets.insert(credential.setting.clone(), Secret::new(text));
            }
        }
        let settings = Settings { trimmed: trimmed.into(), ..Settings::new(plain, secrets) };
        let declared = |held: &HeldCredential| {
            let credential = description.credentials.iter().find(|credential| credential.setting == held.setting);
            HeldCredential { kind: credential.map_or(held.kind, |credential| credential.kind), ..held.clone() }
        };
        Settings { secrets: settings.secrets.iter().map(declared).collect(), ..settings }
    }

    /// The same settings, in which relative paths are joined to the folders that they are relative to.
    pub fn under(self, folder: impl Fn(&str) -> PathBuf) -> Settings {
        let is_path = |held: &HeldCredential| {
            let value = held.secret.expose();
            held.kind == CredentialKind::TokenFile && !value.is_empty() && !assertion::is_token(value)
        };
        let joined = |held: &HeldCredential| match is_path(held) {
            true => {
                let path = folder(&held.setting).join(held.secret.expose());
                HeldCredential { secret: Secret::new(path.to_string_lossy()), ..held.clone() }
            }
            false => held.clone(),
        };
        Settings { secrets: self.secrets.iter().map(joined).collect(), ..self }
    }

    /// The files that hold signed tokens, each with its setting.
    pub fn token_files(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let files = self.secrets.iter().filter(|held| held.kind == CredentialKind::TokenFile);
        files.map(|held| (held.setting.as_str(), PathBuf::from(held.secret.expose())))
    }

    /// Examines key pairs and token files, each under its setting.
    pub fn examined(&self) -> Vec<(String, Examined)> {
        let given = self.secrets.iter().filter(|held| !held.secret.expose().is_empty());
        let examined = given.filter_map(|held| {
            let value = held.secret.expose();
            let found = match held.kind {
                CredentialKind::Secret => return None,
                CredentialKind::KeyPair => KeyPair::read(value).map(|pair| Some(pair.validity)),
                CredentialKind::TokenFile if assertion::is_token(value) => {
                    Err(CredentialError::Unfit("the token itself, where the path of its file belongs".to_owned()))
                }
                CredentialKind::TokenFile => assertion::read_token(Path::new(value)).map(|_| None),
            };
            // If the value is recognised as something else, that message says more.
            let looks = match held.kind {
                CredentialKind::TokenFile => spelling::unreplaced(value),
                // The name of a known format says more, too.
                _ if value.contains("-----BEGIN ") || certificates::look(value.as_bytes()).is_some() => None,
                _ => spelling::look_alike(value),
            };
            let found = found.map_err(|error| match (error, looks) {
                (CredentialError::Unfit(found), Some(looks)) => {
                    CredentialError::Unfit(format!("{found} (the value {looks})"))
                }
                (CredentialError::Unreadable { cause, .. }, looks) => CredentialError::Unreadable { cause, looks },
                (error, None) => error,
            });
            Some((held.setting.clone(), found))
        });
        examined.collect()
    }

    /// A copy that shares no memory with the original.
    pub fn copied(&self) -> Settings {
        let secrets = self
            .secrets
            .iter()
            .map(|held| HeldCredential { secret: Secret::new(held.secret.expose()), ..held.clone() });
        Settings { plain: (*self.plain).into(), secrets: secrets.collect(), ..self.clone() }
    }

    /// Digest of the plain settings.
    pub fn digest(&self) -> ShortDigest {
        ShortDigest::of(&self.text())
    }

    /// Digest of the plain settings that say, with the secrets, who signs in: the settings that the plugin's schema
    /// marks with [`IDENTITY`], or all plain settings if it marks none.
    pub fn identity(&self, description: &Description) -> ShortDigest {
        let schema: Value = serde_json::from_str(&description.settings_schema).unwrap_or_default();
        let marks = |name: &str| schema["properties"][name][IDENTITY] == true;
        let properties = schema["properties"].as_object();
        let has_marks = properties.is_some_and(|properties| properties.keys().any(|name| marks(name)));
        let given = self.plain().into_iter().filter(|(name, _)| !has_marks || marks(name));
        ShortDigest::of(&Value::Object(given.collect()).to_string())
    }

    /// Identifies the secrets; equal secrets have equal ids. The salt keeps others from confirming guesses of the
    /// secrets.
    pub fn credential_id(&self, salt: &str) -> ShortDigest {
        let secrets = self.secrets.iter().map(|held| format!("{}={}\n", held.setting, held.secret.expose()));
        ShortDigest::of(&format!("{salt}\n{}", secrets.collect::<String>()))
    }

    /// When a credential expires, in Unix milliseconds, where the setting of its name followed by `_expires` says so.
    pub fn expiry(&self, credential: &str) -> Option<(String, u64)> {
        let date = self.plain().get(&format!("{credential}_expires"))?.as_str().and_then(midnight)?;
        Some((credential.to_owned(), date))
    }

    /// When credentials expire, in Unix milliseconds, by setting, as far as the settings tell without their plugin: by
    /// the dates of settings whose names end in `_expires`, and by the certificates of key pairs.
    pub fn ends(&self) -> Vec<(String, u64)> {
        let plain = self.plain();
        let dated = plain.keys().filter_map(|key| self.expiry(key.strip_suffix("_expires")?));
        let texts = plain.iter().filter_map(|(setting, value)| Some((setting.as_str(), value.as_str()?)));
        let held = self.secrets.iter().map(|held| (held.setting.as_str(), held.secret.expose()));
        let pairs = texts.chain(held).filter(|(_, value)| value.contains("-----BEGIN "));
        let certified = pairs.filter_map(|(setting, value)| {
            KeyPair::read(value).ok().map(|pair| (setting.to_owned(), pair.validity.until))
        });
        dated.chain(certified).collect()
    }

    /// All secrets with their settings.
    pub fn named_secrets(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.secrets.iter().map(|held| (held.setting.as_str(), &held.secret))
    }

    /// Says whether this setting is a secret that is not empty.
    pub fn has_secret(&self, setting: &str) -> bool {
        self.secrets.iter().any(|held| held.setting == setting && !held.secret.expose().is_empty())
    }

    /// All secrets, for redaction.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.iter().map(|held| &held.secret)
    }

    /// Returns the oddities in the real values of credentials, which the plugin never sees. With the feature `schema`, the
    /// plugin's schema is applied too, by the validators of that plugin.
    pub(crate) fn oddities(&self, description: &Description, validators: &Validators) -> Vec<Oddity> {
        let Ok(schema) = serde_json::from_str::<Value>(&description.settings_schema) else {
            return vec![Oddity { setting: None, words: "its schema of the settings is not JSON".to_owned() }];
        };
        let properties = schema.get("properties");
        let mut oddities = self.trimmed.to_vec();
        for HeldCredential { setting: key, secret, kind } in self.secrets.iter() {
            let mut tell = |words: String| oddities.push(Oddity::of(key, words));
            let spelled =
                if *kind == CredentialKind::Secret { spelling::oddities(secret.expose()) } else { Vec::new() };
            let is_spelled_well = spelled.is_empty();
            spelled.into_iter().for_each(&mut tell);
            if spelling::look_alike(secret.expose()).is_some() {
                // A value of another kind is often short and does not fit the schema; further remarks would add
                // nothing.
                continue;
            }
            // A path is not secret.
            if *kind != CredentialKind::TokenFile && (1..SHORTEST).contains(&secret.expose().len()) {
                tell(format!("it has fewer than {SHORTEST} characters, too few to recognise and remove it in output"));
            }
            // If the host has found an oddity itself, the schema adds nothing.
            if let Some(property) = properties.and_then(|properties| properties.get(key)).filter(|_| is_spelled_well) {
                found_by_schema(property, secret, validators).into_iter().for_each(tell);
            }
        }
        oddities
    }

    /// The settings that a plugin gets. Each call has a new placeholder for each secret.
    pub(crate) fn sealed(&self) -> (String, Inside) {
        // The members are appended to the text, without reading it: the settings enter each call.
        let mut text = self.text().into_owned();
        text.pop();
        let mut add = |setting: &str, value: &str| {
            text += if text.len() > 1 { "," } else { "" };
            text += &format!("{}:{}", Value::from(setting), Value::from(value));
        };
        let mut inside = Inside::default();
        for held in self.secrets.iter() {
            let HeldCredential { setting, secret, kind } = held;
            // An empty value stays empty; the plugin reports it.
            if secret.expose().is_empty() {
                add(setting, "");
                continue;
            }
            if *kind != CredentialKind::Secret {
                // The placeholder is never replaced: no request can carry a key or a path.
                add(setting, &placeholder());
                inside.held.push(held.clone());
                continue;
            }
            let one = Sealed::new(Credential::Setting(setting.clone()), secret.clone());
            add(setting, &one.placeholder);
            inside.sealed.push(one);
        }
        text.push('}');
        (text, inside)
    }

    /// The settings for a call that is a function of its arguments: each secret has the same placeholder every time.
    pub fn with_fixed_placeholders(&self) -> String {
        let mut settings = self.plain();
        for (index, HeldCredential { setting, secret, .. }) in self.secrets.iter().enumerate() {
            let placeholder = if secret.expose().is_empty() { String::new() } else { fixed_placeholder(index) };
            settings.insert(setting.clone(), Value::from(placeholder));
        }
        Value::Object(settings).to_string()
    }

    /// The settings without any secret.
    pub(crate) fn without_credentials(&self) -> Cow<'_, str> {
        self.text()
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
        let plain = serde_json::json!({ "key_expires": "2026-11-24", "odd_expires": "soon", "key": "x" });
        let key = include_str!("../../../../../tests/credentials/rsa.pem");
        let mut certificate = rcgen::CertificateParams::new(Vec::new()).unwrap();
        certificate.not_after = rcgen::date_time_ymd(2027, 3, 4);
        let certificate = certificate.self_signed(&rcgen::KeyPair::from_pem(key).unwrap()).unwrap().pem();
        let secrets = [("pair", format!("{key}{certificate}")), ("bare", key.to_owned())];
        let secrets = secrets.map(|(setting, value)| (setting.to_owned(), Secret::new(value)));
        let several = Settings::new(plain.as_object().cloned().unwrap_or_default(), BTreeMap::from(secrets));
        let ends = [("key".to_owned(), 1_795_478_400_000), ("pair".to_owned(), 1_804_118_400_000)];
        assert_eq!(several.ends(), ends);
        for date in ["June", "1969-12-31", "2026-02-29", "2026-11-24T00:00:00Z", "20261124", ""] {
            assert_eq!(settings(date), None, "{date}");
        }
    }

    #[test]
    fn a_call_gets_a_placeholder_in_the_place_of_each_secret() {
        let plain = serde_json::json!({ "a\"b": [1], "key": "plain" });
        for plain in [plain.as_object().unwrap().clone(), Map::new()] {
            let secrets = BTreeMap::from([
                ("empty".to_owned(), Secret::new("")),
                ("key".to_owned(), Secret::new("a-secret-of-tests")),
            ]);
            let (text, inside) = Settings::new(plain.clone(), secrets).sealed();
            let Value::Object(mut found) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
            assert_eq!(text.matches("\"key\"").count(), 1, "{text}");
            assert_eq!(found.remove("key"), Some(Value::from(inside.sealed[0].placeholder.as_str())));
            assert_eq!(found.remove("empty"), Some(Value::from("")));
            assert_eq!(found.len(), plain.len().saturating_sub(1), "{text}");
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
