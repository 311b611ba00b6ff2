//! Every place where two documents differ, in the words of an error.

use serde_json::Value;
use source_host::text;

/// The differences that are told; further ones are counted.
const DIFFERENCES: usize = 20;

/// The bytes of a value that are told: enough to recognise a text or an event.
const VALUE: usize = 200;

/// The bytes before the first difference of two long texts that are told.
const BEFORE: usize = 40;

/// The place of the digests, which differ wherever anything else of the events does.
const DIGEST: &str = "/sha256/events";

/// Returns the places where a document differs from the expected one, each with both values. An error says that the
/// expected text is not JSON.
pub(crate) fn differences(expected: &str, found: &str) -> Result<Vec<String>, serde_json::Error> {
    if expected == found {
        return Ok(Vec::new());
    }
    let document: Value = serde_json::from_str(expected)?;
    let mut all = Vec::new();
    match serde_json::from_str(found) {
        Ok(found) => compare(String::new(), &document, &found, &mut all),
        // A number of an event may be too large for a value.
        Err(_) => all.extend(first_line(expected, found)),
    }
    let is_of_events = |one: &String| one.starts_with("/events");
    if all.iter().any(is_of_events) {
        all.retain(|one| !one.starts_with(DIGEST));
    } else if let Some(digest) = all.iter_mut().find(|one| one.starts_with(DIGEST)) {
        *digest += "; the events are equal as JSON, and differ in their spelling";
        *digest += &first_line(expected, found).map(|line| format!(": {line}")).unwrap_or_default();
    }
    let more = all.len().saturating_sub(DIFFERENCES);
    if more > 0 {
        all.truncate(DIFFERENCES);
        all.push(format!("{more} more places differ"));
    }
    Ok(all)
}

fn compare(place: String, expected: &Value, found: &Value, all: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
            for key in keys {
                let place = format!("{place}/{key}");
                match (left.get(key), right.get(key)) {
                    (Some(left), Some(right)) => compare(place, left, right, all),
                    (Some(left), None) => all.push(format!("{place}: expected {}, found no such key", shown(left))),
                    (None, Some(right)) => all.push(format!("{place}: expected no such key, found {}", shown(right))),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(format!("{place}/{index}"), left, right, all);
            }
            if left.len() != right.len() {
                all.push(format!("{place}: expected a list of {}, found one of {}", left.len(), right.len()));
            }
        }
        _ if expected == found => {}
        _ => {
            let (expected, found) = pair(&expected.to_string(), &found.to_string());
            all.push(format!("{place}: expected {expected}, found {found}"));
        }
    }
}

/// Shortens two texts to the parts around the first place where they differ.
fn pair(expected: &str, found: &str) -> (String, String) {
    let same = expected.chars().zip(found.chars()).take_while(|(left, right)| left == right);
    let same: usize = same.map(|(character, _)| character.len_utf8()).sum();
    let begin = text::cut(expected, same.saturating_sub(BEFORE)).len();
    let around = |text: &str| if begin == 0 { cut(text) } else { format!("…{}", cut(&text[begin..])) };
    (around(expected), around(found))
}

/// Returns the first line that differs beside those of digests, if both texts have as many lines.
fn first_line(expected: &str, found: &str) -> Option<String> {
    if expected.lines().count() != found.lines().count() {
        return None;
    }
    let is_digest = |line: &str| line.trim_start().starts_with("\"events\": \"");
    let pairs = expected.lines().zip(found.lines()).enumerate();
    let (index, (expected, found)) = pairs.into_iter().find(|(_, (left, right))| left != right && !is_digest(left))?;
    let (expected, found) = pair(expected.trim(), found.trim());
    Some(format!("line {}: expected {expected}, found {found}", index + 1))
}

fn shown(value: &Value) -> String {
    cut(&value.to_string())
}

fn cut(text: &str) -> String {
    let short = text::cut(text, VALUE);
    if short.len() < text.len() { format!("{short}…") } else { short.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_told_and_an_absent_key_is_not_null() {
        let told = differences(
            r#"{"a": null, "b": [1, {"c": 2}], "d": 1, "sha256": {"events": "x"}}"#,
            r#"{"b": [2, {"c": 3}, 4], "d": 1, "e": null, "sha256": {"events": "x"}}"#,
        );
        assert_eq!(
            told.unwrap(),
            [
                "/a: expected null, found no such key",
                "/b/0: expected 1, found 2",
                "/b/1/c: expected 2, found 3",
                "/b: expected a list of 2, found one of 3",
                "/e: expected no such key, found null",
            ]
        );
        let many = |first: u32| serde_json::to_string(&(first..first + 50).collect::<Vec<_>>()).unwrap();
        let told = differences(&many(0), &many(1)).unwrap();
        assert_eq!((told.len(), told[20].as_str()), (21, "30 more places differ"));
        assert!(differences("{", "{}").is_err());
    }

    #[test]
    fn two_long_texts_are_shown_where_they_differ() {
        let text = |end: &str| serde_json::to_string(&("é".repeat(500) + end + &"z".repeat(500))).unwrap();
        let told = differences(&text("a"), &text("b")).unwrap();
        let around = |end: &str| format!("…{}{end}{}", "é".repeat(BEFORE / 2), "z".repeat(VALUE - BEFORE - 1));
        assert_eq!(told, [format!(": expected {}…, found {}…", around("a"), around("b"))]);
    }

    #[test]
    fn a_digest_tells_a_difference_of_spelling_and_nothing_that_is_told_already() {
        let document = |event: &str, digest: &str| {
            format!(
                "{{\n  \"sha256\": {{\n    \"events\": \"{digest}\"\n  }},\n  \"events\": [\n    {event}\n  ]\n}}\n"
            )
        };
        assert_eq!(
            differences(&document("1E+2", "a"), &document("100.0", "b")).unwrap(),
            [
                "/sha256/events: expected \"a\", found \"b\"; the events are equal as JSON, and differ in their spelling: \
              line 6: expected 1E+2, found 100.0"
            ]
        );
        assert_eq!(differences(&document("1", "a"), &document("2", "b")).unwrap(), ["/events/0: expected 1, found 2"]);
        assert_eq!(differences(&document("1e400", "a"), &document("1e400", "a")).unwrap(), Vec::<String>::new());
    }
}
