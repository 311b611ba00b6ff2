//! One poll over real sockets against the simulated service: the requests, the messages, and the exit status.

use std::path::Path;

use host_harness::collector::once::{self, Output, Report};
use host_harness::config;
use host_harness::config::admission;
use serde_json::Value;
use source_simulator::{Simulator, estate::Estate};

use crate::support::{host, leave_for_the_judge, noon};

/// An edit of a configuration's text.
type Edit = fn(String) -> String;

/// Polls everything, or one feed, with a `scenario`. Returns the report, the events, and the messages for people.
async fn poll(scenario: Option<&'static str>, only: Option<&str>, edit: Edit) -> (Report, Vec<Value>, String) {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into(), Estate::default(), scenario).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, simulator.ca_pem()).unwrap();
    let (text, variables) = simulator.configuration(ca_file.to_str().unwrap());
    let environment = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let file = Path::new("test.toml");
    let config = config::parse(file, &edit(text), only, &environment);
    let checked = admission::check(&host(), config, None, &noon()).await.unwrap();
    let feeds = once::open(&checked, &noon()).await.unwrap();
    let (mut events, mut people) = (Vec::new(), Vec::new());
    let output = Output { events: &mut events, people: &mut people };
    let report = once::poll(&feeds, &noon(), output).await.unwrap();
    let people = String::from_utf8(people).unwrap();
    for (_, secret) in &variables {
        assert!(!people.contains(secret), "a secret in {people}");
    }
    let lines = events.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap());
    leave_for_the_judge(&format!("poll-{}", scenario.unwrap_or("good")), lines.clone());
    (report, lines.map(|line| serde_json::from_slice(line).unwrap()).collect(), people)
}

/// Checks a poll of one good and one broken subscription: the good one's events, the broken one's name, cause and fix,
/// and exit status 3.
async fn check_broken(scenario: &'static str, cause: &str) {
    let (report, events, people) = poll(Some(scenario), Some("contoso-scores"), |text| text).await;
    assert_eq!(report.status(), 3, "{people}");
    assert_eq!(events.len(), 15);
    let good = "/subscriptions/00000001-0000-";
    assert!(events.iter().all(|event| event["resources"][0]["uid"].as_str().unwrap().starts_with(good)));
    assert!(people.contains("00000001-0001-4f6b-b1d0-000000000001"), "{people}");
    assert!(people.contains(cause), "expected {cause:?} in {people}");
    assert!(people.contains("\n  fix: "), "{people}");
}

macro_rules! broken {
    ($($name:ident: $scenario:literal, $cause:literal;)*) => {
        $(#[tokio::test]
        async fn $name() {
            check_broken($scenario, $cause).await;
        })*
    };
}

broken! {
    a_page_that_was_cut_short: "page-cut", "found text that is not JSON (EOF";
    a_link_to_another_host: "link-foreign", "`nextLink` goes to https://evil.example";
    a_link_without_tls: "link-http", "`nextLink` goes to http://";
    a_loop_of_links: "link-loop", "form a loop";
    a_link_to_itself: "link-self", "form a loop";
    links_without_end: "link-endless", "more pages than the limit of 100";
    html_instead_of_json: "html", "found HTML or XML";
    an_empty_body: "empty-body", "found an empty body";
    deep_nesting: "deep-nesting", "more than 64 levels";
    a_body_over_the_cap: "oversized", "the body exceeds 8388608 bytes";
    invalid_utf8: "invalid-utf8", "invalid UTF-8 at byte 17";
    an_item_without_its_properties: "item-incomplete", "`value[0].properties`: found nothing, expected an object";
    an_item_without_its_id: "item-without-id", "`value[0].id`: found nothing, expected a string";
    a_list_without_its_value: "value-missing", "`value`: found nothing, expected a list";
    a_number_of_the_wrong_type: "number-as-text", "`value[0].properties.score.max`: found a string, expected a number";
    a_number_beyond_double_precision: "number-huge", "`value[0].properties.score.max`: found a number beyond the range";
    such_a_number_that_nobody_knows: "number-huge-unknown", "`value[0].properties.novel`: found a number beyond the range";
    an_item_of_another_subscription: "item-foreign", "(answer-foreign, plugin)";
    an_item_of_another_list: "item-other-list", "`value[0].type`: found Microsoft.Security/secureScores, expected one of";
    a_link_to_another_list: "link-other-list", "`nextLink` goes to https://";
    a_refusal_behind_a_byte_order_mark: "byte-order-mark-error", "(not-found, tenant)";
    two_byte_order_marks: "byte-order-marks", "found two byte order marks, expected JSON in UTF-8";
    a_list_in_utf_16: "utf-16", "found text in UTF-16 or UTF-32, expected JSON in UTF-8";
    a_link_with_a_fragment: "link-fragment", "`nextLink` has a character that an address cannot have, `#`";
    a_link_with_a_backslash: "link-backslash", "`nextLink` has a character that an address cannot have, `\\`";
    a_redirect: "redirect", "302 to https://elsewhere.example/login";
    a_refusal: "forbidden", "(forbidden, tenant)";
    a_firewalls_page: "blocked", "answered 403 with text/html (not-the-service, operator); status 403";
    a_firewalls_page_for_the_controls: "blocked-controls", "the list of secure score controls answered 403";
    a_firewall_that_says_nothing: "blocked-empty", "403 with an empty body, server \"gate/2.1\" (not-the-service";
    a_gateways_own_json: "blocked-json", "403 with application/json, via \"1.1 gate.example\" (not-the-service";
    an_error_that_is_a_text: "blocked-json-text", "(not-the-service, operator)";
    an_error_that_is_a_list: "blocked-json-list", "(not-the-service, operator)";
    an_error_that_was_cut_short: "blocked-json-cut", "(not-the-service, operator)";
    a_firewall_that_refuses_the_expansion: "expand-blocked", "400 with text/html (not-the-service";
    a_login_page: "login-page", "401 with text/html (not-the-service, operator)";
    a_challenge_with_a_page: "login-challenge", "401 with text/html (token-challenged, operator)";
    a_proxy_that_nobody_configured: "proxy-login", "407 with text/html (not-the-service, operator)";
    a_gateway_that_knows_no_such_host: "gateway-404", "404 with text/plain (not-the-service, operator)";
    a_gateway_that_reaches_nobody: "gateway-502", "502 with text/html, server \"nginx\" (not-the-service, operator)";
    a_gateway_that_asks_to_wait: "gateway-503", "(not-the-service, operator)";
    a_gateway_that_throttles: "gateway-429", "(throttled, service)";
    a_poll_that_was_only_accepted: "accepted", "answered 202 with an empty body (status-unexpected, operator)";
    an_answer_without_content: "no-content", "answered 204 with an empty body (status-unexpected, operator)";
    a_part_of_an_answer: "partial", "answered 206 with application/json (status-unexpected, operator)";
    claims_that_are_asked_for_again_and_again: "claims-challenge", "(claims-challenge, tenant)";
    a_day_to_wait: "throttled-day", "asks to wait 86400 s, until";
    throttling_that_gives_no_time: "throttled-backend", "429 SubscriptionRequestsThrottled";
    throttling_without_the_usual_wrapper: "throttled-bare", "asks to wait 17 s";
    a_fault_of_the_service: "internal-error", "500 InternalServerError";
    a_connection_that_ends_early: "connection-cut", "(connection-broken, service)";
    a_subscription_that_is_not_found: "not-found", "(not-found, tenant)";
    a_subscription_of_another_tenant: "wrong-tenant", "(wrong-tenant, tenant)";
    a_subscription_that_is_not_registered: "not-registered", "az provider register";
    a_version_that_is_retired: "api-retired", "(api-retired, plugin)";
    a_token_that_is_refused_twice: "token-refused", "401 InvalidAuthenticationToken";
}

#[tokio::test]
async fn all_tenants_are_collected() {
    let (report, events, people) = poll(None, None, |text| text).await;
    assert_eq!((report.status(), report.good, events.len()), (0, 6, 90), "{people}");
    assert_eq!(people, "");
    let mut tenants: Vec<_> = events.iter().map(|event| event["metadata"]["tenant_uid"].to_string()).collect();
    tenants.dedup();
    assert_eq!(tenants.len(), 4);
}

#[tokio::test]
async fn a_short_wait_is_waited_for() {
    let (report, events, _) = poll(Some("throttled-once"), Some("contoso-scores"), |text| text).await;
    assert_eq!((report.status(), events.len()), (0, 30));
}

#[tokio::test]
async fn an_expansion_that_is_refused_is_gone_without() {
    let (report, events, people) = poll(Some("expand-refused"), Some("contoso-scores"), |text| text).await;
    assert_eq!((report.status(), events.len()), (0, 30));
    assert!(people.contains("refused to expand definitions"), "{people}");
}

#[tokio::test]
async fn a_subscription_without_a_score_is_a_warning() {
    for scenario in ["not-onboarded", "not-onboarded-404"] {
        let (report, events, people) = poll(Some(scenario), Some("contoso-scores"), |text| text).await;
        assert_eq!((report.status(), events.len()), (0, 15), "{scenario}: {people}");
        assert!(
            people.contains("warning: ") && people.contains("no secure score for the subscription yet"),
            "{people}"
        );
    }
}

#[tokio::test]
async fn a_wrong_secret_stops_its_feed_alone() {
    let (report, events, people) = poll(Some("secret-invalid"), None, |text| text).await;
    assert_eq!((report.status(), events.len()), (3, 60), "{people}");
    assert!(people.contains("feed contoso-scores: ") && people.contains("(secret-invalid, tenant)"), "{people}");
}

#[tokio::test]
async fn a_gateway_is_waited_for_as_long_as_it_asks() {
    for scenario in ["gateway-503", "gateway-429"] {
        let (_, _, people) = poll(Some(scenario), Some("contoso-scores"), |text| text).await;
        assert!(people.contains("asks to wait 17 s"), "{scenario}: {people}");
    }
}

#[tokio::test]
async fn somebody_else_in_place_of_the_token_endpoint_stops_its_feed_alone() {
    for scenario in ["token-blocked", "token-login-page", "token-proxy-login", "token-gateway", "token-blocked-json"] {
        let (report, events, people) = poll(Some(scenario), None, |text| text).await;
        assert_eq!((report.status(), events.len()), (3, 60), "{scenario}: {people}");
        assert!(people.contains("(not-the-service, operator)"), "{scenario}: {people}");
        assert!(people.contains("the token endpoint answered 4") || scenario == "token-gateway", "{people}");
    }
}

#[tokio::test]
async fn nothing_collected_is_status_1() {
    let (report, events, _) = poll(Some("secret-expired"), Some("contoso-scores"), |text| text).await;
    assert_eq!((report.status(), events.len()), (1, 0));
}

#[tokio::test]
async fn an_origin_that_is_not_allowed_names_the_line_that_would_allow_it() {
    let forget =
        |text: String| text.lines().filter(|line| !line.starts_with("allow = ")).collect::<Vec<_>>().join("\n");
    let (report, _, people) = poll(None, Some("contoso-scores"), forget).await;
    assert_eq!(report.status(), 1);
    assert!(people.contains("write `allow = [\"https://127.0.0.1:"), "{people}");
}

#[tokio::test]
async fn a_loopback_address_is_not_dialled_by_itself() {
    let forget =
        |text: String| text.lines().filter(|line| !line.starts_with("allow_addresses")).collect::<Vec<_>>().join("\n");
    let (_, _, people) = poll(None, Some("contoso-scores"), forget).await;
    assert!(people.contains("(address-prohibited, operator)"), "{people}");
}

fn all(text: String) -> String {
    let lines =
        text.lines().map(|line| if line.starts_with("subscription_id") { "subscription_id = \"*\"" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn somebody_else_in_place_of_the_search_or_the_tenants_domain_is_told() {
    fn domain(text: String) -> String {
        let tenant = "token_url = \"00000001-7e4a-4b1d-9c55-000000000001\"";
        assert!(text.contains(tenant));
        text.replace(tenant, "token_url = \"contoso.example\"")
    }
    let cases = [
        ("search-blocked", all as Edit, "the list of subscriptions answered 403 with text/html"),
        ("search-page", all, "the list of subscriptions answered 200 with text/html: found HTML or XML"),
        ("search-gateway", all, "the list of subscriptions answered 404 with text/plain"),
        ("domain-blocked", domain, "the tenant's OpenID configuration answered 403 with text/html"),
    ];
    for (scenario, edit, cause) in cases {
        let (report, events, people) = poll(Some(scenario), Some("contoso-scores"), edit).await;
        assert_eq!((report.status(), events.len()), (1, 0), "{scenario}: {people}");
        assert!(people.contains(cause) && people.contains("(not-the-service, operator)"), "{scenario}: {people}");
    }
}

#[tokio::test]
async fn what_looks_odd_and_means_what_it_should_is_collected() {
    let cases: [(_, Edit, _); 4] = [
        // There is one more page, which repeats the first one.
        ("link-odd", |text| text, 30),
        ("byte-order-mark", all, 30),
        ("search-link-odd", all, 30),
        ("search-past-due", all, 30),
    ];
    for (scenario, edit, count) in cases {
        let (report, events, people) = poll(Some(scenario), Some("contoso-scores"), edit).await;
        assert_eq!((report.status(), events.len()), (0, count), "{scenario}: {people}");
        assert!(!events.iter().any(|event| event.to_string().contains('\u{feff}')), "{scenario}");
    }
}

#[tokio::test]
async fn a_link_of_the_search_to_another_port_is_refused() {
    let (report, _, people) = poll(Some("search-link-foreign"), Some("contoso-scores"), all).await;
    assert_eq!(report.status(), 1, "{people}");
    assert!(people.contains("`nextLink` goes to https://127.0.0.1:1, expected https://127.0.0.1:"), "{people}");
}

#[tokio::test]
async fn every_subscription_is_found_by_discovery() {
    let (report, events, _) = poll(None, Some("fabrikam-scores"), all).await;
    assert_eq!((report.status(), events.len()), (0, 30));
    assert_eq!(events[0]["cloud"]["account"]["name"], "fabrikam production");
}
