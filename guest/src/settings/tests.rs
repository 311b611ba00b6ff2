use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::keys::KEYS;
use super::*;

/// Returns the sample with some settings changed; null removes one.
fn with(changes: &str) -> String {
    let mut object: Map<String, Value> = serde_json::from_str(SAMPLE).unwrap();
    for (key, value) in serde_json::from_str::<Map<String, Value>>(changes).unwrap() {
        if value.is_null() {
            object.remove(&key)
        } else {
            object.insert(key, value)
        };
    }
    Value::Object(object).to_string()
}

fn settings(changes: &str) -> Settings {
    read(&with(changes)).unwrap().0
}

fn problems(changes: &str) -> Vec<String> {
    let problems = read(&with(changes)).err().unwrap_or_default();
    problems.into_iter().map(|problem| format!("{}: {}", problem.setting, problem.found)).collect()
}

#[test]
fn the_shortest_settings_poll_the_public_cloud() {
    let (settings, subscriptions, _) = read(&with("{}")).unwrap();
    assert_eq!(settings.endpoint, "https://management.azure.com");
    assert_eq!(settings.tenant, "aaaabbbb-0000-cccc-1111-dddd2222eeee");
    assert_eq!(subscriptions, Subscriptions::List(vec!["20ff7fc3-e762-44dd-bd96-b71116dcdc23".to_owned()]));
    assert_eq!(settings.events, EventKind::ALL);
    assert_eq!((settings.definitions, settings.class), (Definitions::Summary, Class::AssessmentFinding));
    assert_eq!((settings.snapshot_seconds, settings.raw, settings.observables), (86_400, true, true));
}

#[test]
fn a_tenant_is_an_id_a_domain_or_a_token_url() {
    for (token_url, tenant, authority) in [
        ("contoso.example", "contoso.example", "https://login.microsoftonline.com"),
        (
            "https://login.microsoftonline.us/Contoso.example/oauth2/v2.0/token",
            "contoso.example",
            "https://login.microsoftonline.us",
        ),
        ("https://localhost:8443/contoso.example/oauth2/token", "contoso.example", "https://localhost:8443"),
    ] {
        let settings = settings(&format!(r#"{{"token_url":"{token_url}"}}"#));
        assert_eq!((settings.tenant.as_str(), settings.authority.as_str()), (tenant, authority));
    }
    for token_url in [
        "common",
        "organizations",
        "contoso",
        "https://host.example/t/other/path",
        "not a tenant",
        "https://user@host.example/a.b",
    ] {
        assert_eq!(problems(&format!(r#"{{"token_url":"{token_url}"}}"#)).len(), 1, "{token_url}");
    }
}

#[test]
fn all_problems_come_at_once_under_the_name_that_was_written() {
    let found = problems(
        r#"{"client_key":null,"client_id":"x","client_secret":"","token_url":7,"subscription_id":["a",1],"intervall":1,
            "cloud":"mars","events":["scores"],"class":"x","delegated":true,"snapshot_every":"soon","raw":true,
            "client_secret_expires":"June"}"#,
    );
    let names: Vec<_> = found.iter().map(|problem| problem.split(':').next().unwrap_or_default()).collect();
    for name in [
        "/client_id",
        "/client_secret",
        "/token_url",
        "/subscription_id/0",
        "/subscription_id/1",
        "/intervall",
        "/cloud",
        "/events/0",
        "/class",
        "/delegated",
        "/snapshot_every",
        "/raw",
        "/client_secret_expires",
    ] {
        assert!(names.contains(&name), "{name} is not among {found:?}");
    }
    assert_eq!(found.len(), 13);
}

#[test]
fn an_unknown_setting_names_the_nearest_one() {
    let problems = read(&with(r#"{"subscription_ids":"x"}"#)).unwrap_err();
    assert!(problems[0].expected.contains("`subscription_id`"), "{problems:?}");
}

#[test]
fn an_unknown_version_tells_the_known_ones_and_the_nearest() {
    let list = "one of `1.1.0`, `1.2.0`, `1.3.0`, `1.4.0`, `1.5.0`, `1.6.0`, `1.7.0`, `1.8.0`";
    for (value, found, nearest) in [
        (r#""1.0.0""#, "`1.0.0`", "; the nearest is `1.1.0`"),
        (r#""1.9.0""#, "`1.9.0`", "; the nearest is `1.8.0`"),
        (r#""1.5""#, "`1.5`", "; the nearest is `1.5.0`"),
        ("1.5", "a number", "; the nearest is `1.5.0`"),
        (r#""latest""#, "`latest`", ""),
        ("true", "a boolean", ""),
    ] {
        let problems = read(&with(&format!(r#"{{"ocsf_version":{value}}}"#))).unwrap_err();
        assert_eq!(problems.len(), 1, "{value}: {problems:?}");
        let told = (problems[0].setting.as_str(), problems[0].found.as_str(), problems[0].expected.as_str());
        assert_eq!(told, ("/ocsf_version", found, format!("{list}{nearest}").as_str()), "{value}");
    }
    for version in Version::ALL {
        assert_eq!(settings(&format!(r#"{{"ocsf_version":"{}"}}"#, version.name())).version, version);
    }
    assert_eq!(settings("{}").version, Version::NEWEST);
}

#[test]
fn the_own_addresses_of_a_cloud_are_no_other_cloud() {
    for changes in [
        r#"{"authority":"https://login.microsoftonline.com/","endpoint":"https://management.azure.com/"}"#,
        r#"{"authority":"https://Login.MicrosoftOnline.com"}"#,
        r#"{"endpoint":"https://management.azure.com"}"#,
        r#"{"cloud":"us-government","authority":"https://login.microsoftonline.us/"}"#,
    ] {
        let (settings, _, warnings) = read(&with(changes)).unwrap();
        assert_eq!(warnings, [], "{changes}");
        assert_eq!(settings.partition.is_some(), changes.contains("us-government"), "{changes}");
    }
    let audience = r#"{"audience":"https://management.azure.com/.default/"}"#;
    assert_eq!(read(&with(audience)).unwrap().0.audience, "https://management.azure.com");
}

#[test]
fn a_setting_that_is_missing_under_its_own_name_alone_is_told_once() {
    for (wrong, right) in [
        ("subscription_ids", "subscription_id"),
        ("clientId", "client_key"),
        ("client-secret", "client_secret"),
        ("client_certifcate", "client_secret"),
        ("tenantid", "token_url"),
        ("token_uri", "token_url"),
    ] {
        let found = problems(&format!(r#"{{"{wrong}":"x","{right}":null}}"#));
        assert_eq!(found, [format!("/{wrong}: an unknown setting")]);
    }
    assert_eq!(problems(r#"{"resource_group":"x","subscription_id":null}"#).len(), 2);
}

#[test]
fn a_value_that_is_spelled_in_another_way_names_what_was_meant() {
    let id = "20ff7fc3-e762-44dd-bd96-b71116dcdc23";
    let list = format!("; write [\"{id}\", \"{id}\"]");
    let one = format!("; write \"{id}\"");
    for (changes, expected) in [
        (r#"{"class":2003}"#.to_owned(), "; write `compliance-finding`"),
        (r#"{"class":"2003"}"#.to_owned(), "; write `compliance-finding`"),
        (r#"{"class":99402001}"#.to_owned(), "; write `assessment-finding`"),
        (r#"{"class":"Compliance Finding"}"#.to_owned(), "; write `compliance-finding`"),
        (r#"{"class":"Detection Finding"}"#.to_owned(), "; write `detection-finding`"),
        (r#"{"class":2004}"#.to_owned(), "; write `detection-finding`"),
        (r#"{"class":2001}"#.to_owned(), "`assessment-finding` or `compliance-finding` or `detection-finding`"),
        (r#"{"definitions":"Full"}"#.to_owned(), "; write `full`"),
        (r#"{"definitions":false}"#.to_owned(), "; write `none`"),
        (r#"{"emit":"snapshots"}"#.to_owned(), "; write `snapshot`"),
        (r#"{"raw":true}"#.to_owned(), "; write `full`"),
        (r#"{"cloud":"usgov"}"#.to_owned(), "; write `us-government`"),
        (r#"{"cloud":"AzureCloud"}"#.to_owned(), "; write `public`"),
        (r#"{"cloud":"AzureChinaCloud"}"#.to_owned(), ": Microsoft ended Defender for Cloud in China on 2026-10-01"),
        (r#"{"cloud":"germany"}"#.to_owned(), "; for any other cloud `authority`, `endpoint` and `audience`"),
        (r#"{"entity_resolution":"true"}"#.to_owned(), "true or false, without quotes"),
        (r#"{"snapshot_every":"24 hours"}"#.to_owned(), "; write `24h`"),
        (r#"{"events":"secure-scores"}"#.to_owned(), "; write [\"secure-scores\"]"),
        (r#"{"events":["Secure Scores"]}"#.to_owned(), "; write `secure-scores`"),
        (r#"{"events":["secure-score"]}"#.to_owned(), "; write `secure-scores`"),
        (r#"{"client_secret_expires":"30.06.2027"}"#.to_owned(), "; write \"2027-06-30\""),
        (r#"{"client_secret_expires":20270630}"#.to_owned(), "; write \"2027-06-30\""),
        (r#"{"subscription_id":"all"}"#.to_owned(), "; write \"*\""),
        (r#"{"subscription_id":["*"]}"#.to_owned(), "; write \"*\""),
        (format!(r#"{{"subscription_id":"/subscriptions/{id}"}}"#), &one),
        (format!(r#"{{"subscription_id":"{id},{id}"}}"#), &list),
        (r#"{"endpoint":"management.azure.com"}"#.to_owned(), "; write `https://management.azure.com`"),
        (
            r#"{"endpoint":"http://management.azure.com"}"#.to_owned(),
            "`https://management.azure.com`: nothing is sent to this cloud without TLS",
        ),
        (
            r#"{"token_url":"HTTP://login.microsoftonline.com/a.example/oauth2/v2.0/token"}"#.to_owned(),
            "`https://login.microsoftonline.com`: nothing is sent to this cloud without TLS",
        ),
        (r#"{"token_url":"login.microsoftonline.com/a.example"}"#.to_owned(), "/oauth2/v2.0/token, with its https://"),
    ] {
        let problems = read(&with(&changes)).err().unwrap_or_default();
        assert_eq!(problems.len(), 1, "{changes}: {problems:?}");
        assert!(problems[0].expected.ends_with(expected), "{changes}: {problems:?}");
    }
}

#[test]
fn two_names_of_one_setting_do_not_go_together() {
    assert_eq!(problems(r#"{"client_id":"11111111-2222-3333-4444-555555555555"}"#).len(), 1);
    assert_eq!(problems(r#"{"tenant_id":"contoso.example"}"#).len(), 1);
}

#[test]
fn there_is_one_credential_and_no_other() {
    assert_eq!(problems(r#"{"client_certificate":"x"}"#), ["/client_certificate: `client_secret` as well"]);
    let both = r#"{"client_secret":null,"client_certificate":"x","federated_token_file":"y"}"#;
    assert_eq!(problems(both), ["/federated_token_file: `client_certificate` as well"]);
    let empty = r#"{"client_secret":null,"federated_token_file":" "}"#;
    assert_eq!(problems(empty), ["/federated_token_file: an empty string"]);
    for setting in ["client_certificate", "federated_token_file"] {
        let settings = settings(&format!(r#"{{"client_secret":null,"{setting}":"x"}}"#));
        assert_eq!(settings.credential, Some(Credential::Assertion(setting)));
    }
}

#[test]
fn a_date_stands_beside_the_secret_that_it_is_about() {
    let dated = r#"{"client_secret":null,"client_certificate":"x","client_secret_expires":"2027-06-30"}"#;
    assert_eq!(problems(dated), ["/client_secret_expires: a date without its `client_secret`"]);
    assert_eq!(problems(r#"{"client_secret_expires":"2027-06-30"}"#), [""; 0]);
}

#[test]
fn a_missing_secret_is_a_problem_of_prepare_alone() {
    assert_eq!(problems(r#"{"client_secret":null}"#), ["/client_secret: nothing"]);
    assert!(Settings::trusted(&with(r#"{"client_secret":null}"#)).is_ok());
}

#[test]
fn a_secret_is_never_quoted() {
    let problems = format!("{:?}", read(&with(r#"{"client_secret":["hunter2"]}"#)));
    assert!(!problems.contains("hunter2"));
}

#[test]
fn the_schema_knows_every_setting_and_no_other() {
    let schema: Value = serde_json::from_str(include_str!("../settings.schema.json")).unwrap();
    let mut known: Vec<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut keys = KEYS.to_vec();
    known.sort_unstable();
    keys.sort_unstable();
    assert_eq!(known, keys);
    let secret: BTreeSet<&str> =
        known.into_iter().filter(|key| schema["properties"][key]["writeOnly"] == true).collect();
    assert_eq!(secret, CREDENTIALS.iter().map(|credential| credential.name).collect());
}

#[test]
fn addresses_are_origins() {
    assert_eq!(settings(r#"{"endpoint":"https://Host.example:8443/"}"#).endpoint, "https://host.example:8443");
    for endpoint in [
        "host.example",
        "https://host/path",
        "https://u@host",
        "ftp://host",
        "https://host:0",
        "https://",
        "https://a b",
        "https://.0.0.1:80",
        "https://host.",
        "https://-host.example",
        "https://127.1",
        "https://1.2.3.256",
        "https://1.2.3.0x4",
        "https://host:+443",
        "https://host:0443",
        "https://[::g]",
        "https://[::1",
        "https://[::0]",
        "https://[::ffff:127.0.0.1]",
        "https://[::ffff:7f00:1]",
    ] {
        assert_eq!(problems(&format!(r#"{{"endpoint":"{endpoint}"}}"#)).len(), 1, "{endpoint}");
    }
    for endpoint in ["http://127.0.0.1:8443", "https://[::1]:8443", "https://localhost", "https://4u.a-b.example"] {
        assert_eq!(settings(&format!(r#"{{"endpoint":"{endpoint}"}}"#)).endpoint, endpoint);
    }
    assert_eq!(settings(r#"{"cloud":"us-government"}"#).partition, Some("AzureUSGovernment"));
    assert_eq!(settings(r#"{"audience":"https://a.example/.default"}"#).audience, "https://a.example");
}

/// Checks that a change gives this one problem and no other.
fn check_problem(changes: &str, problem: &str) {
    assert_eq!(problems(changes), [problem], "{changes}");
}

#[test]
fn each_setting_says_what_is_wrong_with_it() {
    for (changes, problem) in [
        (r#"{"client_key":null}"#, "/client_key: nothing"),
        (r#"{"client_key":""}"#, "/client_key: an empty string"),
        (r#"{"client_key":7}"#, "/client_key: a number"),
        (r#"{"client_key":"contoso"}"#, "/client_key: `contoso`"),
        (
            r#"{"client_key":"'11111111-2222-3333-4444-555555555555'"}"#,
            r"/client_key: `\'11111111-2222-3333-4444-555555555555\'`",
        ),
        (
            r#"{"client_key":"1111 1111-2222-3333-4444-555555555555"}"#,
            "/client_key: `1111 1111-2222-3333-4444-555555555555`",
        ),
        (r#"{"client_secret":[]}"#, "/client_secret: a list"),
        (r#"{"client_secret":"  "}"#, "/client_secret: an empty string"),
        (r#"{"client_secret":null}"#, "/client_secret: nothing"),
        (r#"{"client_secret_expires":"2027-02-29"}"#, "/client_secret_expires: `2027-02-29`"),
        (r#"{"client_secret_expires":20270630}"#, "/client_secret_expires: a number"),
        (r#"{"token_url":null}"#, "/token_url: nothing"),
        (r#"{"token_url":null,"tenant_id":"contoso"}"#, "/tenant_id: `contoso`"),
        (r#"{"token_url":"common"}"#, "/token_url: `common`, which names no tenant"),
        (r#"{"token_url":"Organizations"}"#, "/token_url: `organizations`, which names no tenant"),
        (r#"{"token_url":"consumers"}"#, "/token_url: `consumers`, which names no tenant"),
        (
            r#"{"token_url":"https://login.microsoftonline.com/common/oauth2/v2.0/token"}"#,
            "/token_url: `common`, which names no tenant",
        ),
        (r#"{"token_url":"\"contoso.example\""}"#, r#"/token_url: `\"contoso.example\"`"#),
        (r#"{"token_url":"contoso .example"}"#, "/token_url: `contoso .example`"),
        (r#"{"subscription_id":null}"#, "/subscription_id: nothing"),
        (r#"{"subscription_id":[]}"#, "/subscription_id: an empty list"),
        (r#"{"subscription_id":["*"]}"#, "/subscription_id/0: `*`"),
        (r#"{"subscription_id":{"a":1}}"#, "/subscription_id: a table"),
        (
            r#"{"subscription_id":"/subscriptions/20ff7fc3-e762-44dd-bd96-b71116dcdc23"}"#,
            "/subscription_id: `/subscriptions/20ff7fc3-e762-44dd-bd96-b71116dcdc23`",
        ),
        (
            r#"{"exclude_subscriptions":[]}"#,
            "/exclude_subscriptions: a setting that goes with `subscription_id = \"*\"`",
        ),
        (r#"{"subscription_id":"*","exclude_subscriptions":["x"]}"#, "/exclude_subscriptions/0: `x`"),
        (r#"{"subscription_id":"*","delegated":"true"}"#, "/delegated: a string"),
        (r#"{"cloud":"china"}"#, "/cloud: `china`"),
        (r#"{"cloud":"public","token_url":"https://login.microsoftonline.us/contoso.example"}"#, "/cloud: `public`"),
        (
            r#"{"authority":"https://a.example","endpoint":"https://b.example","audience":"x","token_url":"https://c.example/t.example"}"#,
            "/authority: `https://a.example`",
        ),
        (r#"{"authority":"https://a.example/t"}"#, "/authority: `https://a.example/t`"),
        (r#"{"endpoint":"https://10.0.0.1:99999"}"#, "/endpoint: `https://10.0.0.1:99999`"),
        (r#"{"audience":"https://a b"}"#, "/audience: `https://a b`"),
        (r#"{"events":"secure-scores"}"#, "/events: a string"),
        (r#"{"events":[]}"#, "/events: an empty list"),
        (r#"{"definitions":"all"}"#, "/definitions: `all`"),
        (r#"{"class":99402001}"#, "/class: a number"),
        (r#"{"emit":"Changes"}"#, "/emit: `Changes`"),
        (r#"{"snapshot_every":"0h"}"#, "/snapshot_every: `0h`"),
        (r#"{"snapshot_every":-1}"#, "/snapshot_every: -1"),
        (r#"{"raw":"none"}"#, "/raw: `none`"),
        (r#"{"entity_resolution":"no"}"#, "/entity_resolution: a string"),
        (r#"{"extension_version":2}"#, "/extension_version: a number"),
    ] {
        check_problem(changes, problem);
    }
}

#[test]
fn a_secret_in_the_place_of_an_id_is_not_shown() {
    check_problem(
        r#"{"client_key":"Abc8Q~xYz.0123456789-abcdefghijklmnopqrs"}"#,
        "/client_key: a string of 40 characters that is not a GUID",
    );
    for setting in ["token_url", "subscription_id", "cloud", "endpoint", "audience"] {
        let changes = format!(r#"{{"{setting}":"Abc8Q~xYz.0123456789-abcdefghijkl,nopqrs"}}"#);
        check_problem(&changes, &format!("/{setting}: a string of 40 characters, which may be a secret,"));
    }
    check_problem(r#"{"cloud":"us-government-secret"}"#, "/cloud: `us-government-secret`");
}

#[test]
fn a_token_url_tells_its_cloud() {
    let settings = settings(r#"{"token_url":"https://login.microsoftonline.us/contoso.example/oauth2/v2.0/token"}"#);
    assert_eq!(settings.endpoint, "https://management.usgovcloudapi.net");
    assert_eq!(settings.audience, "https://management.core.usgovcloudapi.net");
    assert_eq!(settings.partition, Some("AzureUSGovernment"));
}

#[test]
fn a_call_about_one_scope_does_not_read_the_list() {
    let bad = with(r#"{"subscription_id":[7]}"#);
    assert!(Settings::trusted(&bad).is_ok());
    assert_eq!(Subscriptions::trusted(&bad).unwrap_err().code, "settings-invalid");
}

#[test]
fn what_is_odd_is_a_warning() {
    let warnings = |changes: &str| -> Vec<String> {
        let warnings = read(&with(changes)).unwrap().2;
        warnings.into_iter().map(|warning| format!("{}: {}", warning.setting, warning.found)).collect()
    };
    let id = "20ff7fc3-e762-44dd-bd96-b71116dcdc23";
    let trimmed = "white space around the value, which was trimmed";
    for (changes, warning) in [
        (r#"{"client_key":" 11111111-2222-3333-4444-555555555555"}"#.to_owned(), format!("/client_key: {trimmed}")),
        (format!(r#"{{"subscription_id":"{id} "}}"#), format!("/subscription_id: {trimmed}")),
        (
            format!(r#"{{"subscription_id":["{id}","{id}"]}}"#),
            "/subscription_id/1: a subscription that is already in the list".to_owned(),
        ),
        (
            r#"{"token_url":"https://login.microsoftonline.com/contoso.example/oauth2/token"}"#.to_owned(),
            "/token_url: the address of version 1 of the token endpoint".to_owned(),
        ),
        (
            r#"{"authority":"https://login.chinacloudapi.cn"}"#.to_owned(),
            "/endpoint: nothing, although Entra ID's address is another cloud's".to_owned(),
        ),
        (
            r#"{"endpoint":"https://management.chinacloudapi.cn"}"#.to_owned(),
            "/audience: nothing, although `endpoint` is given".to_owned(),
        ),
    ] {
        assert_eq!(warnings(&changes), [warning], "{changes}");
    }
    assert_eq!(warnings("{}"), [""; 0]);
}
