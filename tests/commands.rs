//! The command line: what programs read, and the exit status.

use std::path::Path;
use std::process::Output;

use host_harness::plugin::ALLOWED_IMPORTS;
use serde_json::Value;

use crate::support::{command, root};

fn run(arguments: &[&str]) -> Output {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg");
    command().args(arguments).env("XDG_CACHE_HOME", cache).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn inspect_tells_programs_what_the_component_is() {
    let output = run(&["inspect", "--json"]);
    let about: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(about["name"], "azure-secure-score");
    assert_eq!(about["sha256"].as_str().unwrap().len(), 64);
    assert!(about["bytes"].as_u64().unwrap() > 0 && about["version"].is_string() && about["exports"].is_array());
    for import in about["imports"].as_array().unwrap() {
        assert!(ALLOWED_IMPORTS.contains(&import.as_str().unwrap().split('@').next().unwrap()), "{import}");
    }
}

#[test]
fn the_demo_prints_events_alone_on_standard_output_and_a_table_on_standard_error() {
    let output = run(&["demo"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let events = output.stdout.split_inclusive(|byte| *byte == b'\n');
    let events: Vec<Value> = events.map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert!(events.len() >= 40 && events.iter().all(|event| event["class_uid"] == 99_402_001));
    assert!(said(&output).contains("fabrikam-scores  "), "{}", said(&output));
}

#[test]
fn a_replay_prints_the_events_of_its_cassette() {
    let cassette = root().join("tests/cassettes/two-pages.json");
    let output = run(&["replay", cassette.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 4);
    assert_eq!(run(&["replay", "--expect", cassette.to_str().unwrap()]).status.code(), Some(0));
    let refused = root().join("tests/cassettes/forbidden.json");
    assert_eq!(run(&["replay", refused.to_str().unwrap()]).status.code(), Some(1));
    assert_eq!(run(&["replay", "no-such-file.json"]).status.code(), Some(2));
}

#[test]
fn usage_and_configuration_are_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    let text = "[[feed]]\nid = \"a\"\ntenant = \"t\"\n[feed.settings]\nclient_key = \"x\"\nclient_secrett = \"y\"\n";
    std::fs::write(&file, text).unwrap();
    let output = run(&["poll", "-c", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    for expected in ["bad.toml:5: feed a: settings.client_key: found `x`", "bad.toml:6: ", "settings.client_secret"] {
        assert!(said(&output).contains(expected), "expected {expected:?} in {}", said(&output));
    }
    for arguments in [&["poll"][..], &["poll", "-c", "none.toml"], &["simulate", "--scenario", "none"], &["sing"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_file_that_is_no_component_is_named() {
    let file = root().join("tests/commands.rs");
    let output = run(&["inspect", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("commands.rs"), "{}", said(&output));
}

#[test]
fn conformance_prints_a_row_for_each_rule_and_its_status_is_the_verdict() {
    let output = run(&["conformance", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rules = report["rules"].as_array().unwrap();
    assert!(report["ok"] == true && rules.len() == host_harness::conformance::RULES.len());
    assert!(rules.iter().all(|row| row["status"] == "passed"), "{report}");
    let text = root().join("tests/commands.rs");
    let output = run(&["conformance", text.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("component   FAILED "));
    assert_eq!(run(&["conformance", "no-such-file.wasm"]).status.code(), Some(2));
}
