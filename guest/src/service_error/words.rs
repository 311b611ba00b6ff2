//! The text of others and the values of this feed, made fit for a failure.

use crate::settings::Settings;

/// The service's message is for people; longer than this it is cut.
const MAX_MESSAGE_CHARACTERS: usize = 300;

/// The longest code of the service that is known has 32 characters, its ids have 36.
pub(super) const MAX_CODE_CHARACTERS: usize = 100;

/// Puts the values of this feed into a fix.
pub fn fill(fix: &str, settings: &Settings, subscription: &str) -> String {
    let subscription = if subscription.is_empty() { "YOUR-SUBSCRIPTION-ID" } else { subscription };
    fix.replace("{client}", &settings.client_id)
        .replace("{tenant}", &settings.tenant)
        .replace("{subscription}", subscription)
        .replace("{endpoint}", &settings.endpoint)
}

/// Entra appends trace id and time on lines of their own; they stand elsewhere in the failure.
pub(super) fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    shown(line.split(" Trace ID: ").next().unwrap_or_default())
}

/// Makes text of others fit into a sentence: cut, and on one line.
pub fn shown(text: &str) -> String {
    cut(text, MAX_MESSAGE_CHARACTERS)
}

pub(super) fn cut(text: &str, characters: usize) -> String {
    text.chars().filter(|character| !character.is_control()).take(characters).collect()
}
