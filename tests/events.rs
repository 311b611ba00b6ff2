//! `docs/events.md` against the plugin: the words of events, and the members that the recordings show.

use std::collections::BTreeSet;

use azure_secure_score::contract::Reaction;
use azure_secure_score::diagnoses::TABLE;
use azure_secure_score::normalize::{Activity, Field, MAX_EVENT_BYTES, Reason, Severity, Status};
use serde_json::Value;

use crate::support::root;

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
            expected["events"].as_array().into_iter().flatten().for_each(|event| leaves("", event, &mut found));
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
