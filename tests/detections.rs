//! The detections of docs/collector.md on the events of the demo, and those of docs/detect.md on the events of the
//! recordings, exactly as in the documents: each finds its case there, and nothing else. `tests/detect.py` runs the queries
//! of docs/detect.md in other languages.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use source_host::credentials::expiry;

use crate::commands::demo;
use crate::support::{NOON, root, running};

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
    filtered(&format!("select({condition})"), events)
}

/// Returns the results of a program of `jq`. Its `$now` is a day and three hours after the first poll of the recordings.
fn filtered(program: &str, events: &[u8]) -> Vec<Value> {
    let mut jq = running("jq", "jq");
    let now = (NOON + 27 * 3_600_000).to_string();
    jq.args(["-c", "--argjson", "now", &now, program]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut jq = jq.spawn().unwrap();
    let (mut input, events) = (jq.stdin.take().unwrap(), events.to_vec());
    let writer = std::thread::spawn(move || input.write_all(&events));
    let output = jq.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "jq does not take {program}");
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

/// The source of a detection that reads the log of the collector.
const LINES: &str = "the two lines below";

/// A detection of docs/detect.md.
struct Detection {
    name: String,
    /// The number of results by recording.
    finds: BTreeMap<String, usize>,
    /// Recordings in which the detection finds nothing.
    other: Vec<String>,
    /// The queries and lines, by language.
    blocks: BTreeMap<String, String>,
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/detect.md")).unwrap()
}

/// Returns the texts in backticks, each with the text that follows it.
fn quoted(text: &str) -> Vec<(String, &str)> {
    let parts: Vec<&str> = text.split('`').collect();
    parts[1..].chunks(2).map(|pair| (pair[0].to_owned(), pair.get(1).copied().unwrap_or_default())).collect()
}

/// Returns the blocks of code of a text, with their languages.
fn blocks(text: &str) -> Vec<(String, String)> {
    let begins = text.split("\n```").collect::<Vec<_>>();
    let block = |block: &&str| block.split_once('\n').map(|(language, code)| (language.to_owned(), code.to_owned()));
    begins[1..].iter().step_by(2).filter_map(block).collect()
}

fn detections_of_the_page() -> Vec<Detection> {
    let page = page();
    let sections = page.split("\n### ").skip(1).map(|section| section.split_once(". ").unwrap().1);
    let detections: Vec<_> = sections
        .map(|section| {
            let (_, stated) = section.split_once("\nFinds: ").unwrap();
            let stated = stated.split("\n").next().unwrap();
            let (finds, other) = stated.split_once(" Does not find: ").unwrap_or((stated, ""));
            let number = |rest: &str| rest.trim_matches([' ', ',', '.']).parse().unwrap();
            let mut counts: BTreeMap<_, _> =
                quoted(finds).into_iter().map(|(name, rest)| (name, number(rest))).collect();
            if let Some(rest) = finds.strip_prefix(LINES) {
                counts.insert(LINES.to_owned(), number(rest));
            }
            Detection {
                name: section.split('\n').next().unwrap().to_owned(),
                finds: counts,
                other: quoted(other).into_iter().map(|(name, _)| name).collect(),
                blocks: blocks(section).into_iter().collect(),
            }
        })
        .collect();
    assert!(detections.len() >= 12);
    detections
}

/// Returns the events of each recording that has any. Several recordings have events with the same uid: a label of each event names
/// the recording.
fn recorded() -> BTreeMap<String, Vec<Value>> {
    let mut recorded = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("tests/cassettes")).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap();
        let Some(name) = name.strip_suffix(".expected.json") else { continue };
        let mut expected: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let Some(events) = expected["events"].as_array_mut().filter(|events| !events.is_empty()) else { continue };
        for event in events.iter_mut() {
            event["metadata"]["labels"].as_array_mut().unwrap().push(format!("recording:{name}").into());
        }
        recorded.insert(name.to_owned(), std::mem::take(events));
    }
    recorded
}

fn lines<'a>(events: impl IntoIterator<Item = &'a Value>) -> Vec<u8> {
    events.into_iter().flat_map(|event| format!("{event}\n").into_bytes()).collect()
}

/// Returns the name of the recording that an event is of.
fn origin(event: &Value) -> String {
    let labels = event["metadata"]["labels"].as_array().into_iter().flatten();
    let name = labels.filter_map(|label| label.as_str()?.strip_prefix("recording:")).next();
    name.unwrap_or(LINES).to_owned()
}

#[test]
fn each_query_of_jq_finds_in_the_recordings_what_the_page_says() {
    let recorded = recorded();
    let whole = lines(recorded.values().flatten());
    for Detection { name, finds, other, blocks } in detections_of_the_page() {
        let program = &blocks["jq"];
        if program.starts_with("[., inputs]") {
            assert!(!other.is_empty(), "{name}: no recording shows the opposite");
            for recording in finds.keys().chain(&other) {
                let found = filtered(program, &lines(&recorded[recording])).len();
                assert_eq!(found, finds.get(recording).copied().unwrap_or(0), "{name}: {recording}");
            }
            continue;
        }
        let events = blocks.get("ndjson").map_or_else(|| whole.clone(), |lines| format!("{lines}\n").into_bytes());
        let mut found = BTreeMap::new();
        filtered(program, &events).iter().for_each(|event| *found.entry(origin(event)).or_default() += 1);
        assert_eq!(found, finds, "{name}");
    }
}

#[test]
fn the_lines_of_the_log_on_the_page_are_those_that_the_collector_writes() {
    let detections = detections_of_the_page();
    let shown = detections.iter().find_map(|detection| detection.blocks.get("ndjson")).unwrap();
    for line in shown.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let message = line["message"].as_str().unwrap();
        let end = 1_796_342_400_000; // 2026-12-04.
        let week_before = end - 7 * 86_400_000;
        let known = [week_before, end].map(|now| expiry::warning("client_secret", end, now));
        assert!(known.iter().any(|known| known == message), "{message}: {known:?}");
    }
}

/// Says whether each member of a part is in the whole: of a list, each item in one of the items.
fn holds(whole: &Value, part: &Value) -> bool {
    match part {
        Value::Object(members) => members.iter().all(|(name, part)| holds(&whole[name], part)),
        Value::Array(items) => {
            let of_whole = whole.as_array().map(Vec::as_slice).unwrap_or_default();
            items.iter().all(|part| of_whole.iter().any(|whole| holds(whole, part)))
        }
        _ => whole == part,
    }
}

#[test]
fn the_examples_of_the_page_are_parts_of_recorded_events() {
    let (page, recorded) = (page(), recorded());
    let mut examples = 0;
    for (before, rest) in page.match_indices("\n```json\n").map(|(at, _)| page.split_at(at)) {
        let (_, recording) = before.rsplit_once("recording\n").or_else(|| before.rsplit_once("recording ")).unwrap();
        let recording = recording.split('`').nth(1).unwrap();
        let example: Value = serde_json::from_str(&blocks(rest)[0].1).unwrap();
        assert!(recorded[recording].iter().any(|event| holds(event, &example)), "{recording}: {example}");
        examples += 1;
    }
    assert!(examples >= 5);
}

#[test]
fn each_query_names_members_of_events_alone() {
    let events = std::fs::read_to_string(root().join("docs/events.md")).unwrap();
    let members: BTreeSet<String> = quoted(&events).into_iter().map(|(name, _)| name.replace("[]", "")).collect();
    let known = |path: &str| members.iter().any(|member| member == path || member.starts_with(&format!("{path}.")));
    let roots = ["unmapped.", "finding_info.", "cloud.", "metadata.", "compliance."];
    let mut found = BTreeSet::new();
    for Detection { name, blocks, .. } in detections_of_the_page() {
        let languages: Vec<&str> = blocks.keys().map(String::as_str).filter(|language| *language != "ndjson").collect();
        let summing = blocks["jq"].starts_with("[., inputs]");
        let expected: &[&str] =
            if summing { &["jq", "kusto", "spl", "tql"] } else { &["jq", "kusto", "spl", "tql", "yaml"] };
        assert_eq!(languages, expected, "{name}");
        for code in blocks.values() {
            let words =
                code.split(|letter: char| !letter.is_ascii_alphanumeric() && !['_', '.', '?'].contains(&letter));
            for word in words {
                let word = word.replace('?', "");
                let Some(at) = roots.iter().filter_map(|root| word.find(root)).min() else { continue };
                let path = word[at..].trim_end_matches('.');
                assert!(known(path), "{name}: {path} is no member of events");
                found.insert(path.to_owned());
            }
        }
    }
    assert!(found.len() > 10, "{found:?}");
}
