//! The detections of docs/collector.md, exactly as in the document, on the events of the demo: each finds its case
//! there, and nothing else.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::commands::demo;
use crate::support::{root, running};

/// The result of each detection: the name of the subscription, the title of the finding, and its activity.
const FOUND: &[(&str, &str)] = &[
    ("the score dropped by 3 points or more", "contoso production, Secure Score: ASC score, Update"),
    ("a resource lost MFA", "fabrikam production, Secure Score Control: Enable MFA, Update"),
    (
        "a control vanished",
        "northwind production, Secure Score Control: Protect applications against DDoS attacks, Close",
    ),
    ("a subscription went silent", "adatum production, Secure Score collection, Create"),
];

/// Returns the rows of the document's table: the thing to detect, and the condition of `select`.
fn detections() -> Vec<(String, String)> {
    let document = std::fs::read_to_string(root().join("docs/collector.md")).unwrap();
    let (_, section) = document.split_once("\n## Detections\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix("` |")?.split_once(" | `"));
    // The head of the table explains the conditions.
    let rows = rows.filter(|(_, condition)| *condition != "jq -c 'select(…)'");
    // A bar would end the cell of a table.
    rows.map(|(what, condition)| (what.to_owned(), condition.replace("\\|", "|"))).collect()
}

/// Returns the events that `jq` selects.
fn selected(condition: &str, events: &[u8]) -> Vec<Value> {
    let mut jq = running("jq", "jq");
    jq.args(["-c", &format!("select({condition})")]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut jq = jq.spawn().unwrap();
    let (mut input, events) = (jq.stdin.take().unwrap(), events.to_vec());
    let writer = std::thread::spawn(move || input.write_all(&events));
    let output = jq.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "jq does not take {condition}");
    output.stdout.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[test]
fn each_detection_finds_its_case_in_the_demo_and_nothing_else() {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let called = |event: &Value| {
        let parts = [&event["cloud"]["account"]["name"], &event["finding_info"]["title"], &event["activity_name"]];
        parts.map(text).join(", ")
    };
    let found: Vec<(String, Vec<String>)> = detections()
        .into_iter()
        .map(|(what, condition)| (what, selected(&condition, &demo().stdout).iter().map(called).collect()))
        .collect();
    let expected: Vec<(String, Vec<String>)> =
        FOUND.iter().map(|(what, event)| ((*what).to_owned(), vec![(*event).to_owned()])).collect();
    assert_eq!(found, expected);
}
