//! What is said of settings before anything is sent.

use serde_json::json;

use crate::support::feed;

#[tokio::test]
async fn what_is_odd_about_a_credential_is_told_by_name_and_never_by_value() {
    for (value, words) in [
        (" s~ecret ", "white space around it was removed"),
        ("\"s~ecret\"", "is written in quotes"),
        ("s~ecret in two", "has white space inside"),
        ("s~ecre7", "less than 8 characters"),
        ("11111111-2222-3333-4444-555555555555", "is a GUID"),
    ] {
        let oddities = feed(json!({ "client_secret": value })).await.oddities();
        let told = oddities.iter().any(|(setting, said)| setting == "client_secret" && said.contains(words));
        assert!(told, "expected {words:?} in {oddities:?}");
        assert!(oddities.iter().all(|(_, said)| !said.contains(value.trim())), "{oddities:?}");
    }
    assert_eq!(feed(json!({ "client_secret": "s~ecret8" })).await.oddities(), []);
}

#[tokio::test]
async fn the_declared_requests_are_one_post_and_gets() {
    let shapes = feed(json!({})).await.plan().shapes.clone();
    let methods: Vec<_> = shapes.iter().map(|shape| shape.method.as_str()).collect();
    assert_eq!(methods.iter().filter(|method| **method == "POST").count(), 1);
    assert!(methods.iter().all(|method| ["GET", "POST"].contains(method)));
}
