//! The poll that all rows measure: one score, and 25 controls with their definitions, in the spelling of the service.

use azure_secure_score::contract::{Context, Page, PollResult, Scope};
use serde_json::{Value, json};

/// The subscription of the poll.
pub const SUBSCRIPTION: &str = "00000001-0000-4f6b-b1d0-000000000001";

/// The tenant of the subscription.
pub const TENANT: &str = "00000001-7e4a-4b1d-9c55-000000000001";

/// The number of controls. Microsoft has 16; a subscription with its own initiatives has some more.
pub const CONTROLS: u32 = 25;

/// The number of assessments of each control, which is the average of the definitions that Microsoft publishes.
const ASSESSMENTS: u32 = 16;

/// Noon of a day in 2026, in Unix milliseconds.
pub const NOON: u64 = 1_790_000_000_000;

/// Returns the settings of the feed, without credentials and with the additional settings `more`.
pub fn settings(more: &[(&str, &str)]) -> String {
    let mut settings = json!({
        "client_key": "00000001-a991-4c3f-8d27-000000000001",
        "token_url": TENANT,
        "subscription_id": SUBSCRIPTION,
    });
    for (key, value) in more {
        settings[*key] = Value::from(*value);
    }
    settings.to_string()
}

/// Returns the one scope.
pub fn scope() -> Scope {
    Scope {
        id: SUBSCRIPTION.to_owned(),
        name: Some("contoso production".to_owned()),
        owner: None,
        plugin_data: TENANT.to_owned(),
    }
}

/// Returns the context of a poll `minutes` after noon.
pub fn context(minutes: u64) -> Context {
    Context {
        feed: "contoso-scores".to_owned(),
        tenant: "contoso".to_owned(),
        scope: scope(),
        poll_id: format!("00000000-0000-4000-8000-{minutes:012}"),
        collected_at_milliseconds: NOON + minutes * 60_000,
    }
}

/// Returns the pages of both lists.
pub fn poll_result() -> PollResult {
    let page = |kind: &str, body: Vec<u8>| Page { kind: kind.to_owned(), body, request_id: None };
    PollResult::Pages(vec![page("secure-scores", scores()), page("secure-score-controls", controls())])
}

/// Returns the list of scores.
pub fn scores() -> Vec<u8> {
    scores_of(CONTROLS)
}

/// Returns the list of scores of a subscription with so many controls, each with 2.5 of 4 points.
pub fn scores_of(controls: u32) -> Vec<u8> {
    let score = format!(
        r#"{{"id":"{}","name":"ascScore","type":"Microsoft.Security/secureScores","properties":{{"displayName":"ASC score","score":{{"max":{},"current":{},"percentage":0.625}},"weight":512}}}}"#,
        score_id(),
        4 * controls,
        2.5 * f64::from(controls)
    );
    format!(r#"{{"value":[{score}]}}"#).into_bytes()
}

fn score_id() -> String {
    format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/secureScores/ascScore")
}

/// Returns the list of controls, which has 67 KB.
pub fn controls() -> Vec<u8> {
    some_controls(CONTROLS)
}

/// Returns a list of so many controls.
pub fn some_controls(count: u32) -> Vec<u8> {
    let controls: Vec<String> = (0..count).map(control).collect();
    format!(r#"{{"value":[{}]}}"#, controls.join(",")).into_bytes()
}

fn control(number: u32) -> String {
    let guid = |of: u32| format!("{:08x}-e6db-409c-b56b-{:012x}", of.wrapping_mul(0x9e37_79b9), of);
    let (id, title) = (guid(number), format!("Remediate security configurations of kind {number}"));
    let assessments: Vec<String> = (0..ASSESSMENTS - 4 + number % 9)
        .map(|assessment| {
            let id = guid(1_000 + number * 40 + assessment);
            format!(r#"{{"id":"/providers/Microsoft.Security/assessmentMetadata/{id}"}}"#)
        })
        .collect();
    let definition = format!(
        r#"{{"id":"/providers/Microsoft.Security/secureScoreControlDefinitions/{id}","name":"{id}","type":"Microsoft.Security/secureScoreControlDefinitions","properties":{{"source":{{"sourceType":"BuiltIn"}},"displayName":"{title}","description":"Misconfigured resources are at a higher risk of being attacked: a \"{title}\" finding names each of them, the assessment that it fails, and the steps that mend it.","maxScore":4,"assessmentDefinitions":[{}]}}}}"#,
        assessments.join(",")
    );
    format!(
        r#"{{"id":"{}/secureScoreControls/{id}","name":"{id}","type":"Microsoft.Security/secureScores/secureScoreControls","properties":{{"displayName":"{title}","healthyResourceCount":{},"unhealthyResourceCount":{},"notApplicableResourceCount":{},"score":{{"max":4,"current":2.5,"percentage":0.625}},"weight":{},"definition":{definition}}}}}"#,
        score_id(),
        number * 7,
        number % 5,
        number % 3,
        number * 7 + number % 5
    )
}
