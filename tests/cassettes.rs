//! Recorded polls: each plays through the component, and its result must equal the document beside it.
//! `UPDATE_EXPECT=1` rewrites the documents.

use std::path::PathBuf;

use host_harness::environment;
use host_harness::recording::replay::{self, expected_file};
use source_host::cause;

use crate::support::{leave_for_the_judge, plugin, root};

fn file(name: &str) -> PathBuf {
    root().join("tests/cassettes").join(format!("{name}.json"))
}

async fn check(name: &str) {
    let replayed = replay::replay(&plugin(), &file(name)).await.unwrap();
    if environment::variable("UPDATE_EXPECT").is_some() {
        replayed.write_expected(&file(name)).unwrap();
    }
    replayed.compare(&file(name)).unwrap();
    leave_for_the_judge(&format!("cassette-{name}"), replayed.events.iter().map(Vec::as_slice));
}

/// Every cassette, by name: a cassette that is not listed fails `every_cassette_is_named`.
const NAMED: &[&str] = &["two-pages", "forbidden"];

#[tokio::test]
async fn a_score_and_two_pages_of_controls() {
    check("two-pages").await;
}

#[tokio::test]
async fn a_refused_subscription() {
    check("forbidden").await;
}

#[test]
fn every_cassette_is_named_and_has_what_to_expect() {
    for entry in std::fs::read_dir(root().join("tests/cassettes")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".json").unwrap();
        assert!(NAMED.contains(&stem.trim_end_matches(".expected")), "{name}");
    }
    for name in NAMED {
        assert!(expected_file(&file(name)).exists(), "{name}");
    }
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
    assert!(message.contains("exchanges[4]: nobody asked for GET https://"), "{message}");
}

#[tokio::test]
async fn a_key_of_a_cassette_that_nobody_knows_is_named() {
    let message = complaint(|text| text.replacen("\"docs\"", "\"dcs\"", 1)).await;
    assert!(message.contains("unknown field `dcs`"), "{message}");
}
