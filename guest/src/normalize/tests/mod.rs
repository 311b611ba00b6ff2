mod over_time;
mod sums;

use serde_json::{Value, json};

use super::*;
use crate::contract::{Reaction, Scope};
use crate::settings::Version;

const SUBSCRIPTION: &str = "20ff7fc3-e762-44dd-bd96-b71116dcdc23";
const HOUR: u64 = 3_600_000;

/// A control by name: current, max, healthy, unhealthy.
type Control = (&'static str, f64, u32, u32, u32);

fn score_id() -> String {
    format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/secureScores/ascScore")
}

fn pages(controls: &[Control]) -> PollResult {
    let current: f64 = controls.iter().map(|control| control.1).sum();
    let max: u32 = controls.iter().map(|control| control.2).sum();
    let score = json!({
        "id": score_id(), "name": "ascScore", "type": "Microsoft.Security/secureScores",
        "properties": { "displayName": "ASC score", "score": { "current": current, "max": max }, "weight": 9 },
    });
    let item = |(name, current, max, healthy, unhealthy): &Control| {
        json!({
            "id": format!("{}/secureScoreControls/{name}", score_id()), "name": name,
            "type": "Microsoft.Security/secureScores/secureScoreControls",
            "properties": {
                "displayName": name, "score": { "current": current, "max": max }, "weight": 9,
                "healthyResourceCount": healthy, "unhealthyResourceCount": unhealthy, "notApplicableResourceCount": 0,
            },
        })
    };
    let scores = if controls.is_empty() { Vec::new() } else { vec![score] };
    let page = |kind: &str, value: Vec<Value>| contract::Page {
        kind: kind.to_owned(),
        body: json!({ "value": value }).to_string().into_bytes(),
        request_id: None,
    };
    let controls = controls.iter().map(item).collect();
    PollResult::Pages(vec![page("secure-scores", scores), page("secure-score-controls", controls)])
}

fn at(hour: u64, poll_result: &PollResult, state: Option<&[u8]>) -> Batch {
    with(&Settings::sample(), hour, poll_result, state)
}

fn with(settings: &Settings, hour: u64, poll_result: &PollResult, state: Option<&[u8]>) -> Batch {
    normalize(settings, &context(hour), poll_result, state).unwrap()
}

fn context(hour: u64) -> Context {
    Context {
        feed: "f".to_owned(),
        tenant: "t".to_owned(),
        scope: Scope { id: SUBSCRIPTION.to_owned(), name: None, owner: None, plugin_data: SUBSCRIPTION.to_owned() },
        poll_id: format!("00000000-0000-4000-8000-{hour:012}"),
        collected_at_milliseconds: time(hour),
    }
}

fn time(hour: u64) -> u64 {
    1_790_000_000_000 + hour * HOUR
}

fn events(batch: &Batch) -> Vec<Value> {
    batch.events.iter().map(|event| serde_json::from_slice(&event.body).unwrap()).collect()
}

/// Returns activity and title of each event.
fn told(batch: &Batch) -> Vec<(u64, String)> {
    let told = |event: &Value| {
        let title = event["finding_info"]["title"].as_str().unwrap().rsplit(": ").next().unwrap().to_owned();
        (event["activity_id"].as_u64().unwrap(), title)
    };
    events(batch).iter().map(told).collect()
}

const BOTH: &[Control] = &[("a", 5.0, 10, 1, 1), ("b", 4.0, 4, 3, 0)];

#[test]
fn at_first_sight_everything_is_a_baseline() {
    let batch = at(0, &pages(BOTH), None);
    let events = events(&batch);
    assert_eq!(events.len(), 3);
    for event in &events {
        assert_eq!((&event["activity_id"], &event["type_uid"]), (&json!(1), &json!(9_940_200_101_u64)));
        assert_eq!(event["unmapped"]["change"]["reason"], "baseline");
        assert_eq!(event["metadata"]["correlation_uid"], "00000000-0000-4000-8000-000000000000");
    }
    assert_eq!(events[1]["finding_info"]["related_events"][0]["uid"], events[0]["metadata"]["uid"]);
    assert_eq!((&events[1]["severity_id"], &events[2]["severity_id"]), (&json!(4), &json!(1)));
    assert_eq!(
        (&events[1]["compliance"]["status"], &events[2]["compliance"]["status"]),
        (&json!("Fail"), &json!("Pass"))
    );
    assert_eq!(batch.measures[0].maximum, 14.0);
}

#[test]
fn a_control_is_closed_after_two_absences_and_comes_back_with_its_first_time() {
    let first = at(0, &pages(BOTH), None);
    let one = &[BOTH[0]];
    let second = at(1, &pages(one), Some(&first.state));
    assert_eq!(told(&second), [(2, "ASC score".to_owned())]);
    let third = at(2, &pages(one), Some(&second.state));
    assert_eq!(told(&third), [(3, "b".to_owned())]);
    let closed = &events(&third)[0];
    assert_eq!(closed["raw_data"], Value::Null);
    assert_eq!(closed["status"], "Archived");
    let fourth = at(3, &pages(BOTH), Some(&third.state));
    let back = &events(&fourth)[1];
    assert_eq!(back["activity_id"], 1);
    assert_eq!(back["finding_info"]["first_seen_time"], 1_790_000_000_000_u64);
}

#[test]
fn an_empty_answer_after_a_full_one_closes_nothing() {
    let mut state = at(0, &pages(BOTH), None).state;
    for hour in 1..4 {
        let batch = at(hour, &pages(&[]), Some(&state));
        assert_eq!(batch.outcome.as_ref().unwrap().code, "not-onboarded");
        let closed = told(&batch).into_iter().filter(|(activity, _)| *activity == 3).count();
        assert_eq!(closed, 0);
        state = batch.state;
    }
    let again = at(4, &pages(BOTH), Some(&state));
    assert!(told(&again).iter().all(|(_, title)| title.contains("collection")), "{:?}", told(&again));
}

#[test]
fn the_parts_of_a_moved_score_add_up_to_its_delta() {
    let first = at(0, &pages(BOTH), None);
    let batch = at(1, &pages(&[("a", 2.55, 10, 1, 3), ("b", 3.0, 4, 3, 1)]), Some(&first.state));
    let events = events(&batch);
    let change = &events[0]["unmapped"]["change"];
    assert_eq!(change["delta"]["current"].to_string(), "-3.45");
    let drivers = change["drivers"].as_array().unwrap();
    assert_eq!(drivers.len(), 2, "{change}");
}

#[test]
fn an_outcome_that_changes_is_told_once_and_back_again() {
    let first = at(0, &pages(BOTH), None);
    let failure = Failure {
        reaction: Reaction::FixScope,
        code: "forbidden".to_owned(),
        ..crate::diagnoses::FORBIDDEN.failure("")
    };
    let poll_result = PollResult::Failure(failure);
    let lost = at(1, &poll_result, Some(&first.state));
    assert_eq!(events(&lost)[0]["status_code"], "forbidden");
    assert_eq!(events(&lost)[0]["compliance"]["status"], "Warning");
    let still = at(2, &poll_result, Some(&lost.state));
    assert_eq!(still.events, []);
    let back = at(3, &pages(BOTH), Some(&still.state));
    assert_eq!(events(&back)[0]["compliance"]["status"], "Pass");
    assert_eq!(back.events.len(), 1);
}

#[test]
fn an_item_that_stands_on_two_pages_of_its_list_counts_once() {
    let PollResult::Pages(mut pages) = pages(BOTH) else { unreachable!() };
    pages[1] = pages[0].clone();
    let batch = at(0, &PollResult::Pages(pages), None);
    assert_eq!(told(&batch), [(1, "ASC score".to_owned())]);
    assert_eq!(batch.notices[0].code, "item-repeated");
}

#[test]
fn a_page_that_is_no_json_says_which_and_how_to_mend_it() {
    let poll_result = PollResult::Pages(vec![contract::Page {
        kind: "secure-scores".to_owned(),
        body: b"<html>".to_vec(),
        request_id: None,
    }]);
    let failure = normalize(&Settings::sample(), &context(0), &poll_result, None).unwrap_err();
    assert!(failure.cause.contains("the list of secure scores: found HTML or XML"), "{}", failure.cause);
    assert_eq!(failure.fix.as_deref(), Some("check whether a proxy answers in place of https://management.azure.com"));
}

#[test]
fn a_number_beyond_double_precision_is_none_that_readers_take() {
    let poll_result = |score: &str, more: &str| {
        let item = format!(
            r#"{{"id":"{}","name":"ascScore","type":"Microsoft.Security/secureScores","properties":{{"score":{score}{more}}}}}"#,
            score_id()
        );
        let body = format!(r#"{{"value":[{item}]}}"#).into_bytes();
        PollResult::Pages(vec![contract::Page { kind: "secure-scores".to_owned(), body, request_id: None }])
    };
    for (score, more) in [(r#"{"current":1e400,"max":1}"#, ""), (r#"{"current":1,"max":1}"#, r#","novel":-1e999"#)] {
        let failure = normalize(&Settings::sample(), &context(0), &poll_result(score, more), None).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.reaction), ("answer-wrong-type", Reaction::FixPlugin));
    }
    let batch = at(0, &poll_result(r#"{"current":1e308,"max":1e-400}"#, ""), None);
    assert!(String::from_utf8_lossy(&batch.events[0].body).contains(r#""score":{"current":1e308,"max":1e-400}"#));
    assert_eq!((batch.measures[0].value, batch.measures[0].maximum), (1e308, 0.0));
}

#[test]
fn a_number_that_an_earlier_version_kept_is_not_passed_on() {
    let first = at(0, &pages(BOTH), None);
    let state = String::from_utf8(first.state).unwrap().replace(r#""current":"9.0""#, r#""current":"1e400""#);
    assert!(state.contains("1e400"));
    let later = at(1, &pages(BOTH), Some(state.as_bytes()));
    let event = &events(&later)[0];
    assert_eq!(event["unmapped"]["change"]["fields"], json!(["current"]));
    assert_eq!(event["unmapped"]["change"]["previous"].get("current"), None);
    assert!(!String::from_utf8(later.state).unwrap().contains("1e400"));
}

#[test]
fn a_clock_that_was_years_ahead_is_brought_back() {
    let ahead = 10 * 365 * 24;
    let first = at(ahead, &pages(&BOTH[..1]), None);
    let second = at(ahead + 1, &pages(BOTH), Some(&first.state));
    assert_eq!(told(&second).len(), 2, "a control was added, and the score moved");
    // Back in the present, everything is reported again, with no time after that of the event.
    let back = at(2, &pages(BOTH), Some(&second.state));
    assert_eq!(back.events.len(), 3);
    for event in &events(&back) {
        let found = &event["finding_info"];
        for name in ["first_seen_time", "created_time", "modified_time", "last_seen_time"] {
            assert!(found[name].as_u64().unwrap() <= time(2), "{name}: {event}");
        }
        assert!(event["start_time"].as_u64().unwrap() <= time(2));
    }
    // A finding that vanishes afterwards is closed once, and explains the score's change once.
    let without = [("a", 5.0, 10, 1, 1)];
    let gone = at(3, &pages(&without), Some(&second.state));
    let change = |batch: &Batch| events(batch)[0]["unmapped"]["change"].clone();
    assert_eq!(change(&gone)["previous"]["time"], time(3), "no previous value is of the future");
    assert_eq!(change(&gone)["drivers"].as_array().unwrap().len(), 1);
    let closed = at(4, &pages(&without), Some(&gone.state));
    assert_eq!(told(&closed), [(3, "b".to_owned())]);
    let seen = events(&closed)[0]["finding_info"]["last_seen_time"].as_u64().unwrap();
    assert!(seen < time(3), "it was seen before the poll that missed it");
    // A close in the future is forgotten like any other, after ninety days.
    let absent = at(ahead + 2, &pages(&without), Some(&second.state));
    let absent = at(ahead + 3, &pages(&without), Some(&absent.state));
    let back = at(5, &pages(&without), Some(&absent.state));
    let again = |hour: u64| {
        let batch = at(hour, &pages(BOTH), Some(&back.state));
        let told =
            events(&batch).into_iter().find(|event| event["finding_info"]["title"].as_str().unwrap().ends_with(": b"));
        told.unwrap()["finding_info"]["first_seen_time"].as_u64().unwrap()
    };
    assert!(again(24 * 80) <= time(5), "it is known");
    assert_eq!(again(24 * 91), time(24 * 91), "it is new");
}

#[test]
fn a_failure_without_a_state_is_silent() {
    let batch = at(0, &PollResult::Failure(crate::diagnoses::FORBIDDEN.failure("")), None);
    assert_eq!(batch.events, []);
}

#[test]
fn what_is_unchanged_for_a_day_is_told_as_a_snapshot() {
    let first = at(0, &pages(BOTH), None);
    let later = at(1, &pages(BOTH), Some(&first.state));
    assert_eq!(later.events, []);
    let next_day = at(24, &pages(BOTH), Some(&later.state));
    assert!(told(&next_day).iter().all(|(activity, _)| *activity == 99));
    assert_eq!(next_day.events.len(), 3);
}

#[test]
fn a_clock_that_was_set_back_stops_no_snapshot() {
    let first = at(48, &pages(BOTH), None);
    let back = at(10, &pages(BOTH), Some(&first.state));
    assert_eq!(back.events.len(), 3);
    assert_eq!(at(11, &pages(BOTH), Some(&back.state)).events, []);
    assert_eq!(at(34, &pages(BOTH), Some(&back.state)).events.len(), 3);
}

#[test]
fn the_same_poll_done_twice_gives_the_same_bytes() {
    let first = at(0, &pages(BOTH), None);
    assert_eq!(first, at(0, &pages(BOTH), None));
    let uids = |batch: &Batch| batch.events.iter().map(|event| event.uid.clone()).collect::<Vec<_>>();
    assert_ne!(uids(&first), uids(&at(1, &pages(BOTH), None)));
}

#[test]
fn an_event_beyond_the_limit_is_cut_and_says_so() {
    let mut text = json!({
        "id": format!("{}/secureScoreControls/a", score_id()), "name": "a",
        "type": "Microsoft.Security/secureScores/secureScoreControls",
        "properties": { "displayName": "a", "score": { "current": 1, "max": 2 }, "novel": "" },
    });
    text["properties"]["novel"] = Value::from("x".repeat(40_000));
    let body = json!({ "value": [text] }).to_string().into_bytes();
    let batch = at(
        0,
        &PollResult::Pages(vec![contract::Page { kind: "secure-score-controls".to_owned(), body, request_id: None }]),
        None,
    );
    let event = &events(&batch)[0];
    assert!(batch.events[0].body.len() <= MAX_EVENT_BYTES);
    assert_eq!(event["metadata"]["is_truncated"], true);
    assert_eq!(event["raw_data"], Value::Null);
    assert_eq!(event["unmapped"]["novel"], Value::Null);
    assert!(batch.notices.iter().any(|notice| notice.code == "event-truncated"));
}

#[test]
fn an_event_with_as_many_values_as_a_page_may_have_is_cut_in_each_version() {
    let body = json!({ "value": [{
        "id": format!("{}/secureScoreControls/a", score_id()), "name": "a",
        "type": "Microsoft.Security/secureScores/secureScoreControls",
        "properties": { "displayName": "a", "score": { "current": 1, "max": 2 }, "novel": "zeros" },
    }] });
    // The page has fewer values around the list than an event has.
    let zeros = format!("[0{}]", ",0".repeat(crate::json::MAX_VALUES - 40));
    let body = body.to_string().replace("\"zeros\"", &zeros).into_bytes();
    let pages =
        PollResult::Pages(vec![contract::Page { kind: "secure-score-controls".to_owned(), body, request_id: None }]);
    let in_version = |version| {
        let batch = with(&Settings { version, ..Settings::sample() }, 0, &pages, None);
        assert!(batch.notices.iter().any(|notice| notice.code == "event-truncated"));
        assert!(batch.events[0].body.len() <= MAX_EVENT_BYTES);
        events(&batch).remove(0)
    };
    let (newest, oldest) = (in_version(Version::NEWEST), in_version(Version::V1_1));
    let size = &newest["metadata"]["untruncated_size"];
    assert!(size.as_u64() > Some(2_000_000));
    assert_eq!(&oldest["unmapped"]["metadata"]["untruncated_size"], size);
    for event in [newest, oldest] {
        assert_eq!((&event["raw_data"], &event["unmapped"]["novel"]), (&Value::Null, &Value::Null));
        assert_eq!(event["unmapped"]["score"]["max"], 2);
    }
}

#[test]
fn a_score_moved_by_controls_with_endless_names_still_fits() {
    let list = |current: u32| {
        let control = |index: usize| {
            json!({
                "id": format!("{}/secureScoreControls/{index}{}", score_id(), "x".repeat(1_800)),
                "name": "c", "type": EventKind::Controls.resource_type(), "properties": { "score": { "current": current, "max": 5 } },
            })
        };
        let score = json!({
            "id": score_id(), "name": "ascScore", "type": EventKind::Scores.resource_type(),
            "properties": { "score": { "current": 30 * current, "max": 150 } },
        });
        let page = |kind: &str, value: Value| contract::Page {
            kind: kind.to_owned(),
            body: json!({ "value": value }).to_string().into_bytes(),
            request_id: None,
        };
        let controls = (0..30).map(control).collect();
        PollResult::Pages(vec![page("secure-scores", json!([score])), page("secure-score-controls", controls)])
    };
    let first = at(0, &list(1), None);
    let batch = at(1, &list(2), Some(&first.state));
    assert!(batch.events[0].body.len() <= MAX_EVENT_BYTES);
    let change = &events(&batch)[0]["unmapped"]["change"];
    assert_eq!(change["drivers"], Value::Null);
    assert_eq!((&change["other_controls"]["current"], &change["delta"]["current"]), (&json!(30), &json!(30)));
    assert_eq!(change["rounding_remainder"]["current"], 0);
}
