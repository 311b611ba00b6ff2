//! The format of recordings: an error names the place of a fault.

use std::path::PathBuf;

use host_harness::recording::cassette::{Cassette, RecordedState};
use host_harness::recording::replay;
use source_host::cause;

use crate::support::{plugin, root};

fn file(name: &str) -> PathBuf {
    root().join("tests/cassettes").join(format!("{name}.json"))
}

/// Plays a cassette after an edit of its text, and returns the error.
async fn complaint(edit: fn(String) -> String) -> String {
    let text = edit(std::fs::read_to_string(file("two-pages")).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edited.json");
    std::fs::write(&file, text).unwrap();
    cause::chain(&replay::replay(&plugin(), &file).await.unwrap_err())
}

#[tokio::test]
async fn a_request_that_does_not_match_names_exchange_field_expected_and_found() {
    let message = complaint(|text| {
        text.replacen("secureScores?api-version=2020-01-01", "secureScores?api-version=2019-01-01", 1)
    })
    .await;
    assert!(message.contains("edited.json: exchanges[1].request.url: expected https://"), "{message}");
    assert!(message.contains("2019-01-01, found https://"), "{message}");
}

#[tokio::test]
async fn an_exchange_that_nobody_used_fails() {
    let message = complaint(|text| {
        let mut cassette: serde_json::Value = serde_json::from_str(&text).unwrap();
        let exchanges = cassette["exchanges"].as_array_mut().unwrap();
        exchanges.push(exchanges[1].clone());
        cassette.to_string()
    })
    .await;
    assert!(message.contains("exchanges[4]: no request was sent for GET https://"), "{message}");
}

#[tokio::test]
async fn a_key_of_a_cassette_that_nobody_knows_is_named() {
    let message = complaint(|text| text.replacen("\"docs\"", "\"dcs\"", 1)).await;
    assert!(message.contains("unknown field `dcs`"), "{message}");
}

#[tokio::test]
async fn what_is_no_cassette_is_told_with_line_key_what_was_found_and_what_was_expected() {
    let two_pages = std::fs::read_to_string(file("two-pages")).unwrap();
    let line = |begin: &str| two_pages.lines().position(|line| line.trim_start().starts_with(begin)).unwrap() + 1;
    // A response that lacks something, or has too much, is known at the end of its exchange.
    let end = two_pages.lines().position(|line| line == "    },").unwrap() + 1;
    let mut wrong = Vec::new();
    for (from, to, line, words) in [
        ("{\n", "\n", 2, "the whole: found string \"docs\", expected struct Cassette"),
        ("\"docs\": \"", "\"docs\": 1, \"x\": \"", line("\"docs\""), "docs: found integer `1`, expected a string"),
        ("\"version\": 1", "\"version\": -1", line("\"version\""), "version: found integer `-1`, expected u32"),
        (
            "\"feed\": ",
            "\"fed\": ",
            line("\"feed\""),
            "context.fed: unknown field `fed`, expected one of `feed`, `tenant`",
        ),
        (
            "\"method\": \"POST\"",
            "\"method\": null",
            line("\"method\""),
            "exchanges[0].request.method: found null, expected a string",
        ),
        (
            "\"status\": 200",
            "\"status\": \"200\"",
            line("\"status\""),
            "exchanges[0].response.status: found string \"200\", expected u16",
        ),
        (
            "\"status\": 200",
            "\"status\": 99",
            end,
            "exchanges[0].response: `status`: found 99, expected a status of HTTP",
        ),
        (
            "\"status\": 200,",
            "",
            end,
            "exchanges[0].response: found neither `status` nor `no_answer`, expected one of them",
        ),
        (
            "\"status\": 200",
            "\"status\": 200, \"text\": \"\"",
            end,
            "exchanges[0].response: found both `json` and `text`, expected at most one",
        ),
        (
            "\"status\": 200",
            "\"no_answer\": \"connection-broken\"",
            end,
            "exchanges[0].response: found `no_answer` beside parts of an answer, expected it alone",
        ),
        (
            "\"status\": 200",
            "\"no_answer\": \"broken\"",
            line("\"status\""),
            "unknown variant `broken`, expected one of `name-not-resolved`",
        ),
    ] {
        assert!(two_pages.contains(from), "{from}");
        let told = Cassette::read(&two_pages.replacen(from, to, 1));
        let told = told.unwrap_err().to_string();
        if !told.starts_with(&format!("is not a cassette: line {line}, ")) || !told.contains(words) {
            wrong.push(format!("{from} as {to}: expected line {line}, {words}; found {told}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let more = Cassette::read(&(two_pages.clone() + "{}")).unwrap_err().to_string();
    assert!(more.contains("the end: trailing characters"), "{more}");
}

#[tokio::test]
async fn a_state_of_a_scope_that_is_not_polled_is_named() {
    let message = complaint(|text| {
        text.replacen(
            "\"time_milliseconds\"",
            "\"states\": { \"other\": { \"text\": \"\" } }, \"time_milliseconds\"",
            1,
        )
    })
    .await;
    assert!(
        message.contains(
            "edited.json: context.states: found a state of other, expected of scopes that are polled: bbbbbbbb-"
        ),
        "{message}"
    );
}

#[test]
fn a_state_is_recorded_to_the_letter() {
    for state in ["{\"format\":1,\"x\":1.50}", " {}", "not JSON", ""] {
        let recorded = RecordedState::of(state.as_bytes()).unwrap();
        let text = serde_json::to_string_pretty(&recorded).unwrap();
        let read: RecordedState = serde_json::from_str(&text).unwrap();
        assert_eq!(read.bytes(), state.as_bytes(), "{text}");
    }
    assert!(RecordedState::of(b"\xff").is_none());
}
