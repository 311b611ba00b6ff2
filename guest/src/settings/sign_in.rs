//! The application that asks for tokens, and its credential.

use serde_json::Value;

use super::forms::{is_date, is_guid};
use super::found::{kind, quoted, quoted_id};
use super::keys::{CLIENT_SECRET, CREDENTIALS, CredentialSetting};
use super::meant;
use super::reader::SettingsReader;
use super::types::Credential;

/// The setting with the date on which the client secret expires.
const SECRET_EXPIRES: &str = "client_secret_expires";

/// Reads the application's id.
pub fn client_id(reader: &mut SettingsReader) -> String {
    const EXPECTED: &str = "the Application (client) ID, a GUID";
    let key = reader.either("client_key", "client_id");
    if !reader.has(key) {
        reader.missing(&["client_key", "client_id"], EXPECTED);
    }
    match reader.text(key, EXPECTED) {
        Some(text) if is_guid(&text) => text.to_ascii_lowercase(),
        Some(text) => {
            reader.problem(key, &quoted_id(&text), EXPECTED);
            String::new()
        }
        None => String::new(),
    }
}

/// Reads the credential. Its value is most often a placeholder, and the host's responsibility.
pub fn credential(reader: &mut SettingsReader) -> Option<Credential> {
    let mut first: Option<(&'static str, Credential)> = None;
    for CredentialSetting { name, expected, .. } in CREDENTIALS {
        let found = match reader.value(name) {
            None => continue,
            Some(Value::String(value)) if !value.trim().is_empty() => {
                let credential = match name {
                    CLIENT_SECRET => Credential::Secret(value.clone()),
                    other => Credential::Assertion(other),
                };
                match &first {
                    None => first = Some((name, credential)),
                    Some((first, _)) => {
                        let found = format!("`{first}` as well");
                        reader.problem(name, &found, "only one credential");
                    }
                }
                continue;
            }
            Some(Value::String(_)) => "an empty string",
            Some(other) => kind(other),
        };
        reader.problem(name, found, expected);
    }
    first.map(|(_, credential)| credential)
}

/// Reports a missing credential. Only the user's own settings must have one: the host withholds it from most calls.
pub fn require_credential(reader: &mut SettingsReader) {
    let is_given = |name: &str| reader.has(name) || reader.is_meant(name);
    let names = CREDENTIALS.map(|credential| credential.name);
    if !names.into_iter().any(is_given) {
        let names = names.map(|name| format!("`{name}`"));
        reader.problem(CLIENT_SECRET, "nothing", &format!("a credential: {}", names.join(" or ")));
    } else if reader.has(SECRET_EXPIRES) && !is_given(CLIENT_SECRET) {
        reader.problem(SECRET_EXPIRES, "a date without its `client_secret`", "nothing");
    }
}

/// Checks the date by which the host warns. Only its form can be checked here: there is no clock.
pub fn secret_expires(reader: &mut SettingsReader) {
    const EXPECTED: &str = "a date such as 2027-06-30";
    let key = SECRET_EXPIRES;
    let Some(value) = reader.value(key) else { return };
    let written = value.as_str().map_or(value.to_string(), str::to_owned);
    let meant = meant::date(written.trim()).map(|date| format!("; write \"{date}\""));
    let expected = format!("{EXPECTED}{}", meant.unwrap_or_default());
    if let Some(date) = reader.text(key, &expected)
        && !is_date(&date)
    {
        reader.problem(key, &quoted(&date), &expected);
    }
}
