//! What is said of settings before anything is sent.

use std::path::Path;

use host_harness::config;
use host_harness::config::admission::{self, CheckError};
use serde_json::json;

use crate::support::{feed, host, noon};

/// What is said of a feed with one part of its configuration in place of another.
async fn told(part: &str, other: &str) -> Vec<String> {
    const GOOD: &str = "[[feed]]\nid = \"prod\"\ntenant = \"contoso\"\n[feed.settings]\n\
                        client_key = \"11111111-2222-3333-4444-555555555555\"\nclient_secret = { env = \"SECRET\" }\n\
                        token_url = \"contoso.example\"\nsubscription_id = \"*\"\n";
    assert!(GOOD.contains(part));
    let text = GOOD.replacen(part, other, 1);
    let environment = |name: &str| (name == "SECRET").then(|| "a-secret-of-tests".to_owned());
    let config = config::parse(Path::new("c.toml"), &text, None, &environment);
    match admission::check(&host(), config, None, &noon()).await {
        Ok(_) => Vec::new(),
        Err(CheckError::Configuration(problems)) => problems.iter().map(ToString::to_string).collect(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_setting_that_is_none_is_told_once_with_where_it_belongs() {
    const END: &str = "subscription_id = \"*\"\n";
    let with = |line: &str| format!("{END}{line}\n");
    let secret = "{ env = \"SECRET\" }";
    for (part, other, expected) in [
        (
            END,
            with("interval = \"1h\""),
            "c.toml:9: feed prod: settings.interval: belongs to [[feed]]: move it above [feed.settings]",
        ),
        (END, with("sinks = [\"lake\"]"), "settings.sinks: belongs to [[feed]]: move it above [feed.settings]"),
        (END, with("contact = { name = \"x\" }"), "settings.contact: belongs to [[feed]]: move it above"),
        (END, with("plugin = \"x.wasm\""), "settings.plugin: belongs to [[feed]]: move it above"),
        (END, with("proxy = \"http://p\""), "settings.proxy: unknown setting; it belongs to [network]"),
        (
            END,
            with("rotate_bytes = 1"),
            "settings.rotate_bytes: unknown setting; it belongs to a [[sink]] of type \"file\"",
        ),
        (
            END,
            with("resource_group = \"x\""),
            "settings.resource_group: found an unknown setting, expected a known setting",
        ),
        (
            "subscription_id",
            "subscription_ids".to_owned(),
            "settings.subscription_ids: found an unknown setting, expected a known setting; the nearest is `subscription_id`",
        ),
        (
            "client_secret",
            "client_secert".to_owned(),
            "settings.client_secert: found an unknown setting, expected a known setting; the nearest is `client_secret`",
        ),
        (
            secret,
            "{ evn = \"SECRET\" }".to_owned(),
            "settings.client_secret: found the unknown key `evn`; the nearest is `env`: { env = \"…\" }",
        ),
        (
            secret,
            "{ Path = \"s\" }".to_owned(),
            "settings.client_secret: found the unknown key `Path`; the nearest is `file`: { file = \"…\" }",
        ),
        (
            secret,
            "{ secret = \"s\" }".to_owned(),
            "settings.client_secret: found a table, expected a text, { env = \"…\" } or { file = \"…\" }",
        ),
        (
            secret,
            "31337".to_owned(),
            "settings.client_secret: found a number, expected a text, { env = \"…\" } or { file = \"…\" }",
        ),
        (
            "\"contoso.example\"",
            "{ evn = \"T\" }".to_owned(),
            "settings.token_url: found the unknown key `evn`; the nearest is `env`",
        ),
        (
            END,
            with("client_certificate = \"x\""),
            "settings.client_certificate: found `client_secret` as well, expected one credential alone",
        ),
    ] {
        let told = told(part, &other).await;
        assert!(told.len() == 1 && told[0].contains(expected), "{expected}\nin {told:#?}");
        assert!(!told[0].contains("31337"), "{told:?}");
    }
}

#[tokio::test]
async fn what_is_odd_about_a_credential_is_told_by_name_and_never_by_value() {
    for (value, words) in [
        (" s~ecret ", "white space around it was removed"),
        ("\"s~ecret\"", "is written in quotes"),
        ("s~ecret in two", "has white space inside"),
        ("s~ecre7", "less than 8 characters"),
        ("11111111-2222-3333-4444-555555555555", "is a GUID"),
        ("eyJhbGciOi.eyJpc3Mi.c2lnbmVk", "is a token, which the host fetches by itself"),
        ("\u{feff}s~ecret8\r\n", "a byte order mark at its beginning and white space at its end were removed"),
        ("s~ecret8\u{200b}\0", "a zero-width space and a NUL at its end were removed"),
        ("“s~ecret”", "has a typographic quotation mark as characters 1, 9"),
        ("s~ec\0ret8", "has a NUL as character 5"),
        ("s~ecret8\nof-two", "has 2 lines"),
        ("${CONTOSO_SECRET}", "looks like a reference"),
        ("export CONTOSO_SECRET=s~ecret8", "looks like `NAME=value`"),
        ("Bearer s~ecret8", "begins as a header of HTTP does"),
        ("{\"password\": \"s~ecret8\"}", "looks like JSON"),
        ("OHl+OFF+YXp1cmUtc2VjcmV0LXZhbHVl", "looks like a text in base64"),
        ("8y%7E8Q%7Eazure-secret", "looks percent-encoded"),
        ("/run/secrets/contoso", "looks like the path of a file"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "looks like PEM"),
        ("<client secret>", "looks like a placeholder"),
    ] {
        let oddities = feed(json!({ "client_secret": value })).await.oddities();
        let told = oddities.iter().any(|(setting, said)| setting == "client_secret" && said.contains(words));
        assert!(told, "expected {words:?} in {oddities:?}");
        let alone = oddities.len() == 1 || value.trim().len() < 8;
        assert!(alone, "what follows from another is told, too: {oddities:?}");
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
