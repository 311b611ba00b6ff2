//! The mapping: recorded lists through the component, in both classes, and through the same code compiled natively.

use std::path::PathBuf;

use azure_secure_score::contract::{self as native, Guest};
use host_harness::environment;
use serde_json::{Value, json};
use source_host::contract::{Batch, Failure, Page, PollResult, Reaction, Scope};
use source_host::feed::poll_id;

use crate::support::{NOON, SUBSCRIPTION, feed, leave_for_the_judge, root, settings};

fn scope(subscription: &str) -> Scope {
    Scope {
        id: subscription.to_owned(),
        name: Some("contoso production".to_owned()),
        owner: None,
        plugin_data: "00000001-7e4a-4b1d-9c55-000000000001".to_owned(),
    }
}

fn page(kind: &str, body: &[u8]) -> Page {
    Page { kind: kind.to_owned(), body: body.to_vec(), request_id: None }
}

/// A recorded list of one subscription.
struct List {
    file: PathBuf,
    kind: &'static str,
    subscription: String,
    body: Vec<u8>,
}

impl List {
    async fn normalize(&self, more: Value) -> Batch {
        normalize(&self.subscription, more, vec![page(self.kind, &self.body)], None).await
    }
}

/// Returns the project's own lists, and those of the folder that `ARM_LISTS` names.
fn lists() -> Vec<List> {
    let mut folders = vec![root().join("tests/lists")];
    folders.extend(environment::variable("ARM_LISTS").map(PathBuf::from));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let mut lists: Vec<_> = files
        .filter_map(|file| {
            let name = file.file_name()?.to_str()?.to_owned();
            let wanted = name.ends_with(".json")
                && !name.contains(".meta.")
                && ["real_", "spec_", "own_"].iter().any(|start| name.starts_with(start));
            let body = std::fs::read(&file).ok().filter(|_| wanted)?;
            let value: Value = serde_json::from_slice(&body).ok()?;
            let first = value["value"].as_array()?.first()?;
            let kind = match first["type"].as_str()?.to_ascii_lowercase().as_str() {
                "microsoft.security/securescores" => "secure-scores",
                "microsoft.security/securescores/securescorecontrols" => "secure-score-controls",
                _ => return None,
            };
            let subscription = first["id"].as_str()?.split('/').nth(2)?.to_owned();
            Some(List { file, kind, subscription, body })
        })
        .collect();
    lists.sort_by(|one, other| one.file.cmp(&other.file));
    assert!(lists.len() >= 2);
    lists
}

async fn normalize(subscription: &str, more: Value, pages: Vec<Page>, state: Option<&[u8]>) -> Batch {
    feed(more).await.normalize(&scope(subscription), NOON, &PollResult::Pages(pages), state).await.unwrap()
}

#[tokio::test]
async fn every_recorded_list_becomes_events_in_both_classes() {
    for (class, uid) in [("assessment-finding", 99_402_001), ("compliance-finding", 2003)] {
        for definitions in ["summary", "full"] {
            for list in lists() {
                let items = serde_json::from_slice::<Value>(&list.body).unwrap()["value"].as_array().unwrap().len();
                let batch = list.normalize(json!({ "class": class, "definitions": definitions })).await;
                assert_eq!(batch.events.len(), items, "{}", list.file.display());
                for event in &batch.events {
                    let value: Value = serde_json::from_slice(&event.body).unwrap();
                    assert_eq!(value["class_uid"], uid);
                    assert_eq!(value["metadata"]["uid"], event.uid);
                    assert!(event.body.len() <= 32 << 10);
                }
                let name = format!("{class}-{definitions}-{}", list.file.file_stem().unwrap().display());
                leave_for_the_judge(&name, batch.events.iter().map(|event| event.body.as_slice()));
            }
        }
    }
}

#[tokio::test]
async fn the_same_arguments_give_the_same_bytes_in_the_sandbox_and_natively() {
    for list in lists() {
        let first = list.normalize(json!({})).await;
        let second = list.normalize(json!({})).await;
        assert_eq!(first, second);

        let mut plain = settings(json!({}));
        plain.remove("client_secret");
        let scope = scope(&list.subscription);
        let context = native::Context {
            feed: "contoso-scores".to_owned(),
            tenant: "contoso".to_owned(),
            poll_id: poll_id("contoso-scores", &scope.id, NOON).to_string(),
            scope: native::Scope { id: scope.id, name: scope.name, owner: scope.owner, plugin_data: scope.plugin_data },
            collected_at_milliseconds: NOON,
        };
        let poll_result = native::PollResult::Pages(vec![native::Page {
            kind: list.kind.to_owned(),
            body: list.body,
            request_id: None,
        }]);
        let settings = Value::Object(plain).to_string();
        let native = azure_secure_score::Plugin::normalize(settings, context, poll_result, None).unwrap();
        assert_eq!(native.state, first.state);
        let native: Vec<_> = native.events.into_iter().map(|event| (event.uid, event.body)).collect();
        assert_eq!(native, first.events.into_iter().map(|event| (event.uid, event.body)).collect::<Vec<_>>());
    }
}

fn control(max: &str, current: &str, healthy: u32, unhealthy: u32) -> Vec<u8> {
    let id = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/secureScores/ascScore");
    format!(
        r#"{{"value":[{{"id":"{id}/secureScoreControls/C1","name":"C1","type":"Microsoft.Security/secureScores/secureScoreControls","properties":{{"displayName":"Enable MFA","score":{{"max":{max},"current":{current},"percentage":0.50}},"healthyResourceCount":{healthy},"unhealthyResourceCount":{unhealthy},"notApplicableResourceCount":0,"weight":2,"novel":{{"x":1.50}}}}}}]}}"#
    )
    .into_bytes()
}

async fn one(body: &[u8], state: Option<&[u8]>) -> (Vec<String>, Vec<u8>) {
    let batch = normalize(SUBSCRIPTION, json!({}), vec![page("secure-score-controls", body)], state).await;
    (batch.events.into_iter().map(|event| String::from_utf8(event.body).unwrap()).collect(), batch.state)
}

#[tokio::test]
async fn numbers_are_kept_to_the_letter_and_unknown_fields_too() {
    let (events, _) = one(&control("10", "5.00", 1, 1), None).await;
    assert!(events[0].contains(r#""score":{"max":10,"current":5.00,"percentage":0.50}"#), "{}", events[0]);
    assert!(events[0].contains(r#""novel":{"x":1.50}"#));
}

#[tokio::test]
async fn an_unchanged_finding_is_silent_and_a_changed_one_is_an_update() {
    let (_, state) = one(&control("10", "5.00", 1, 1), None).await;
    let (events, state) = one(&control("10", "5.0", 1, 1), Some(&state)).await;
    assert_eq!(events, Vec::<String>::new(), "the same number in another spelling is no change");
    let (events, _) = one(&control("10", "2.5", 1, 3), Some(&state)).await;
    let event: Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!(event["activity_id"], 2);
    assert_eq!(event["unmapped"]["change"]["delta"]["current"].to_string(), "-2.5");
}

#[tokio::test]
async fn an_unreadable_state_is_a_failure_and_no_fresh_start() {
    let poll_result = PollResult::Pages(vec![page("secure-score-controls", &control("1", "1", 1, 0))]);
    let failure =
        feed(json!({})).await.normalize(&scope(SUBSCRIPTION), NOON, &poll_result, Some(b"{}")).await.unwrap_err();
    assert_eq!(failure.reaction, Reaction::StateUnusable);
}

#[tokio::test]
async fn a_failure_without_a_state_emits_nothing() {
    let failure = Failure::new(Reaction::TryLater, "timeout", "no answer".to_owned());
    let batch =
        feed(json!({})).await.normalize(&scope(SUBSCRIPTION), NOON, &PollResult::Failure(failure), None).await.unwrap();
    assert_eq!(batch.events, []);
}
