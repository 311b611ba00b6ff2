//! Prepares texts of other parties, and values of this feed, for the text of a failure.

use crate::settings::Settings;

/// Characters beyond which the service's message is cut.
const MAX_MESSAGE_CHARACTERS: usize = 300;

/// Characters beyond which codes and ids are cut: the longest known code has 32, and ids have 36.
pub(super) const MAX_CODE_CHARACTERS: usize = 100;

/// Puts the values of this feed into a fix.
pub fn fill(fix: &str, settings: &Settings, subscription: Option<&str>) -> String {
    fix.replace("{client}", &settings.client_id)
        .replace("{tenant}", &settings.tenant)
        .replace("{subscription}", subscription.unwrap_or("YOUR-SUBSCRIPTION-ID"))
        .replace("{endpoint}", &settings.endpoint)
}

/// Returns the first line: Entra ID appends trace id and time on separate lines, which the failure has elsewhere.
pub(super) fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    shown(line.split(" Trace ID: ").next().unwrap_or_default())
}

/// Prepares a text of another party for a sentence: cut, and on one line.
pub fn shown(text: &str) -> String {
    cut(text, MAX_MESSAGE_CHARACTERS)
}

pub(super) fn cut(text: &str, characters: usize) -> String {
    text.chars().filter(|character| !character.is_control()).take(characters).collect()
}
