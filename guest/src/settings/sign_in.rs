//! Who asks for tokens: the application and its credential.

use serde_json::Value;

use super::forms::{is_date, is_guid};
use super::found::{kind, quoted, quoted_id};
use super::keys::CREDENTIALS;
use super::meant;
use super::reader::Reader;
use super::types::Credential;

pub fn client_id(reader: &mut Reader) -> String {
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

/// The credential. Its value is the host's affair: here it is most often a placeholder.
pub fn credential(reader: &mut Reader) -> Option<Credential> {
    let mut first: Option<(&'static str, Credential)> = None;
    for (key, expected) in CREDENTIALS {
        let found = match reader.value(key) {
            None => continue,
            Some(Value::String(value)) if !value.trim().is_empty() => {
                let credential = match *key {
                    "client_secret" => Credential::Secret(value.clone()),
                    other => Credential::Assertion(other),
                };
                match &first {
                    None => first = Some((key, credential)),
                    Some((first, _)) => {
                        let found = format!("`{first}` as well");
                        reader.problem(key, &found, "one credential alone");
                    }
                }
                continue;
            }
            Some(Value::String(_)) => "an empty string",
            Some(other) => kind(other),
        };
        reader.problem(key, found, expected);
    }
    first.map(|(_, credential)| credential)
}

/// A date is what the host warns by; here only its form can be judged.
pub fn date(reader: &mut Reader, key: &str) {
    const EXPECTED: &str = "a date such as 2027-06-30";
    let written = reader.value(key).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
    let meant = written.and_then(|text| meant::date(text.trim())).map(|date| format!("; write \"{date}\""));
    let expected = format!("{EXPECTED}{}", meant.unwrap_or_default());
    if let Some(date) = reader.text(key, &expected)
        && !is_date(&date)
    {
        reader.problem(key, &quoted(&date), &expected);
    }
}
