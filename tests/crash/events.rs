//! Checks of the events that a sink received: whole lines, no gaps, and the order of each scope.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub fn uid_of_finding(event: &Value) -> &str {
    event["finding_info"]["uid"].as_str().unwrap()
}

pub fn uid(event: &Value) -> String {
    event["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Reads the events of the files, rotated ones first, and checks that all lines are complete.
pub fn filed(folder: &Path) -> Vec<Value> {
    let mut files: Vec<(u64, PathBuf)> = fs::read_dir(folder.join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let number = path.extension().and_then(|number| number.to_str()?.parse().ok());
            (number.unwrap_or(u64::MAX), path)
        })
        .collect();
    files.sort();
    let text: String = files.iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect();
    assert!(text.ends_with('\n'), "a half line at the end");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

/// Returns each event once, at its first occurrence; a repetition must be identical.
pub fn without_repeats(events: &[Value]) -> Vec<&Value> {
    let mut seen: HashMap<String, &Value> = HashMap::new();
    events
        .iter()
        .filter(|event| match seen.get(&uid(event)) {
            Some(first) => {
                assert_eq!(first, event, "a repeat differs");
                false
            }
            None => {
                seen.insert(uid(event), event);
                true
            }
        })
        .collect()
}

pub fn by_scope<'a>(events: &[&'a Value]) -> BTreeMap<String, Vec<&'a Value>> {
    let mut scopes: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for event in events {
        scopes.entry(event["cloud"]["account"]["uid"].as_str().unwrap().to_owned()).or_default().push(event);
    }
    scopes
}

/// Checks that each change contains the values before it: a missing event breaks the chain. Returns the last values of
/// each finding.
pub fn check_chain(events: &[&Value]) -> BTreeMap<String, String> {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for event in events {
        let unmapped = &event["unmapped"];
        let values = |from: &Value, score: &Value| {
            let counts = ["healthyResourceCount", "unhealthyResourceCount"].map(|key| from[key].to_string());
            format!("{} {} {}", score["current"], score["max"], counts.join(" "))
        };
        let now = values(unmapped, &unmapped["score"]);
        let before = last.insert(uid_of_finding(event).to_owned(), now);
        match event["activity_id"].as_u64() {
            Some(1) => assert_eq!(before, None, "created twice: {event}"),
            Some(2) => {
                let previous = &unmapped["change"]["previous"];
                assert_eq!(before, Some(values(previous, previous)), "a change before this one is missing: {event}");
            }
            other => panic!("activity {other:?}"),
        }
    }
    last
}
