//! The one redaction for everything that people or programs read.

use crate::secret::Secret;

/// Stands for a secret.
pub const REDACTED: &str = "[redacted]";

/// Shorter secrets would take ordinary words out of a text.
const SHORTEST: usize = 8;

/// Replaces secrets in a text, plain, as in a form, as in a path and as in JSON.
pub fn redact<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        for spelling in spellings(secret.expose()) {
            if text.contains(&spelling) {
                text = text.replace(&spelling, REDACTED);
            }
        }
    }
    text
}

/// How a secret may stand in a text, the longest first.
pub fn spellings(secret: &str) -> Vec<String> {
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let json = serde_json::Value::from(secret).to_string();
    let json = json.trim_matches('"').to_owned();
    let mut spellings = vec![form.replace('+', "%20"), form, json, secret.to_owned()];
    spellings.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
    spellings.dedup();
    spellings
}

/// Cuts a text to a number of bytes, at a character.
pub fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_taken_out_in_every_spelling() {
        let secret = Secret::new("pa~ss \"word\"&more");
        for text in
            [secret.expose().to_owned(), "pa%7Ess+%22word%22%26more".to_owned(), r#"pa~ss \"word\"&more"#.to_owned()]
        {
            assert_eq!(redact(&format!("<{text}>"), [&secret]), "<[redacted]>", "{text}");
        }
    }

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }
}
