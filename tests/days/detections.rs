//! Detections: one line each, on one event.

use serde_json::Value;

use super::model::Detected;
use super::{MFA, scope_of};

/// Returns every case that a detection finds.
pub fn found(events: &[Value]) -> Detected {
    let mut found = Detected::default();
    for event in events {
        let case = (event["time"].as_u64().unwrap(), scope_of(event));
        for (matches, cases) in [
            (score_drop(event), &mut found.score_drop),
            (mfa_regressed(event), &mut found.mfa_regressed),
            (control_vanished(event), &mut found.control_vanished),
            (gone_silent(event), &mut found.gone_silent),
        ] {
            if matches {
                cases.insert(case.clone());
            }
        }
    }
    found
}

fn score_drop(event: &Value) -> bool {
    event["finding_info"]["types"][0] == "Secure Scores"
        && event["unmapped"]["change"]["delta"]["current"].as_f64().is_some_and(|delta| delta <= -3.0)
}

fn mfa_regressed(event: &Value) -> bool {
    event["finding_info"]["uid"].as_str().unwrap().ends_with(MFA)
        && event["unmapped"]["change"]["delta"]["unhealthyResourceCount"].as_f64() > Some(0.0)
}

fn control_vanished(event: &Value) -> bool {
    event["finding_info"]["types"][0] == "Secure Score Controls" && event["activity_name"] == "Close"
}

fn gone_silent(event: &Value) -> bool {
    event["compliance"]["control"] == "Secure Score collection" && event["compliance"]["status"] == "Warning"
}
