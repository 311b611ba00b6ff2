//! Shows the value of a setting in a problem.

use serde_json::Value;

/// Length of the shortest secrets that Entra ID makes.
const SHORTEST_SECRET: usize = 16;

/// Quotes and shortens a value that is not a credential. A secret in the wrong place is not shown.
pub fn quoted(text: &str) -> String {
    let mixed = |kinds: [fn(&char) -> bool; 3]| kinds.iter().all(|kind| text.chars().any(|one| kind(&one)));
    let is_mixed = mixed([char::is_ascii_lowercase, char::is_ascii_uppercase, char::is_ascii_digit]);
    if text.len() >= SHORTEST_SECRET && is_mixed && !text.contains(['/', ' ']) && !text.chars().all(of_an_id) {
        return format!("a string of {} characters, which may be a secret,", text.chars().count());
    }
    let short: String = text.chars().take(80).collect();
    format!("`{}`", short.escape_debug())
}

/// Quotes a value in the place of an id. A secret in the wrong place is not shown.
pub fn quoted_id(text: &str) -> String {
    if text.len() < SHORTEST_SECRET || text.chars().all(of_an_id) {
        return quoted(text);
    }
    format!("a string of {} characters that is not a GUID", text.chars().count())
}

/// Says whether people write ids with this character, rightly or wrongly.
fn of_an_id(character: char) -> bool {
    character.is_ascii_hexdigit() || "-{}\"' ".contains(character)
}

pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}
