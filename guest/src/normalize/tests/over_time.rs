//! The life of a finding and its scope from poll to poll: settings that change, lists that fail or come empty, outcomes,
//! and the daily snapshot.

use super::*;
use crate::diagnoses::{ANSWER_NOT_JSON, Diagnosis};
use crate::diagnoses::{DISABLED, FORBIDDEN, NO_LONGER_DISCOVERED, NOT_FOUND, SECRET_EXPIRED, THROTTLED, TIMEOUT};
use crate::settings::Class;

const NEVER_TOLD: [(u64, String); 0] = [];

/// Polls one after the other, each with the state of the previous one.
struct Story {
    settings: Settings,
    hour: u64,
    state: Option<Vec<u8>>,
}

impl Story {
    fn begin() -> Story {
        Story { settings: Settings::sample(), hour: 0, state: None }
    }

    /// Begins a story in which both controls were collected once.
    fn collected() -> Story {
        let mut story = Story::begin();
        story.poll(&pages(BOTH));
        story
    }

    fn poll(&mut self, poll_result: &PollResult) -> Batch {
        let batch = with(&self.settings, self.hour, poll_result, self.state.as_deref());
        self.hour += 1;
        self.state = Some(batch.state.clone());
        batch
    }

    fn told(&mut self, controls: &[Control]) -> Vec<(u64, String)> {
        told(&self.poll(&pages(controls)))
    }

    /// Returns the status codes of the events that a failure gives.
    fn fails(&mut self, diagnosis: &Diagnosis) -> Vec<String> {
        let batch = self.poll(&PollResult::Failure(diagnosis.failure("")));
        assert_eq!(batch.outcome.as_ref().unwrap().code, diagnosis.code);
        events(&batch).iter().map(|event| event["status_code"].as_str().unwrap().to_owned()).collect()
    }
}

fn named(activity: u64, title: &str) -> (u64, String) {
    (activity, title.to_owned())
}

/// Makes both lists, with an empty list of controls.
fn without_controls(controls: &[Control]) -> PollResult {
    let PollResult::Pages(mut pages) = pages(controls) else { unreachable!() };
    pages[1].body = br#"{"value":[]}"#.to_vec();
    PollResult::Pages(pages)
}

fn change_of_score(batch: &Batch) -> Value {
    events(batch).iter().find(|event| event["finding_info"]["types"][0] == "Secure Scores").unwrap()["unmapped"]["change"]
        .clone()
}

const A: Control = ("a", 5.0, 10, 1, 1);
const B: Control = ("b", 4.0, 4, 3, 0);
const C: Control = ("c", 1.0, 2, 1, 1);

#[test]
fn narrowed_events_close_nothing_and_widened_again_nothing_is_new() {
    let mut story = Story::collected();
    story.settings.events = vec![EventKind::Scores];
    for _ in 0..4 {
        assert_eq!(story.told(&[A, B]), NEVER_TOLD);
    }
    story.settings.events = vec![EventKind::Controls];
    for _ in 0..4 {
        assert_eq!(story.told(&[A, B]), NEVER_TOLD);
    }
    story.settings.events = EventKind::ALL.to_vec();
    assert_eq!(story.told(&[A, B]), NEVER_TOLD);
}

#[test]
fn absences_are_not_counted_while_a_kind_is_not_collected() {
    let mut story = Story::collected();
    assert_eq!(story.told(&[A]), [named(2, "ASC score")]);
    story.settings.events = vec![EventKind::Scores];
    assert_eq!(story.told(&[A]), NEVER_TOLD);
    assert_eq!(story.told(&[A]), NEVER_TOLD);
    story.settings.events = EventKind::ALL.to_vec();
    assert_eq!(story.told(&[A]), [named(3, "b")]);
}

#[test]
fn events_narrowed_while_nothing_is_assessed_change_no_outcome() {
    let nothing = pages(&[("a", 0.0, 0, 0, 0), ("b", 0.0, 0, 0, 0)]);
    let mut story = Story::collected();
    assert_eq!(events(&story.poll(&nothing))[0]["status_code"], "nothing-assessed");
    for kind in EventKind::ALL {
        story.settings.events = vec![kind];
        let batch = story.poll(&nothing);
        assert_eq!(batch.outcome.as_ref().unwrap().code, "nothing-assessed");
        assert_eq!(told(&batch), NEVER_TOLD);
    }
}

#[test]
fn a_switched_class_closes_nothing_and_snapshots_come_as_usual() {
    let mut story = Story::collected();
    story.settings.class = Class::ComplianceFinding;
    assert_eq!(story.told(&[A, B]), NEVER_TOLD);
    story.hour = 24;
    let batch = story.poll(&pages(BOTH));
    assert!(events(&batch).iter().all(|event| event["type_uid"] == 200_399), "{:?}", told(&batch));
    assert_eq!(batch.events.len(), 3);
}

#[test]
fn failed_and_empty_polls_between_two_absences_neither_count_nor_reset() {
    let mut story = Story::collected();
    assert_eq!(story.told(&[A]), [named(2, "ASC score")]);
    assert_eq!(story.fails(&TIMEOUT), [""; 0]);
    story.poll(&pages(&[]));
    assert_eq!(story.told(&[A]), [named(2, "Secure Score collection"), named(3, "b")]);
    assert_eq!(story.told(&[A]), NEVER_TOLD);
}

#[test]
fn an_absence_that_ends_is_no_creation() {
    let mut story = Story::collected();
    story.told(&[A]);
    assert_eq!(story.told(&[A, B]), [named(2, "ASC score")]);
    assert_eq!(story.told(&[A]), [named(2, "ASC score")], "absences count from the beginning");
}

#[test]
fn one_list_that_came_empty_closes_and_explains_nothing() {
    let mut story = Story::collected();
    for current in [3.0, 2.0, 1.0] {
        let batch = story.poll(&without_controls(&[("a", current, 14, 1, 1)]));
        assert_eq!(told(&batch), [named(2, "ASC score")]);
        let change = change_of_score(&batch);
        assert_eq!((&change["drivers"], &change["rounding_remainder"]), (&Value::Null, &Value::Null));
        assert!(batch.notices.iter().any(|notice| notice.code == "list-empty"));
    }
    let batch = story.poll(&pages(BOTH));
    assert_eq!(told(&batch), [named(2, "ASC score")]);
    assert_eq!(change_of_score(&batch)["rounding_remainder"], Value::Null, "the controls are of another time");
}

#[test]
fn controls_that_were_not_collected_explain_nothing() {
    let mut story = Story::collected();
    story.settings.events = vec![EventKind::Scores];
    let change = change_of_score(&story.poll(&pages(&[("a", 4.0, 10, 1, 1), B])));
    assert_eq!(change["delta"]["current"].to_string(), "-1");
    assert_eq!((&change["drivers"], &change["rounding_remainder"]), (&Value::Null, &Value::Null));
    story.settings.events = EventKind::ALL.to_vec();
    let batch = story.poll(&pages(&[("a", 3.0, 10, 1, 1), B]));
    assert_eq!(told(&batch), [named(2, "ASC score"), named(2, "a")]);
    let change = change_of_score(&batch);
    assert_eq!((&change["drivers"], &change["rounding_remainder"]), (&Value::Null, &Value::Null));
    let control = &events(&batch)[1];
    assert_eq!((&control["start_time"], &control["time"]), (&json!(time(0)), &json!(time(2))));
}

#[test]
fn a_score_that_no_control_moved_names_the_whole_as_remainder() {
    let mut story = Story::collected();
    let PollResult::Pages(mut lists) = pages(BOTH) else { unreachable!() };
    let body = String::from_utf8(lists[0].body.clone()).unwrap().replace("\"current\":9.0", "\"current\":9.01");
    lists[0].body = body.into_bytes();
    let change = change_of_score(&story.poll(&PollResult::Pages(lists)));
    assert_eq!(change["rounding_remainder"], json!({ "current": 0.01, "max": 0 }));
    assert_eq!((&change["drivers"], &change["reason"]), (&Value::Null, &json!("resources")));
}

#[test]
fn a_remainder_has_what_is_known_of_it() {
    for (current, max, remainder) in
        [("1e39", "14", json!({ "max": 0 })), ("9.5", "1e39", json!({ "current": 0.5 })), ("1e39", "1e39", Value::Null)]
    {
        let mut story = Story::collected();
        let PollResult::Pages(mut lists) = pages(BOTH) else { unreachable!() };
        let body = String::from_utf8(lists[0].body.clone()).unwrap();
        let body = body.replace(r#""current":9.0,"max":14"#, &format!(r#""current":{current},"max":{max}"#));
        lists[0].body = body.into_bytes();
        let change = change_of_score(&story.poll(&PollResult::Pages(lists)));
        assert_eq!(change["rounding_remainder"], remainder, "{current} of {max}");
        assert_eq!(change["other_controls"], Value::Null);
    }
}

#[test]
fn what_is_absent_moves_the_score_once_and_once_more_when_it_is_back() {
    let drivers = |story: &mut Story, controls: &[Control]| {
        let change = change_of_score(&story.poll(&pages(controls)));
        let drivers = change["drivers"].as_array().unwrap().iter();
        drivers.map(|driver| format!("{} {}", driver["title"], driver["current"])).collect::<Vec<_>>()
    };
    let mut story = Story::collected();
    assert_eq!(drivers(&mut story, &[A]), ["\"b\" -4"]);
    assert_eq!(drivers(&mut story, &[A, B]), ["\"b\" 4"]);
    assert_eq!(drivers(&mut story, &[A]), ["\"b\" -4"]);
    assert_eq!(drivers(&mut story, &[("a", 6.0, 10, 1, 1)]), ["\"a\" 1"]);
}

#[test]
fn beyond_forty_controls_the_smallest_parts_stand_together() {
    const NAMES: &str = "abcdefghijklmnopqrstuvwxyz0123456789-_!~+=";
    let controls = |current: f64| -> Vec<Control> {
        (0..42).map(|at| (&NAMES[at..=at], if at < 2 { current / 2.0 } else { current }, 9, 1, 1)).collect()
    };
    let mut story = Story::begin();
    story.poll(&pages(&controls(2.0)));
    let change = change_of_score(&story.poll(&pages(&controls(4.0))));
    assert_eq!(change["drivers"].as_array().unwrap().len(), 40);
    assert_eq!(change["other_controls"], json!({ "current": 2, "max": 0 }));
}

#[test]
fn an_added_and_a_removed_control_are_told_on_the_score() {
    let mut story = Story::collected();
    let batch = story.poll(&pages(&[A, B, C]));
    assert_eq!(told(&batch), [named(2, "ASC score"), named(1, "c")]);
    let change = change_of_score(&batch);
    assert_eq!(
        (&change["reason"], &change["drivers"][0]["reason"]),
        (&json!("control-added"), &json!("control-added"))
    );
    assert_eq!(events(&batch)[1]["unmapped"]["change"]["reason"], "control-added");
    let change = change_of_score(&story.poll(&pages(&[A, C])));
    assert_eq!(
        (&change["reason"], &change["drivers"][0]["reason"]),
        (&json!("control-removed"), &json!("control-removed"))
    );
    assert_eq!(change["drivers"][0]["current"].to_string(), "-4");
}

#[test]
fn what_comes_back_within_90_days_keeps_its_first_time() {
    for (days, first_seen) in [(89, Some(time(0))), (91, None)] {
        let mut story = Story::collected();
        story.told(&[A]);
        assert!(story.told(&[A]).contains(&named(3, "b")));
        story.hour += days * 24;
        let hour = story.hour;
        let batch = story.poll(&pages(BOTH));
        let event = events(&batch).into_iter().find(|event| event["compliance"]["control"] == "b").unwrap();
        assert_eq!(event["activity_id"], 1);
        assert_eq!(event["finding_info"]["first_seen_time"], first_seen.unwrap_or(time(hour)));
    }
}

#[test]
fn what_was_closed_is_forgotten_after_90_days_to_the_millisecond() {
    for (hours, kept) in [(90 * 24 - 1, true), (90 * 24, false)] {
        let mut story = Story::collected();
        story.told(&[A]);
        story.told(&[A]);
        let closed = story.state.clone();
        story.hour = 2 + hours;
        story.told(&[A]);
        let state = String::from_utf8(story.state.clone().unwrap()).unwrap();
        assert_eq!(state.contains("/securescorecontrols/b"), kept, "{hours}");
        let batch = with(&story.settings, 2 + hours, &pages(BOTH), closed.as_deref());
        let event = events(&batch).into_iter().find(|event| event["compliance"]["control"] == "b").unwrap();
        let first_seen = if kept { time(0) } else { time(2 + hours) };
        assert_eq!(event["finding_info"]["first_seen_time"], first_seen, "{hours}");
    }
}

#[test]
fn a_snapshot_says_when_the_finding_last_changed() {
    let modified = |batch: &Batch, control: &str| {
        let events = events(batch);
        let event = events.iter().find(|event| event["compliance"]["control"] == control).unwrap();
        assert_eq!(event["activity_id"], 99);
        event["finding_info"]["modified_time"].clone()
    };
    let mut story = Story::collected();
    let changed = ("a", 6.0, 10, 1, 1);
    story.told(&[changed, B]);
    story.hour = 24;
    let batch = story.poll(&pages(&[changed, B]));
    assert_eq!((modified(&batch, "a"), modified(&batch, "b")), (json!(time(1)), json!(time(0))));
    story.told(&[changed]);
    story.told(&[changed]);
    story.told(&[changed, B]);
    story.hour = 48;
    let batch = story.poll(&pages(&[changed, B]));
    assert_eq!(modified(&batch, "b"), json!(time(27)), "it came back then, as it was before");
}

#[test]
fn what_is_new_or_gone_began_after_the_last_poll_that_read_its_kind() {
    let start = |batch: &Batch, control: &str| {
        let events = events(batch);
        let event = events.iter().find(|event| event["compliance"]["control"] == control).unwrap();
        (event["activity_id"].as_u64().unwrap(), event["start_time"].clone())
    };
    let mut story = Story::collected();
    story.settings.events = vec![EventKind::Scores];
    story.poll(&pages(BOTH));
    story.settings.events = EventKind::ALL.to_vec();
    let batch = story.poll(&pages(&[A, C]));
    assert_eq!(start(&batch, "c"), (1, json!(time(0))));
    let batch = story.poll(&pages(&[A, C]));
    assert_eq!(start(&batch, "b"), (3, json!(time(2))));
}

#[test]
fn a_kind_that_is_collected_for_the_first_time_is_a_baseline() {
    let mut story = Story::begin();
    story.settings.events = vec![EventKind::Scores];
    assert_eq!(story.told(&[A]), [named(1, "ASC score")]);
    story.settings.events = EventKind::ALL.to_vec();
    let batch = story.poll(&pages(&[A]));
    assert_eq!(told(&batch), [named(1, "a")]);
    assert_eq!(events(&batch)[0]["unmapped"]["change"]["reason"], "baseline");
    assert_eq!(events(&batch)[0]["start_time"], time(0), "nothing of the kind was read, but the scope was");
}

#[test]
fn a_control_says_what_it_would_add_to_its_score() {
    let batch = Story::begin().poll(&pages(BOTH));
    let derived = &events(&batch)[1]["unmapped"]["derived"];
    assert_eq!(derived.to_string(), r#"{"points_at_stake":5,"potential_increase_percent":35.71}"#);
}

#[test]
fn a_control_that_moved_the_score_says_whether_its_maximum_did() {
    let mut story = Story::collected();
    let change = change_of_score(&story.poll(&pages(&[("a", 4.0, 10, 1, 1), ("b", 4.5, 5, 3, 0)])));
    let reasons = change["drivers"].as_array().unwrap().iter();
    let reasons: Vec<_> = reasons.map(|driver| (driver["title"].clone(), driver["reason"].clone())).collect();
    assert_eq!(reasons, [(json!("a"), json!("resources")), (json!("b"), json!("maximum"))]);
}

#[test]
fn a_score_of_which_only_the_maximum_moved_is_explained_too() {
    let mut story = Story::collected();
    let change = change_of_score(&story.poll(&pages(&[A, ("b", 4.0, 5, 3, 0)])));
    assert_eq!(change["fields"], json!(["max"]));
    let previous = json!({ "time": time(0), "displayName": "ASC score", "current": 9.0, "max": 14 });
    assert_eq!((&change["previous"], &change["delta"]), (&previous, &json!({ "max": 1 })));
    assert_eq!(change["drivers"][0]["max"], 1);
    assert_eq!(change["rounding_remainder"], json!({ "current": 0, "max": 0 }));
}

#[test]
fn a_close_carries_what_was_kept_as_it_was_spelled() {
    let item = |name: &str, points: &str| {
        format!(
            r#"{{"id":"{}/secureScoreControls/{name}","name":"{name}","type":"microsoft.security/securescores/securescorecontrols","properties":{{"displayName":"The {name}","score":{points},"weight":9,"healthyResourceCount":1e0,"unhealthyResourceCount":2.0,"notApplicableResourceCount":0}}}}"#,
            score_id()
        )
    };
    let list = |items: &[String]| {
        let body = format!(r#"{{"value":[{}]}}"#, items.join(",")).into_bytes();
        PollResult::Pages(vec![contract::Page { kind: "secure-score-controls".to_owned(), body, request_id: None }])
    };
    let stays = item("Stays", r#"{"max":1,"current":1}"#);
    let goes = item("Goes", r#"{"max":10.0,"current":2.50E+0,"percentage":0.2500}"#);
    let mut closes = Vec::new();
    let mut story = Story::begin();
    story.poll(&list(&[stays.clone(), goes.clone()]));
    for _ in 0..2 {
        story.poll(&list(std::slice::from_ref(&stays)));
        let batch = story.poll(&list(std::slice::from_ref(&stays)));
        closes.push(String::from_utf8(batch.events[0].body.clone()).unwrap());
        story.poll(&list(&[stays.clone(), goes.clone()]));
    }
    let body = &closes[0];
    let event: Value = serde_json::from_str(body).unwrap();
    assert!(body.contains(r#""score":{"current":2.50E+0,"max":10.0,"percentage":0.2500}"#), "{body}");
    assert!(
        body.contains(r#""healthyResourceCount":1e0"#) && body.contains(r#""unhealthyResourceCount":2.0"#),
        "{body}"
    );
    assert_eq!(
        (&event["unmapped"]["name"], &event["unmapped"]["type"]),
        (&json!("Goes"), &json!("microsoft.security/securescores/securescorecontrols"))
    );
    assert_eq!(event["metadata"]["original_event_uid"], format!("{}/secureScoreControls/Goes", score_id()));
    assert_eq!(event["finding_info"]["title"], "Secure Score Control: The Goes");
    let times = ["first_seen_time", "last_seen_time", "modified_time"].map(|key| event["finding_info"][key].clone());
    assert_eq!(times, [json!(time(0)), json!(time(0)), json!(time(2))]);
    assert_eq!(event["unmapped"]["change"]["previous"]["time"], time(0));
    for absent in ["raw_data", "raw_data_size", "raw_data_hash"] {
        assert_eq!(event[absent], Value::Null);
    }
    let again: Value = serde_json::from_str(&closes[1]).unwrap();
    assert_eq!(again["finding_info"]["uid"], event["finding_info"]["uid"]);
    assert_ne!(again["metadata"]["uid"], event["metadata"]["uid"]);
}

#[test]
fn neither_spelling_nor_weight_nor_definition_is_a_change() {
    let item = |properties: &str| {
        let body = format!(
            r#"{{"value":[{{"id":"{}/secureScoreControls/a","name":"a","type":"Microsoft.Security/secureScores/secureScoreControls","properties":{{"displayName":"A",{properties}}}}}]}}"#,
            score_id()
        );
        PollResult::Pages(vec![contract::Page {
            kind: "secure-score-controls".to_owned(),
            body: body.into_bytes(),
            request_id: None,
        }])
    };
    let mut story = Story::begin();
    story.poll(&item(r#""score":{"max":10,"current":1},"weight":1,"healthyResourceCount":1"#));
    for (properties, expected) in [
        (r#""score":{"max":1e1,"current":1.0},"weight":1,"healthyResourceCount":1.00"#, None),
        (r#""score":{"max":10,"current":1},"weight":7,"healthyResourceCount":1"#, None),
        (r#""score":{"max":10,"current":1},"healthyResourceCount":1,"definition":{"properties":{"maxScore":3}}"#, None),
        (r#""score":{"max":10,"current":1,"percentage":0.7},"healthyResourceCount":1"#, None),
        (r#""score":{"max":10,"current":1},"healthyResourceCount":2"#, Some("resources")),
        (r#""score":{"max":11,"current":2},"healthyResourceCount":2"#, Some("maximum")),
        (r#""score":{"max":11,"current":2},"healthyResourceCount":2,"displayName":"B""#, Some("text")),
    ] {
        let events = events(&story.poll(&item(properties)));
        let reason = events.first().map(|event| event["unmapped"]["change"]["reason"].as_str().unwrap());
        assert_eq!(reason, expected, "{properties}");
    }
}

#[test]
fn a_day_of_hourly_polls_has_one_snapshot_which_no_update_shifts() {
    let mut story = Story::collected();
    let mut snapshots = Vec::new();
    for hour in 1..=72 {
        let current = if hour % 24 < 5 { 5.0 } else { 6.0 };
        let told = told(&story.poll(&pages(&[("a", current, 10, 1, 1), B])));
        if told.iter().any(|(activity, _)| *activity == 99) {
            snapshots.push(hour);
        }
    }
    assert_eq!(snapshots, [24, 48, 72]);
}

#[test]
fn snapshots_at_each_poll_are_a_setting_and_changes_stay_updates() {
    let mut story = Story::collected();
    story.settings.emit_unchanged = true;
    assert_eq!(story.told(&[A, B]), [named(99, "ASC score"), named(99, "a"), named(99, "b")]);
    let changed = ("a", 6.0, 10, 1, 1);
    assert_eq!(story.told(&[changed, B]), [named(2, "ASC score"), named(2, "a"), named(99, "b")]);
    story.settings.emit_unchanged = false;
    assert_eq!(story.told(&[changed, B]), NEVER_TOLD);
}

#[test]
fn each_change_of_outcome_is_one_event() {
    let mut story = Story::collected();
    assert_eq!(story.fails(&FORBIDDEN), ["forbidden"]);
    assert_eq!(story.fails(&NOT_FOUND), ["not-found"]);
    assert_eq!(story.fails(&NOT_FOUND), [""; 0]);
    assert_eq!(story.fails(&DISABLED), ["disabled"]);
    assert_eq!(story.fails(&NO_LONGER_DISCOVERED), ["no-longer-discovered"]);
    let batch = story.poll(&pages(BOTH));
    assert_eq!(told(&batch), [named(2, "Secure Score collection")]);
    let event = &events(&batch)[0];
    assert_eq!((&event["status_code"], &event["compliance"]["status_id"]), (&json!("collected"), &json!(1)));
    assert_eq!(event["unmapped"]["change"]["previous"]["outcome"], "no-longer-discovered");
}

#[test]
fn an_outcome_event_says_what_mends_it() {
    let mut story = Story::collected();
    let batch = story.poll(&PollResult::Failure(NO_LONGER_DISCOVERED.failure("")));
    let event = &events(&batch)[0];
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("no longer sees the subscription"), "{message}");
    assert!(
        message.contains(&format!("az role assignment create --assignee {}", story.settings.client_id)),
        "{message}"
    );
    assert!(message.ends_with(&format!("/subscriptions/{SUBSCRIPTION}")), "{message}");
    assert_eq!(event["start_time"], time(0));
}

#[test]
fn a_fault_that_says_nothing_of_the_scope_changes_no_outcome() {
    let mut story = Story::collected();
    for diagnosis in [&TIMEOUT, &THROTTLED, &SECRET_EXPIRED, &ANSWER_NOT_JSON] {
        assert_eq!(story.fails(diagnosis), [""; 0], "{}", diagnosis.code);
    }
    assert_eq!(story.told(&[A, B]), NEVER_TOLD);
    assert_eq!(story.fails(&FORBIDDEN), ["forbidden"]);
    assert_eq!(story.fails(&TIMEOUT), [""; 0]);
    assert_eq!(story.fails(&FORBIDDEN), [""; 0]);
}

#[test]
fn before_data_was_ever_collected_no_outcome_is_told() {
    let mut story = Story::begin();
    assert_eq!(story.fails(&FORBIDDEN), [""; 0]);
    assert_eq!(story.fails(&NOT_FOUND), [""; 0]);
    assert_eq!(told(&story.poll(&pages(&[]))), NEVER_TOLD);
    assert_eq!(story.told(&[A]), [named(1, "ASC score"), named(1, "a")]);
}

#[test]
fn where_nothing_is_assessed_the_findings_are_told_all_the_same() {
    let mut story = Story::collected();
    let batch = story.poll(&pages(&[("a", 0.0, 0, 0, 0)]));
    assert_eq!(batch.outcome.as_ref().unwrap().code, "nothing-assessed");
    assert_eq!(told(&batch), [named(1, "Secure Score collection"), named(2, "ASC score"), named(2, "a")]);
    let batch = story.poll(&pages(&[A]));
    assert_eq!(batch.outcome, None);
    assert_eq!(told(&batch)[0], named(2, "Secure Score collection"));
}

#[test]
fn a_sum_that_differs_from_the_score_is_a_warning_and_changes_no_data() {
    let PollResult::Pages(lists) = pages(BOTH) else { unreachable!() };
    for (current, mismatch) in [("9.01", false), ("9.02", true), ("-79228162514264337593543950335", true)] {
        let body = String::from_utf8(lists[0].body.clone()).unwrap();
        let body = body.replace("\"current\":9.0,", &format!("\"current\":{current},"));
        let scores = contract::Page { kind: "secure-scores".to_owned(), body: body.into_bytes(), request_id: None };
        let batch = Story::begin().poll(&PollResult::Pages(vec![scores, lists[1].clone()]));
        assert_eq!(batch.notices.iter().any(|notice| notice.code == "sum-mismatch"), mismatch, "{current}");
        assert!(String::from_utf8_lossy(&batch.events[0].body).contains(&format!("\"current\":{current},")));
    }
}
