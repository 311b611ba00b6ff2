//! Recording the simulated service, and replaying the recordings.

use std::path::Path;

use host_harness::config;
use host_harness::config::admission;
use host_harness::recording::record::{self, RecordError, Recorded};
use host_harness::recording::replay;
use serde_json::Value;
use source_simulator::assertion::Registered;
use source_simulator::scenario::OBJECT_ID;
use source_simulator::service::COST_CENTER;

use crate::credentials::{FEDERATED, RSA};
use crate::support::test_connection::Set;
use crate::support::{host, plugin};

async fn record(set: &Set, without_scopes: bool) -> Result<Recorded, RecordError> {
    let environment =
        |name: &str| set.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let config = config::parse(Path::new("azure.toml"), &set.text, None, &environment);
    let checked = admission::check(&host(), config, None, &set.clock).await.unwrap();
    record::record(&checked.feeds[0], &checked.network, &set.clock, without_scopes).await
}

fn text(recorded: &Recorded) -> String {
    serde_json::to_string_pretty(&recorded.cassette).unwrap()
}

/// Checks that a recording contains nothing of the first tenant, in any letter case.
fn check_redacted(set: &Set, text: &str, without_scopes: bool) {
    let lower = text.to_lowercase();
    let tenant = set.simulator.with(|world| world.estate.tenants[0].clone());
    let mut private = vec![tenant.client_secret, tenant.id, tenant.client_id, "eysimulated".to_owned()];
    private.push(OBJECT_ID.to_owned());
    if without_scopes {
        private.extend(tenant.subscriptions.iter().flat_map(|one| [one.id.clone(), one.name.clone()]));
        private.push(COST_CENTER.to_owned());
    }
    for value in private {
        assert!(!lower.contains(&value.to_lowercase()), "{value} in {text}");
    }
    let kept = tenant.subscriptions[0].id.as_str();
    assert_eq!(lower.contains(kept), !without_scopes, "{text}");
}

/// Plays a recording from a file.
async fn played(text: &str) -> replay::Replayed {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recorded.json");
    std::fs::write(&file, text).unwrap();
    replay::replay(&plugin(), &file).await.unwrap()
}

#[tokio::test]
async fn a_recording_replays_and_gives_nobody_away() {
    for without_scopes in [false, true] {
        for subscriptions in ["[\"00000001-0000-4F6B-B1D0-000000000001\"]", "\"*\""] {
            let mut set = Set::new(None).await;
            set.edit("subscription_id", &format!("subscription_id = {subscriptions}"));
            let recorded = record(&set, without_scopes).await.unwrap();
            assert!(recorded.failures.is_empty() && recorded.good > 0);
            let text = text(&recorded);
            check_redacted(&set, &text, without_scopes);
            let played = played(&text).await;
            assert_eq!((played.events.len(), played.failure()), (15 * recorded.good, None));
            assert_eq!(recorded.events, played.events.len());
        }
    }
}

#[tokio::test]
async fn an_answer_with_a_part_of_a_token_is_not_recorded() {
    for scenario in ["echo-piece", "echo-piece-base64"] {
        let set = Set::new(Some(scenario)).await;
        let recorded = record(&set, false).await;
        assert!(matches!(recorded, Err(RecordError::Echoed)), "{scenario}: {:?}", recorded.map(|one| text(&one)));
    }
}

#[tokio::test]
async fn numbers_are_recorded_to_the_letter() {
    let set = Set::new(None).await;
    let recorded = record(&set, false).await.unwrap();
    let played = played(&text(&recorded)).await;
    let event: Value = serde_json::from_slice(&played.events[0]).unwrap();
    let raw = event["raw_data"].as_str().unwrap();
    assert!(text(&recorded).contains(raw), "{raw}");
}

#[tokio::test]
async fn a_link_that_the_service_does_not_encode_is_recorded_as_it_is_followed() {
    for (scenario, subscriptions) in [("link-odd", None), ("search-link-odd", Some("\"*\""))] {
        let mut set = Set::new(Some(scenario)).await;
        if let Some(subscriptions) = subscriptions {
            set.edit("subscription_id", &format!("subscription_id = {subscriptions}"));
        }
        let recorded = record(&set, true).await.unwrap();
        assert!(recorded.failures.is_empty() && recorded.good > 0, "{scenario}: {:?}", recorded.failures);
        let text = text(&recorded);
        // The opaque part of the link has one stand-in, in the answer and in the request that follows.
        assert!(text.matches("skiptoken=TOKEN-2").count() >= 2, "{scenario}: {text}");
        assert_eq!(played(&text).await.events.len(), recorded.events);
    }
}

#[tokio::test]
async fn a_refusal_is_recorded_too() {
    for scenario in ["forbidden", "secret-invalid", "not-onboarded-404", "throttled", "html"] {
        let set = Set::new(Some(scenario)).await;
        let recorded = record(&set, true).await.unwrap();
        assert_eq!(recorded.failures.len(), usize::from(scenario != "not-onboarded-404"), "{scenario}");
        let text = text(&recorded);
        check_redacted(&set, &text, true);
        let played = played(&text).await;
        let code = |failure: Option<&source_host::contract::Failure>| failure.map(|failure| failure.code.clone());
        if recorded.failures.is_empty() {
            continue;
        }
        assert_eq!(code(played.failure()), code(recorded.failures.first().map(|(_, failure)| failure)), "{scenario}");
    }
}

#[tokio::test]
async fn a_domain_of_the_tenant_has_a_stand_in() {
    let mut set = Set::new(None).await;
    set.edit("token_url", "token_url = \"contoso.example\"");
    let text = text(&record(&set, false).await.unwrap());
    assert!(!text.contains("contoso.example") && text.contains("tenant-2.example/oauth2"), "{text}");
    check_redacted(&set, &text, false);
    played(&text).await;
}

#[tokio::test]
async fn no_answer_is_nothing_to_record() {
    let mut set = Set::new(None).await;
    let url = set.simulator.url().to_owned();
    set.text = set.text.replace(&url, "https://nowhere.invalid");
    let error = record(&set, false).await.unwrap_err();
    assert!(matches!(error, RecordError::NoAnswer { .. }), "{error}");
    let set = Set::new(Some("invalid-utf8")).await;
    let error = record(&set, false).await.unwrap_err();
    assert!(matches!(error, RecordError::NoText { .. }), "{error}");
}

#[tokio::test]
async fn a_recording_replays_without_the_key_or_the_token_that_signed_in() {
    for credential in ["client_certificate", "federated_token_file"] {
        let mut set = Set::new(None).await;
        let key = rcgen::KeyPair::from_pem(RSA).unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
        set.simulator.with(|world| {
            world.certificates.push(Registered::read(&certificate).unwrap());
            world.federated.push(FEDERATED.to_owned());
        });
        let file = set.folder.path().join("credential");
        let text = if credential == "client_certificate" { certificate + RSA } else { FEDERATED.to_owned() };
        std::fs::write(&file, &text).unwrap();
        let value =
            if credential == "client_certificate" { format!("{{ file = {file:?} }}") } else { format!("{file:?}") };
        set.edit("client_secret", &format!("{credential} = {value}"));
        let recorded = record(&set, true).await.unwrap();
        assert_eq!((recorded.good, recorded.failures.len()), (2, 0));
        let text = self::text(&recorded);
        check_redacted(&set, &text, true);
        for private in ["PRIVATE KEY", "CERTIFICATE", FEDERATED, "client_assertion", file.to_str().unwrap()] {
            assert!(!text.contains(private), "{private} in {text}");
        }
        assert_eq!(played(&text).await.events.len(), 30);
    }
}
