use super::*;

#[test]
fn a_poll_id_follows_from_feed_scope_and_due_time() {
    let id = poll_id("a", "b", 1);
    assert_eq!(id, poll_id("a", "b", 1));
    for other in [poll_id("x", "b", 1), poll_id("a", "x", 1), poll_id("a", "b", 2), poll_id("a\nb", "", 1)] {
        assert_ne!(id, other);
    }
    let keyed = keyed_poll_id("one key", "a", "b", 1);
    assert_eq!(keyed, keyed_poll_id("one key", "a", "b", 1));
    assert_ne!(keyed, keyed_poll_id("another", "a", "b", 1));
    assert_ne!(keyed, id);
}

#[test]
fn a_credential_that_was_declared_and_left_on_no_request_is_told() {
    let credentials = ["key", "other", "absent"].map(|setting| Credential::Setting(setting.to_owned()));
    let declared = credentials.iter().chain([&Credential::Token, &credentials[1]]);
    let place = || crate::contract::Place::Bearer;
    let declared =
        declared.map(|credential| crate::contract::CredentialUse { credential: credential.clone(), place: place() });
    let shape = crate::contract::Shape {
        method: "GET".to_owned(),
        origin: "https://api.example".to_owned(),
        path: crate::contract::Path::Exact("/".to_owned()),
        credentials: declared.collect(),
        captures: None,
    };
    let plan = Plan { shapes: vec![shape], warnings: Vec::new() };
    let told = |carried: &[Credential]| {
        let notices = unused(&plan, carried, |setting| setting != "absent");
        notices.into_iter().map(|notice| notice.message).collect::<Vec<_>>()
    };
    assert_eq!(told(&credentials[..1]), ["the plugin declared the credential `other` and sent no request with it"]);
    assert_eq!(told(&credentials), Vec::<String>::new());
}

#[test]
fn a_token_is_renewed_before_it_expires() {
    let renewed = |expires_in_seconds, shared| {
        let token = FetchedToken { value: Secret::new(""), expires_in_seconds, renew_at: shared };
        renew_at(&token, 1_000_000)
    };
    assert_eq!(renewed(3_600, None), 4_300_000);
    assert_eq!(renewed(400, None), 1_200_000);
    assert_eq!(renewed(400, Some(1_100_000)), 1_100_000, "when all do");
    assert_eq!(renewed(400, Some(999_000)), 1_200_000, "there was no other");
    assert_eq!(renewed(400, Some(1_300_000)), 1_200_000, "the plugin knows of a shorter life");
}
