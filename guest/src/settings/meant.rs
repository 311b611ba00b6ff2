//! Finds the right spelling of names and values.

use serde_json::Value;

use super::forms::{duration_seconds, is_date, is_guid};
use super::near;

/// Other spellings, in lower case without punctuation, with the name that each means.
pub type Others = &'static [(&'static str, &'static str)];

pub const CLOUDS: Others = &[
    ("azure", "public"),
    ("azurecloud", "public"),
    ("azurepubliccloud", "public"),
    ("commercial", "public"),
    ("global", "public"),
    ("worldwide", "public"),
    ("azuregovernment", "us-government"),
    ("azureusgovernment", "us-government"),
    ("azureusgovernmentcloud", "us-government"),
    ("gcc", "public"),
    ("gcchigh", "us-government"),
    ("dod", "us-government"),
    ("gov", "us-government"),
    ("government", "us-government"),
    ("usgov", "us-government"),
    ("fairfax", "us-government"),
];
pub const CLASSES: Others = &[
    ("99402001", "assessment-finding"),
    ("assessment", "assessment-finding"),
    ("2003", "compliance-finding"),
    ("compliance", "compliance-finding"),
    ("2004", "detection-finding"),
    ("detection", "detection-finding"),
];
pub const DEFINITIONS: Others = &[("true", "summary"), ("false", "none"), ("all", "full"), ("off", "none")];
pub const EMIT: Others = &[("all", "snapshot"), ("full", "snapshot"), ("diff", "changes"), ("delta", "changes")];
pub const RAW: Others = &[("true", "full"), ("false", "hash"), ("sha256", "hash"), ("all", "full")];

/// Returns the name that a text means: a synonym, or a near spelling.
pub fn name<'a>(text: &str, names: impl Iterator<Item = &'a str>, others: &[(&str, &'a str)]) -> Option<&'a str> {
    let bare = text.to_lowercase().replace(|character: char| !character.is_alphanumeric(), "");
    let other = others.iter().find(|(other, _)| *other == bare).map(|(_, name)| *name);
    other.or_else(|| near::name(text, names))
}

/// Returns the intended name as the end of a sentence about the expected value.
pub fn hint<'a>(value: &Value, names: impl Iterator<Item = &'a str>, others: &[(&str, &'a str)]) -> String {
    match name(&shown(value), names, others) {
        Some(name) => format!("; write `{name}`"),
        None => String::new(),
    }
}

/// Returns a text, a number or a boolean as written.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        _ => String::new(),
    }
}

/// Returns the nearest of these versions, the oldest first, to a version such as `1.5`, `v1.5.1` or `1.9.0`.
pub fn version(value: &Value, versions: &[&'static str]) -> Option<&'static str> {
    let numbers = |text: &str| -> Option<(u64, u64)> {
        let mut parts = text.trim_start_matches(['v', 'V']).split('.').map(|part| part.parse().ok());
        Some((parts.next()??, parts.next().unwrap_or(Some(0))?))
    };
    let wanted = numbers(&shown(value))?;
    let older = versions.iter().rev().find(|version| numbers(version).is_some_and(|numbers| numbers <= wanted));
    older.or(versions.first()).copied()
}

/// Converts a duration such as `24 hours` to `24h`; a number alone means seconds.
pub fn duration(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches(['+', '0']);
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().to_lowercase().as_str() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 's',
        "m" | "min" | "mins" | "minute" | "minutes" => 'm',
        "h" | "hr" | "hrs" | "hour" | "hours" => 'h',
        "d" | "day" | "days" => 'd',
        _ => return None,
    };
    Some(format!("{number}{unit}")).filter(|meant| duration_seconds(meant).is_some())
}

/// Converts a date such as `30.06.2027`, `2027/6/30`, `20270630` or one with a time to `2027-06-30`.
pub fn date(text: &str) -> Option<String> {
    let day = text.split(['T', ' ']).next()?;
    let (numbers, dotted): (Vec<&str>, _) = (day.split(['.', '/', '-']).collect(), day.contains('.'));
    let (year, month, of_month) = match numbers[..] {
        [whole] if whole.len() == 8 && whole.is_ascii() => (&whole[..4], &whole[4..6], &whole[6..]),
        [year, month, of_month] if year.len() == 4 => (year, month, of_month),
        [of_month, month, year] if dotted && year.len() == 4 => (year, month, of_month),
        // 06/07/2027 may be in June or in July.
        _ => return None,
    };
    let date = format!("{year}-{month:0>2}-{of_month:0>2}");
    is_date(&date).then_some(date)
}

/// Converts a text with subscription IDs, or `*`, to the form of the setting.
pub fn subscriptions(text: &str) -> Option<String> {
    if ["*", "all", "any"].contains(&text.trim().to_lowercase().as_str()) {
        return Some("\"*\"".to_owned());
    }
    let parts = text.split(|character: char| !character.is_ascii_hexdigit() && character != '-');
    let ids: Vec<String> = parts.filter(|part| is_guid(part)).map(|id| format!("\"{id}\"")).collect();
    match ids.as_slice() {
        [] => None,
        [id] => Some(id.clone()),
        _ => Some(format!("[{}]", ids.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn other_spellings_are_understood() {
        for (text, expected) in [
            ("24 hours", Some("24h")),
            ("1 Day", Some("1d")),
            ("90", Some("90s")),
            ("1d12h", None),
            ("h", None),
            ("+5s", Some("5s")),
            ("05s", Some("5s")),
            (" 5 S\n", Some("5s")),
            ("0h", None),
            ("-5s", None),
            ("", None),
            ("9999999999h", None),
        ] {
            assert_eq!(duration(text).as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("30.06.2027", Some("2027-06-30")),
            ("2027/6/30", Some("2027-06-30")),
            ("20270630", Some("2027-06-30")),
            ("2027-06-30T00:00:00Z", Some("2027-06-30")),
            ("06/07/2027", None),
            ("31.06.2027", None),
            ("ßßßß", None),
            ("", None),
        ] {
            assert_eq!(date(text).as_deref(), expected, "{text}");
        }
        let id = "20ff7fc3-e762-44dd-bd96-b71116dcdc23";
        for (text, expected) in [
            ("all".to_owned(), Some("\"*\"".to_owned())),
            (format!("/subscriptions/{id}"), Some(format!("\"{id}\""))),
            (format!("{{{id}}}"), Some(format!("\"{id}\""))),
            (format!("{id}, {id}"), Some(format!("[\"{id}\", \"{id}\"]"))),
            ("Production".to_owned(), None),
        ] {
            assert_eq!(subscriptions(&text), expected, "{text}");
        }
        let version = |value: Value| super::version(&value, &["1.1.0", "1.2.0", "1.3.0"]);
        for (value, expected) in [
            (json!("1.2"), Some("1.2.0")),
            (json!(1.2), Some("1.2.0")),
            (json!("v1.2.7"), Some("1.2.0")),
            (json!("1.0.0-rc.2"), Some("1.1.0")),
            (json!("1"), Some("1.1.0")),
            (json!(2), Some("1.3.0")),
            (json!("1.10.0"), Some("1.3.0")),
            (json!("latest"), None),
            (json!(""), None),
            (json!(["1.2.0"]), None),
        ] {
            assert_eq!(version(value.clone()), expected, "{value}");
        }
        let cloud = |text: &str| name(text, ["public", "us-government"].into_iter(), CLOUDS);
        for (text, expected) in [
            ("usgov", Some("us-government")),
            ("US Government", Some("us-government")),
            ("Public", Some("public")),
            ("AzureCloud", Some("public")),
            ("germany", None),
        ] {
            assert_eq!(cloud(text), expected, "{text}");
        }
        let keys = ["client_key", "client_id", "client_secret", "token_url", "class", "subscription_id"];
        for (text, expected) in [
            ("client_secert", Some("client_secret")),
            ("Subscription", Some("subscription_id")),
            ("secret", Some("client_secret")),
            ("tokenurls", Some("token_url")),
            ("name", None),
            ("id", None),
            ("colour", None),
            ("resource_group", None),
            ("", None),
        ] {
            assert_eq!(near::nearest(text, keys.into_iter()), expected, "{text}");
        }
    }
}
