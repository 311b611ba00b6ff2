//! `docs/events.md` against the plugin: the words of events, the members that the recordings show, and the versions and classes.

use std::collections::BTreeSet;

use azure_secure_score::contract::Reaction;
use azure_secure_score::diagnoses::TABLE;
use azure_secure_score::normalize::{
    Activity, DIFFERENCES, Difference, Field, MAX_EVENT_BYTES, Otherwise, Reason, Severity, Status,
};
use azure_secure_score::settings::{Class, Version};
use host_harness::recording::cassette::Cassette;
use host_harness::recording::replay;
use serde_json::{Value, json};

use crate::commands::demo;
use crate::documents;
use crate::support::{plugin, root};

/// Failures of a whole feed. No scope has them as an outcome.
const OF_FEEDS: [&str; 2] = ["no-subscriptions", "all-excluded"];

/// Members that no recording shows: a score with more than 40 moved controls has the first two, a change of the number
/// of resources that do not count has the third, and a definition with a description has the last.
const NOT_RECORDED: [&str; 4] = [
    "unmapped.change.other_controls.current",
    "unmapped.change.other_controls.max",
    "unmapped.change.delta.notApplicableResourceCount",
    "finding_info.desc",
];

fn page() -> String {
    std::fs::read_to_string(root().join("docs/events.md")).unwrap()
}

/// Returns the rows of the table with this head, as cells without backticks.
fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let cells =
        |row: &str| row.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>();
    let head = format!("\n{head}\n");
    let tables = page.split(&head).skip(1);
    tables.flat_map(|rest| rest.lines().skip(1).take_while(|line| line.starts_with('|')).map(cells)).collect()
}

/// Adds the paths of the members of a value that are neither objects nor lists.
fn leaves(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(&path, value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(&format!("{path}[]"), item, found)),
        _ => drop(found.insert(path.to_owned())),
    }
}

/// Properties that recordings add to items, and that the service's own specification does not have.
const UNKNOWN: [&str; 4] = ["unmapped.novel", "unmapped.long[]", "unmapped.twice", "unmapped.abc"];

/// Returns the row that describes a member of the service's own.
fn described(leaf: String) -> String {
    match leaf {
        leaf if UNKNOWN.contains(&leaf.as_str()) => "unmapped.*".to_owned(),
        leaf if leaf.starts_with("unmapped.definition.") => "unmapped.definition.*".to_owned(),
        leaf => leaf,
    }
}

#[test]
fn the_page_of_events_has_each_member_of_the_recorded_events_and_no_other() {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("tests/cassettes")).unwrap() {
        let file = entry.unwrap().path();
        if file.to_string_lossy().ends_with(".expected.json") {
            let expected: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
            let is_newest = |event: &&Value| {
                event["metadata"]["version"] == Version::NEWEST.name()
                    && event["class_uid"] != Class::DetectionFinding.uid()
            };
            let events = expected["events"].as_array().into_iter().flatten();
            events.filter(is_newest).for_each(|event| leaves("", event, &mut found));
        }
    }
    let recorded: BTreeSet<String> = found.into_iter().map(described).collect();
    let rows = table(&page(), "| member | meaning | source |");
    let mut documented: BTreeSet<String> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(documented.len(), rows.len(), "a member has two rows");
    for member in NOT_RECORDED {
        assert!(documented.remove(member) && !recorded.contains(member), "{member}");
    }
    assert_eq!(documented, recorded);
}

/// Returns the place of a member of the newest version in another version and class, and its value there.
fn placed(leaf: &str, value: &Value, version: Version, class: Class) -> (String, Value) {
    let lacks = |row: &&Difference| row.classes.contains(&class) && row.begins.is_none_or(|begins| version < begins);
    let (mut leaf, mut value) = (leaf.to_owned(), value.clone());
    for row in DIFFERENCES.iter().filter(lacks) {
        let rest = leaf.strip_prefix(row.attribute).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        match (rest, row.otherwise) {
            (Some(_), Otherwise::Unmapped) => return (format!("unmapped.{leaf}"), value),
            (Some(""), Otherwise::Value(newest, earlier))
                if serde_json::from_str::<Value>(newest).unwrap() == value =>
            {
                value = serde_json::from_str(earlier).unwrap();
            }
            _ => {}
        }
    }
    for row in DIFFERENCES.iter().filter(lacks) {
        if let Otherwise::Item(name) = row.otherwise
            && let Some(rest) = leaf.strip_prefix(&format!("{}[]", row.attribute))
        {
            leaf = format!("{name}{rest}");
        }
    }
    (leaf, value)
}

/// Adds the members of a value that are neither objects nor lists, by path.
fn members(path: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(inside) => {
            for (name, value) in inside {
                members(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| members(&format!("{path}[]"), item, found)),
        _ => found.push((path.to_owned(), value.clone())),
    }
}

/// Checks that an event in another version or class has each member of the newest one where the table says, and no other. The
/// members that name the version and the class are compared with those, and the size of a cut event is its own.
pub fn check_schema(event: &Value, newest: &Value, version: Version, class: Class, place: &str) {
    let names_schema = |path: &str| {
        let names = ["class_uid", "class_name", "type_uid", "type_name", "metadata.version"];
        let ends = ["related_events[].type_uid", "metadata.untruncated_size"];
        names.contains(&path) || path.starts_with("metadata.extensions") || ends.iter().any(|end| path.ends_with(end))
    };
    let collected = |event: &Value| {
        let mut found = Vec::new();
        members("", event, &mut found);
        found.retain(|(path, _)| !names_schema(path));
        found
    };
    let mut expected: Vec<_> =
        collected(newest).iter().map(|(leaf, value)| placed(leaf, value, version, class)).collect();
    let mut found = collected(event);
    let by_path = |one: &(String, Value), other: &(String, Value)| one.0.cmp(&other.0);
    expected.sort_by(by_path);
    found.sort_by(by_path);
    assert_eq!(found, expected, "{place}");
    assert_eq!(event["metadata"]["version"], version.name(), "{place}");
    assert_eq!((&event["class_uid"], &event["class_name"]), (&class.uid().into(), &class.caption().into()), "{place}");
    let type_uid = class.uid() * 100 + event["activity_id"].as_u64().unwrap();
    assert_eq!(event["type_uid"], type_uid, "{place}");
    let type_name = format!("{}: {}", class.caption(), event["activity_name"].as_str().unwrap());
    assert_eq!(event["type_name"], type_name, "{place}");
    assert_eq!(event["metadata"]["extensions"].is_null(), class != Class::AssessmentFinding, "{place}");
}

#[test]
fn the_page_of_events_has_the_table_of_versions_and_classes() {
    const HEAD: &str = "| attribute | class | since | otherwise |\n|---|---|---|---|\n";
    let page = page();
    let (before, rest) = page.split_once(HEAD).expect("docs/events.md has the head of the table of versions");
    let after = &rest[rest.find("\n\n").unwrap()..];
    let rows: Vec<String> = DIFFERENCES
        .iter()
        .map(|Difference { attribute, classes, begins, otherwise }| {
            let uids: Vec<_> = classes.iter().map(|class| class.uid().to_string()).collect();
            let classes = if classes.len() == Class::ALL.len() { "all".to_owned() } else { uids.join(", ") };
            let begins = begins.map_or("never", Version::name);
            let (value, otherwise) = match otherwise {
                Otherwise::Unmapped => (String::new(), format!("`unmapped.{attribute}`")),
                Otherwise::Value(newest, earlier) => (format!(" {newest}"), (*earlier).to_owned()),
                Otherwise::Item(name) => (String::new(), format!("`{name}`, which is the item itself")),
            };
            format!(
                "| `{attribute}`{} | {classes} | {begins} | {} |",
                value.replace('"', ""),
                otherwise.replace('"', "")
            )
        })
        .collect();
    documents::check("docs/events.md", &format!("{before}{HEAD}{}{after}", rows.join("\n")));
}

/// The size that half of the events do not exceed is promised to be at most this.
const USUAL_EVENT_BYTES: usize = 4 << 10;

/// Returns the size that half of the events do not exceed.
fn median(mut sizes: Vec<usize>) -> usize {
    sizes.sort_unstable();
    sizes[(sizes.len() - 1) / 2]
}

fn sizes(lines: &[u8]) -> Vec<usize> {
    lines.split(|byte| *byte == b'\n').map(<[u8]>::len).filter(|size| *size > 0).collect()
}

/// Returns the sizes of the events of a recording after an edit: first those of its score, then those of its controls.
async fn replayed(name: &str, edit: impl FnOnce(&mut Value)) -> [Vec<usize>; 2] {
    let file = root().join("tests/cassettes").join(format!("{name}.json"));
    let mut cassette: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    edit(&mut cassette);
    let cassette = Cassette::read(&cassette.to_string()).unwrap();
    let mut sizes = sizes(&replay::play(&plugin(), &cassette).await.unwrap().lines());
    let controls = sizes.split_off(1);
    [sizes, controls]
}

/// Lets the definition of each control list so many assessments.
fn list_assessments(cassette: &mut Value, count: usize) {
    let items = cassette["exchanges"].as_array_mut().unwrap().last_mut().unwrap();
    for item in items["response"]["json"]["value"].as_array_mut().unwrap() {
        let assessments = &mut item["properties"]["definition"]["properties"]["assessmentDefinitions"];
        *assessments = vec![assessments[0].clone(); count].into();
    }
}

#[tokio::test]
async fn half_of_the_events_are_no_larger_than_the_page_of_events_says() {
    /// Half of the controls in Microsoft's own example of such an answer have more assessments.
    const USUAL_ASSESSMENTS: usize = 13;
    const HEAD: &str = "| events | bytes |\n|---|---|\n";
    let mut recorded = Vec::new();
    for file in std::fs::read_dir(root().join("tests/cassettes")).unwrap().map(|entry| entry.unwrap().path()) {
        if file.to_string_lossy().ends_with(".expected.json") {
            let expected: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
            let events = expected["events"].as_array().into_iter().flatten();
            recorded.extend(events.map(|event| event.to_string().len()));
        }
    }
    let [score, control] = replayed("definitions-summary", |_| {}).await;
    let [_, undefined] = replayed("definitions-none", |_| {}).await;
    let [_, usual] = replayed("definitions-summary", |cassette| list_assessments(cassette, USUAL_ASSESSMENTS)).await;
    let [_, hashed] = replayed("definitions-summary", |cassette| {
        list_assessments(cassette, USUAL_ASSESSMENTS);
        cassette["settings"]["raw"] = json!("hash");
    })
    .await;
    let all = median(recorded);
    let [score, control, undefined, usual, hashed] = [score, control, undefined, usual, hashed].map(median);
    for promised in [all, score, undefined, hashed] {
        assert!(promised <= USUAL_EVENT_BYTES, "{promised}");
    }
    let rows = [
        ("all events of the recordings".to_owned(), all),
        ("all events of `host-harness demo`".to_owned(), median(sizes(&demo().stdout))),
        ("a score".to_owned(), score),
        ("a control without its definition: `definitions = \"none\"`".to_owned(), undefined),
        ("a control whose definition lists one assessment".to_owned(), control),
        (
            format!(
                "a control whose definition lists {USUAL_ASSESSMENTS}; half of those in Microsoft's example have more"
            ),
            usual,
        ),
        ("the same with `raw = \"hash\"`".to_owned(), hashed),
    ];
    let rows: String = rows.iter().map(|(events, bytes)| format!("| {events} | {bytes} |\n")).collect();
    let page = page();
    let (before, rest) = page.split_once(HEAD).expect("docs/events.md has the head of the table of sizes");
    let after = &rest[rest.find("No event has more").unwrap()..];
    documents::check("docs/events.md", &format!("{before}{HEAD}{rows}\n{after}"));
}

#[test]
fn the_page_of_events_has_the_plugins_words() {
    let page = page();
    let words = |head: &str| table(&page, head).into_iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    let reasons: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(words("| `change.reason` | meaning | example |"), reasons);
    let fields: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
    assert_eq!(words("| `change.fields` | meaning |"), fields);
    let outcomes: Vec<_> = TABLE
        .iter()
        .filter(|row| {
            matches!(row.reaction, Some(Reaction::NoData | Reaction::FixScope)) && !OF_FEEDS.contains(&row.code)
        })
        .map(|row| vec![row.code.to_owned(), row.cause.to_owned()])
        .collect();
    assert_eq!(table(&page, "| `status_code` | cause |"), outcomes);
    let pairs = |head: &str| {
        table(&page, head).into_iter().map(|row| (row[0].parse().unwrap(), row[1].clone())).collect::<Vec<(u8, _)>>()
    };
    let owned = |(number, caption): (u8, &str)| (number, caption.to_owned());
    let activities: Vec<_> = Activity::ALL.iter().map(|activity| owned(activity.pair())).collect();
    assert_eq!(pairs("| `activity_id` | `activity_name` | when |"), activities);
    let statuses: Vec<_> = Status::ALL.iter().map(|status| owned(status.pair())).collect();
    assert_eq!(pairs("| `compliance.status_id` | `compliance.status` | when |"), statuses);
    let severities: Vec<_> = Severity::ALL.iter().map(|severity| owned(severity.pair())).collect();
    assert_eq!(pairs("| `severity_id` | `severity` | when |"), severities);
    assert!(page.contains(&format!("No event has more than {} KiB.", MAX_EVENT_BYTES / 1024)));
}

#[test]
fn each_reason_on_the_page_of_events_has_an_example_of_its_own() {
    for row in table(&page(), "| `change.reason` | meaning | example |") {
        let example: Value = serde_json::from_str(&row[2]).unwrap();
        assert_eq!(example["reason"], row[0]);
    }
}
